"""What a source is called where others read it (model cards, reports, metrics, the server's page), and where its
format is told by its name."""

from __future__ import annotations

import os
import re
from pathlib import PurePath

from bothways.errors import without_user

REMOTE = re.compile(r"(?!(?:file|local)://)[^/]*://")
"""The beginning of an address of another machine."""
QUERY = re.compile(r"[?#].*")
"""In an address, its query and fragment."""


def public_name(source: str | os.PathLike) -> str:
    """The last part of a path or an address, without the user, password and query that an address may hold.

    Of an address in parts (`simplecache::zip://a.csv::https://…`) it is that of the first that names a file, which is
    the one that is read.
    """
    parts = without_secrets(source).split("::")
    name = next((part for part in parts if "://" in part), "::".join(parts))
    return name.rstrip("/").rpartition("/")[2] if "://" in name else PurePath(name).name or name


def without_secrets(source: str | os.PathLike) -> str:
    """A path as it is, also as `file://…`; of another address all but user, password and query, which may be a
    signature."""
    parts = os.fspath(source).split("::")
    return "::".join(QUERY.sub("", without_user(part)) if REMOTE.match(part) else part for part in parts)
