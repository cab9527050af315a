"""Many files classified, one after the other here or side by side on a cluster: `texts/*.csv` → `answers/*.jsonl`.

Each file is work of its own, done by `classify`, and its answers are there whole or not at all. On a cluster Ray Data
hands the files to engines, one an actor, and those of a lost worker to another, which goes on where that one was.
"""

from __future__ import annotations

import glob
import logging
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

import fsspec.core

from bothways.errors import InputError
from bothways.files.names import public_name
from bothways.files.reading import COMPRESSED_NAME, explain_read_errors, local_path
from bothways.files.resuming import can_resume, directory_of, goal_of, is_finished, is_local
from bothways.files.writing import refuse_in_use
from bothways.hardware import NumberFormat
from bothways.inference.classify import AnswerConfig, Outcome, classify
from bothways.inference.engine import Engine, load_classifier
from bothways.progress import Progress

LOCAL = "local"
"""In place of a cluster's address: one on this machine, for as long as the work takes."""


@dataclass(frozen=True)
class Job:
    """A file and where its answers go."""

    file: str
    out: str


def is_pattern(file: str) -> bool:
    """Whether a name stands for many files: it has a `*`, and no file is called so."""
    return "*" in file and not Path(file).exists()


def jobs_of(pattern: str, out: str | None, *, reads: Sequence[Path] = ()) -> list[Job]:
    """The files that a pattern stands for, in order of their names. The `*` in `out` is the name of each without its
    endings.

    Raises InputError if there are none, if two would have one output, or an output would be a file that is read: one of
    them, or of `reads`.
    """
    if out is None or PurePath(out).name.count("*") != 1 or out.count("*") != 1:
        raise InputError("Many files are classified into many: name them with --out 'answers/*.jsonl'.")
    with explain_read_errors(pattern):
        filesystem, path = fsspec.core.url_to_fs(pattern)
        local = is_local(pattern)
        found = glob.glob(pattern, recursive=True) if local else map(filesystem.unstrip_protocol, filesystem.glob(path))
        files = sorted(str(file) for file in found)
    if not files:
        raise InputError(f"{pattern}: there is no such file.")
    jobs = [Job(file, out.replace("*", PurePath(COMPRESSED_NAME.sub("", public_name(file))).stem)) for file in files]
    by_out: dict[str, str] = {}
    for job in jobs:
        if job.out in by_out:
            raise InputError(f"{by_out[job.out]} and {job.file} would both be answered in {job.out}; rename one.")
        by_out[job.out] = job.file
    for job in jobs:
        refuse_in_use(local_path(job.out) or job.out, (*files, *reads))
    return jobs


class FileClassifier:
    """An engine that answers whole files; on a cluster an actor has one."""

    def __init__(self, model: str, precision: NumberFormat | None, config: AnswerConfig, fingerprint: str) -> None:
        self.engine = Engine(*load_classifier(model), precision=precision)
        self.config, self.fingerprint = config, fingerprint

    def __call__(self, job: dict[str, Any]) -> dict[str, Any]:
        """{"file", "out"} → the same with what became of its rows; "refused": why there is no output.

        What was begun is gone on with, since a worker that was lost may have begun it.
        """
        resume = can_resume(job["out"])
        if resume and is_finished(job["out"]):
            return job | {"rows": 0, "failed": 0, "truncated": 0, "errors": [], "refused": ""}
        told = {"model": self.fingerprint} if resume else {}
        try:
            found = classify(
                self.engine, job["file"], job["out"], config=self.config, resume=resume, quiet=True, **told
            )
        except InputError as error:
            return job | {"rows": 0, "failed": 0, "truncated": 0, "errors": [], "refused": str(error)}
        counts = {"rows": found.rows, "failed": found.failed, "truncated": found.truncated}
        return job | counts | {"errors": found.errors, "refused": ""}


def classify_many(
    model: str | os.PathLike,
    jobs: list[Job],
    fingerprint: str,
    *,
    config: AnswerConfig | None = None,
    precision: NumberFormat | None = None,
    cluster: str | None = None,
    resume: bool = False,
) -> tuple[Outcome, list[str]]:
    """Classify all files → what became of the rows of all, and why which files have no answers.

    `fingerprint`: of the model. `cluster`: the address of a Ray cluster (`auto`, `ray://host:10001`), all of whose
    machines see model and files under these names, or `local`; None: here, one after the other. With `resume` files
    with answers are passed over, and those half done are gone on with if the model is the same. Raises InputError if an
    output is there without `resume`, or if Ray or the cluster is not.
    """
    for job in jobs if not resume else ():
        if can_resume(job.out) and (goal_of(job.out).exists() or directory_of(goal_of(job.out)).exists()):
            raise InputError(f"{job.out} is there already; add --resume to pass over what is done, or remove it.")
    given = (os.fspath(model), precision, config or AnswerConfig(), fingerprint)
    rows = [{"file": job.file, "out": job.out} for job in jobs]
    done = map(FileClassifier(*given), rows) if cluster is None else on_cluster(cluster, given, rows)
    return added(done, len(jobs))


def added(done: Iterable[dict[str, Any]], files: int) -> tuple[Outcome, list[str]]:
    """What became of all, as it comes."""
    outcome, refused, started = Outcome(), [], time.monotonic()
    with Progress("classifying", files, unit="files") as progress:
        for number, found in enumerate(done, start=1):
            outcome.rows += found["rows"]
            outcome.failed += found["failed"]
            outcome.truncated += found["truncated"]
            outcome.errors += list(found["errors"])[: 10 - len(outcome.errors)]
            refused += [found["refused"]] if found["refused"] else []
            outcome.seconds = time.monotonic() - started
            progress.update(number, rows=outcome.rows, rows_per_second=outcome.rows_per_second)
    return outcome, refused


def on_cluster(address: str, given: tuple[Any, ...], rows: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """What becomes of each file, in the order in which they are done. Raises InputError if there is no such cluster."""
    try:
        import ray
        import ray.data
    except ImportError:
        raise InputError("--cluster needs Ray; install it with pip install 'bothways[cluster]'.") from None
    begun = not ray.is_initialized()
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is told to anyone
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    try:
        if begun:
            if address == LOCAL:
                ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
            else:
                ray.init(address, log_to_driver=False, logging_level=logging.ERROR)
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False  # ours is shown
        context.execution_options.preserve_order = False
        workers = max(1, min(len(rows), int(ray.cluster_resources().get("CPU", 1))))
        jobs = ray.data.from_items(rows, override_num_blocks=len(rows))
        actors = ray.data.ActorPoolStrategy(min_size=1, max_size=workers)
        classify_file: Any = FileClassifier  # which Ray makes an actor of
        yield from jobs.map(classify_file, fn_constructor_args=given, compute=actors, num_cpus=1).iter_rows()
    except ConnectionError as error:
        raise InputError(f"--cluster {address}: there is no Ray cluster ({error}).") from None
    finally:
        if begun:
            ray.shutdown()
