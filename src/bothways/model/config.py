"""The settings of a model: the encoder's shape and the list of its output layers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from bothways.batch import Reads
from bothways.errors import InputError
from bothways.long_texts import LongTexts, Selection, covered, selection_of

LEAST_AGREEMENT = 0.99
"""Unless so many answers are sure to stay the same, a model is not used in int8 where it was not asked for."""

OutputKind = Literal["masked_lm", "next_sentence", "single", "multi", "regression", "tags", "mahalanobis", "vector"]
"""What an output layer decides; one class of `model.outputs` for each."""


@dataclass(frozen=True, kw_only=True)
class EncoderConfig:
    """The shape of a BERT encoder (arXiv 1810.04805, section 3)."""

    vocab_size: int
    """Entries of the vocabulary."""
    hidden_size: int
    """Width of a token's representation (H in the paper)."""
    layers: int
    """Transformer layers (L)."""
    heads: int
    """Attention heads (A); 64 wide each in every preset."""
    feed_forward_size: int
    """Width inside the feed-forward part; 4 H in the paper."""
    max_positions: int = 512
    """Longest sequence, in tokens."""
    segments: int = 2
    """Segment embeddings: first text, second text."""
    activation: Literal["gelu", "gelu_tanh", "relu"] = "gelu"
    """Non-linearity of the feed-forward part."""
    norm_epsilon: float = 1e-12
    """Added to the variance in every layer norm."""
    dropout: float = 0.1
    """Share of a token's features dropped in training, after the embeddings, attention and feed-forward parts."""
    initializer_range: float = 0.02
    """Standard deviation of fresh weights."""

    def __post_init__(self) -> None:
        if self.heads < 1 or self.hidden_size % self.heads:
            raise InputError(f"hidden_size {self.hidden_size} cannot be shared out over {self.heads} heads.")

    @property
    def head_size(self) -> int:
        """Width of one attention head."""
        return self.hidden_size // self.heads


PRESETS: dict[str, dict[str, int]] = {
    name: {"layers": layers, "hidden_size": hidden, "heads": hidden // 64, "feed_forward_size": 4 * hidden}
    for name, layers, hidden in [
        ("tiny", 2, 128),
        ("mini", 4, 256),
        ("small", 4, 512),
        ("medium", 8, 512),
        ("base", 12, 768),
        ("large", 24, 1024),
    ]
}
"""The published sizes: base and large from the paper, the smaller ones from arXiv 1908.08962."""


def preset(name: str, vocab_size: int, **changes: object) -> EncoderConfig:
    """The encoder settings of a published size, for a vocabulary of `vocab_size` entries."""
    if name not in PRESETS:
        raise InputError(f"There is no preset {name!r}; choose one of {', '.join(PRESETS)}.")
    return EncoderConfig(vocab_size=vocab_size, **{**PRESETS[name], **changes})  # type: ignore[arg-type]


@dataclass(frozen=True, kw_only=True)
class OutputConfig:
    """One output layer: its name, what it decides and reads, its loss, and how its logits are read."""

    name: str
    """Unique within the model; the key of its logits, targets and predictions."""
    kind: OutputKind
    """What it decides."""
    labels: tuple[str, ...] = ()
    """Names of its classes, in the order of its logits; empty for regression and masked words."""
    reads: Reads = "first"
    """What it reads."""
    label_type: Literal["str", "int", "float", "bool"] = "str"
    """What its labels were in Python before they became text, so that `TextClassifier` gives them back."""
    column: str = ""
    """The column of a table that holds its targets; empty: it was not fine-tuned from a table."""
    loss_weight: float = 1.0
    """Its share in the sum of all losses."""
    class_weights: tuple[float, ...] = ()
    """A factor on the loss of each class (for `multi`, of each label where it is present); empty: all 1."""
    focal_gamma: float = 0.0
    """Above 0 the loss is focal: times (1 - p)^gamma, p the probability of what is true (arXiv 1708.02002)."""
    thresholds: tuple[float, ...] = ()
    """`multi` only: the probability from which each label counts as present; empty: 0.5 for all."""
    temperature: float = 1.0
    """Logits are divided by it before they become probabilities (arXiv 1706.04599)."""
    set_threshold: float | None = None
    """`single` only: a text's prediction set holds each class of at least this probability; None: it has none."""
    of: str = ""
    """`mahalanobis` only: the output layer from whose classes the distances are."""
    distance_threshold: float | None = None
    """`mahalanobis` only: a text that is farther from every class is of none of them."""
    width: int = 0
    """`vector` only: how many numbers the vector has."""

    def __post_init__(self) -> None:
        if twice := sorted({label for label in self.labels if self.labels.count(label) > 1}):
            raise InputError(f"Two labels of output {self.name!r} are called {twice[0]!r}; give each its own name.")
        if not self.temperature > 0:
            raise InputError(f"The temperature of output {self.name!r} is {self.temperature}; it must be above 0.")
        if not 0 <= self.focal_gamma <= 10:
            raise InputError(f"focal_gamma of output {self.name!r} is {self.focal_gamma}; it must be from 0 to 10.")
        if self.width < 0:
            raise InputError(f"The width of output {self.name!r} is {self.width}; it must be 0 or more.")
        for option in ("class_weights", "thresholds"):
            values = getattr(self, option)
            if values and len(values) != len(self.labels):
                raise InputError(
                    f"Output {self.name!r} has {len(self.labels)} labels but {len(values)} {option}; give one each."
                )


MASKED_LM = OutputConfig(name="mlm", kind="masked_lm", reads="masked")
"""The output layer of masked-word prediction (arXiv 1810.04805, section 3.1, task 1)."""

NEXT_SENTENCE = OutputConfig(name="nsp", kind="next_sentence", labels=("next", "random"))
"""The output layer of next-sentence prediction (section 3.1, task 2); label 0 is the true next, as published."""


@dataclass(frozen=True, kw_only=True)
class Int8Agreement:
    """How far the answers of a model in int8 are those in fp32: what was found on rows that training has not seen."""

    rows: int
    """So many were compared."""
    agreement: float
    """The share of them to which every output gave the same answer."""
    at_least: float = 0.0
    """The lower end of its 95 % interval: few rows that all agree are no certainty."""
    bits: int = 8
    """Those of activations (`hardware.int8_bits`)."""

    def __post_init__(self) -> None:
        if self.rows < 0 or not 0 <= self.at_least <= self.agreement <= 1 or self.bits not in (7, 8):
            raise InputError(
                "rows of int8 must be 0 or more, agreement from 0 to 1, at_least no more, and bits 7 or 8."
            )

    @property
    def enough(self) -> bool:
        """Whether int8 may be used where nothing else was asked for."""
        return self.at_least >= LEAST_AGREEMENT


@dataclass(frozen=True, kw_only=True)
class BertConfig:
    """A whole model: one encoder, any number of output layers."""

    encoder: EncoderConfig
    """The shape of the shared encoder."""
    outputs: tuple[OutputConfig, ...] = ()
    """The output layers on top of it."""
    max_length: int | None = None
    """Texts are truncated to this many tokens (and that is reported). None: to the encoder's longest."""
    long_texts: LongTexts = "head"
    """What is read of a text that has more tokens."""
    overlap: int = 0
    """`windows` only: tokens that a window has in common with the one before it."""
    most_windows: int = 1
    """`windows` only: so many a text; what lies beyond is truncated."""
    text_columns: tuple[str, ...] = ("text",)
    """The columns of a table that hold the text, or the two texts of a pair."""
    int8: Int8Agreement | None = None
    """What is known of its answers in int8; None: nothing."""

    def __post_init__(self) -> None:
        names = [output.name for output in self.outputs]
        if twice := {name for name in names if names.count(name) > 1}:
            raise InputError(f"Two output layers are called {sorted(twice)[0]!r}; give each its own name.")
        if self.max_length is not None and self.max_length < 0:
            raise InputError(f"max_length is {self.max_length}; it must be 0 or more tokens.")
        reads = {output.name: output.reads for output in self.outputs}
        for output in self.outputs:
            if output.of and reads.get(output.of) != output.reads:
                raise InputError(f"Output {output.name!r} is of {output.of!r}, which does not read the same.")
        if self.overlap < 0 or self.most_windows < 1:
            raise InputError(
                f"overlap is {self.overlap} and most_windows {self.most_windows}; they must be 0 or more tokens, and 1 "
                f"or more windows."
            )
        if self.long_texts != "head" and (of_tokens := [o.name for o in self.outputs if o.reads == "tokens"]):
            raise InputError(
                f"long_texts is {self.long_texts!r}, but output {of_tokens[0]!r} has a label for each word, and words "
                f"are read from the first on; choose head."
            )
        if len(self.text_columns) not in (1, 2):
            raise InputError(f"text_columns has {len(self.text_columns)} columns; it must have one or two.")
        if len(self.text_columns) == 2 and self.encoder.segments < 2:
            raise InputError(
                "The encoder has one segment embedding (type_vocab_size is 1), so it cannot tell the texts of a pair "
                "apart; take another encoder, or a table of single texts."
            )

    @property
    def longest(self) -> int:
        """The most tokens a sequence may have: a text, or a window of it."""
        return min(self.max_length or self.encoder.max_positions, self.encoder.max_positions)

    @property
    def longest_text(self) -> int:
        """The most tokens a text may have so that all are read."""
        windows = self.most_windows if self.long_texts == "windows" else 1
        special = 1 + len(self.text_columns)
        room = self.longest - special
        return special + covered(windows, room, min(self.overlap, room // 2))

    @property
    def selection(self) -> Selection:
        """What is read of a text that is longer than `longest`."""
        return selection_of(self.long_texts, overlap=self.overlap, most_windows=self.most_windows)
