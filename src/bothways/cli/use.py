"""Verbs that use a classifier: classify, explain, export, push, serve."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import OmitArgPrefixes, Positional, arg

from bothways.cli.shared import (
    NumberFormat,
    ToldInOneSentence,
    load_engine,
    located,
    require,
    standard_input,
    write_json,
)
from bothways.explanation.config import ExplainConfig
from bothways.formats.hub import files_of
from bothways.serving.config import ServingConfig
from bothways.terminal import require_standard_output, say, show_outcome

if TYPE_CHECKING:
    from bothways.inference.classify import AnswerConfig


@dataclass(frozen=True, kw_only=True)
class ServingFlags(ToldInOneSentence, ServingConfig):
    """How models are served."""


@dataclass(frozen=True, kw_only=True)
class ExplainFlags(ToldInOneSentence, ExplainConfig):
    """What is explained, and how."""


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
    cluster: str | None = None,
) -> None:
    """Classify texts: a table, or one text a line from standard input. Writes one answer a row, in order.

    A row that cannot be classified is written as such ("error"); the exit status is then 1. Many tables at once are
    named by a pattern: 'texts/*.csv' --out 'answers/*.jsonl'.

    Args:
        model: Directory of a classifier.
        file: CSV, TSV, JSON lines or Parquet; or - for standard input, one text a line.
        out: Write here, as CSV, TSV, Parquet or JSON lines, as the name says; else JSON lines on standard output.
        reject: The label of texts that are of none of the classes; else they get the likeliest, and "known": false.
        top: Scores of so many labels only, the likeliest first.
        keep: Columns of the table to carry over; all for every one.
        resume: Go on with work that was interrupted, if there is some; a file that is finished is left as it is.
        precision: Number format of matrix products. None: the fastest here that gives the same labels.
        cluster: Share many tables out over a Ray cluster: its address, auto, or local for one on this machine.
    """
    from bothways.files.reading import digest_of, local_path
    from bothways.files.resuming import can_resume, is_finished, is_unfinished
    from bothways.files.writing import refuse_in_use
    from bothways.inference.classify import AnswerConfig
    from bothways.inference.classify import classify as recipe
    from bothways.inference.many_files import is_pattern

    config = AnswerConfig(reject=reject, top=top, keep=keep)
    if is_pattern(file) or cluster is not None:
        classify_many_tables(model, file, out, config, precision=precision, cluster=cluster, resume=resume)
        return
    directory = located(model)
    read = files_of(directory)
    if out is None:
        require_standard_output()
    elif resume and can_resume(out) and is_finished(out):
        say(f"{out} is finished; there is nothing to resume.")
        return
    refuse_in_use(out and (local_path(out) or out), (file, *read))
    fingerprint = digest_of(read) if can_resume(out) else ""
    engine = load_engine(directory, precision)
    try:
        outcome = recipe(engine, file, out, config=config, model=fingerprint, resume=resume)
    except (KeyboardInterrupt, SystemExit):
        if out is not None and can_resume(out) and is_unfinished(out):
            say("bothways: what is done is kept; the same command with --resume goes on.")
        raise
    show_outcome(outcome, out, longest=engine.config.longest_text)
    if outcome.failed:
        sys.exit(1)


def classify_many_tables(
    model: Path,
    pattern: str,
    out: str | None,
    config: AnswerConfig,
    *,
    precision: NumberFormat | None,
    cluster: str | None,
    resume: bool,
) -> None:
    """`classify` for all tables that a pattern stands for."""
    from bothways.files.reading import digest_of
    from bothways.formats.hub import name_elsewhere
    from bothways.inference.many_files import LOCAL, classify_many, jobs_of

    directory = located(model)
    read = files_of(directory)
    here = cluster in (None, LOCAL)  # else other machines, each of which has a hub's model in a place of its own
    found = directory if here else name_elsewhere(model, directory)
    jobs = jobs_of(pattern, out, reads=read)
    outcome, refused = classify_many(
        found, jobs, digest_of(read), config=config, precision=precision, cluster=cluster, resume=resume
    )
    show_outcome(outcome, out, refused=refused)
    if outcome.failed or refused:
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
    directory = located(model)
    if json_file not in (None, STANDARD_INPUT):
        refuse_in_use(json_file, files_of(directory))
    told = explain_text(str(directory), standard_input() if text == STANDARD_INPUT else text, pair, config=config)
    if json_file == STANDARD_INPUT:
        write_json(None, told.content)
    else:
        told.show(Console())
    if json_file not in (None, STANDARD_INPUT):
        write_json(Path(json_file), told.content)
    for note in told.notes:
        say(note)


def export(
    model: Positional[Path],
    /,
    to: Literal["onnx", "openvino"],
    out: Path,
    precision: Literal["fp32", "int8"] = "fp32",
    texts: str | None = None,
    overwrite: bool = False,
) -> None:
    """Write a classifier for ONNX Runtime or OpenVINO, with a script that uses it without torch.

    Args:
        model: Directory of a classifier.
        to: What is to run it; the onnx file is for others that read ONNX, too.
        out: Directory to write.
        precision: Number format; int8 is smaller and often faster, and some labels may change: how many is told.
        texts: Table on whose texts it is checked against the model; without it on a few that are built in.
        overwrite: Replace the directory if it exists.
    """
    from bothways.export.run import export as recipe

    done = recipe(model, out, to=to, precision=precision, texts=texts, overwrite=overwrite)
    found = done.agreement
    if done.truncated_to is not None:
        say(f"Of longer texts the model reads more; what was exported reads their first {done.truncated_to} tokens.")
    say(
        f"On {found.texts:,} texts logits differ by {found.largest_difference:.2g} at most, and "
        f"{found.same_decisions:.2%} of labels are the same."
    )
    say(f"The classifier is in {out}; try: python {out / 'classify.py'} < FILE")


def push(
    model: Positional[Path], repo_id: Positional[str], /, private: bool = False, revision: str | None = None
) -> None:
    """Send a model to the Hugging Face hub: what others need to use it, without the report and the training's rows.

    Args:
        model: Directory of a classifier or an encoder.
        repo_id: Its name there, such as my-name/my-model; made if there is none.
        private: Make it for you alone to see; else everybody does.
        revision: The branch; made if there is none. None: main.
    """
    from bothways.formats.publishing import push as send

    require_standard_output()
    print(send(model, repo_id, private=private, revision=revision))


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
