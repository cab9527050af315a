"""A trained method on disk, and how large it is."""

from __future__ import annotations

import copy
import shlex
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from bothways.classifier import TextClassifier
from bothways.comparison.advice import BETWEEN_SCRIPTS
from bothways.comparison.measure import Clock, Measured
from bothways.errors import InputError
from bothways.evaluation.page import Words
from bothways.model.config import BertConfig
from bothways.tables.table import Columns


class Saver:
    """Writes a trained method into a directory; one that cannot be written has been measured all the same."""

    def __init__(self, path: Path, clock: Clock, columns: Columns) -> None:
        """`columns`: those of the table that the method has learned from."""
        self.path, self.clock, self.columns = path, clock, columns

    def __call__(self, estimator: Any) -> dict[str, Any]:
        """→ "parameters", "bytes" and "saved_as", None for what cannot be told."""
        size = saved_as = None
        if hasattr(estimator, "save"):
            try:
                as_finetuned(estimator, self.columns).save(self.path)
                size = sum(file.stat().st_size for file in self.path.rglob("*") if file.is_file())
                saved_as = type(estimator) if hasattr(estimator, "load") else None
            except InputError as error:
                self.clock.tell(f"It is not saved: {error}")
        return {"parameters": parameters_of(estimator), "bytes": size, "saved_as": saved_as}


def how_to_use(one: Measured | None, out: Path, *, pairs: bool) -> tuple[Words, str] | None:
    """(what they do, lines) that get answers of a method from what `compare` has written to `out`: a command where the
    method is a classifier as `finetune` makes them, two lines of Python otherwise. None without a method, or one that
    was not saved."""
    if one is None or one.saved_as is None:
        return None
    directory, (english, chinese) = str(out / one.method), one.title
    if issubclass(one.saved_as, TextClassifier):
        what = Words(f"To use {english}:", BETWEEN_SCRIPTS.sub(" ", f"使用{chinese}："))
        return what, f"bothways classify {shlex.quote(directory)} FILE --out answers.jsonl"
    what = Words(f"To use {english}, in Python:", BETWEEN_SCRIPTS.sub(" ", f"在 Python 中使用{chinese}："))
    name, texts = one.saved_as.__name__, '[("a text", "another")]' if pairs else '["a text"]'
    return what, f"from {one.saved_as.__module__} import {name}\n{name}.load({directory!r}).predict({texts})"


def as_finetuned(estimator: Any, columns: Columns) -> Any:
    """The same estimator; a BERT classifier, which reads no table, with the names that `finetune` would have given it,
    so that `evaluate` and `classify` find their columns."""
    if not isinstance(estimator, TextClassifier):
        return estimator
    named = copy.copy(estimator)
    named.bert_ = copy.copy(estimator.bert_)  # the weights are shared
    named.bert_.config = renamed(estimator.bert_.config, columns)
    return named


def renamed(config: BertConfig, columns: Columns) -> BertConfig:
    """The settings of a model with one single-label output, which reads `columns` from now on."""
    (label,) = columns.labels
    outputs = (
        replace(output, name=f"{label.output}.known", of=label.output)
        if output.of
        else replace(output, name=label.output, column=label.column)
        for output in config.outputs
    )
    texts = (columns.text,) if columns.text_pair is None else (columns.text, columns.text_pair)
    return replace(config, text_columns=texts, outputs=tuple(outputs))


def parameters_of(estimator: Any) -> int | None:
    """How many numbers an estimator has learned: weights of a network, coefficients, weights of words, nodes of trees.

    None if none are found.
    """
    return sum(sizes(estimator, set())) or None


def sizes(part: Any, seen: set[int]) -> Iterable[int]:
    """The numbers of a part and of the parts in it, each once."""
    if id(part) in seen:
        return
    seen.add(id(part))
    if isinstance(part, np.ndarray):
        if part.dtype.kind == "f":  # whole numbers are indices and labels
            yield part.size
    elif hasattr(part, "node_count"):  # a tree of a forest
        yield part.node_count
    elif callable(getattr(part, "parameters", None)):  # a network of torch
        yield sum(parameter.numel() for parameter in part.parameters())
    elif isinstance(part, (list, tuple)):
        for one in part if len(part) < 10_000 else ():
            yield from sizes(one, seen)
    elif hasattr(part, "get_params") or type(part).__module__.startswith("sklearn."):
        for name, value in vars(part).items():
            # What was learned has a name that ends so (scikit-learn's convention); _tfidf holds the weights of words.
            if name.endswith("_") or name in ("_tfidf", "steps", "transformer_list"):
                yield from sizes(value, seen)
