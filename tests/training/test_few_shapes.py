"""Rounding batches up to few shapes: filler changes nothing. CUDA graphs, which want that, too: `test_cuda.py`."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import random_bert, random_encodings
from test_loop import CPU, OUTPUTS, Random

from bothways.batch import PackedBatch, Reads, TrainingBatch
from bothways.model.config import MASKED_LM, NEXT_SENTENCE, EncoderConfig, OutputConfig
from bothways.training.cuda_graphs import shape_of, tensors_of, with_tensors
from bothways.training.step import backward

PRETRAINING = (MASKED_LM, NEXT_SENTENCE)


def pretraining_batch(encoder: EncoderConfig, lengths: list[int], masked: int) -> TrainingBatch:
    random = np.random.default_rng(len(lengths))
    encodings = random_encodings(encoder.vocab_size, lengths)
    batch = PackedBatch.pack(encodings)
    positions = torch.from_numpy(np.sort(random.choice(sum(lengths), masked, replace=False)))
    targets = {
        "mlm": torch.from_numpy(random.integers(0, encoder.vocab_size, masked)),
        "nsp": torch.from_numpy(random.integers(0, 2, len(lengths))),
    }
    return TrainingBatch(replace(batch, masked_positions=positions), targets)


def reads_of(outputs: tuple[OutputConfig, ...]) -> dict[str, Reads]:
    return {output.name: output.reads for output in outputs}


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
@pytest.mark.parametrize("least", [16, 256])
@pytest.mark.parametrize("outputs", [PRETRAINING, OUTPUTS], ids=["pre-training", "every kind"])
def test_filler_changes_no_loss_and_no_gradient(
    encoder_config: EncoderConfig, outputs: tuple[OutputConfig, ...], least: int, precision: torch.dtype
) -> None:
    bert = random_bert(replace(encoder_config, dropout=0.0), *outputs)
    batch = (
        pretraining_batch(encoder_config, [30, 7, 12, 12, 1, 20], 11)
        if outputs is PRETRAINING
        else Random(encoder_config, 1).update(0)[0]
    )
    rounded = batch.rounded_up(reads_of(outputs), least=least)
    assert rounded.inputs.lengths == batch.inputs.lengths  # which the filler does not count for
    if precision == torch.float32:  # attention works by runs of `lengths` there, so the filler has to be among them
        lengths = tuple(rounded.inputs.sequence_starts.diff().tolist())
        rounded = TrainingBatch(replace(rounded.inputs, lengths=lengths), rounded.targets)
    found = []
    for given in (batch, rounded):
        bert.zero_grad()
        losses = backward(bert, [given], precision, CPU)
        found.append((losses, [p.grad.clone() for p in bert.parameters() if p.grad is not None]))
    rounding = {"atol": 1e-5, "rtol": 1e-4} if precision == torch.float32 else {"atol": 5e-3, "rtol": 2e-2}
    torch.testing.assert_close(found[1], found[0], **rounding)


@pytest.mark.parametrize("longest", [32, 128, 500])
@pytest.mark.parametrize("least", [16, 256])
def test_few_shapes_remain(encoder_config: EncoderConfig, longest: int, least: int) -> None:
    random, shapes = np.random.default_rng(0), set()
    sizes: tuple[set[int], ...] = (set(), set(), set())
    rectangles = set()
    for _ in range(50):
        lengths = random.integers(longest // 2, longest + 1, 8192 // longest).tolist()
        masked = int(random.normal(0.15, 0.003) * sum(lengths))
        batch = pretraining_batch(encoder_config, lengths, masked)
        whole = batch.rounded_up(reads_of(PRETRAINING), least=least)
        rounded = whole.inputs
        fillers = rounded.sequence_starts.diff()[len(lengths) :]
        assert (fillers >= 1).all()
        assert (fillers <= rounded.longest).all()
        assert rounded.longest >= max(lengths)
        assert rounded.sequence_starts[-1] == len(rounded.token_ids)
        assert rounded.masked_positions is not None
        assert (rounded.masked_positions[masked:] >= sum(lengths)).all()
        assert (rounded.positions < longest).all()
        shapes.add(shape_of(whole))
        by_part = zip(sizes, (rounded.token_ids, rounded.masked_positions, rounded.sequence_starts), strict=True)
        for seen, tensor in by_part:
            seen.add(len(tensor))
        rectangles.add(rounded.rows[:2])
    assert len(shapes) <= 12 or least < 256
    assert all(len(seen) <= 16 for seen in sizes)
    assert len(rectangles) <= 8


def test_a_batch_is_its_tensors(encoder_config: EncoderConfig) -> None:
    batch = pretraining_batch(encoder_config, [5, 9], 3)
    again = with_tensors(batch, tensors_of(batch))
    assert again.inputs == batch.inputs
    assert all(again.targets[name] is target for name, target in batch.targets.items())
