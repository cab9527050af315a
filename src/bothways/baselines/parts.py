"""Files of fitted scikit-learn parts, without pickle (`skops`), and the probabilities of their classifiers."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from bothways.errors import InputError

TRUSTED = [
    "bothways.baselines.words.words_of",
    "bothways.baselines.words.characters_and_neighbours_of",
    "sklearn.tree._tree.Tree",
]
"""What a file may hold beside scikit-learn's, numpy's and scipy's own: what splits texts, and the trees of a forest."""
SHARPNESS = 2.0
"""Times the logarithm of the number of classes, what distances to the planes of a linear SVM are multiplied with before
softmax: 1.4 for 2 classes, 4.6 for 10, 10 for 150 (docs/decisions.md)."""


def write_part(part: Any, path: Path) -> None:
    """Write a fitted part. Raises InputError for one that is not scikit-learn's, which `read_part` would refuse."""
    io = skops_io()
    io.dump(part, path, compression=zipfile.ZIP_DEFLATED, compresslevel=1)
    if foreign := unknown_types(io, path):
        raise InputError(
            f"{type(part).__name__} cannot be saved, since {foreign[0]} is not scikit-learn's own; only its parts can."
        )


def read_part(path: Path) -> Any:
    """Read a fitted part. Raises InputError if it is damaged, or holds what could run code; FileNotFoundError."""
    io = skops_io()
    if not path.is_file():
        raise FileNotFoundError(2, "no such file", str(path))
    try:
        foreign = unknown_types(io, path)
        if not foreign:
            return io.load(path, trusted=TRUSTED)
    except (zipfile.BadZipFile, KeyError, ValueError, TypeError, AttributeError, EOFError) as error:
        raise InputError(f"{path}: this file is damaged ({error}); save the method again.") from None
    raise InputError(f"{path}: {foreign[0]} is not part of scikit-learn and could run code; save the method again.")


def unknown_types(io: Any, path: Path) -> list[str]:
    """What is in a file that is not trusted."""
    return sorted(set(io.get_untrusted_types(file=path)) - set(TRUSTED))


def skops_io() -> Any:
    """The library. Raises InputError if it is not installed."""
    try:
        import skops.io
    except ImportError:
        raise InputError("Saving this method needs skops; install it with pip install 'bothways[compare]'.") from None
    return skops.io


def probabilities_of(classifier: Any, features: Any) -> np.ndarray:
    """The probabilities of a scikit-learn classifier: (texts, features) → (texts, classes).

    One that has none, as a linear SVM, gives softmax of its distances times `SHARPNESS`, so that the likeliest class is
    the one it would choose. Calibration by cross-validation would take five fits, and change some choices.
    """
    if hasattr(classifier, "predict_proba"):
        return classifier.predict_proba(features)
    from scipy.special import softmax

    distances = np.asarray(classifier.decision_function(features))
    if distances.ndim == 1:  # of two classes only that to the second
        distances = np.stack([-distances, distances], axis=-1)
    return softmax(SHARPNESS * np.log(distances.shape[-1]) * distances, axis=-1)
