"""Checkpoints of TensorFlow, read without TensorFlow.

NAME.index                 a table: the name of a tensor → its type and shape, and where it lies (BundleEntryProto)
NAME.data-00000-of-00001   the tensors, end to end, little-endian

The table is LevelDB's (github.com/google/leveldb, doc/table_format.md): blocks of keys and values, a block that says
where these are, and a footer that says where that one is; the values are protocol buffers (in TensorFlow,
core/protobuf/tensor_bundle.proto). Nothing that a file says is believed before it is checked: no more is read than the
files are long, and what is kept of an index is bounded (a name may repeat the one before it for a few bytes of file).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from bothways.errors import InputError
from bothways.files.signs import require_own_content

FOOTER, MAGIC = 48, struct.pack("<Q", 0xDB4775248B80FB57)
"""Bytes of the footer, and those that it ends with."""
BLOCK_END = 5
"""Bytes behind a block: how it is compressed, a checksum."""
MOST_BYTES = 4 << 20
"""Of an index; that of a BERT of 1000 layers with what its optimizer kept would be shorter."""
LONGEST_NAME = 512
MOST_OF_NAMES, BESIDE_A_NAME = 16 << 20, 100
"""Bytes of all names together, each counted with about what is kept beside it."""
MOST_DIMENSIONS, MOST_NUMBERS = 8, 2**40
"""Of a tensor. A 0 counts as 1, or a shape with one might hold any sizes beside it."""
HEADER = b""
"""The key of BundleHeaderProto, which says how many files of tensors there are."""
FLOATING = {1: torch.float32, 2: torch.float64, 14: torch.bfloat16, 19: torch.float16}
"""TensorFlow's numbers of the types that weights have."""
CASTAGNOLI = 0x82F63B78
"""The polynomial of CRC-32C, bits reversed."""


@dataclass(frozen=True)
class Entry:
    """Where a tensor lies."""

    dtype: int
    """TensorFlow's number of its type."""
    shape: tuple[int, ...]
    shard: int
    """The file, of several."""
    offset: int
    """Bytes before it."""
    size: int
    """Bytes."""
    sliced: bool
    """Whether it is in parts, under names of their own."""

    @classmethod
    def parse(cls, value: bytes) -> Entry:
        """A BundleEntryProto."""
        fields = dict(fields_of(value))
        shape = fields.get(2, b"")
        dimensions = [content for field, content in fields_of(shape if isinstance(shape, bytes) else b"") if field == 2]
        if len(dimensions) > MOST_DIMENSIONS:
            raise ValueError(f"a tensor has {len(dimensions)} dimensions")
        sizes = tuple(number_in(dict(fields_of(d)), 1) for d in dimensions if isinstance(d, bytes))
        dtype, shard, offset, size = (number_in(fields, field) for field in (1, 3, 4, 5))
        return cls(dtype, sizes, shard, offset, size, sliced=7 in fields)


class TensorBundle:
    """The floating-point tensors of a checkpoint, each read when it is asked for."""

    def __init__(self, index: Path) -> None:
        """`index`: the file that ends in .index. Raises InputError, naming the file, if one is missing or damaged."""
        self.index = index
        try:
            if index.stat().st_size > MOST_BYTES:
                raise ValueError(f"it has more than {MOST_BYTES:,} bytes")
            table = dict(entries_of(index.read_bytes()))
            header = dict(fields_of(table.pop(HEADER)))
            self._shards = number_in(header, 1)
            if number_in(header, 2) != 0:
                raise ValueError("its numbers are big-endian")
            entries = {name.decode(): Entry.parse(value) for name, value in table.items()}
        except (ValueError, KeyError, IndexError, struct.error) as error:
            require_own_content(index)
            what = "it has no header" if isinstance(error, KeyError) else str(error)
            raise InputError(
                f"{index}: this cannot be read as a TensorFlow checkpoint ({what}); fetch the file again."
            ) from None
        self.entries = {name: entry for name, entry in entries.items() if entry.dtype in FLOATING}
        """Name → where it lies."""
        self._check()

    def file_of(self, entry: Entry) -> Path:
        """The file that a tensor is in."""
        return self.index.with_name(f"{self.index.stem}.data-{entry.shard:05d}-of-{self._shards:05d}")

    def tensor(self, name: str) -> Tensor:
        """A tensor, in the type that it has there."""
        entry = self.entries[name]
        tensor = torch.empty(entry.shape, dtype=FLOATING[entry.dtype])
        if entry.size:
            raw = np.fromfile(self.file_of(entry), np.uint8, entry.size, offset=entry.offset)
            tensor.view(-1).view(torch.uint8).copy_(torch.from_numpy(raw))
        return tensor

    def _check(self) -> None:
        """Raise InputError unless every tensor lies in a file that is there, each in a place of its own."""
        ends: dict[Path, int] = {}
        for name, entry in sorted(self.entries.items(), key=lambda item: item[1].offset):
            if entry.sliced:
                raise InputError(f"{self.index}: {name} is stored in parts; save it as one tensor.")
            size = prod(entry.shape) * FLOATING[entry.dtype].itemsize
            if entry.size != size or prod(max(n, 1) for n in entry.shape) > MOST_NUMBERS:
                raise InputError(
                    f"{self.index}: {name} has {entry.size} bytes, but the shape {entry.shape}; fetch the file again."
                )
            file = self.file_of(entry)
            if file not in ends and not file.is_file():
                raise InputError(f"{file} is missing, though {self.index.name} names it; restore it.")
            if entry.offset < ends.get(file, 0):
                raise InputError(f"{self.index}: {name} lies where another tensor lies; fetch the file again.")
            ends[file] = entry.offset + entry.size
        for file, end in ends.items():
            if file.stat().st_size < end:
                require_own_content(file)
                raise InputError(f"{file} has {file.stat().st_size} bytes, but {end} are asked for; fetch it again.")


def entries_of(table: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The keys and values of a table of LevelDB. Raises ValueError or IndexError for anything else."""
    if len(table) < FOOTER or table[-len(MAGIC) :] != MAGIC:
        raise ValueError("it does not end as one does")
    footer = table[-FOOTER:]
    _, at = varint(footer, 0)  # where the block of filters is, which TensorFlow leaves empty
    _, at = varint(footer, at)
    left, names, before = len(table), MOST_OF_NAMES, b""
    for _, handle in in_block(block_at(table, footer[at:])):
        block = block_at(table, handle)
        left -= len(block) + BLOCK_END
        if left < 0:
            raise ValueError("its blocks are longer than the file")
        for key, value in in_block(block):
            if key < before or (key == before and key != HEADER):
                raise ValueError("its names are not in order")
            names -= len(key) + BESIDE_A_NAME
            if names < 0:
                raise ValueError("its names are longer than any model's")
            before = key
            yield key, value


def block_at(table: bytes, handle: bytes) -> bytes:
    """The content of a block, told by its place and length."""
    start, at = varint(handle, 0)
    length, _ = varint(handle, at)
    end = start + length
    if end + BLOCK_END > len(table):
        raise ValueError("it is cut short")
    if table[end] != 0:
        raise ValueError("it is compressed")
    checksum = crc32c(table[start : end + 1])
    if struct.unpack_from("<I", table, end + 1)[0] != ((checksum >> 15 | checksum << 17) + 0xA282EAD8) & 0xFFFFFFFF:
        raise ValueError("its checksum is wrong")
    return table[start:end]


def in_block(block: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The keys and values of a block."""
    (restarts,) = struct.unpack_from("<I", block, len(block) - 4)
    end, at, key = len(block) - 4 - 4 * restarts, 0, b""
    while at < end:
        shared, at = varint(block, at)
        fresh, at = varint(block, at)
        length, at = varint(block, at)
        if shared > len(key) or at + fresh + length > end or shared + fresh > LONGEST_NAME:
            raise ValueError("an entry is longer than its place")
        key = key[:shared] + block[at : at + fresh]
        yield key, block[at + fresh : at + fresh + length]
        at += fresh + length


def fields_of(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """The fields of a protocol buffer: (number, a number or bytes)."""
    at = 0
    while at < len(message):
        tag, at = varint(message, at)
        number, kind = tag >> 3, tag & 7
        if kind == 0:
            value, at = varint(message, at)
            yield number, value
            continue
        if kind == 2:
            length, at = varint(message, at)
        elif kind in (1, 5):
            length = 8 if kind == 1 else 4
        else:
            raise ValueError(f"it has a field of kind {kind}")
        if at + length > len(message):
            raise ValueError("a field is longer than its place")
        yield number, message[at : at + length]
        at += length


def number_in(fields: Mapping[int, int | bytes], field: int) -> int:
    """A number among the fields of a protocol buffer; what is not there is 0."""
    value = fields.get(field, 0)
    if not isinstance(value, int):
        raise ValueError(f"its field {field} is no number")
    return value


def varint(data: bytes, at: int) -> tuple[int, int]:
    """A whole number of up to 64 bits, seven bits a byte, the lowest first → (number, where it ends)."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            raise ValueError("it ends within a number")
        value |= (data[at] & 0x7F) << shift
        at += 1
        if data[at - 1] < 0x80:
            return value, at
    raise ValueError("a number is too long")


def crc32c(data: bytes) -> int:
    """CRC-32C of some thousand bytes; the tensors, which are many more, have one of their own that is not checked."""
    checksum = 0xFFFFFFFF
    for byte in data:
        checksum = CHECKSUMS[(checksum ^ byte) & 0xFF] ^ checksum >> 8
    return checksum ^ 0xFFFFFFFF


def checksums_of_bytes() -> Iterator[int]:
    """What each of the 256 bytes makes of a checksum."""
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (CASTAGNOLI if byte & 1 else 0)
        yield byte


CHECKSUMS = tuple(checksums_of_bytes())
