"""Recurrent networks over words, RNN and LSTM, trained by the one training loop.

    words ─ embedding ─▶ RNN or LSTM, both ways ─▶ the largest of each feature over the text ─▶ output layer

PyTorch packs sequences step by step (`PackedSequence`): all first words, all second words, …; a `PackedBatch` has them
text by text. Neither has padding, so one is a permutation of the other.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from scipy.special import softmax
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from bothways.baselines.base import Baseline, joined
from bothways.baselines.vectors import WordVectors, common_words, source_of
from bothways.baselines.words import characters_of, words_of
from bothways.batch import PackedBatch
from bothways.batching import by_length
from bothways.classifier import OUTPUT, warn_if_truncated
from bothways.errors import InputError
from bothways.files.json_object import read_json_object
from bothways.finetuning.examples import Examples
from bothways.hardware import default_device, one_thread
from bothways.model.config import EncoderConfig, OutputConfig
from bothways.model.outputs import OutputLayers, build_output
from bothways.model.text_model import TextModel
from bothways.randomness import keeping_torch_state
from bothways.tasks.single import SingleLabel
from bothways.tokenizer import Encoding
from bothways.training.config import TrainingConfig
from bothways.training.loop import Report, train

UNKNOWN = 0
"""The number of a word that training has not seen, or once only."""
BATCH_TOKENS = 8192
"""Most words in a forward pass."""


class RecurrentModel(TextModel):
    """Embedding, recurrent layer, max pooling, output layer."""

    def __init__(self, embedding: nn.Embedding, recurrent: nn.RNNBase, output: OutputConfig, *, dropout: float) -> None:
        """`recurrent`: reads what `embedding` gives."""
        super().__init__()
        self.token_vectors = embedding
        self.dropout = nn.Dropout(dropout)
        self.encoder = recurrent
        width = recurrent.hidden_size * (2 if recurrent.bidirectional else 1)
        shape = EncoderConfig(
            vocab_size=embedding.num_embeddings,
            hidden_size=width,
            layers=recurrent.num_layers,
            heads=1,
            feed_forward_size=0,
            dropout=dropout,
        )
        self.outputs = OutputLayers([build_output(output, shape, embedding)])

    @property
    def token_embedding(self) -> nn.Embedding:
        return self.token_vectors

    def forward(self, batch: PackedBatch, only: Collection[str] | None = None) -> dict[str, Tensor]:
        """A packed batch → the logits of each output layer: (sequences, classes)."""
        vectors = self.dropout(self.token_vectors(batch.token_ids))
        order, sizes = step_by_step(np.asarray(batch.lengths))
        order = order.to(vectors.device)
        hidden, _ = self.encoder(PackedSequence(vectors[order], sizes))
        by_text = torch.empty_like(hidden.data).index_copy(0, order, hidden.data)
        pooled = torch.segment_reduce(by_text, "max", lengths=batch.sequence_starts.diff(), axis=0)
        return {output.config.name: output(pooled) for output in self.outputs}

    def multiplications(self, batch: PackedBatch) -> float:
        matrices = sum(parameter.numel() for parameter in self.encoder.parameters() if parameter.ndim == 2)
        on_top = sum(output.multiplications for output in self.outputs)
        return float(len(batch.token_ids) * matrices + len(batch.lengths) * on_top)


def step_by_step(lengths: np.ndarray) -> tuple[Tensor, Tensor]:
    """Where the tokens of sequences that lie end to end go in a `PackedSequence`, and how many each step has.

    (sequences,) → (tokens,) int64, all first tokens before all second ones, the longest sequence first; (longest,)
    int64.
    """
    starts = np.cumsum(lengths) - lengths
    steps = np.arange(lengths.sum()) - np.repeat(starts, lengths)
    rank = np.empty_like(lengths)
    rank[np.argsort(-lengths, kind="stable")] = np.arange(len(lengths))
    order = np.lexsort((np.repeat(rank, lengths), steps))
    return torch.from_numpy(order), torch.from_numpy(np.bincount(steps))


class Recurrent(Baseline):
    """A recurrent network as a classifier; its classes say which layer it has."""

    layer: ClassVar[Callable[..., nn.RNNBase]]

    def __init__(
        self,
        vectors: WordVectors | None = None,
        *,
        width: int = 128,
        hidden_size: int = 128,
        epochs: int = 10,
        batch_size: int = 64,
        learning_rate: float = 3e-3,
        dropout: float = 0.5,
        max_length: int = 400,
        seed: int = 0,
        verbose: bool = False,
    ) -> None:
        """`vectors`: of words, what the embedding starts with; None: fresh ones, `width` wide, of words and of Chinese
        characters, which few texts are enough for (docs/decisions.md). `hidden_size`: of each direction.
        `batch_size`: texts in an update. `max_length`: words of a text that are read."""
        self.vectors = vectors
        self.width = width
        self.hidden_size = hidden_size
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.dropout = dropout
        self.max_length = max_length
        self.seed = seed
        self.verbose = verbose

    def _learn(self, texts: list[str], pairs: list[str] | None, targets: np.ndarray) -> None:
        from sklearn.base import clone

        words = self._split(joined(texts, pairs))
        self.vectors_ = None if self.vectors is None else clone(self.vectors)
        known = None if self.vectors is None else clone(self.vectors).fit(words)
        self._use_words(common_words(words, 2))
        classes = int(targets.max()) + 1
        width = self.width if known is None else known.matrix_.shape[1]
        with keeping_torch_state():
            torch.manual_seed(self.seed)
            self.model_ = self._built(width, classes)
        if known is not None:
            start_with(self.model_.token_embedding, self.words_, known)
        task = SingleLabel(self.model_.outputs[0].config)  # type: ignore[arg-type]
        examples = Examples(
            self._encoded(words),
            {OUTPUT: targets.tolist()},
            [task],
            epochs=self.epochs,
            batch_size=self.batch_size,
            micro_batch_tokens=BATCH_TOKENS,
            seed=self.seed,
        )
        # In fp32: a step of a text is too small a product for bf16 to pay.
        config = TrainingConfig(learning_rate=self.learning_rate, micro_batch_tokens=BATCH_TOKENS, seed=self.seed)
        with one_thread():
            train(self.model_, examples, config, report=Report(name=type(self).__name__, quiet=not self.verbose))

    def _built(self, width: int, classes: int) -> RecurrentModel:
        embedding = nn.Embedding(len(self.words_) + 1, width)
        nn.init.normal_(embedding.weight, std=0.1)
        recurrent = self.layer(width, self.hidden_size, bidirectional=True)
        output = OutputConfig(name=OUTPUT, kind="single", labels=tuple(map(str, range(classes))), reads="mean")
        return RecurrentModel(embedding, recurrent, output, dropout=self.dropout)

    def _split(self, texts: list[str]) -> list[list[str]]:
        return [characters_of(text) if self.vectors is None else words_of(text) for text in texts]

    def _use_words(self, words: list[str]) -> None:
        self.words_ = words
        self._number = {word: index for index, word in enumerate(words, start=UNKNOWN + 1)}

    def _encoded(self, texts: Sequence[list[str]]) -> list[Encoding]:
        warn_if_truncated(sum(len(text) > self.max_length for text in texts), len(texts), self.max_length)
        found = []
        for text in texts:
            ids = [self._number.get(word, UNKNOWN) for word in text[: self.max_length]] or [UNKNOWN]
            found.append(Encoding(np.array(ids, np.int32), np.zeros(len(ids), np.int8)))
        return found

    @torch.inference_mode()
    def _probabilities(self, texts: list[str], pairs: list[str] | None) -> np.ndarray:
        encodings = self._encoded(self._split(joined(texts, pairs)))
        logits = np.empty((len(encodings), len(self.classes_)), np.float32)
        device = next(self.model_.parameters()).device
        with one_thread():
            for rows in by_length([len(encoding) for encoding in encodings], BATCH_TOKENS):
                batch = PackedBatch.pack([encodings[i] for i in rows]).to(device)
                logits[rows] = self.model_(batch)[OUTPUT].float().cpu().numpy()
        return softmax(logits, axis=-1)

    def _write(self, directory: Path) -> None:
        from safetensors.torch import save_file

        weights = {name: weight.detach().cpu().contiguous() for name, weight in self.model_.state_dict().items()}
        save_file(weights, directory / "model.safetensors")
        source = None if self.vectors_ is None else self.vectors_.described()
        text = json.dumps({"words": self.words_, "vectors": source}, ensure_ascii=False) + "\n"
        (directory / "words.json").write_text(text, "utf-8")

    def _read(self, directory: Path) -> None:
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        path = directory / "model.safetensors"
        if not path.is_file():
            raise FileNotFoundError(2, "no such file", str(path))
        known = read_json_object(directory / "words.json")
        try:
            self._use_words(known["words"])
            self.vectors_ = None if known["vectors"] is None else source_of(known["vectors"])
            weights = load_file(path)
            width = weights["token_vectors.weight"].shape[1]
            self.model_ = self._built(width, len(self.classes_)).to(default_device()).eval()
            self.model_.load_state_dict(weights)
        except (SafetensorError, KeyError, TypeError, RuntimeError) as error:
            raise InputError(f"{path}: this file is damaged or of another network ({error}).") from None


class RNN(Recurrent):
    """A plain recurrent network (Elman: Finding structure in time, Cognitive Science 14, 1990)."""

    layer = nn.RNN


class LSTM(Recurrent):
    """Long short-term memory (Hochreiter, Schmidhuber: Neural Computation 9, 1997)."""

    layer = nn.LSTM


@torch.no_grad()
def start_with(embedding: nn.Embedding, words: list[str], known: WordVectors) -> None:
    """Put known vectors, scaled to the spread of fresh ones, in the rows of their words; row 0 is for others."""
    number = {word: index for index, word in enumerate(known.words_)}
    rows = [(row, number[word]) for row, word in enumerate(words, start=UNKNOWN + 1) if word in number]
    if len(rows) < 2:
        return
    at, of = map(list, zip(*rows, strict=True))
    vectors = known.matrix_[of]
    scaled = vectors * (float(embedding.weight.std()) / max(float(vectors.std()), 1e-12))
    embedding.weight[at] = torch.from_numpy(scaled)
