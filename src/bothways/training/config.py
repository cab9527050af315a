"""The settings that every training run has in common."""

from __future__ import annotations

from dataclasses import dataclass

from bothways.errors import InputError
from bothways.hardware import Precision, default_device
from bothways.training.optimization import OptimizerName


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """What every training run has in common."""

    learning_rate: float
    """Peak of the learning rate."""
    warmup: float = 0.1
    """Share of all updates in which the learning rate rises; afterwards it falls linearly to zero."""
    weight_decay: float = 0.01
    """Decoupled weight decay of matrices; biases and norms do not decay."""
    optimizer: OptimizerName = "adamw"
    """adamw for everything (so is auto), or muon for the matrices of the encoder's layers and adamw for the rest."""
    muon_every: int = 1
    """Muon moves each matrix at every so many updates, so much farther: its cost does not depend on how few tokens an
    update has. 0: at every update."""
    gradient_clip: float = 1.0
    """Largest norm of the gradient of an update."""
    micro_batch_tokens: int = 0
    """Most tokens in one forward pass; an update of more tokens gathers gradients from several. 0: 8,192 on a CPU,
    65,536 on CUDA."""
    precision: Precision = "auto"
    """Number format of matrix products: auto is bf16 where the machine is fast at it."""
    compile: bool = False
    """If it trains on CUDA: fuse what lies between matrix products (torch.compile) and, in bf16 without dropout, record
    updates as CUDA graphs. Worth the first half minute in long runs."""
    shard: bool = False
    """With several processes: share out weights, gradients and moments, for models too large for one device."""
    seed: int = 0
    """Decides fresh weights, order, masking and dropout."""

    def __post_init__(self) -> None:
        self.require(0 <= self.learning_rate <= 1, "learning_rate", "a number above 0 and at most 1")
        self.require(0 <= self.warmup < 1, "warmup", "a share of at least 0 and below 1")
        self.require(0 <= self.weight_decay <= 1, "weight_decay", "0 or more, at most 1")
        self.require(self.muon_every >= 0, "muon_every", "1 or more, or 0")
        self.require(self.gradient_clip > 0, "gradient_clip", "a number above 0")
        self.require(self.micro_batch_tokens >= 0, "micro_batch_tokens", "1 or more, or 0")
        self.require(0 <= self.seed < 1 << 32, "seed", "0 or more, below 2^32")

    @property
    def at_once(self) -> int:
        """Most tokens in one forward pass, on the device that training would choose."""
        return self.micro_batch_tokens or (65_536 if default_device().type == "cuda" else 8192)

    def require(self, holds: bool, setting: str, wanted: str) -> None:
        """Raise InputError, naming the flag, unless a setting makes sense (NaN never does)."""
        if not holds:
            flag = "--" + setting.replace("_", "-")
            raise InputError(f"{flag} is {getattr(self, setting)!r}; give {wanted}.")
