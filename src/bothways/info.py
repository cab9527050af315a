"""`bothways info`: what this machine and this installation can do, and what was chosen; for people and bug reports."""

from __future__ import annotations

import platform
import re
from importlib.metadata import PackageNotFoundError, requires, version

from bothways import hardware
from bothways.formats.hub import shipped_encoders

VERSIONS = ("bothways", "torch", "tokenizers", "safetensors", "scikit-learn", "pyarrow")
DEVELOPERS = ("bench", "check", "test")
"""Extras that only those who work on this package need."""


def sections() -> dict[str, dict[str, str]]:
    """Everything that is told, as {section: {name: what}}."""
    return {
        "machine": hardware.described(),
        "versions": {"python": platform.python_version(), **{name: installed(name) or "?" for name in VERSIONS}},
        "extras": extras(),
        "shipped encoders": {path.name: str(path) for path in shipped_encoders()},
    }


def installed(package: str) -> str | None:
    """The version of a package; None if it is missing."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def extras() -> dict[str, str]:
    """For each extra whether all of its packages are there, and if not, how to get them."""
    packages: dict[str, list[str]] = {}
    for requirement in requires("bothways") or ():
        match = re.fullmatch(r"""([\w.-]+).*extra == ['"](\w+)['"]""", requirement)
        if match and match[2] not in DEVELOPERS:
            packages.setdefault(match[2], []).append(match[1])
    told = {}
    for extra, names in sorted(packages.items()):
        missing = [name for name in names if installed(name) is None]
        told[extra] = (
            f"missing {', '.join(missing)}; pip install 'bothways[{extra}]'"
            if missing
            else f"installed ({', '.join(names)})"
        )
    return told
