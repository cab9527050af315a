"""Opening what users name, through `fsspec`: local or remote (`s3://…`), plain or compressed.

The bytes of a file tell how it is compressed (gzip, bzip2, xz, zstd, zip), not its name.
"""

from __future__ import annotations

import hashlib
import io
import lzma
import os
import re
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path, PurePath
from typing import IO, Any

import fsspec
import fsspec.compression
import fsspec.core
import pyarrow
from fsspec.implementations.local import LocalFileSystem

from bothways.errors import InputError
from bothways.files.names import public_name
from bothways.files.signs import BEGINNING, compression, encoding_advice, not_text

STANDARD_INPUT = "-"
"""A name for standard input, where a verb reads that."""
COMPRESSED_NAME = re.compile(r"\.(gz|bz2|xz|zst|zip)$", re.IGNORECASE)
"""The endings of names of compressed files."""
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


def local_path(path: str | os.PathLike) -> Path | None:
    """Where a file lies on this machine, also by an address like file://…; None if it is elsewhere."""
    if os.path.lexists(path):
        return Path(path)
    try:
        filesystem, name = fsspec.core.url_to_fs(os.fspath(path))
    except (OSError, ImportError, ValueError):
        return None
    return Path(name) if isinstance(filesystem, LocalFileSystem) else None


def digest_of_beginning(path: str | os.PathLike) -> str:
    """A digest of the first megabyte of a file as it lies on its disk; empty for a pipe, which can be read but once."""
    if not size_of(path):
        return ""
    with open_input(path, raw=True) as stream:
        return hashlib.sha256(stream.read(1 << 20)).hexdigest()[:16]


def add_file(digest: Any, file: Path) -> None:
    """Add the contents of a file to a digest of hashlib."""
    with file.open("rb") as stream:
        while piece := stream.read(1 << 20):
            digest.update(piece)


def digest_of(files: Iterable[Path]) -> str:
    """A digest of the contents of some files, in the order of their names."""
    digest = hashlib.blake2b(digest_size=16)
    for file in sorted(files):
        add_file(digest, file)
    return digest.hexdigest()


def is_pipe(path: str | os.PathLike) -> bool:
    """Whether this can be read but once, and not sought in, like /dev/stdin."""
    return os.path.exists(path) and not os.path.isfile(path) and not os.path.isdir(path)


@contextmanager
def open_input(path: str | os.PathLike, meter: Meter | None = None, *, raw: bool = False) -> Iterator[IO[bytes]]:
    """Open a file for reading bytes, decompressed unless they are wanted `raw`; whatever is wrong with it becomes one
    sentence that names it."""
    path = os.fspath(path)
    with explain_read_errors(path), open(path, "rb") if is_pipe(path) else fsspec.open(path, "rb") as opened:
        if meter is not None and opened.seekable():
            meter.watch(opened)
        with nullcontext(opened) if raw else decompressed(opened, path) as stream:
            yield stream
            if meter is not None:  # before the decompressor closes what it read from
                meter.leave()


@contextmanager
def explain_read_errors(path: str) -> Iterator[None]:
    """Turn what is raised for a file that cannot be read into one sentence that names it."""
    try:
        yield
    except FileNotFoundError as error:
        refused = error.__cause__  # by HTTP, for which fsspec calls everything not found
        if refused is None or getattr(refused, "status", None) == 404 or isinstance(refused, FileNotFoundError):
            raise InputError(f"{path}: there is no such file; check the name.") from None
        raise InputError(f"{path}: this cannot be read ({refused}); check the address, or ask again later.") from None
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
        raise InputError(f"{path}: this cannot be read ({error}).") from None
    except Exception as error:
        if not type(error).__module__.startswith("aiohttp."):  # what comes by HTTP, whose address may end meanwhile
            raise
        raise InputError(f"{path}: this cannot be read ({error}).") from None


def decompressed(raw: IO[bytes], path: str) -> AbstractContextManager[IO[bytes]]:
    """A stream of what is compressed in `raw`, told by its first bytes; `path` is named if that cannot be."""
    found = compression(beginning_of(raw))
    if found is None:
        if COMPRESSED_NAME.search(public_name(path)):
            raise InputError(
                f"{path}: this is not compressed, whatever its name says, or its beginning is damaged; rename it, "
                f"without the last ending, or fetch it again."
            )
        return nullcontext(raw)
    if found == "zip":
        return only_member(raw, path)
    if found == "zstd":  # fsspec's own reader takes a file cut short for a whole one; pyarrow's does not
        return pyarrow.input_stream(raw, compression="zstd")
    return fsspec.compression.compr[found](raw, mode="rb")


def beginning_of(stream: IO[bytes]) -> bytes:
    """The first bytes of a stream, which stay in it; fewer of a pipe that has not got more yet."""
    if hasattr(stream, "peek") and not stream.seekable():
        return stream.peek(BEGINNING)[:BEGINNING]
    position = stream.tell()
    beginning = stream.read(BEGINNING)
    stream.seek(position)
    return beginning


def only_member(raw: IO[bytes], path: str) -> IO[bytes]:
    """The one file in a zip archive, or the one with the ending that the archive's name promises.

    Folders and what macOS adds do not count. Raises InputError if there is none or more than one, for a spreadsheet
    (which is a zip archive, too), for one with a password, and for a pipe, since the list of files is at the end.
    """
    if not raw.seekable():
        raise InputError(f"{path}: a zip file cannot be read from a pipe; unpack it first or give its name.")
    archive = zipfile.ZipFile(raw)
    names = archive.namelist()
    if "[Content_Types].xml" in names:
        kind = "an Excel sheet (xlsx)" if any(name.startswith("xl/") for name in names) else "an Office document"
        raise InputError(f"{path}: this is {kind}; save it as CSV or text, in UTF-8.")
    parts = {name: PurePath(name).parts for name in names if not name.endswith("/")}
    members = [name for name, part in parts.items() if part and part[0] != "__MACOSX" and not part[-1].startswith(".")]
    promised = PurePath(COMPRESSED_NAME.sub("", public_name(path))).suffix.lower()
    chosen = [name for name in members if PurePath(name).suffix.lower() == promised]
    if len(chosen) != 1:
        chosen = members
    if len(chosen) != 1:
        held = ", ".join(members[:5]) + (" and more" if len(members) > 5 else "") if members else "no file"
        raise InputError(f"{path}: this zip file holds {held}; make one with one file in it, or unpack it.")
    if archive.getinfo(chosen[0]).flag_bits & 1:
        raise InputError(f"{path}: this zip file is encrypted; unpack it with its password first.")
    return archive.open(chosen[0])


def read_lines(path: str | os.PathLike, *, longest: int = -1, meter: Meter | None = None) -> Iterator[tuple[int, str]]:
    """The lines of a UTF-8 text file as (number from 1, text without line end); a byte order mark is dropped.

    A line of more than `longest` bytes comes in several pieces with the same number; -1: every line is whole. Raises
    InputError for what is no such text, with advice that fits what it is.
    """
    with open_input(path, meter) as opened:
        # Buffered, because not every decompressor can be read by lines; kept, because it closes `opened` when it goes.
        buffered: Any = io.BufferedReader(opened, 1 << 20)
        yield from decoded_lines(buffered, os.fspath(path), longest)


def read_standard_input(stream: IO[bytes], name: str) -> Iterator[tuple[int, str]]:
    """The lines of a stream that is open already, such as standard input; see `read_lines`."""
    with explain_read_errors(name), decompressed(stream, name) as opened:
        # What is buffered is not buffered again: a person who types gets an answer to each line.
        buffered: Any = opened if hasattr(opened, "peek") else io.BufferedReader(opened)
        yield from decoded_lines(buffered, name)


def decoded_lines(stream: io.BufferedReader, name: str, longest: int = -1) -> Iterator[tuple[int, str]]:
    """The lines of a stream; see `read_lines`. `name` is for messages."""
    if found := not_text(stream.peek(BEGINNING)[:BEGINNING]):
        raise InputError(f"{name}: this is {found[0]}, not text in UTF-8; {found[1]}.")
    if packed := compression(stream.peek(BEGINNING)[:BEGINNING]):
        raise InputError(f"{name}: this is compressed twice, within with {packed}; decompress it once.")
    number, rest, witness = 1, b"", b""
    while line := stream.readline(longest):
        whole = line.endswith(b"\n") or len(line) != longest
        line = rest + line
        rest = b"" if whole else line[complete(line) :]
        try:
            text = line[: len(line) - len(rest)].decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            sample = witness + line[max(0, error.start - BEGINNING) :][: 2 * BEGINNING]
            raise InputError(
                f"{name}, line {number}: byte {error.start + 1} is not UTF-8, {encoding_advice(sample)}."
            ) from None
        if not witness and not line.isascii():
            witness = line[:BEGINNING]
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
