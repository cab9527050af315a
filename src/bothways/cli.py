"""The command line: one function per verb. What a verb does lives in its room; here are only its words."""

from __future__ import annotations

import json
import os
import re
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro
from tyro.conf import OmitArgPrefixes, Positional, UseAppendAction, arg

# What is imported here is there before `bothways --help` says a word, so none of it may import torch.
from bothways.corpus.duplicates import Duplicates
from bothways.corpus.word_segmentation import Words
from bothways.distillation.config import DistillationConfig
from bothways.errors import InputError, Stopped
from bothways.explanation.config import ExplainConfig
from bothways.finetuning.config import FinetuningConfig
from bothways.formats.hub import AUTO
from bothways.pretraining.config import PretrainingConfig
from bothways.serving.config import ServingConfig
from bothways.terminal import (
    in_one_sentence,
    require_standard_output,
    say,
    show_metrics,
    show_outcome,
    show_rows,
    stopped_by_signals,
    usable_streams,
)

if TYPE_CHECKING:
    from bothways.inference.engine import Engine
    from bothways.tables.table import Columns

NumberFormat = Literal["fp32", "bf16", "int8"]
"""As `hardware.NumberFormat`, which comes with torch."""


# Settings check themselves when they are made, which tyro does; it would put a ValueError into a box of its own.


@dataclass(frozen=True, kw_only=True)
class PretrainingFlags(PretrainingConfig):
    """How an encoder is pre-trained."""

    def __post_init__(self) -> None:
        with in_one_sentence():
            super().__post_init__()


@dataclass(frozen=True, kw_only=True)
class DistillationFlags(DistillationConfig):
    """How a student learns from a teacher."""

    def __post_init__(self) -> None:
        with in_one_sentence():
            super().__post_init__()


@dataclass(frozen=True, kw_only=True)
class FinetuningFlags(FinetuningConfig):
    """How a classifier is trained."""

    def __post_init__(self) -> None:
        with in_one_sentence():
            super().__post_init__()


@dataclass(frozen=True, kw_only=True)
class ServingFlags(ServingConfig):
    """How models are served."""

    def __post_init__(self) -> None:
        with in_one_sentence():
            super().__post_init__()


@dataclass(frozen=True, kw_only=True)
class ExplainFlags(ExplainConfig):
    """What is explained, and how."""

    def __post_init__(self) -> None:
        with in_one_sentence():
            super().__post_init__()


def tokenizer_train(
    inputs: Positional[tuple[str, ...]],
    /,
    vocab_size: int,
    out: Path,
    cased: bool = False,
    overwrite: bool = False,
) -> None:
    """Learn a WordPiece vocabulary from documents.

    Args:
        inputs: Text (a blank line between documents), JSON lines or Parquet (column text); compressed or not.
        vocab_size: Entries of the vocabulary, at most.
        out: Directory to write.
        cased: Keep capitals and accents.
        overwrite: Replace the directory if it exists.
    """
    from bothways.corpus.documents import read_all
    from bothways.files.writing import new_directory, refuse_existing
    from bothways.tokenizer import Tokenizer

    require(inputs, "file of documents")
    refuse_existing(out, overwrite, reads=inputs)
    with new_directory(out, overwrite) as directory:
        lines = (line for document in read_all(inputs, "tokenizer") for line in document)
        tokenizer = Tokenizer.train(lines, vocab_size, lowercase=not cased)
        tokenizer.save(directory)
    say(f"{out}: a vocabulary of {tokenizer.vocab_size:,} entries.")


def corpus_build(
    inputs: Positional[tuple[str, ...]],
    /,
    tokenizer: str,
    out: Path,
    duplicates: Duplicates = "keep",
    words: Words = "spaces",
    processes: int = 0,
    resume: bool = False,
    overwrite: bool = False,
) -> None:
    """Turn documents into token shards for pre-training.

    Args:
        inputs: Text (a blank line between documents), JSON lines or Parquet (column text); compressed or not.
        tokenizer: Directory of a tokenizer or a model.
        out: Directory to write.
        duplicates: Documents to drop: none, those that were there before, or also those nearly the same.
        words: What tells words apart, for hiding them whole: spaces, or jieba for Chinese, too.
        processes: How many cut documents; 0: one a core, or one if there is little to do.
        resume: Go on with a build that was interrupted, if there is one.
        overwrite: Replace the directory if it exists.
    """
    from bothways.corpus.build import build_from_files, tidy
    from bothways.files.writing import refuse_existing
    from bothways.formats.hub import locate
    from bothways.tokenizer import Tokenizer

    require(inputs, "file of documents")
    if resume and not overwrite and (out / "corpus.json").exists():
        tidy(out)
        say(f"{out} is finished; there is nothing to resume.")
        return
    refuse_existing(out, overwrite, reads=(*inputs, tokenizer))
    corpus = build_from_files(
        inputs,
        Tokenizer.load(locate(tokenizer)),
        out,
        duplicates=duplicates,
        words=words,
        processes=processes,
        resume=resume,
        overwrite=overwrite,
    )
    from bothways.corpus.shards import read_description

    counted = read_description(corpus.directory)
    dropped = f"; {counted['dropped']:,} duplicates dropped" if duplicates != "keep" else ""
    say(f"{out}: {counted['documents']:,} documents, {counted['tokens']:,} tokens{dropped}.")


def pretrain(
    corpus: Path,
    out: Path,
    preset: str | None = None,
    encoder: str | None = None,
    config: OmitArgPrefixes[PretrainingFlags] = PretrainingFlags(),
    resume: bool = False,
    overwrite: bool = False,
) -> None:
    """Pre-train an encoder with masked words and next sentences.

    Args:
        corpus: Directory written by `bothways corpus build`.
        out: Directory to write.
        preset: Size of a new encoder: tiny, mini (unless told), small, medium, base or large.
        encoder: Go on with this one (directory, shipped name or hub id), whose tokenizer has cut the corpus.
        config: How to train.
        resume: Go on from the last checkpoint of an unfinished run, if there is one; a finished one is left as it is.
        overwrite: Replace the directory if it exists.
    """
    from bothways.pretraining.run import pretrain as recipe

    if resume and not overwrite and (out / "metrics.json").exists():
        say(f"{out} is finished; there is nothing to resume.")
        return
    *_, log = recipe(corpus, out, size=preset, encoder=encoder, config=config, resume=resume, overwrite=overwrite)
    losses = ", ".join(f"{name} loss {entries[-1][1]:.3f}" for name, entries in log.losses.items())
    if os.environ.get("RANK", "0") == "0":  # one process speaks for all that torchrun has started
        say(f"{out}: {log.tokens:,} tokens in {log.seconds:,.0f} s; {losses}.")


def distill(
    inputs: Positional[tuple[str, ...]],
    /,
    teacher: str,
    out: Path,
    encoder: str | None = None,
    preset: str | None = None,
    tokenizer: str | None = None,
    prompt: str | None = None,
    text: str | None = None,
    config: OmitArgPrefixes[DistillationFlags] = DistillationFlags(),
    resume: bool = False,
    overwrite: bool = False,
) -> None:
    """Have a smaller encoder or classifier learn from a larger one, on texts without labels.

    An encoder as teacher gives the student its sentence vectors, a classifier its probabilities.

    Args:
        inputs: Tables (CSV, TSV, JSON lines, Parquet), a row a text; or plain text, a line a text, or under an encoder
            documents with a blank line between, of which passages of all lengths are read.
        teacher: Directory or hub id of an encoder or a classifier; or a .npy file of vectors, a row for each text.
        out: Directory to write.
        encoder: The student: directory, shipped name or hub id; the shipped one of the texts' language unless named.
        preset: In its place the size of a new one: tiny, mini, small, medium, base or large.
        tokenizer: Directory of the tokenizer of a new one.
        prompt: What stands before every text that an encoder reads as teacher; unless given, what its directory says.
        text: Column of the text in tables (unless told, text); a classifier knows its own.
        config: How to learn.
        resume: Go on with an unfinished run, if there is one; a finished one is left as it is.
        overwrite: Replace the directory if it exists.
    """
    from bothways.distillation.run import distill as recipe

    require(inputs, "texts")
    if resume and not overwrite and (out / "metrics.json").exists():
        say(f"{out} is finished; there is nothing to resume.")
        return
    done = recipe(
        inputs,
        out,
        teacher=teacher,
        encoder=encoder,
        size=preset,
        tokenizer=tokenizer,
        config=config,
        prompt=prompt,
        column=text,
        resume=resume,
        overwrite=overwrite,
    )
    last = {name: entries[-1] for name, entries in done.metrics["held_out"].items()}
    agreed = ", ".join(f"{name} {entry['agreement']:.3f}" for name, entry in last.items())
    say(f"{out}: {done.metrics['texts']:,} texts" + (f"; agreement with the teacher: {agreed}." if agreed else "."))


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
        task: In place of a table, a TOML file that names several, with their columns; see the README.
        encoder: Directory, shipped encoder (en-mini, zh-mini) or hub id; auto: the shipped one for the texts' language.
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
    strategy = Seeds(seeds) if seeds != 1 else once if search is None else Search(minutes=search)
    use: dict[str, Any] = {"encoder": encoder, "strategy": strategy, "overwrite": overwrite}
    use["keep_rows"] = keep_examples
    if train is not None:
        columns = declared_columns(text or "text", text_pair, label, output)
        done = recipe(train, out, dev_file=dev, columns=columns, config=config, **use)
    else:
        in_task_file(dev=dev, text=text, text_pair=text_pair, label=label, output=output or None)
        several = read_task(task or "")
        done = recipe(several, out, config=several.settings.changed_by(config), **use)
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
    if json_file is not None:
        refuse_in_use(json_file, (file, *files_of(model)))
    metrics = evaluate_file(load_engine(model, precision), file)
    show_metrics(metrics)
    if json_file is not None:
        write_json(json_file, metrics)


def classify(
    model: Positional[Path],
    file: Positional[str] = "-",
    /,
    out: str | None = None,
    reject: str | None = None,
    top: int | None = None,
    keep: tuple[str, ...] = (),
    resume: bool = False,
    precision: NumberFormat | None = None,
) -> None:
    """Classify texts: a table, or one text a line from standard input. Writes one answer a row, in order.

    A row that cannot be classified is written as such ("error"); the exit status is then 1.

    Args:
        model: Directory of a classifier.
        file: CSV, TSV, JSON lines or Parquet; or - for standard input, one text a line.
        out: Write here, as CSV, TSV, Parquet or JSON lines, as the name says; else JSON lines on standard output.
        reject: The label of texts that are of none of the classes; else they get the likeliest, and "known": false.
        top: Scores of so many labels only, the likeliest first.
        keep: Columns of the table to carry over; all for every one.
        resume: Go on with work that was interrupted, if there is some; a file that is finished is left as it is.
        precision: Number format of matrix products. None: the fastest here that gives the same labels.
    """
    from bothways.files.reading import digest_of, local_path
    from bothways.files.resuming import can_resume, is_finished
    from bothways.files.writing import refuse_in_use
    from bothways.inference.classify import AnswerConfig
    from bothways.inference.classify import classify as recipe

    if out is None:
        require_standard_output()
    elif resume and can_resume(out) and is_finished(out):
        say(f"{out} is finished; there is nothing to resume.")
        return
    read = files_of(model)
    refuse_in_use(out and (local_path(out) or out), (file, *read))
    config = AnswerConfig(reject=reject, top=top, keep=keep)
    fingerprint = digest_of(read) if can_resume(out) else ""
    engine = load_engine(model, precision)
    outcome = recipe(engine, file, out, config=config, model=fingerprint, resume=resume)
    show_outcome(outcome, out, longest=engine.config.longest_text)
    if outcome.failed:
        sys.exit(1)


def explain(
    model: Positional[str],
    text: Positional[str],
    /,
    pair: str | None = None,
    config: OmitArgPrefixes[ExplainFlags] = ExplainFlags(),
    json_file: Annotated[str | None, arg(name="json")] = None,
) -> None:
    """Explain what a classifier says of one text: which words speak for its answer, and which against.

    Args:
        model: Directory of a classifier; with attention and masked of an encoder, or a shipped one's name, too.
        text: The text, or - for all of standard input.
        pair: The second text of a pair.
        config: What is explained, and how.
        json_file: Write the explanation here as JSON, or - for standard output in place of words in colour.
    """
    from rich.console import Console

    from bothways.explanation.run import explain_text
    from bothways.files.reading import STANDARD_INPUT
    from bothways.files.writing import refuse_in_use

    require_standard_output()
    if json_file not in (None, STANDARD_INPUT):
        refuse_in_use(json_file, files_of(Path(model)))
    told = explain_text(model, standard_input() if text == STANDARD_INPUT else text, pair, config=config)
    if json_file == STANDARD_INPUT:
        write_json(None, told.content)
    else:
        told.show(Console())
    if json_file not in (None, STANDARD_INPUT):
        write_json(Path(json_file), told.content)
    for note in told.notes:
        say(note)


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
        to_label: Name so many of the rows without a label, those worth labelling first.
        out: Write the rows that were named here, .csv or .jsonl; without it ten are shown.
        json_file: Also write what was found here.
    """
    from bothways.evaluation.findings import as_json, show
    from bothways.files.writing import refuse_in_use
    from bothways.labelling.run import check as recipe
    from bothways.labelling.suggestions import as_rows, require_writer, write_rows

    require_standard_output()
    require_writer(out)
    for goal in filter(None, (out, json_file)):
        refuse_in_use(goal, (file, *test, *(files_of(model) if model else ())))
    if model and (label or output or text_pair or text != "text"):
        raise InputError("A model knows its columns; leave out --text, --text-pair, --label and --output with --model.")
    columns = declared_columns(text, text_pair, label, output)
    done = recipe(file, tests=test, columns=columns, encoder=encoder, model=model, folds=folds, to_label=to_label)
    show(done.findings, sys.stdout)
    if done.errors is not None:
        say(f"{len(done.errors):,} of {len(done.table):,} labels are probably wrong, the least likely first.")
    if done.errors is not None and model:
        say("A model that was trained on these rows believes their labels; then --folds 5 finds more of the errors.")
    rows = as_rows(done.table, done.to_label if to_label else done.errors or [])
    show_rows(rows)
    if out is not None:
        write_rows(out, rows)
        say(f"{len(rows):,} rows are in {out}.")
    if json_file is not None:
        found = {"examples": len(done.table), "checks": as_json(done.findings)}
        write_json(json_file, found)


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
        encoder: Directory, shipped encoder (en-mini, zh-mini) or hub id; auto: the shipped one for the texts' language.
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
    found = recipe(
        named(methods, contenders(options)),
        train,
        test,
        out,
        dev_file=dev,
        columns=declared_columns(text, text_pair, label, ()),
        seeds=seeds,
        curve=curve,
        rows=rows,
        overwrite=overwrite,
    )
    show(found)
    say(f"The page is {out / 'report.html'}.")
    if found.stopped:
        raise KeyboardInterrupt


def serve(models: Positional[tuple[str, ...]], /, config: OmitArgPrefixes[ServingFlags] = ServingFlags()) -> None:
    """Serve classifiers over HTTP, as Text Embeddings Inference, vLLM and the Open Inference Protocol have it.

    Args:
        models: Directories (or shipped names, hub ids) of classifiers, each as DIR or NAME=DIR; the first answers
            where a request names none.
        config: How to serve them.
    """
    from bothways.serving.run import serve as recipe

    require(models, "model")
    recipe(models, config)


def demo(out: Path = Path("bothways-demo"), overwrite: bool = False) -> None:
    """Pre-train, fine-tune and compare on real reviews, Chinese and English, in a few minutes.

    Args:
        out: Directory for the models.
        overwrite: Replace the directory if it exists.
    """
    from bothways.demo import run

    run(out, overwrite=overwrite)


def info() -> None:
    """What this machine and this installation can do, and what was chosen."""
    from bothways.info import sections

    with in_one_sentence():
        told = sections()
    for section, rows in told.items():
        print(section)
        width = max(map(len, rows), default=0)
        for name, what in rows.items():
            print(f"  {name:{width}}  {what}")


VERBS: dict[str, Callable[..., None]] = {
    "tokenizer train": tokenizer_train,
    "corpus build": corpus_build,
    "pretrain": pretrain,
    "distill": distill,
    "finetune": finetune,
    "evaluate": evaluate,
    "classify": classify,
    "explain": explain,
    "check": check,
    "compare": compare,
    "serve": serve,
    "demo": demo,
    "info": info,
}


# ── What several verbs share ─────────────────────────────────────────────────────────────────────────────────────────


def require(inputs: tuple[str, ...], what: str) -> None:
    if not inputs:
        raise InputError(f"Name one {what} at least.")


def declared_columns(text: str, text_pair: str | None, label: str | None, output: tuple[str, ...]) -> Columns:
    """The columns that the flags name; `--label COLUMN` and `--output …` add up."""
    from bothways.tables.table import Columns, LabelColumn

    labels = [LabelColumn.parse(text) for text in output]
    if label is not None or not labels:
        labels.insert(0, LabelColumn(output=label or "label", column=label or "label"))
    return Columns(text=text, text_pair=text_pair, labels=tuple(labels))


def in_task_file(**flags: object) -> None:
    """Refuse flags about a table beside a task file."""
    for name, value in flags.items():
        if value is not None:
            raise InputError(f"--{name.replace('_', '-')} is for a single table; say it in the task file.")


def files_of(model: Path) -> list[Path]:
    """The files of a model that are read."""
    from bothways.formats.hub import WANTED, locate

    directory = locate(model)
    return [file for pattern in WANTED for file in directory.glob(pattern)]


def write_json(path: Path | None, content: dict[str, Any]) -> None:
    """Write what was found as JSON, whole or not at all. None: to standard output."""
    from bothways.files.writing import writing

    with writing(path) as stream:
        stream.write(json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def standard_input() -> str:
    """All of standard input as one text."""
    if sys.stdin is None:
        raise InputError("standard input is closed; give a text.")
    return sys.stdin.buffer.read().decode("utf-8", "replace").strip()


def load_engine(directory: Path, precision: NumberFormat | None = None) -> Engine:
    """A classifier made ready for use."""
    from bothways.inference.engine import Engine, load_classifier

    return Engine(*load_classifier(directory), precision=precision)


def require_flags_once(words: Sequence[str]) -> None:
    """Raise InputError for a flag that is given twice, of which the last would win; --output may be repeated."""
    flags = [word.split("=")[0].replace("_", "-") for word in words if re.match("--[a-z]", word)]
    for flag, count in Counter(flags).items():
        if count > 1 and flag != "--output":
            raise InputError(f"{flag} is given {count} times; give it once.")


def main() -> None:
    """Run the verb named on the command line; a mistake of the user ends in one sentence and exit status 2."""
    app = tyro.extras.SubcommandApp()
    for name, verb in VERBS.items():
        app.command(name=name)(verb)
    words = sys.argv[1:]
    if " ".join(words[:2]) in VERBS:  # tyro takes a verb of two words as one argument
        words[:2] = [" ".join(words[:2])]
    try:
        with usable_streams(), stopped_by_signals(), in_one_sentence():
            require_flags_once(words)
            app.cli(prog="bothways", description="All of BERT for people who classify text.", args=words)
    except MemoryError:
        say("bothways: there is not memory enough for this; ask for less at a time, or use a larger machine.")
        sys.exit(2)
    except Stopped as stopped:
        if os.environ.get("RANK", "0") == "0":
            say(f"bothways: {stopped} The same command with --resume goes on.")
        sys.exit(143)
    except KeyboardInterrupt:
        say("bothways: stopped.")
        sys.exit(130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)


if __name__ == "__main__":
    main()
