"""Opening what users name and writing so that nothing is ever half there.

Reading goes through `fsspec`: local or remote (`s3://…`), plain or compressed (`.gz`, `.bz2`, `.xz`, `.zst`).
Writing makes a whole directory under a temporary name beside its goal, flushes it and renames it.
"""

from __future__ import annotations

import hashlib
import io
import lzma
import os
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import IO

import fsspec
import fsspec.compression
import fsspec.core
import fsspec.utils
import pyarrow

from bothways.errors import InputError

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


def digest_of_beginning(path: str | os.PathLike) -> str:
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
