"""Opening what users name and writing so that nothing is ever half there.

Reading goes through `fsspec`: local or remote (`s3://…`), plain or compressed (`.gz`, `.bz2`, `.xz`, `.zst`).
Writing makes a whole directory under a temporary name beside its goal, flushes it and renames it.
"""

from __future__ import annotations

import errno
import hashlib
import io
import lzma
import os
import re
import shutil
import sys
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import IO

import fsspec
import fsspec.compression
import fsspec.core
import fsspec.utils
import pyarrow
from filelock import FileLock, Timeout
from safetensors import SafetensorError

from bothways.errors import InputError

LOCK = "lock"
"""The file by which a process keeps others out of a directory."""
LONGEST_NAME = 200
"""Bytes of the name of a directory to write; file systems allow 255, and what is unfinished has a longer name."""
BROKEN_COMPRESSION = (EOFError, lzma.LZMAError, zlib.error, zipfile.BadZipFile)


class Meter:
    """How many bytes of some files have been read, as they lie on the disk, and how many there are."""

    def __init__(self, paths: Iterable[str | os.PathLike]) -> None:
        self.total = sum(size_of(path) for path in paths)
        self._before = 0
        self._stream: IO[bytes] | None = None

    def watch(self, stream: IO[bytes]) -> None:
        """Count what is read from `stream`, the next of the files."""
        self._stream = stream

    def leave(self) -> None:
        """The file watched is about to be closed."""
        self._before, self._stream = self.done, None

    @property
    def done(self) -> int:
        """Bytes read so far."""
        return self._before + (0 if self._stream is None else self._stream.tell())


def size_of(path: str | os.PathLike) -> int:
    """The bytes of a file on its disk; 0 if that cannot be told."""
    try:
        filesystem, name = fsspec.core.url_to_fs(os.fspath(path))
        return int(filesystem.size(name) or 0)
    except (OSError, ImportError, ValueError):
        return 0


def beginning_of(path: str | os.PathLike) -> str:
    """A digest of the first megabyte of a file as it lies on its disk; empty for a pipe, which can be read but once."""
    if not size_of(path):
        return ""
    with open_input(path, raw=True) as stream:
        return hashlib.sha256(stream.read(1 << 20)).hexdigest()[:16]


def is_pipe(path: str | os.PathLike) -> bool:
    """Whether this can be read but once, and not sought in, like /dev/stdin."""
    return os.path.exists(path) and not os.path.isfile(path) and not os.path.isdir(path)


@contextmanager
def open_input(path: str | os.PathLike, meter: Meter | None = None, *, raw: bool = False) -> Iterator[IO[bytes]]:
    """Open a file for reading bytes, decompressed unless they are wanted `raw`; whatever is wrong with it becomes one
    sentence that names it."""
    path = os.fspath(path)
    try:
        with open(path, "rb") if is_pipe(path) else fsspec.open(path, "rb") as opened:
            if meter is not None and opened.seekable():
                meter.watch(opened)
            with nullcontext(opened) if raw else decompressed(opened, path) as stream:
                yield stream
                if meter is not None:  # before the decompressor closes what it read from
                    meter.leave()
    except FileNotFoundError:
        raise InputError(f"{path}: there is no such file; check the name.") from None
    except IsADirectoryError:
        raise InputError(f"{path}: this is a directory; name a file.") from None
    except PermissionError:
        raise InputError(f"{path}: you may not read this file; change its permissions.") from None
    except ImportError as error:
        raise InputError(f"{path}: reading this needs another package ({error}).") from None
    except BROKEN_COMPRESSION as error:
        raise InputError(
            f"{path}: the compressed data is cut short or damaged ({error}); fetch or compress it again."
        ) from None
    except ValueError as error:
        if isinstance(error, InputError) or "Protocol not known" not in str(error):
            raise
        raise InputError(f"{path}: {error}; name a local file or one that fsspec can open.") from None
    except OSError as error:
        if any(sign in str(error) for sign in ("gzip", "Invalid data stream", "ZSTD", "Truncated compressed")):
            raise InputError(
                f"{path}: the compressed data is cut short or damaged ({error}); fetch or compress it again."
            ) from None
        raise InputError(f"{path}: this cannot be read ({error}).") from error


def decompressed(raw: IO[bytes], path: str) -> AbstractContextManager[IO[bytes]]:
    """A stream of what is compressed in `raw`, told by the ending of `path`."""
    if path.endswith(".zst"):  # fsspec's own reader takes a file cut short for a whole one; pyarrow's does not
        return pyarrow.input_stream(raw, compression="zstd")
    name = fsspec.utils.infer_compression(path)
    return nullcontext(raw) if name is None else fsspec.compression.compr[name](raw, mode="rb")


def read_lines(path: str | os.PathLike, *, longest: int = -1, meter: Meter | None = None) -> Iterator[tuple[int, str]]:
    """The lines of a UTF-8 text file as (number from 1, text without line end); a byte order mark is dropped.

    A line of more than `longest` bytes comes in several pieces with the same number; -1: every line is whole.
    """
    with open_input(path, meter) as opened:
        # Buffered, because not every decompressor can be read by lines.
        stream = io.BufferedReader(opened, 1 << 20)  # type: ignore[type-var]
        number, rest = 1, b""
        while line := stream.readline(longest):
            whole = line.endswith(b"\n") or len(line) != longest
            line = rest + line
            rest = b"" if whole else line[complete(line) :]
            try:
                text = line[: len(line) - len(rest)].decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise InputError(
                    f"{path}, line {number}: byte {error.start + 1} is not UTF-8; "
                    f"convert the file, for instance with iconv -f GB18030 -t UTF-8."
                ) from None
            yield number, text.rstrip("\r\n")
            number += whole


def complete(piece: bytes) -> int:
    """How many bytes of a piece of UTF-8 make whole characters."""
    for back in range(1, min(4, len(piece)) + 1):
        byte = piece[-back]
        if byte >= 0xC0:  # the first byte of a character of 2, 3 or 4
            width = 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
            return len(piece) - back if back < width else len(piece)
        if byte < 0x80:
            break
    return len(piece)


@contextmanager
def new_directory(path: str | os.PathLike, overwrite: bool = False) -> Iterator[Path]:
    """Give out an empty directory to fill; it takes the name `path` only once the block ends without an error.

    Raises InputError if `path` exists and `overwrite` is not set, or if the disk is full; then nothing is left behind.
    """
    goal = Path(path)
    refuse_existing(goal, overwrite)
    scratch = goal.with_name(f".{goal.name}.{os.getpid()}.tmp")
    try:
        with clear_disk_errors(goal):
            scratch.mkdir(parents=True)
            yield scratch
            for file in scratch.rglob("*"):
                if file.is_file():
                    flush(file)
            replace_directory(scratch, goal)
            flush(goal.parent)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


@contextmanager
def alone_in(directory: Path, *, anew: bool) -> Iterator[None]:
    """Make a directory for unfinished work, or empty it if that is to begin `anew`, and keep other processes out.

    The lock in it ends with this process, however that ends. Raises InputError if another process is at work there.
    """
    with clear_disk_errors(directory):
        directory.mkdir(parents=True, exist_ok=True)
        lock = FileLock(directory / LOCK)
        try:
            lock.acquire(blocking=False)
        except Timeout:
            raise InputError(
                f"{directory}: another process is at work on this; wait for it or name another directory to write."
            ) from None
        except NotImplementedError:  # some network file systems have no locks
            pass
    try:
        for old in directory.iterdir() if anew else ():
            if old.name != LOCK:
                shutil.rmtree(old) if old.is_dir() and not old.is_symlink() else old.unlink()
        yield
    finally:
        if directory.is_dir() and [path.name for path in directory.iterdir()] == [LOCK]:  # nothing to go on from
            shutil.rmtree(directory, ignore_errors=True)
        lock.release()


def refuse_existing(path: str | os.PathLike, overwrite: bool, reads: Iterable[str | os.PathLike | None] = ()) -> None:
    """Raise InputError if `path` exists and may not be overwritten, or cannot be written; long work asks this first.

    Nor may what is overwritten hold one of the files or directories in `reads`, or the directory one stands in.
    """
    if len(os.fsencode(Path(path).name)) > LONGEST_NAME:
        raise InputError(f"{path}: this name is too long; choose a shorter one.")
    if os.path.lexists(path):
        if not overwrite:
            raise InputError(f"{path} exists already; name another directory or add --overwrite.")
        goal = Path(path).resolve()
        for read in (os.getcwd(), *(read for read in reads if read is not None)):
            if Path(read).exists() and goal in (Path(read).resolve(), *Path(read).resolve().parents):
                raise InputError(f"{path} holds {read}, which is in use; name another directory.")
    parent = Path(path).absolute().parent
    while not os.path.lexists(parent):  # missing parents will be made
        parent = parent.parent
    if not parent.is_dir():
        raise InputError(f"{path}: {parent} is no directory; write elsewhere.")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise InputError(f"{path}: you may not write in {parent}; change the permissions or write elsewhere.")


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
def clear_disk_errors(path: str | os.PathLike) -> Iterator[None]:
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


def write_whole(path: str | os.PathLike, text: str) -> None:
    """Write a small text file, whole or not at all."""
    with writing(path) as stream:
        stream.write(text)


@contextmanager
def writing(path: str | os.PathLike | None) -> Iterator[IO[str]]:
    """A text stream to fill; the file takes its name once the block ends without an error. None: standard output.

    Links are followed; a pipe or a device is written to as it comes.
    """
    if path is None:
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(encoding="utf-8")  # whatever the terminal believes
        with clear_disk_errors("standard output"):
            yield sys.stdout
            sys.stdout.flush()
        return
    goal = Path(os.path.realpath(path))
    if goal.exists() and not goal.is_file():
        with clear_disk_errors(path), goal.open("w", encoding="utf-8") as stream:
            yield stream
        return
    scratch = goal.with_name(f".{goal.name}.{os.getpid()}.tmp")
    try:
        with clear_disk_errors(goal):
            with scratch.open("w", encoding="utf-8") as stream:
                yield stream
            flush(scratch)
            os.replace(scratch, goal)
    finally:
        scratch.unlink(missing_ok=True)
