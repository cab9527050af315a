"""The settings of fine-tuning, and what is chosen where the user has not."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Literal

from bothways.long_texts import LongTexts
from bothways.training.config import OptimizerName, Precision, Settings, TrainingConfig

if TYPE_CHECKING:
    from bothways.model.config import BertConfig  # which needs torch

Pooling = Literal["first", "mean"]
Imbalance = Literal["auto", "none", "weights", "focal"]
WIDE = 512
"""An encoder from this width on has a first token worth reading alone."""
EPOCHS, MOST_EPOCHS, UPDATES = 3, 10, 300
"""Every row is seen `EPOCHS` times, and if that makes fewer than `UPDATES`, more often: `MOST_EPOCHS` times at most."""
MOST_EPOCHS_OF_FEW, LEAST_UPDATES = 20, 60
"""If those make fewer than `LEAST_UPDATES`, as below 190 rows, and the output layers have to start from chance, still
more often: so often at most (docs/decisions.md)."""
MANY_ROWS, EPOCHS_OF_MANY = 40_000, 2
"""From so many rows on, so often is as good."""
LONG_SHARE = 0.2
"""From this share of texts on that are longer than one window, windows are worth what they cost."""
MUON_EVERY = 8
"""As good as 4, and a twelfth less time at 256 wide."""
FEW_ROWS, FEW_ROWS_OUTPUT_RATE, FEW_ROWS_UPDATES, FEW_ROWS_EPOCHS = 3_200, 10.0, 150, 5
"""Below so many rows, an encoder less than `WIDE` has its token embeddings and output layers move faster than its
layers, which a few hundred updates would hardly move. Then half of them are enough, and five epochs, unless those make
fewer than `LEAST_UPDATES` or two for each class: more would learn the rows by heart (docs/decisions.md)."""
FASTEST = 5e-4
"""The learning rate of encoders up to 262 wide; wider ones have a lower one."""
ROWS_OF_A_CLASS = 200
"""Below so many rows for each class, and where words are labelled, the output layers of such an encoder move as fast
whatever the number of rows: else most classes would not be learned at all (docs/decisions.md)."""
MANY_CLASSES, MANY_CLASSES_RATE = 76, 4e-4
"""There, from so many classes on, and where words are labelled, the learning rate is this at least, for a class has
little to learn from; a lower one is better for few classes of texts (docs/decisions.md)."""
PROBED_ROWS, PROBED_RATE = 500, 1e-4
"""Below so many rows, the output layers of encoders wider than 262 and less than `WIDE` start from a linear probe, if
all of them read texts and not words, and from there nothing is to move far: the learning rate is this at most
(docs/decisions.md)."""
DEVIATION = 0.02
"""Of the weights that BERT starts with; the learning rates above are for weights of about this size."""


@dataclass(frozen=True, kw_only=True)
class FinetuningConfig(Settings):
    """How a classifier is trained."""

    learning_rate: float | None = None
    """Peak of the learning rate. None: by the encoder's width, 5e-4 at 256 and 2e-5 at 768; 4e-4 at least where an
    encoder less than 512 wide labels words, or sees fewer than 200 rows a class of 76 or more (docs/decisions.md)."""
    optimizer: OptimizerName | None = None
    """muon for the matrices of the encoder's layers and adamw for the rest, or adamw for everything. None: muon where
    the encoder is less than 512 wide (docs/decisions.md)."""
    muon_every: int | None = None
    """Muon moves each matrix at every so many updates, so much farther: its cost does not depend on how few tokens an
    update has. None: 8 (docs/decisions.md)."""
    embedding_rate: float | None = None
    """How many times the learning rate the token embeddings have. None: where an encoder less than 512 wide sees fewer
    than 3,200 rows, their deviation divided by 0.02, that of fresh weights, 10 at most (docs/decisions.md); else 1."""
    output_rate: float | None = None
    """How many times the learning rate the output layers have. None: in the same cases 10, and where words are labelled
    or a class has fewer than 200 rows; else 1."""
    linear_probe: bool | None = None
    """Output layers are first fitted to what the encoder makes of the texts before it is trained (arXiv 2202.10054).
    None: where an encoder from 263 to 511 wide sees fewer than 500 rows, and no words are to be labelled; there the
    learning rate is 1e-4 at most, and the two above are 1."""
    early_stopping: str = "none"
    """A metric of the rows to evaluate on, as it is called in metrics.json, for instance accuracy: they are evaluated
    after every epoch, the weights of the best are kept, and training ends after 3 epochs without a better one. Of
    several outputs the mean counts. none: all epochs, and the last weights."""
    epochs: int | None = None
    """How often every row is seen. None: 3 times, tables of 40,000 rows twice, small ones up to 10 times, until there
    are 300 updates (where the rates above are larger, 5 times or until there are 60, or two for each class), and up to
    20 times, until there are 60, where there is no linear probe."""
    batch_size: int = 32
    """Texts in an update, on average: batches are packed to as many tokens as this many texts of mean length have."""
    max_length: int | None = None
    """Most tokens of a text, or of a window of it; what is not read is reported. None: the encoder's longest."""
    long_texts: LongTexts | None = None
    """What is read of a longer text: its first tokens (head), its last (tail), a quarter from the start and the rest
    from the end (both), or all, in windows that overlap and are averaged (windows). None: windows where many of the
    training texts are longer, else head (docs/decisions.md)."""
    overlap: int | None = None
    """Tokens that a window has in common with the one before it. None: a quarter of max_length."""
    most_windows: int = 8
    """A text is read in so many windows at most, which bounds its cost; what lies beyond is truncated."""
    pooling: Pooling | None = None
    """What a text's outputs read: the first token, as published and as `transformers` expects it, or the mean of all
    tokens. None: the mean where the encoder is less than 512 wide (docs/decisions.md), else the first."""
    dropout: float | None = None
    """Dropout while training. None: what the encoder was pre-trained with (0 for the shipped ones and all that
    `pretrain` makes unless told otherwise, 0.1 for most published ones)."""
    imbalance: Imbalance = "auto"
    """What is done about classes of unequal size. none; weights: the loss of a rare class counts more, so that its
    probabilities are larger than it is frequent; focal: what is right already counts less (arXiv 1708.02002); auto:
    weights where one class has four times the rows of another."""
    held_out: float = 0.1
    """Without a dev table, this share of the training rows (2,000 at most) is held out to evaluate the result, and to
    learn from it what scores mean and which texts are of none of the classes."""
    coverage: float | None = None
    """Answers of a single-label output get a set of labels, too, which holds the right one of this share of texts (0.9
    for instance). None: there are no such sets."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_least(1, "epochs")
        for rate in ("embedding_rate", "output_rate"):
            times = getattr(self, rate)
            self.require(times is None or 0 <= times <= 1000, rate, "a number from 0 to 1,000")
        self.require(self.batch_size >= 1, "batch_size", "1 or more")
        self.require_least(8, "max_length")
        self.require_least(0, "overlap")
        if self.overlap is not None and self.max_length is not None:
            self.require(self.overlap <= self.max_length // 2, "overlap", "at most half of max_length")
        self.require(self.most_windows >= 1, "most_windows", "1 or more")
        self.require(self.dropout is None or 0 <= self.dropout < 1, "dropout", "a share of at least 0 and below 1")
        self.require(0 <= self.held_out < 1, "held_out", "a share of at least 0 and below 1")
        self.require(self.coverage is None or 0 < self.coverage < 1, "coverage", "a share above 0 and below 1")

    def changed_by(self, other: FinetuningConfig, names: Collection[str]) -> FinetuningConfig:
        """These settings, but those of `names` as `other` has them."""
        return replace(
            self, **{known.name: getattr(other, known.name) for known in fields(self) if known.name in names}
        )


@dataclass(frozen=True, kw_only=True)
class ResolvedConfig(FinetuningConfig, TrainingConfig):
    """The same with nothing left open."""

    learning_rate: float
    optimizer: OptimizerName
    muon_every: int
    embedding_rate: float
    output_rate: float
    linear_probe: bool
    epochs: int
    max_length: int
    long_texts: LongTexts
    overlap: int
    pooling: Pooling
    dropout: float
    micro_batch_tokens: int
    precision: Precision


def within(config: FinetuningConfig, model: BertConfig) -> tuple[FinetuningConfig, str]:
    """The settings with no more asked of a model than it can do, and a sentence about what was reduced, empty if
    nothing was: it reads as many tokens at once as it has positions, and two windows share half of them at most."""
    positions = model.encoder.max_positions
    length = None if config.max_length is None else min(config.max_length, positions)
    read = length or model.longest
    overlap = None if config.overlap is None else min(config.overlap, read // 2)
    told = []
    if length != config.max_length:
        told.append(f"The encoder has {positions:,} positions, so {read:,} tokens are read at once.")
    if overlap != config.overlap:
        told.append(f"Of {read:,} tokens that are read at once, windows share {overlap:,}, not {config.overlap:,}.")
    return replace(config, max_length=length, overlap=overlap), " ".join(told)


def resolved(
    config: FinetuningConfig,
    *,
    width: int,
    max_length: int,
    dropout: float,
    deviation: float,
    rows: int,
    classes: int,
    texts: bool,
    long: float,
    micro_batch_tokens: int,
    precision: Precision,
) -> ResolvedConfig:
    """What the user has left open, chosen by the encoder's `width`, the `deviation` of its token embeddings, the number
    of `rows`, the most `classes` of an output, whether all outputs read `texts` and not words, and which share of the
    rows is `long`er than `max_length` (docs/decisions.md); the others are what the encoder and the machine say."""
    few = width < WIDE and rows < FEW_ROWS
    rate = min(FASTEST, 2e-5 * (768 / width) ** 3)
    few_of_a_class = width < WIDE and (not texts or rows < ROWS_OF_A_CLASS * classes)
    if few_of_a_class and (not texts or classes >= MANY_CLASSES):
        rate = max(rate, MANY_CLASSES_RATE)
    probed = width < WIDE and rate < FASTEST and rows < PROBED_ROWS and texts
    probed = probed if config.linear_probe is None else config.linear_probe

    def epochs(updates: int) -> int:
        return math.ceil(updates * config.batch_size / max(1, rows))

    wanted = epochs(UPDATES)
    if few:
        least = min(UPDATES, max(LEAST_UPDATES, 2 * classes))
        wanted = max(min(FEW_ROWS_EPOCHS, epochs(FEW_ROWS_UPDATES)), epochs(least))
    most = MOST_EPOCHS if probed else min(MOST_EPOCHS_OF_FEW, max(MOST_EPOCHS, epochs(LEAST_UPDATES)))
    chosen = {
        "learning_rate": min(PROBED_RATE, rate) if probed else rate,
        "optimizer": "adamw" if width >= WIDE else "muon",
        "muon_every": MUON_EVERY,
        "embedding_rate": min(10.0, max(1.0, deviation / DEVIATION)) if few and not probed else 1.0,
        "output_rate": FEW_ROWS_OUTPUT_RATE if (few or few_of_a_class) and not probed else 1.0,
        "linear_probe": probed,
        "epochs": min(most, max(EPOCHS_OF_MANY if rows >= MANY_ROWS else EPOCHS, wanted)),
        "max_length": max_length,
        "long_texts": "windows" if long >= LONG_SHARE else "head",
        "overlap": (config.max_length or max_length) // 4,
        "pooling": "first" if width >= WIDE else "mean",
        "dropout": dropout,
        "micro_batch_tokens": micro_batch_tokens,
        "precision": precision,
    }
    given = {name: value for name, value in asdict(config).items() if value is not None}
    return ResolvedConfig(**(chosen | given))
