"""How an encoder's sentence vectors are made, as the files of sentence-transformers in its directory say (arXiv
1908.10084, section 3): the mean of its tokens, or its first token as it is."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from bothways.batch import Reads
from bothways.errors import InputError
from bothways.files.json_object import read_json_object
from bothways.model.bert import Bert

KNOWN_MODULES = ("Transformer", "Pooling", "Normalize")
"""Modules of sentence-transformers; normalising is done in any case."""
READS: dict[str, Reads] = {"pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "first"}


@dataclass(frozen=True)
class SentenceVectors:
    """How the sentence vectors of an encoder are made."""

    reads: Reads = "mean"
    """The mean of its tokens, or its first token (as it is, without the pooling layer)."""
    prompt: str = ""
    """What stands before every text."""
    longest: int | None = None
    """Most tokens of a text; None: as many as the encoder can read."""

    def prepare(self, bert: Bert) -> None:
        """Have `bert` give its first token as it is."""
        bert.attach()
        bert.pooling = nn.Identity()  # type: ignore[assignment]


def sentence_vectors_of(directory: Path) -> SentenceVectors:
    """What the files in a model directory say; the mean where there are none.

    Raises InputError if they ask for what is not done here.
    """
    modules = directory / "modules.json"
    if not modules.is_file():
        return SentenceVectors()
    paths = {}
    for module in read_list(modules):
        name = str(module.get("type")).rpartition(".")[2]
        if name not in KNOWN_MODULES:
            raise InputError(
                f"{modules}: the module {name} is not read here; compute the vectors with sentence-transformers, save "
                f"them as .npy and give that file as --teacher."
            )
        paths[name] = directory / str(module.get("path", ""))
    prompts = optional(directory / "config_sentence_transformers.json")
    named = prompts.get("prompts") or {}
    longest = optional(directory / "sentence_bert_config.json").get("max_seq_length")
    return SentenceVectors(
        reads=pooling_of(paths["Pooling"] / "config.json") if "Pooling" in paths else "mean",
        prompt=str(named.get(prompts.get("default_prompt_name"), "")),
        longest=longest if isinstance(longest, int) and longest > 0 else None,
    )


def pooling_of(path: Path) -> Reads:
    """What the configuration of the module Pooling asks for."""
    asked = {name for name, value in optional(path).items() if name.startswith("pooling_mode_") and value is True}
    if len(asked) > 1 or not asked <= READS.keys():
        raise InputError(
            f"{path}: {' and '.join(sorted(asked))} cannot be done; only {' or '.join(READS)} can. Compute the vectors "
            f"with sentence-transformers, save them as .npy and give that file as --teacher."
        )
    return READS[next(iter(asked), "pooling_mode_mean_tokens")]


def optional(path: Path) -> dict[str, Any]:
    """The object in a JSON file; an empty one if there is no such file."""
    return read_json_object(path) if path.is_file() else {}


def read_list(path: Path) -> Iterable[dict[str, Any]]:
    """The objects in a JSON file that holds a list. Raises InputError if it does not."""

    try:
        content = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise InputError(f"{path}: this is not JSON ({error}); restore the file.") from None
    if not isinstance(content, list) or not all(isinstance(part, dict) for part in content):
        raise InputError(f"{path}: this is no list of objects; restore the file.")
    return content
