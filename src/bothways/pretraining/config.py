"""The settings of pre-training."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

from bothways.training.config import OptimizerName, Settings


@dataclass(frozen=True, kw_only=True)
class PretrainingConfig(Settings):
    """How an encoder is pre-trained."""

    learning_rate: float = 1e-3
    """Peak of the learning rate; small encoders bear and want large ones."""
    warmup: float = 0.02
    """Share of all updates in which the learning rate rises; afterwards it falls linearly to zero."""
    optimizer: OptimizerName = "muon"
    """muon for the matrices of the encoder's layers and adamw for the rest, which learns as much from a quarter fewer
    tokens (docs/decisions.md), or adamw for everything."""
    muon_every: int = 1
    """Muon moves each matrix at every so many updates, so much farther."""
    steps: int = 10_000
    """Updates."""
    batch_tokens: int = 8192
    """Tokens in an update."""
    sequence_lengths: tuple[int, ...] = (32, 128, 512)
    """Longest pair of texts, in tokens, one length after the other: attention learns to look at neighbours sooner among
    few tokens (docs/decisions.md), late positions are learned last (arXiv 1810.04805, appendix A.2)."""
    length_shares: tuple[float, ...] | None = None
    """Share of the updates that reads each length. None: 0.4, 0.5, 0.1 of three, equal ones otherwise."""
    compile: bool = True
    """If it trains on CUDA: fuse what lies between matrix products (torch.compile) and, in bf16 without dropout, record
    updates as CUDA graphs. Worth the first half minute in long runs."""
    shard: bool = False
    """With several processes: share out weights, gradients and moments, for models too large for one device."""
    masking_rate: float = 0.15
    """Share of words to be guessed."""
    whole_words: bool = True
    """Hide all pieces of a word together."""
    next_sentence: bool = True
    """Learn to tell whether the second text follows the first, beside the hidden words."""
    word2vec: bool = False
    """Start the token embeddings of a new encoder with word2vec vectors of the corpus, a matter of minutes that saves
    many (needs gensim, the extra `vectors`)."""
    checkpoint_minutes: float = 10.0
    """Minutes between checkpoints."""
    held_out: float = 0.01
    """Share of the documents that is held out to evaluate the encoder (500 at most); 0: none."""
    evaluate_every: int = 500
    """Updates between evaluations on the held-out documents; 0: only at the end."""
    dropout: float = 0.0
    """Dropout while pre-training, and in fine-tuning what comes out of it, unless told otherwise; a small encoder needs
    none, and it costs a third of the speed."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require(self.steps >= 1, "steps", "1 or more")
        lengths = self.sequence_lengths
        rising = lengths[:1] >= (8,) and all(a < b for a, b in pairwise(lengths))
        self.require(rising, "sequence_lengths", "rising lengths from 8 tokens on")
        shares = self.shares
        adding_up = len(shares) == len(lengths) and min(shares) >= 0 and abs(sum(shares) - 1) < 1e-6
        self.require(adding_up, "length_shares", "a share for each of the sequence lengths, 1 in all")
        self.require(self.batch_tokens >= 1, "batch_tokens", "1 or more")
        self.require(0 < self.masking_rate < 1, "masking_rate", "a share between 0 and 1")
        self.require(self.checkpoint_minutes >= 0, "checkpoint_minutes", "0 or more")
        self.require(0 <= self.held_out < 1, "held_out", "a share of at least 0 and below 1")
        self.require(self.evaluate_every >= 0, "evaluate_every", "0 (only at the end) or more")
        self.require(0 <= self.dropout < 1, "dropout", "a share of at least 0 and below 1")

    @property
    def shares(self) -> tuple[float, ...]:
        """Share of the updates that reads each of the `sequence_lengths`."""
        count = len(self.sequence_lengths)
        return self.length_shares or ((0.4, 0.5, 0.1) if count == 3 else (1 / count,) * count)

    @property
    def main_length(self) -> int:
        """The length of pairs that most updates read."""
        return max(zip(self.shares, self.sequence_lengths, strict=True))[1]


def settings_to_match(config: PretrainingConfig) -> dict[str, Any]:
    """The settings that decide the numbers of a run."""
    others = ("checkpoint_minutes", "evaluate_every", "shard")
    return {name: value for name, value in asdict(config).items() if name not in others}
