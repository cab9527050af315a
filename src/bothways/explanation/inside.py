"""How a model gets there, not why: attention of every layer and head, and what each input embedding is the sum of.

Where attention looks is no reason for what is decided (arXiv 1902.10186).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from bothways.batch import PackedBatch
from bothways.explanation.words import joined, whole
from bothways.model.attention import SelfAttention, attention_probabilities
from bothways.model.bert import Bert
from bothways.model.encoder import EncoderLayer
from bothways.tasks.scores import rounded
from bothways.tokenizer import Text, Tokenizer

MOST_TOKENS = 128
"""Of a text that is looked at: attention is a number for each two tokens, in every head of every layer."""
PARTS = ("token", "segment", "position")


@dataclass(frozen=True, kw_only=True)
class Inside:
    """What happens to one text inside the encoder."""

    text: str
    pair: str | None
    tokens: tuple[str, ...]
    """As the vocabulary spells them, special ones included."""
    segments: tuple[int, ...]
    attention: np.ndarray
    """(layers, heads, tokens, tokens) float32: how much the second token adds to the first; each row makes 1."""
    norms: dict[str, np.ndarray]
    """Of each token's vector, (tokens,) float32: of its "token", "segment" and "position" part, and of their "sum"
    before it is normalised."""
    truncated: bool

    def as_json(self) -> dict[str, Any]:
        """`{"text", "pair", "method": "attention", "tokens", "segments", "attention", "norms", "truncated"}`"""
        return {
            "text": self.text,
            "pair": self.pair,
            "method": "attention",
            "tokens": list(self.tokens),
            "segments": list(self.segments),
            "attention": np.round(self.attention.astype(np.float64), 4).tolist(),
            "norms": {name: list(map(rounded, norms)) for name, norms in self.norms.items()},
            "truncated": self.truncated,
        }

    @property
    def received(self) -> np.ndarray:
        """(layers, tokens): how much attention each token gets in a layer, the mean over heads and over who looks."""
        return self.attention.mean((1, 2))


@torch.inference_mode()
def look_inside(bert: Bert, tokenizer: Tokenizer, text: Text, pair: Text | None = None) -> Inside:
    """Let one text, or a pair, through the encoder and keep what is seen on the way, of `MOST_TOKENS` at most."""
    text, pair = whole(text), None if pair is None else whole(pair)
    encoding = tokenizer.encode(text, pair, max_length=min(bert.config.longest, MOST_TOKENS))
    batch = PackedBatch.pack([encoding])
    embeddings = bert.embeddings
    parts = {
        "token": embeddings.token(batch.token_ids),
        "segment": embeddings.segment(batch.segment_ids),
        "position": embeddings.position(batch.positions),
    }
    parts["sum"] = sum(parts.values(), torch.zeros(()))
    hidden, attention = embeddings(batch), []
    for layer in bert.encoder.layers:
        assert isinstance(layer, EncoderLayer)
        looks: SelfAttention = layer.attention
        query_key_value = looks.query_key_value(hidden).unflatten(-1, (3, looks.heads, looks.head_size))
        attention.append(attention_probabilities(query_key_value))
        hidden = layer(hidden, batch)
    return Inside(
        text=joined(text),
        pair=None if pair is None else joined(pair),
        tokens=tuple(tokenizer.tokens(encoding.token_ids)),
        segments=tuple(encoding.segment_ids.tolist()),
        attention=torch.stack(attention).numpy(),
        norms={name: part.norm(dim=-1).numpy() for name, part in parts.items()},
        truncated=encoding.dropped > 0,
    )
