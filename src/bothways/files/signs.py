"""What bytes tell about a file, whatever its name says: compressions, other kinds of file, other encodings of text."""

from __future__ import annotations

import codecs
import re
from pathlib import Path

from bothways.errors import InputError

BEGINNING = 4096
"""Bytes that are looked at."""

COMPRESSIONS = {
    "gzip": re.compile(rb"\x1f\x8b\x08"),
    "bz2": re.compile(rb"BZh[1-9]1AY&SY"),
    "xz": re.compile(rb"\xfd7zXZ\0"),
    "zstd": re.compile(rb"\x28\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18"),
    "zip": re.compile(rb"PK(\x03\x04|\x05\x06)"),
}
"""What files of each compression begin with."""

OTHERS = (
    (re.compile(rb"\xff\xfe\0\0|\0\0\xfe\xff"), "text in UTF-32", "convert it with iconv -f UTF-32 -t UTF-8"),
    (re.compile(rb"\xff\xfe|\xfe\xff"), "text in UTF-16", "convert it with iconv -f UTF-16 -t UTF-8"),
    (re.compile(rb"(?:[^\0]\0){8}"), "text in UTF-16", "convert it with iconv -f UTF-16LE -t UTF-8"),
    (re.compile(rb"(?:\0[^\0]){8}"), "text in UTF-16", "convert it with iconv -f UTF-16BE -t UTF-8"),
    (re.compile(rb"\xd0\xcf\x11\xe0"), "an Excel sheet (xls) or another Office file", "save it as CSV, in UTF-8"),
    (re.compile(rb"PAR1[^ -~]"), "Parquet", "give it a name that ends in .parquet"),
    (re.compile(rb"%PDF-"), "a PDF", "save its text as a text file, in UTF-8"),
    (re.compile(rb"version https://git-lfs"), "a pointer of Git LFS", "fetch the file itself with git lfs pull"),
)
"""What no text begins with: (sign, what it is, what to do)."""

UTF8_CHARACTER = re.compile(rb"[\xc2-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}|[\xf0-\xf4][\x80-\xbf]{3}")


def compression(beginning: bytes) -> str | None:
    """The name of a compression by the first bytes of a file, as `fsspec` has it; None for no known one."""
    return next((name for name, sign in COMPRESSIONS.items() if sign.match(beginning)), None)


def not_text(beginning: bytes) -> tuple[str, str] | None:
    """By its first bytes, what a file is that holds no UTF-8 text, and what to do with it; None if it may hold some."""
    return next(((kind, advice) for sign, kind, advice in OTHERS if sign.match(beginning)), None)


def require_own_content(path: Path) -> None:
    """Raise InputError if a file that could not be read is of another kind than its name says, as far as bytes tell."""
    with path.open("rb") as stream:
        other = not_text(stream.read(BEGINNING))
    if other is not None:
        raise InputError(f"{path}: this is {other[0]}; {other[1]}.") from None


def encoding_advice(sample: bytes) -> str:
    """What to do about text that is not UTF-8, by some lines of it.

    In UTF-8 with a damaged character most others are right. Chinese in GB18030 is of pairs of bytes beyond ASCII, of
    which the common ones begin with A1 to D7; in Western languages a letter beyond ASCII stands alone.
    """
    beyond = sum(byte >= 0x80 for byte in sample)
    if 2 * sum(map(len, UTF8_CHARACTER.findall(sample))) > beyond:
        return "though the rest is; correct this character or save the file again in UTF-8"
    try:
        text = codecs.getincrementaldecoder("gb18030")().decode(sample)  # the sample may end within a character
    except UnicodeDecodeError:
        text = ""
    pairs = [character.encode("gb18030") for character in text if not character.isascii()]
    common = sum(0xA1 <= pair[0] <= 0xD7 and pair[1] >= 0xA1 for pair in pairs)
    if pairs and common >= 0.7 * len(pairs):
        return "but looks like GB18030 (GBK); convert the file with iconv -f GB18030 -t UTF-8"
    alone = sum(map(len, re.findall(rb"(?<![\x80-\xff])[\x80-\xff]{1,2}(?![\x80-\xff])", sample)))
    if 2 * alone > beyond:
        return "but looks like windows-1252; convert the file with iconv -f WINDOWS-1252 -t UTF-8"
    return "nor an encoding known here; save the file in UTF-8, or convert it with iconv -f ENCODING -t UTF-8"
