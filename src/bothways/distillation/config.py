"""The settings of distillation."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, TypedDict

from bothways.finetuning.config import MUON_EVERY, WIDE, Pooling
from bothways.training.config import OptimizerName, Precision, Settings, TrainingConfig


@dataclass(frozen=True, kw_only=True)
class DistillationConfig(Settings):
    """How a student learns from a teacher."""

    learning_rate: float | None = None
    """Peak of the learning rate. None: 1e-3; under a classifier as in fine-tuning, 5e-4 at 256 wide and 2e-5 at 768."""
    warmup: float = 0.05
    """Share of all updates in which the learning rate rises; afterwards it falls linearly to zero."""
    optimizer: OptimizerName | None = None
    """muon for the matrices of the encoder's layers and adamw for the rest, or adamw for everything. None: muon; for a
    student of 512 and more that learns from a classifier, adamw."""
    muon_every: int | None = None
    """Muon moves each matrix at every so many updates, so much farther. None: 1; under a classifier 8."""
    steps: int | None = None
    """Updates. None: as many as it takes to read the texts so often as `epochs` says."""
    epochs: int | None = None
    """How often every text is read, if `steps` is not given. None: once; under a classifier 3 times."""
    batch_tokens: int | None = None
    """Tokens in an update. None: 8,192; under a classifier 2,048."""
    max_length: int | None = None
    """Most tokens of a text that the student reads. None: 128; under a classifier what that reads at once, as far as
    the student can."""
    most_texts: int | None = None
    """So many texts are read at most, as many from each file as from the others. None: all."""
    pooling: Pooling | None = None
    """What the teacher's answers are read from: the first token after the pooling layer, or the mean of all tokens.
    None: what fine-tuning reads, the mean where the student is less than 512 wide, else the first."""
    masked_weight: float | None = None
    """How much guessing hidden words counts, against 1 for the teacher; 0: nothing is hidden. None: 0.1; under a
    classifier 0."""
    masked_texts: float = 0.5
    """Share of the texts in which words are hidden."""
    masking_rate: float = 0.15
    """Share of their words to be guessed."""
    temperature: float = 2.0
    """What the logits of a classifier, and of its student, are divided by while it learns, so that it also sees how
    unlikely the other classes are (arXiv 1503.02531)."""
    compile: bool = True
    """If it trains on CUDA: fuse what lies between matrix products (torch.compile) and, in bf16 without dropout, record
    updates as CUDA graphs. Worth the first half minute in long runs."""
    checkpoint_minutes: float = 10.0
    """Minutes between checkpoints."""
    held_out: float = 0.01
    """Share of the texts (1,000 at most) that is held out to see how near the student comes to its teacher."""
    evaluate_every: int = 500
    """Updates between looks at the held-out texts; 0: only at the end."""
    dropout: float = 0.0
    """Dropout while learning, and in fine-tuning what comes out of it, unless told otherwise."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for setting in ("steps", "epochs", "batch_tokens", "most_texts"):
            self.require_least(1, setting)
        self.require_least(8, "max_length")
        self.require(self.masked_weight is None or self.masked_weight >= 0, "masked_weight", "0 or more")
        self.require(0 <= self.masked_texts <= 1, "masked_texts", "a share from 0 to 1")
        self.require(0 < self.masking_rate < 1, "masking_rate", "a share between 0 and 1")
        self.require(0 < self.temperature <= 100, "temperature", "a number above 0, at most 100")
        self.require(self.checkpoint_minutes >= 0, "checkpoint_minutes", "0 or more")
        self.require(0 <= self.held_out < 1, "held_out", "a share of at least 0 and below 1")
        self.require(self.evaluate_every >= 0, "evaluate_every", "0 (only at the end) or more")
        self.require(0 <= self.dropout < 1, "dropout", "a share of at least 0 and below 1")


@dataclass(frozen=True, kw_only=True)
class ResolvedConfig(DistillationConfig, TrainingConfig):
    """The same with nothing left open but `steps` and `most_texts`."""

    learning_rate: float
    optimizer: OptimizerName
    muon_every: int
    epochs: int
    batch_tokens: int
    max_length: int
    pooling: Pooling
    masked_weight: float
    micro_batch_tokens: int
    precision: Precision


class Choices(TypedDict):
    """What is chosen for one kind of teacher."""

    learning_rate: float
    optimizer: OptimizerName
    muon_every: int
    epochs: int
    batch_tokens: int
    max_length: int
    masked_weight: float


def for_vectors(width: int) -> Choices:
    """For a student that is `width` wide and learns sentence vectors, much as in pre-training."""
    return {
        "learning_rate": 1e-3,
        "optimizer": "muon",
        "muon_every": 1,
        "epochs": 1,
        "batch_tokens": 8192,
        "max_length": 128,
        "masked_weight": 0.1,
    }


def for_classes(width: int, max_length: int) -> Choices:
    """For a student that learns from a classifier which reads `max_length` tokens, much as in fine-tuning."""
    return {
        "learning_rate": min(5e-4, 2e-5 * (768 / width) ** 3),
        "optimizer": "adamw" if width >= WIDE else "muon",
        "muon_every": MUON_EVERY,
        "epochs": 3,
        "batch_tokens": 2048,
        "max_length": max_length,
        "masked_weight": 0.0,
    }


def resolved(
    config: DistillationConfig,
    choices: Choices,
    *,
    width: int,
    longest: int,
    micro_batch_tokens: int,
    precision: Precision,
) -> ResolvedConfig:
    """What the user has left open, chosen: `choices` by the teacher, the rest by the student (`width`, and the
    `longest` text it can read) and the machine."""
    chosen: dict[str, Any] = {
        **choices,
        "max_length": min(longest, choices["max_length"]),
        "pooling": "first" if width >= WIDE else "mean",
        "micro_batch_tokens": micro_batch_tokens,
        "precision": precision,
    }
    given = {name: value for name, value in asdict(config).items() if value is not None}
    return ResolvedConfig(**(chosen | given))


def settings_to_match(config: ResolvedConfig) -> dict[str, Any]:
    """The settings that decide the numbers of a run."""
    others = ("checkpoint_minutes", "evaluate_every")
    return {name: value for name, value in asdict(config).items() if name not in others}
