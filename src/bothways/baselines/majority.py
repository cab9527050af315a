"""The commonest class, whatever the text says: what a figure is worth begins here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from bothways.baselines.base import Baseline
from bothways.files.json_object import read_json_object


class Majority(Baseline):
    """Gives every text the class that most texts had, and each class its share as probability."""

    def _learn(self, texts: list[Any], pairs: list[Any] | None, targets: np.ndarray) -> None:
        self.shares_ = np.bincount(targets) / len(targets)

    def _probabilities(self, texts: list[Any], pairs: list[Any] | None) -> np.ndarray:
        return np.tile(self.shares_, (len(texts), 1))

    def _write(self, directory: Path) -> None:
        (directory / "shares.json").write_text(json.dumps({"shares": self.shares_.tolist()}) + "\n", "utf-8")

    def _read(self, directory: Path) -> None:
        self.shares_ = np.array(read_json_object(directory / "shares.json")["shares"])
