"""Memory while a table of a million rows is evaluated: it stays flat.

    python benchmarks/evaluation.py [--rows 1000000] [--classes 1000]

Writes a table of generated texts, evaluates a classifier with a tiny encoder on it, and prints the memory of the
process after each tenth. The encoder is one narrow layer, so that reading and counting are what is seen.
"""

from __future__ import annotations

import argparse
import gzip
import tempfile
from pathlib import Path

import numpy as np
import psutil

from bothways.evaluation.evaluate import evaluate
from bothways.inference.engine import Engine
from bothways.model.bert import Bert
from bothways.model.config import BertConfig, EncoderConfig, OutputConfig
from bothways.tables.table import columns_of, read_tables
from bothways.tokenizer import Tokenizer


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--rows", type=int, default=1_000_000)
    arguments.add_argument("--classes", type=int, default=1000)
    given = arguments.parse_args()
    random = np.random.default_rng(0)
    words = np.array([f"word{i}" for i in range(500)])
    tokenizer = Tokenizer.train([" ".join(words)], 1000)
    output = OutputConfig(name="label", kind="single", labels=tuple(f"class {i}" for i in range(given.classes)))
    encoder = EncoderConfig(vocab_size=tokenizer.vocab_size, hidden_size=16, layers=1, heads=1, feed_forward_size=16)
    engine = Engine(Bert(BertConfig(encoder=encoder, outputs=(output,))), tokenizer)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "table.csv.gz"
        with gzip.open(path, "wt", encoding="utf-8", compresslevel=1) as stream:
            stream.write("text,label\n")
            for _ in range(given.rows):
                stream.write(f"{' '.join(random.choice(words, 8))},class {random.integers(given.classes)}\n")
        process = psutil.Process()
        seen = 0

        def told(parts: object) -> object:
            nonlocal seen
            for part in parts:  # type: ignore[attr-defined]
                yield part
                before, seen = seen, seen + len(part)
                if before * 10 // given.rows < seen * 10 // given.rows:
                    print(f"{seen:>9,} rows: {process.memory_info().rss / 1e6:,.0f} MB", flush=True)

        columns = columns_of(("text",), [output])
        result = evaluate(engine, told(read_tables(path, columns, engine.window)))  # type: ignore[arg-type]
    print(f"accuracy {result['outputs']['label']['accuracy']:.4f}, by chance {1 / given.classes:.4f}")


if __name__ == "__main__":
    main()
