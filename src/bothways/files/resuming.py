"""Long output that survives a kill: it grows by parts in `OUT.run`, a journal there says how far it is safe, and only
what is whole takes the name `OUT`."""

from __future__ import annotations

import io
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Protocol

import fsspec.core
from fsspec.implementations.local import LocalFileSystem

from bothways.errors import InputError
from bothways.files.json_object import read_json_object
from bothways.files.reading import explain_read_errors, is_pipe, local_path
from bothways.files.writing import LONGEST_NAME, exclusive_directory, explain_disk_errors, flush, write_atomically

JOURNAL, PARTS = "journal.json", "parts"

Finish = Callable[[Path], Path]
"""Makes the file that was asked for of the parts, which lie in one file, one after the other; beside it."""


class Output(Protocol):
    """What takes the parts."""

    done: Mapping[str, Any]
    """What was noted with the last part of the run that is gone on with; empty at the beginning."""

    def write(self, part: bytes, done: Mapping[str, Any]) -> None:
        """Add a part; `done` is what to note with it."""


class StreamOutput:
    """Parts go out at once: to standard output, a pipe or a device."""

    done: Mapping[str, Any] = {}

    def __init__(self, stream: IO[Any], name: str) -> None:
        self._stream, self._name = stream, name

    def write(self, part: bytes, done: Mapping[str, Any]) -> None:
        """See `Output`."""
        with explain_disk_errors(self._name):
            self._stream.write(part.decode("utf-8") if isinstance(self._stream, io.TextIOBase) else part)
            self._stream.flush()


class FileOutput:
    """Parts are put on the disk in a directory for unfinished work; each is safe once `write` is back."""

    def __init__(self, directory: Path, settings: Mapping[str, Any]) -> None:
        """Raises InputError if the directory holds work that was begun with other settings."""
        self.parts, self._journal, self._settings = directory / PARTS, directory / JOURNAL, settings
        journal = read_json_object(self._journal) if self._journal.exists() else {}
        for name, value in journal.get("settings", {}).items():
            if value != settings.get(name):
                raise InputError(
                    f"{directory}: this work was begun with another {name}; give the same again, or leave out --resume "
                    f"to begin anew."
                )
        self.done: Mapping[str, Any] = journal.get("done", {})
        self._stream = self.parts.open("ab")
        if self._stream.tell() < journal.get("bytes", 0):
            raise InputError(f"{self.parts}: this has been cut short; leave out --resume to begin anew.")
        self._stream.truncate(journal.get("bytes", 0))  # what was not noted any more may be cut short

    def write(self, part: bytes, done: Mapping[str, Any]) -> None:
        """See `Output`."""
        with explain_disk_errors(self.parts):
            self._stream.write(part)
            self._stream.flush()
            os.fsync(self._stream.fileno())
            noted = {"settings": self._settings, "done": done, "bytes": os.fstat(self._stream.fileno()).st_size}
            write_atomically(self._journal, json.dumps(noted, indent=2) + "\n")

    def close(self) -> None:
        """All parts are there."""
        self._stream.close()


@contextmanager
def resumable_output(
    path: str | None, finish: Finish, settings: Mapping[str, Any], *, resume: bool = False
) -> Iterator[Output]:
    """Something to write parts to; the file takes its name once the block ends without an error. None: standard output.

    What was interrupted stays in `OUT.run`, and with `resume` it is gone on with, if `settings` are the same. Links are
    followed. A remote file (`s3://…`) is kept here until it is whole. Raises InputError if another process is at work
    on the same file.
    """
    if path is None or is_pipe(path):
        with explain_disk_errors(path or "standard output"), stream_of(path) as stream:
            yield StreamOutput(stream, path or "standard output")
        return
    if local_path(path) is None and not is_local(path):
        with tempfile.TemporaryDirectory() as folder:
            output = FileOutput(Path(folder), settings)
            yield output
            output.close()
            upload(finish(output.parts), path)
        return
    goal = goal_of(path)
    if goal.is_dir():
        raise InputError(f"{path}: this is a directory; name a file.")
    if len(os.fsencode(goal.name)) > LONGEST_NAME:
        raise InputError(f"{path}: this name is too long; choose a shorter one.")
    directory = directory_of(goal)
    with exclusive_directory(directory, anew=not resume):
        try:
            output = FileOutput(directory, settings)
            yield output
            output.close()
        except BaseException:
            if not (directory / JOURNAL).exists():  # nothing to go on from
                (directory / PARTS).unlink(missing_ok=True)
            raise
        with explain_disk_errors(goal):
            whole = finish(output.parts)
            flush(whole)
            os.replace(whole, goal)
            flush(goal.parent)
            for left_over in (output.parts, directory / JOURNAL):
                left_over.unlink(missing_ok=True)


def can_resume(path: str | None) -> bool:
    """Whether output to this name can be gone on with after a kill."""
    return path is not None and not is_pipe(path) and is_local(path)


def is_finished(path: str) -> bool:
    """Whether this output is there and no work on it is unfinished; tidies up what a kill at the very end left."""
    goal = goal_of(path)
    directory = directory_of(goal)
    if not goal.exists() or (directory / PARTS).exists():
        return False
    if (directory / JOURNAL).exists():
        shutil.rmtree(directory, ignore_errors=True)
    return True


def is_unfinished(path: str) -> bool:
    """Whether there is work on this output to go on with."""
    return (directory_of(goal_of(path)) / JOURNAL).exists()


def goal_of(path: str) -> Path:
    """Where a local file is to be, links followed."""
    return Path(os.path.realpath(local_path(path) or path))


def directory_of(goal: Path) -> Path:
    """The directory for unfinished work on a file."""
    return goal.with_name(f"{goal.name}.run")


def is_local(path: str) -> bool:
    """Whether a name is one of a file of this machine."""
    with explain_read_errors(path):
        filesystem, _ = fsspec.core.url_to_fs(path)
        return isinstance(filesystem, LocalFileSystem)


@contextmanager
def stream_of(path: str | None) -> Iterator[IO[Any]]:
    """Standard output, as UTF-8 whatever the terminal believes, or a pipe or a device."""
    if path is not None:
        with open(path, "wb") as stream:
            yield stream
        return
    if sys.stdout is None:
        raise InputError("standard output is closed; open it, or name a file to write.")
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8")
    yield sys.stdout
    sys.stdout.flush()


def upload(file: Path, path: str) -> None:
    """Copy a file to where it is to be, in one go."""
    with explain_disk_errors(path):
        filesystem, name = fsspec.core.url_to_fs(path)
        try:
            filesystem.put_file(str(file), name)
        except Exception as error:
            if not type(error).__module__.startswith("aiohttp."):
                raise
            raise InputError(f"{path}: this cannot be written ({error}); write elsewhere.") from None
