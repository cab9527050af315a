"""Verbs that make a classifier and say how good it is: check, finetune, evaluate, compare."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import OmitArgPrefixes, Positional, UseAppendAction, arg

from bothways.cli.shared import (
    NumberFormat,
    ToldInOneSentence,
    declared_columns,
    flags_given,
    in_task_file,
    load_engine,
    located,
    write_json,
)
from bothways.errors import InputError
from bothways.finetuning.config import FinetuningConfig
from bothways.formats.hub import AUTO, files_of
from bothways.terminal import require_standard_output, say, show_metrics, show_rows

if TYPE_CHECKING:
    from bothways.labelling.run import Checked
    from bothways.labelling.suggestions import Suggestion

SURE = 0.9
"""The share of labels that a model has to give as they are, for its doubts to be told without a warning."""


@dataclass(frozen=True, kw_only=True)
class FinetuningFlags(ToldInOneSentence, FinetuningConfig):
    """How a classifier is trained."""


def check(
    file: Positional[str],
    /,
    test: tuple[str, ...] = (),
    text: str = "text",
    text_pair: str | None = None,
    label: str | None = None,
    output: UseAppendAction[tuple[Annotated[str, arg(metavar="NAME=COLUMN:KIND")], ...]] = (),
    encoder: str = AUTO,
    model: Path | None = None,
    folds: int | None = None,
    to_label: Annotated[int, arg(name="next")] = 0,
    out: Path | None = None,
    json_file: Annotated[Path | None, arg(name="json")] = None,
) -> None:
    """Check a table before training: duplicates, contradictions, labels that are probably wrong, what to label next.

    Args:
        file: CSV, TSV, JSON lines or Parquet; labels may be missing.
        test: Tables to evaluate on, whose texts should not be in FILE.
        text: Column of the text; with a tags output, of the tokens separated by spaces.
        text_pair: Column of the second text of a pair.
        label: Column of the label; short for one single-label output of that name.
        output: An output layer, NAME=COLUMN:KIND with KIND single, multi, regression or tags; may be repeated.
        encoder: Whose tokenizer counts tokens; as for finetune.
        model: A classifier that was not trained on FILE: name labels that it is sure are wrong; its columns count.
        folds: In place of a model, learn from the table in so many parts, each checked by the others; 5 is usual.
        to_label: Name so many of the rows without a label, those worth labelling first, in place of doubtful labels.
        out: Write the rows that were named here, .csv or .jsonl; without it ten are shown.
        json_file: Also write what was found here.
    """
    from bothways.evaluation.findings import as_json, show
    from bothways.files.writing import refuse_in_use
    from bothways.labelling.run import check as recipe
    from bothways.labelling.suggestions import as_rows, require_writer, write_rows

    require_standard_output()
    require_writer(out)
    model = model and located(model)
    for goal in filter(None, (out, json_file)):
        refuse_in_use(goal, (file, *test, *(files_of(model) if model else ())))
    if model and (label or output or text_pair or text != "text"):
        raise InputError("A model knows its columns; leave out --text, --text-pair, --label and --output with --model.")
    columns = declared_columns(text, text_pair, label, output)
    done = recipe(file, tests=test, columns=columns, encoder=encoder, model=model, folds=folds, to_label=to_label)
    show(done.findings, sys.stdout)
    if done.errors is not None:
        tell_doubts(done, done.errors, by_model=model is not None)
    rows = as_rows(done.table, done.to_label if to_label else done.errors or [])
    show_rows(rows)
    if out is not None:
        write_rows(out, rows)
        say(f"{len(rows):,} rows are in {out}.")
    if json_file is not None:
        found = {"examples": len(done.table), "checks": as_json(done.findings)}
        write_json(json_file, found)


def tell_doubts(done: Checked, errors: list[Suggestion], *, by_model: bool) -> None:
    """How many labels are probably wrong, and how far to believe what doubts them."""
    labels = sum(value is not None for values in done.table.values.values() for value in values)
    say(f"{len(errors):,} of {labels:,} labels are probably wrong, the least likely first.")
    if errors and done.agreement < SURE:
        say(
            f"What doubts them gives {done.agreement:.0%} of all labels as they are, so it is often wrong itself: "
            "look at each before you change it."
        )
    if by_model:
        say("A model that was trained on these rows believes their labels; then --folds 5 finds more of the errors.")


def finetune(
    out: Path,
    train: str | None = None,
    task: str | None = None,
    encoder: str = AUTO,
    dev: str | None = None,
    text: str | None = None,
    text_pair: str | None = None,
    label: str | None = None,
    output: UseAppendAction[tuple[Annotated[str, arg(metavar="NAME=COLUMN:KIND")], ...]] = (),
    config: OmitArgPrefixes[FinetuningFlags] = FinetuningFlags(),
    seeds: int = 1,
    search: float | None = None,
    keep_examples: bool = False,
    overwrite: bool = False,
) -> None:
    """Train a classifier from a labelled table, or from several, and evaluate it on rows it has not seen.

    Args:
        out: Directory to write.
        train: CSV, TSV, JSON lines or Parquet; local or remote, compressed or not.
        task: In place of a table, a TOML file with a [[table]] for each of several: train = "FILE", dev, text, label or
            outputs = ["NAME=COLUMN:KIND"]; and [settings].
        encoder: Directory, shipped encoder (en-mini, zh-mini) or hub id (with @REVISION or without); auto: the shipped
            one for the texts' language.
        dev: Table to evaluate the result on; without it a tenth of the training rows is held out.
        text: Column of the text (unless told, text); with a tags output, of the tokens separated by spaces.
        text_pair: Column of the second text of a pair.
        label: Column of the label; short for one single-label output of that name.
        output: An output layer, NAME=COLUMN:KIND with KIND single, multi, regression or tags; may be repeated.
        config: How to train.
        seeds: Train so often, from --seed on, and keep the best; metrics have mean and deviation.
        search: Look for better settings for so many minutes, and keep the best classifier.
        keep_examples: Keep the training rows in the directory, too, so that explain can show those nearest to a text.
        overwrite: Replace the directory if it exists.
    """
    from bothways.finetuning.run import finetune as recipe
    from bothways.finetuning.run import once
    from bothways.finetuning.search import Search
    from bothways.finetuning.seeds import Seeds
    from bothways.finetuning.task_file import read_task

    if (train is None) == (task is None):
        raise InputError("Give one of --train, a table, and --task, a file that names several.")
    if search is not None and seeds != 1:
        raise InputError("--search and --seeds go one after the other: give what was found together with --seeds.")
    strategy = Seeds(seeds) if seeds != 1 else once if search is None else Search(search, flags_given())
    use: dict[str, Any] = {"encoder": encoder, "strategy": strategy, "overwrite": overwrite}
    use["keep_rows"] = keep_examples
    if train is not None:
        columns = declared_columns(text or "text", text_pair, label, output)
        done = recipe(train, out, dev_file=dev, columns=columns, config=config, **use)
    else:
        in_task_file(dev=dev, text=text, text_pair=text_pair, label=label, output=output or None)
        several = read_task(task or "")
        done = recipe(several, out, config=several.settings.changed_by(config, flags_given()), **use)
    show_metrics(done.metrics)
    say(f"The classifier is in {out}; try: bothways classify {out} FILE")


def evaluate(
    model: Positional[Path],
    file: Positional[str],
    /,
    json_file: Annotated[Path | None, arg(name="json")] = None,
    precision: NumberFormat | None = None,
) -> None:
    """Evaluate a classifier on a labelled table with the columns it was trained on.

    Args:
        model: Directory of a classifier.
        file: CSV, TSV, JSON lines or Parquet; local or remote, compressed or not.
        json_file: Also write the figures here.
        precision: Number format of matrix products. None: the fastest here that gives the same labels.
    """
    from bothways.evaluation.evaluate import evaluate_file
    from bothways.files.writing import refuse_in_use

    require_standard_output()
    directory = located(model)
    if json_file is not None:
        refuse_in_use(json_file, (file, *files_of(directory)))
    metrics = evaluate_file(load_engine(directory, precision), file)
    show_metrics(metrics)
    if json_file is not None:
        write_json(json_file, metrics)


def compare(
    train: str,
    test: str,
    out: Path,
    dev: str | None = None,
    methods: str | None = None,
    seeds: int = 1,
    curve: bool = False,
    encoder: str = AUTO,
    word_vectors: str | None = None,
    static_vectors: str | None = None,
    text: str = "text",
    text_pair: str | None = None,
    label: str = "label",
    rows: int | None = None,
    overwrite: bool = False,
) -> None:
    """Train several methods on the same rows and say which is good enough, and what each costs.

    Args:
        train: CSV, TSV, JSON lines or Parquet; local or remote, compressed or not.
        test: Table on which every method is evaluated.
        out: Directory to write: compare.json, report.html, and each trained method in a directory of its name.
        dev: Table by which methods are ranked, so that the best is not chosen by the test rows.
        methods: Names with commas between them; unless told all, static_vectors if its directory is given.
        seeds: Runs of each method that depends on chance; their mean and deviation are shown.
        curve: Train on 100, 300, 1,000, … rows, too, and draw how accuracy grows with them.
        encoder: Directory, shipped encoder (en-mini, zh-mini) or hub id (with @REVISION or without); auto: the shipped
            one for the texts' language.
        word_vectors: File of published vectors for glove, rnn and lstm, in place of ones learned from the rows.
        static_vectors: Directory that model2vec has saved, for the method static_vectors.
        text: Column of the text.
        text_pair: Column of the second text of a pair.
        label: Column of the label.
        rows: Train on so many rows at most, drawn at random.
        overwrite: Replace the directory if it exists.
    """
    from bothways.baselines.methods import Options
    from bothways.comparison.methods import contenders
    from bothways.comparison.page import show
    from bothways.comparison.run import compare as recipe
    from bothways.comparison.run import named

    require_standard_output()
    options = Options(encoder=encoder, word_vectors=word_vectors, static_vectors=static_vectors)
    chosen, columns = named(methods, contenders(options)), declared_columns(text, text_pair, label, ())
    use: dict[str, Any] = {"seeds": seeds, "curve": curve, "rows": rows, "overwrite": overwrite}
    found = recipe(chosen, train, test, out, dev_file=dev, columns=columns, **use)
    show(found)
    if found.use is not None:
        what, lines = found.use
        say(f"{what.en}\n{lines}")
    say(f"The page is {out / 'report.html'}.")
    if found.stopped:
        raise KeyboardInterrupt
