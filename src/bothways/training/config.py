"""The settings that every training run has in common."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Literal, TypeVar, get_type_hints

from bothways.checks import fits, spelled
from bothways.errors import InputError

Precision = Literal["fp32", "bf16"]
OptimizerName = Literal["adamw", "muon"]
SEEDS = 1 << 32
"""How many seeds there are."""
Chosen = TypeVar("Chosen", bound="TrainingConfig")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What every recipe lets its user set. None: the recipe chooses, by the encoder, the table and the machine."""

    learning_rate: float | None = None
    """Peak of the learning rate."""
    warmup: float = 0.1
    """Share of all updates in which the learning rate rises; afterwards it falls linearly to zero."""
    weight_decay: float = 0.01
    """Decoupled weight decay of matrices; biases and norms do not decay."""
    optimizer: OptimizerName | None = None
    """muon for the matrices of the encoder's layers and adamw for the rest, or adamw for everything."""
    muon_every: int | None = None
    """Muon moves each matrix at every so many updates, so much farther: its cost does not depend on how few tokens an
    update has."""
    gradient_clip: float = 1.0
    """Largest norm of the gradient of an update."""
    micro_batch_tokens: int | None = None
    """Most tokens in one forward pass; an update of more tokens gathers gradients from several. None: 8,192 on a CPU,
    65,536 on CUDA."""
    precision: Precision | None = None
    """Number format of matrix products. None: bf16 where the machine is fast at it, else fp32."""
    compile: bool = False
    """If it trains on CUDA: fuse what lies between matrix products (torch.compile) and, in bf16 without dropout, record
    updates as CUDA graphs. Worth the first half minute in long runs."""
    seed: int = 0
    """Decides fresh weights, order, masking and dropout."""

    def __post_init__(self) -> None:
        for name, hint in get_type_hints(type(self)).items():
            value = getattr(self, name)
            finite = not isinstance(value, float) or math.isfinite(value)  # what is not is told the limits below
            self.require(fits(value, hint) or not finite, name, spelled(hint).replace("null", "None"))
        self.require(
            self.learning_rate is None or 0 < self.learning_rate <= 1,
            "learning_rate",
            "a number above 0 and at most 1",
        )
        self.require(0 <= self.warmup < 1, "warmup", "a share of at least 0 and below 1")
        self.require(0 <= self.weight_decay <= 1, "weight_decay", "0 or more, at most 1")
        self.require_least(1, "muon_every")
        self.require(self.gradient_clip > 0, "gradient_clip", "a number above 0")
        self.require_least(1, "micro_batch_tokens")
        self.require(0 <= self.seed < SEEDS, "seed", "0 or more, below 2^32")

    def require(self, holds: bool, setting: str, wanted: str) -> None:
        """Raise InputError, naming the flag, unless a setting makes sense (NaN never does)."""
        if not holds:
            flag = "--" + setting.replace("_", "-")
            raise InputError(f"{flag} is {getattr(self, setting)!r}; give {wanted}.")

    def require_least(self, least: int, setting: str) -> None:
        """Raise InputError if a setting is given and smaller than `least`."""
        given = getattr(self, setting)
        self.require(given is None or given >= least, setting, f"{least} or more")


@dataclass(frozen=True, kw_only=True)
class TrainingConfig(Settings):
    """What the training loop reads: nothing is left open."""

    learning_rate: float
    optimizer: OptimizerName = "adamw"
    muon_every: int = 1
    micro_batch_tokens: int = 8192
    precision: Precision = "fp32"
    embedding_rate: float = 1.0
    """How many times the learning rate the token embeddings have."""
    output_rate: float = 1.0
    """How many times the learning rate the output layers have."""
    shard: bool = False
    """Whether several processes share out weights, gradients and moments."""

    @classmethod
    def of(cls: type[Chosen], settings: Settings) -> Chosen:
        """The part of a recipe's settings that the loop reads, after the recipe has chosen."""
        names = [field.name for field in fields(cls) if hasattr(settings, field.name)]  # pre-training has fewer
        chosen = {name: getattr(settings, name) for name in names}
        assert None not in chosen.values(), "the recipe has left a setting open"
        return cls(**chosen)
