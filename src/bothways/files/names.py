"""What a source is called where others read it: model cards, reports, metrics, the server's page."""

from __future__ import annotations

import os
import re
from pathlib import PurePath


def public_name(source: str | os.PathLike) -> str:
    """The last part of a path or an address, without the user, password and query that an address may hold.

    Of an address in parts (`zip://a.csv::https://…`) it is that of the first, the file that is read.
    """
    name = without_secrets(source).split("::")[0]
    return name.rstrip("/").rpartition("/")[2] if "://" in name else PurePath(name).name or name


def without_secrets(source: str | os.PathLike) -> str:
    """A path as it is; of an address all but user, password and query, which may be a signature."""
    parts = os.fspath(source).split("::")
    return "::".join(re.sub(r"(?<=://)[^/?#]*@|[?#].*", "", part) if "://" in part else part for part in parts)
