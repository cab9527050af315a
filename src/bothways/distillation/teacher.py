"""What a student learns from: the sentence vectors of an encoder, or vectors from a file; a classifier is in a file of
its own, `classifier.py`.

A teacher answers every text with some numbers, once; from them come the targets of each update. Others can be passed
to `run.distill`, as long as they have what `Teacher` says.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from bothways.distillation.config import Choices, for_vectors
from bothways.distillation.sentence_vectors import sentence_vectors_of
from bothways.distillation.texts import Division, GivenText, Passages, lines
from bothways.distillation.transfer_set import TransferSet
from bothways.errors import InputError
from bothways.files.reading import add_file, digest_of_beginning, size_of
from bothways.formats.hub import locate
from bothways.formats.reading import load_model, weight_files
from bothways.inference.engine import Engine
from bothways.model.bert import Bert
from bothways.model.config import OutputConfig
from bothways.tokenizer import Tokenizer

VECTOR = "vector"
"""The name of the output layer that gives the teacher's vector."""
FITTED_TO, RIDGE = 4096, 0.01
"""Texts that its first weights are fitted to, and the ridge as a share of the mean variance of a feature."""


class Objective(Protocol):
    """What is learned from all answers of a teacher."""

    def begin(self, bert: Bert, tokenizer: Tokenizer, read: np.ndarray) -> None:
        """Make a student with the teacher's outputs ready to learn from the texts `read`."""

    def targets(self, rows: np.ndarray) -> Mapping[str, Tensor]:
        """What the teacher says of some texts, by output: (texts,) → (texts, width of the output) float32."""

    def finish(self, bert: Bert, tokenizer: Tokenizer, read: np.ndarray, held_out: np.ndarray) -> None:
        """Make a student that has learned ready for use. `read`, `held_out`: which texts it has learned from, and
        which not."""


class Teacher(Protocol):
    """Answers texts."""

    name: str
    """What it is called in the model card."""
    identity: Mapping[str, Any]
    """What tells its answers from those of others, as JSON."""
    width: int
    """How many numbers an answer has."""
    dtype: type[np.floating]
    """In which format they are kept."""
    columns: tuple[str, ...]
    """The columns of a table that hold what it reads: a text, or both texts of a pair."""

    def choices(self, width: int) -> Choices:
        """How a student that is `width` wide learns from it, where the user leaves that open."""

    def division(self, longest: int, seed: int) -> Division:
        """How documents are divided into texts for a student that reads `longest` tokens."""

    def outputs(self, student: Bert, config: Any) -> tuple[OutputConfig, ...]:
        """The output layers that learn from it; also tells the student how it will read texts."""

    def answers(self, texts: Sequence[GivenText], first: int) -> np.ndarray:
        """The answers to some texts, of which `first` is the number of the first: → (texts, width)."""

    def finished(self, texts: int) -> None:
        """All texts have been answered; InputError if they are not as many as it has answers."""

    def objective(self, transfer_set: TransferSet, config: Any) -> Objective:
        """What is learned from all its answers."""


class VectorObjective:
    """The vectors as they are."""

    def __init__(self, transfer_set: TransferSet) -> None:
        self.transfer_set = transfer_set

    @torch.no_grad()
    def begin(self, bert: Bert, tokenizer: Tokenizer, read: np.ndarray) -> None:
        """See `Objective`. The linear layer starts as ridge regression has it, from what the student makes of some
        texts before it has learned: from chance, its first gradients would undo what the encoder knows."""
        rows = read[np.linspace(0, len(read) - 1, min(len(read), FITTED_TO)).astype(np.int64)]
        layer = bert.output(VECTOR)
        engine = Engine(bert, tokenizer, precision="fp32", device=torch.device("cpu"))
        found = engine.represent(self.transfer_set.encodings(rows), layer.config.reads).astype(np.float64)
        wanted = self.transfer_set.answers(rows).astype(np.float64)
        mean, mean_wanted = found.mean(0), wanted.mean(0)
        found -= mean
        products = found.T @ found
        products += np.eye(len(products)) * RIDGE * np.trace(products) / len(products)
        weights = np.linalg.solve(products, found.T @ (wanted - mean_wanted))
        layer.projection.weight.copy_(torch.from_numpy(weights.T))
        layer.projection.bias.copy_(torch.from_numpy(mean_wanted - mean @ weights))

    def targets(self, rows: np.ndarray) -> Mapping[str, Tensor]:
        """See `Objective`."""
        return {VECTOR: torch.from_numpy(self.transfer_set.answers(rows))}

    def finish(self, bert: Bert, tokenizer: Tokenizer, read: np.ndarray, held_out: np.ndarray) -> None:
        """Nothing is to be done: the layer stays, so that an encoder can go on learning from the same teacher."""


class VectorTeacher:
    """What teachers have in common whose answers are vectors of length 1."""

    dtype = np.float16
    columns: tuple[str, ...] = ("text",)
    width: int

    def choices(self, width: int) -> Choices:
        """See `Teacher`."""
        return for_vectors(width)

    def outputs(self, student: Bert, config: Any) -> tuple[OutputConfig, ...]:
        """See `Teacher`."""
        return (OutputConfig(name=VECTOR, kind="vector", reads=config.pooling, width=self.width),)

    def finished(self, texts: int) -> None:
        """See `Teacher`."""

    def objective(self, transfer_set: TransferSet, config: Any) -> Objective:
        """See `Teacher`."""
        return VectorObjective(transfer_set)


class EncoderTeacher(VectorTeacher):
    """The sentence vectors of an encoder, pooled as its directory says, of length 1."""

    def __init__(
        self, name: str | os.PathLike, *, prompt: str | None = None, column: str = "text", max_length: int = 128
    ) -> None:
        """`prompt`: what stands before every text; None: what its directory says. `max_length`: most tokens it reads.

        Raises InputError if its vectors are made in a way that is not known here.
        """
        directory = locate(name)
        way = sentence_vectors_of(directory)
        bert, tokenizer, _ = load_model(directory)
        way.prepare(bert)
        longest = min(max_length, bert.config.longest, way.longest or max_length)
        bert.config = replace(bert.config, max_length=longest, long_texts="head", text_columns=("text",))
        self.engine, self.reads = Engine(bert, tokenizer), way.reads
        self.prompt = way.prompt if prompt is None else prompt
        self.name, self.columns = str(name), (column,)
        self.width = bert.config.encoder.hidden_size
        digest = digest_of_weights(directory)
        self.identity: Mapping[str, Any] = {"teacher": digest, "prompt": self.prompt, "reads": self.reads}

    def division(self, longest: int, seed: int) -> Division:
        """Passages of all lengths."""
        return Passages(longest, seed)

    def answers(self, texts: Sequence[GivenText], first: int) -> np.ndarray:
        """See `Teacher`."""
        encodings = self.engine.encode([self.prompt + given.text for given in texts])
        found = self.engine.represent(encodings, self.reads)
        return found / np.maximum(np.linalg.norm(found, axis=-1, keepdims=True), 1e-12)


class VectorFile(VectorTeacher):
    """Vectors of a model that need not run here: an array in a .npy file, a row for each text, in their order."""

    def __init__(self, path: str | os.PathLike, *, column: str = "text") -> None:
        """Raises InputError if there is no such array."""
        try:
            self.vectors = np.load(path, mmap_mode="r", allow_pickle=False)
        except FileNotFoundError:
            raise InputError(f"{path}: there is no such file; check the name.") from None
        except (ValueError, OSError, EOFError) as error:
            raise InputError(f"{path}: this is no array of numbers ({error}); save it with numpy.save.") from None
        if self.vectors.ndim != 2 or self.vectors.dtype.kind != "f" or not self.vectors.size:
            raise InputError(
                f"{path}: this array has the shape {self.vectors.shape} and the type {self.vectors.dtype}; give "
                f"floating-point numbers, a row for each text."
            )
        self.path, self.name, self.columns, self.width = path, str(path), (column,), self.vectors.shape[1]
        self.identity: Mapping[str, Any] = {"teacher": [size_of(path), digest_of_beginning(path)]}

    def division(self, longest: int, seed: int) -> Division:
        """Every line is a text, so that whoever made the vectors knows which is whose."""
        return lines

    def answers(self, texts: Sequence[GivenText], first: int) -> np.ndarray:
        """See `Teacher`. Raises InputError for a row that has no direction."""
        found = np.asarray(self.vectors[first : first + len(texts)], np.float32)
        if len(found) < len(texts):
            raise self._other_number(f"more than {first + len(found):,}")
        lengths = np.linalg.norm(found, axis=-1)
        if not (np.isfinite(lengths) & (lengths > 0)).all():
            row = first + int(np.flatnonzero(~(np.isfinite(lengths) & (lengths > 0)))[0])
            raise InputError(f"{self.path}, row {row}: this vector is zero or not finite; compute it again.")
        return found / lengths[:, None]

    def finished(self, texts: int) -> None:
        """See `Teacher`."""
        if texts < len(self.vectors):
            raise self._other_number(f"{texts:,}")

    def _other_number(self, texts: str) -> InputError:
        return InputError(
            f"{self.path} has {len(self.vectors):,} rows, but there are {texts} texts; give a row for each text (a row "
            f"of a table, or a line that is not blank)."
        )


def digest_of_weights(directory: Path) -> str:
    """A digest of the weights of a model directory."""
    total = hashlib.sha256()
    for path in [*weight_files(directory), directory / "outputs.safetensors"]:
        if path.is_file():
            add_file(total, path)
    return total.hexdigest()[:16]
