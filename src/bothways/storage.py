"""Opening what users name and writing so that nothing is ever half there.

Reading goes through `fsspec`: local or remote (`s3://…`), plain or compressed (`.gz`, `.bz2`, `.xz`, `.zst`).
Writing makes a whole directory under a temporary name beside its goal, flushes it and renames it.
"""

from __future__ import annotations

import errno
import io
import lzma
import os
import shutil
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import fsspec
import pyarrow
from safetensors import SafetensorError

from bothways.errors import InputError

BROKEN_COMPRESSION = (EOFError, lzma.LZMAError, zlib.error)


@contextmanager
def open_input(path: str | os.PathLike) -> Iterator[IO[bytes]]:
    """Open a file for reading bytes, decompressed; whatever is wrong with it becomes one sentence that names it."""
    path = os.fspath(path)
    try:
        if path.endswith(".zst"):  # fsspec's own reader takes a file cut short for a whole one; pyarrow's does not
            with fsspec.open(path, "rb") as raw, pyarrow.input_stream(raw, compression="zstd") as stream:
                yield stream
        else:
            with fsspec.open(path, "rb", compression="infer") as stream:
                yield stream
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
        raise


def read_lines(path: str | os.PathLike) -> Iterator[tuple[int, str]]:
    """The lines of a UTF-8 text file as (number from 1, text without line end); a byte order mark is dropped."""
    with open_input(path) as stream:
        # Buffered, because not every decompressor can be read by lines.
        for number, line in enumerate(io.BufferedReader(stream), start=1):  # type: ignore[type-var]
            try:
                text = line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise InputError(
                    f"{path}, line {number}: byte {error.start + 1} is not UTF-8; "
                    f"convert the file, for instance with iconv -f GB18030 -t UTF-8."
                ) from None
            yield number, text.rstrip("\r\n")


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


def refuse_existing(path: str | os.PathLike, overwrite: bool) -> None:
    """Raise InputError if `path` exists and may not be overwritten; long work asks this before it starts."""
    if os.path.lexists(path) and not overwrite:
        raise InputError(f"{path} exists already; name another directory or add --overwrite.")


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
        if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) or "No space left" in message:
            raise InputError(f"{path}: no space left on the device; free some or write elsewhere.") from error
        if isinstance(error, PermissionError) or getattr(error, "errno", None) == errno.EROFS:
            raise InputError(f"{path}: you may not write here; change the permissions or write elsewhere.") from error
        if isinstance(error, (FileNotFoundError, NotADirectoryError)):
            raise InputError(f"{path}: the place to write to is gone or no directory ({message}).") from error
        raise


def write_whole(path: str | os.PathLike, text: str) -> None:
    """Write a small text file, whole or not at all."""
    with writing(path) as stream:
        stream.write(text)


@contextmanager
def writing(path: str | os.PathLike | None) -> Iterator[IO[str]]:
    """A text stream to fill; the file takes its name once the block ends without an error. None: standard output."""
    if path is None:
        with clear_disk_errors("standard output"):
            yield sys.stdout
            sys.stdout.flush()
        return
    goal = Path(path)
    scratch = goal.with_name(f".{goal.name}.{os.getpid()}.tmp")
    try:
        with clear_disk_errors(goal):
            with scratch.open("w", encoding="utf-8") as stream:
                yield stream
            flush(scratch)
            os.replace(scratch, goal)
    finally:
        scratch.unlink(missing_ok=True)
