"""The rows that a classifier was trained on, kept beside it, and those that the encoder finds nearest to a text.

examples.parquet: a row for each, with columns `text`, `pair`, `vector` (the mean of its tokens in the last layer, of
length 1, float16) and `output.NAME`, what the table says of it.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from bothways.errors import InputError
from bothways.explanation.result import Neighbour
from bothways.explanation.words import joined
from bothways.files.writing import explain_disk_errors
from bothways.inference.engine import Engine
from bothways.tables.table import Table
from bothways.tokenizer import Encoding

FILE = "examples.parquet"


def keep_examples(directory: str | os.PathLike, engine: Engine, table: Table) -> None:
    """Keep the rows of a training table in a model directory, whole or not at all."""
    vectors = unit_vectors(engine.features(table.texts, table.pairs))
    columns: dict[str, pa.Array] = {
        "text": pa.array(list(map(joined, table.texts)), pa.string()),
        "pair": pa.array([None] * len(table) if table.pairs is None else list(map(joined, table.pairs)), pa.string()),
        "vector": pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1]),
    }
    for task in engine.tasks:
        said = [None if value is None else task.written(value) for value in table.values[task.name]]
        columns[f"output.{task.name}"] = pa.array(said, pa.string())
    goal = Path(directory) / FILE
    scratch = goal.with_name(f".{FILE}.{os.getpid()}.tmp")
    try:
        with explain_disk_errors(goal):
            pq.write_table(pa.table(columns), scratch, compression="zstd")
            os.replace(scratch, goal)
    finally:
        scratch.unlink(missing_ok=True)


def unit_vectors(features: np.ndarray) -> np.ndarray:
    """(n, hidden) → (n, hidden) float16, each of length 1."""
    lengths = np.linalg.norm(features, axis=-1, keepdims=True)
    return (features / np.maximum(lengths, 1e-12)).astype(np.float16)


class Examples:
    """The rows that were kept with a classifier."""

    def __init__(self, rows: pa.Table, engine: Engine, source: Path) -> None:
        """Raises InputError if they belong to another model."""
        self.rows, self.engine = rows, engine
        width = engine.config.encoder.hidden_size
        try:
            vectors = rows.column("vector").combine_chunks()
            self.vectors = vectors.values.to_numpy().reshape(len(rows), width).astype(np.float32)
            rows.select(["text", "pair"])
        except (KeyError, ValueError, AttributeError) as error:
            raise InputError(f"{source}: these rows do not belong to the model ({error}); fine-tune again.") from None

    @classmethod
    def load(cls, directory: str | os.PathLike, engine: Engine) -> Examples | None:
        """Those of a model directory; None if none were kept. Raises InputError if the file is damaged."""
        path = Path(directory) / FILE
        if not path.is_file():
            return None
        try:
            return cls(pq.read_table(path), engine, path)
        except pa.ArrowException as error:
            raise InputError(f"{path}: the rows cannot be read ({error}); fine-tune again.") from None

    def nearest(self, encoding: Encoding, number: int) -> list[Neighbour]:
        """The rows most like a text, the most alike first."""
        (vector,) = unit_vectors(self.engine.represent([encoding])).astype(np.float32)
        similarity = self.vectors @ vector
        order: Sequence[int] = np.argsort(-similarity, kind="stable")[:number].tolist()
        names = [name for name in self.rows.column_names if name.startswith("output.")]
        return [
            Neighbour(
                row=i + 1,
                text=row["text"],
                pair=row["pair"],
                similarity=float(similarity[i]),
                outputs={name.removeprefix("output."): row[name] for name in names},
            )
            for i, row in zip(order, self.rows.drop_columns("vector").take(order).to_pylist(), strict=True)
        ]
