"""The settings of an explanation. Nothing here needs torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from bothways.errors import InputError

MethodName = Literal["words", "gradients", "attention", "masked"]


@dataclass(frozen=True, kw_only=True)
class ExplainConfig:
    """What is explained, and how."""

    method: MethodName = "words"
    """words: leave out each in turn; gradients: integrated gradients; attention: how the encoder works inside, and what
    its input is the sum of; masked: what it would read where a word is hidden (an encoder that was pre-trained)."""
    output: str | None = None
    """The output to explain; None: the first."""
    label: str | None = None
    """The label to explain; None: the one that is decided."""
    nearest: int | None = None
    """So many training rows that are most alike, which `finetune --keep-examples` keeps; None: three, if it has."""
    top: int = 5
    """masked: so many guesses for each token."""

    def __post_init__(self) -> None:
        if self.nearest is not None and self.nearest < 0:
            raise InputError(f"--nearest is {self.nearest}; give 0 or more.")
        if self.top < 1:
            raise InputError(f"--top is {self.top}; give 1 or more.")
