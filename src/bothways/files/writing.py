"""Writing so that nothing is ever half there: under a temporary name beside the goal, flushed, then renamed."""

from __future__ import annotations

import errno
import io
import os
import re
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from filelock import FileLock, Timeout
from safetensors import SafetensorError

from bothways.errors import InputError
from bothways.files.reading import STANDARD_INPUT, local_path

LOCK = "lock"
"""The file by which a process keeps others out of a directory."""
OUR_FILES = (
    *("config.json", "*/config.json", "vocab.txt", "corpus.json", "metrics.json", "compare.json", "export.json"),
    *("baseline.json", "state.json", "SHA256SUMS", "counted.json"),
)
"""What tells a directory that this package has written."""
LONGEST_NAME = 200
"""Bytes of the name of a directory to write; file systems allow 255, and what is unfinished has a longer name."""


@contextmanager
def new_directory(path: str | os.PathLike, overwrite: bool = False) -> Iterator[Path]:
    """Give out an empty directory to fill; it takes the name `path` only once the block ends without an error.

    Raises InputError if `path` exists and `overwrite` is not set, or if the disk is full; then nothing is left behind.
    """
    goal = Path(path)
    refuse_existing(goal, overwrite)
    scratch = goal.with_name(f".{goal.name}.{os.getpid()}.tmp")
    with folders_above(goal), explain_disk_errors(goal):
        try:
            scratch.mkdir()
            yield scratch
            for file in scratch.rglob("*"):
                if file.is_file():
                    flush(file)
            replace_directory(scratch, goal)
            flush(goal.parent)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


@contextmanager
def exclusive_directory(directory: Path, *, anew: bool) -> Iterator[None]:
    """Make a directory for unfinished work, or empty it if that is to begin `anew`, and keep other processes out.

    The lock in it ends with this process, however that ends. Raises InputError if another process is at work there.
    """
    with folders_above(directory), exclusively(directory, anew=anew):
        yield


@contextmanager
def exclusively(directory: Path, *, anew: bool) -> Iterator[None]:
    """`exclusive_directory` in a folder that exists."""
    lock, has_locks = FileLock(directory / LOCK), True
    try:  # from the first moment on: a signal may come at any
        with explain_disk_errors(directory):
            directory.mkdir(exist_ok=True)
            try:
                lock.acquire(blocking=False)
            except Timeout:
                raise InputError(
                    f"{directory}: another process is at work on this; wait for it or name another directory to write."
                ) from None
            except NotImplementedError:  # some network file systems
                has_locks = False
        for old in directory.iterdir() if anew else ():
            if old.name != LOCK:
                shutil.rmtree(old) if old.is_dir() and not old.is_symlink() else old.unlink()
        yield
    finally:
        if has_locks and not lock.is_locked and directory.is_dir():  # a signal may have come while it was taken
            with suppress(Timeout, NotImplementedError, OSError):
                lock.acquire(blocking=False)
        ours = (lock.is_locked or not has_locks) and directory.is_dir()
        if ours and [path.name for path in directory.iterdir()] == [LOCK]:  # nothing to go on from
            shutil.rmtree(directory, ignore_errors=True)
        lock.release()
        with suppress(OSError):
            directory.rmdir()  # if it is empty


@contextmanager
def folders_above(path: Path) -> Iterator[None]:
    """Make the folders in which `path` is to be; those that were made and are empty go again if the block fails."""
    missing = [folder for folder in path.parents if not os.path.lexists(folder)]
    with explain_disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield
    except BaseException:
        with suppress(OSError):
            for folder in missing:
                folder.rmdir()
        raise


def refuse_existing(path: str | os.PathLike, overwrite: bool, reads: Iterable[str | os.PathLike | None] = ()) -> None:
    """Raise InputError if `path` exists and may not be overwritten, or cannot be written; long work asks this first.

    Nor may what is overwritten hold one of the files or directories in `reads`, or the directory one stands in.
    """
    if len(os.fsencode(Path(path).name)) > LONGEST_NAME:
        raise InputError(f"{path}: this name is too long; choose a shorter one.")
    if os.path.lexists(path):
        if not overwrite:
            raise InputError(f"{path} exists already; name another directory or add --overwrite.")
        refuse_in_use(path, (os.getcwd(), *reads))
        refuse_foreign(Path(path))
    parent = Path(path).absolute().parent
    while not os.path.lexists(parent):  # missing parents will be made
        parent = parent.parent
    if not parent.is_dir():
        raise InputError(f"{path}: {parent} is no directory; write elsewhere.")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise InputError(f"{path}: you may not write in {parent}; change the permissions or write elsewhere.")
    with explain_disk_errors(path):  # what permissions do not tell, as of /proc
        os.rmdir(tempfile.mkdtemp(dir=parent))


def refuse_foreign(path: Path) -> None:
    """Raise InputError for a directory that holds something and nothing that this package writes: a slip of the hand
    should not cost a folder of photographs."""
    if path.is_dir() and any(path.iterdir()) and not any(any(path.glob(file)) for file in OUR_FILES):
        raise InputError(
            f"{path} is no directory that bothways has written, so --overwrite does not replace it; name another one, "
            f"or remove it yourself."
        )


def require_space(path: str | os.PathLike, needed: int) -> None:
    """Raise InputError if the disk of `path` has not so many bytes free: long work asks this before it begins."""
    folder = Path(path).absolute().parent
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise InputError(
            f"{path}: this takes {needed / 1e6:,.0f} MB, and {free / 1e6:,.0f} MB are free there; make room or write "
            f"elsewhere."
        )


def refuse_in_use(path: str | os.PathLike | None, reads: Iterable[str | os.PathLike | None]) -> None:
    """Raise InputError if what is written to `path` would replace what is read, under whatever name: links, addresses.

    `reads` are files and directories; `-` is standard input. A `path` of None is standard output, which may be a file.
    """
    goal = standard_file(sys.stdout) if path is None else status(path)
    if goal is None:
        return
    for read in reads:
        if read is None:
            continue
        local = None if read == STANDARD_INPUT else local_path(read)
        found = standard_file(sys.stdin) if read == STANDARD_INPUT else local and status(local)
        if not found:
            continue
        if path is not None and local is not None and Path(path).resolve() in local.resolve().parents:
            raise InputError(f"{path} holds {read}, which is in use; name another directory.")
        regular = stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode)
        if regular and os.path.samestat(goal, found):
            what = "standard input" if read == STANDARD_INPUT else read
            where = "Standard output" if path is None else path
            kind = kind_of_place(goal)
            raise InputError(f"{where} would replace {what}, which is in use; name another {kind} to write.")


def kind_of_place(found: os.stat_result) -> str:
    return "directory" if stat.S_ISDIR(found.st_mode) else "file"


def status(path: str | os.PathLike) -> os.stat_result | None:
    """What the operating system knows of a file or directory, links followed; None if there is none."""
    try:
        return os.stat(path)
    except OSError:
        return None


def standard_file(stream: IO[str] | None) -> os.stat_result | None:
    """The same for a standard stream; None if it is closed or not one of the operating system."""
    try:
        return None if stream is None else os.fstat(stream.fileno())
    except (OSError, ValueError):
        return None


def replace_directory(scratch: Path, goal: Path) -> None:
    """Rename `scratch` to `goal`; what was there is moved aside first and removed last."""
    aside = goal.with_name(f".{goal.name}.{os.getpid()}.old")
    if os.path.lexists(goal):
        os.rename(goal, aside)
    os.rename(scratch, goal)
    if aside.is_dir() and not aside.is_symlink():
        shutil.rmtree(aside)
    elif os.path.lexists(aside):
        aside.unlink()


def flush(path: Path) -> None:
    """Have the operating system put `path` on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def explain_disk_errors(path: str | os.PathLike) -> Iterator[None]:
    """Turn what a full or lost disk raises into one sentence."""
    try:
        yield
    except InputError:
        raise
    except (OSError, SafetensorError) as error:
        message = str(error)
        told = re.search(r"\(os error (\d+)\)", message)  # by safetensors
        number = int(told[1]) if told else getattr(error, "errno", None)
        if number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise InputError(f"{path}: no space left on the device; free some or write elsewhere.") from error
        if number in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise InputError(f"{path}: you may not write here; change the permissions or write elsewhere.") from error
        if number == errno.EISDIR:
            raise InputError(f"{path}: this is a directory; name a file.") from error
        if number in (errno.ENOENT, errno.ENOTDIR):
            raise InputError(f"{path}: the place to write to is gone or no directory ({message}).") from error
        raise


def write_atomically(path: str | os.PathLike, text: str) -> None:
    """Write a small text file, whole or not at all."""
    with writing(path) as stream:
        stream.write(text)


@contextmanager
def writing(path: str | os.PathLike | None) -> Iterator[IO[str]]:
    """A text stream to fill; the file takes its name once the block ends without an error. None: standard output.

    Links are followed; a pipe or a device is written to as it comes.
    """
    if path is None:
        if sys.stdout is None:
            raise InputError("standard output is closed; open it, or name a file to write.")
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(encoding="utf-8")  # whatever the terminal believes
        with explain_disk_errors("standard output"):
            yield sys.stdout
            sys.stdout.flush()
        return
    goal = Path(os.path.realpath(path))
    if goal.exists() and not goal.is_file():
        with explain_disk_errors(path), goal.open("w", encoding="utf-8") as stream:
            yield stream
        return
    scratch = goal.with_name(f".{goal.name}.{os.getpid()}.tmp")
    try:
        with explain_disk_errors(goal):
            with scratch.open("w", encoding="utf-8") as stream:
                yield stream
            flush(scratch)
            os.replace(scratch, goal)
    finally:
        scratch.unlink(missing_ok=True)
