"""bothways: all of BERT for people who classify text. The public names, nothing else."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bothways.classifier import TextClassifier as TextClassifier
    from bothways.errors import InputError as InputError
    from bothways.tokenizer import Tokenizer as Tokenizer

__version__ = "0.1.0"
__all__ = ["InputError", "TextClassifier", "Tokenizer", "__version__"]

_HOMES = {
    "InputError": "bothways.errors",
    "TextClassifier": "bothways.classifier",
    "Tokenizer": "bothways.tokenizer",
}


def __getattr__(name: str) -> object:
    """Public names are imported when first asked for, so that `import bothways` takes no time."""
    if name not in _HOMES:
        raise AttributeError(f"module 'bothways' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
