"""What 92 output layers cost: one forward pass with 92 of them against one with a single one.

256 texts of 64 tokens through the mini preset, the two models in turn; prints the median time of each and the median of
the ratios, pair by pair.
"""

import argparse
import time

import numpy as np
import torch

from bothways.batch import PackedBatch
from bothways.hardware import default_device, keep_freed_memory, resolve
from bothways.model.bert import Bert
from bothways.model.config import BertConfig, OutputConfig, preset
from bothways.tokenizer import Encoding
from bothways.training.config import Precision

TEXTS, TOKENS, VOCABULARY = 256, 64, 16_384


def model(outputs: int, dtype: torch.dtype) -> Bert:
    """The mini preset with `outputs` output layers of two to eleven classes."""
    torch.manual_seed(0)
    layers = tuple(
        OutputConfig(name=f"output {i}", kind="single", labels=tuple(f"class {c}" for c in range(2 + i % 10)))
        for i in range(outputs)
    )
    bert = Bert(BertConfig(encoder=preset("mini", VOCABULARY), outputs=layers)).to(default_device()).eval()
    bert.embeddings.to(dtype)
    bert.encoder.to(dtype)
    return bert


def seconds(bert: Bert, batch: PackedBatch) -> float:
    started = time.perf_counter()
    logits = bert(batch)
    next(iter(logits.values()))[0, 0].item()  # waits for the device
    return time.perf_counter() - started


@torch.inference_mode()
def main(rounds: int, precision: Precision | None) -> None:
    keep_freed_memory()
    dtype = resolve(precision, default_device())
    random = np.random.default_rng(0)
    encodings = [
        Encoding(random.integers(5, VOCABULARY, TOKENS).astype(np.int32), np.zeros(TOKENS, np.int8))
        for _ in range(TEXTS)
    ]
    batch = PackedBatch.pack(encodings).to(default_device())
    one, many = model(1, dtype), model(92, dtype)
    for bert in (one, many):
        seconds(bert, batch)
    times = np.array([[seconds(bert, batch) for bert in (one, many)] for _ in range(rounds)])
    print(f"mini preset, {TEXTS} texts of {TOKENS} tokens, {dtype}, {rounds} pairs of runs")
    print(f"one output layer     {np.median(times[:, 0]) * 1e3:8.1f} ms")
    print(f"92 output layers     {np.median(times[:, 1]) * 1e3:8.1f} ms")
    print(f"ratio                {np.median(times[:, 1] / times[:, 0]):8.3f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=30, help="pairs of runs")
    parser.add_argument("--precision", choices=["fp32", "bf16"], help="unless given, the fastest here")
    main(**vars(parser.parse_args()))
