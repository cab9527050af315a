"""The same code on an accelerator: the same numbers as on the CPU. Passed over where there is none."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import random_bert, random_encodings
from test_few_shapes import pretraining_batch
from test_loop import CPU, OUTPUTS, Random, settings, weights

from bothways.batch import PackedBatch, TrainingBatch
from bothways.hardware import autocast
from bothways.model.attention import packed_attention
from bothways.model.config import MASKED_LM, NEXT_SENTENCE, EncoderConfig
from bothways.training.loop import Report, train

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
CUDA = torch.device("cuda")
Result = tuple[list[float], torch.Tensor]
LENGTHS = [7, 3, 12, 12, 1, 30, 7, 64]


def pretrained(encoder: EncoderConfig, updates: int, compile: bool, dtype: str, device: torch.device) -> Result:
    """(losses, weights) after some updates of several micro-batches, whose shapes come again and again."""
    bert = random_bert(replace(encoder, dropout=0.0), MASKED_LM, NEXT_SENTENCE)
    config = settings(learning_rate=3e-3, optimizer="muon", compile=compile, precision=dtype)
    log = train(bert, Masked(encoder, updates), config, device=device, report=Report(log_every=1, quiet=True))
    return [loss for entries in log.losses.values() for _, loss in entries], weights(bert).cpu()


class Masked:
    """Updates as in pre-training, of two micro-batches each."""

    def __init__(self, encoder: EncoderConfig, updates: int) -> None:
        self.encoder, self.updates = encoder, updates

    def __len__(self) -> int:
        return self.updates

    def update(self, step: int) -> list[TrainingBatch]:
        random = np.random.default_rng(step)
        return [
            pretraining_batch(self.encoder, random.integers(20, 64, 40).tolist(), int(random.integers(200, 260)))
            for _ in range(2)
        ]


def test_variable_length_attention() -> None:
    """One call in bf16 against rectangles in fp32, forward and backward."""
    batch = PackedBatch.pack(random_encodings(100, LENGTHS))
    given = torch.randn(sum(LENGTHS), 3, 4, 64)
    results = []
    for device, dtype in ((CPU, torch.float32), (CUDA, torch.bfloat16)):
        inputs = given.to(device, dtype).detach().requires_grad_()
        attended = packed_attention(inputs, batch.to(device))
        (attended.float() ** 2).sum().backward()
        assert inputs.grad is not None
        results.append((attended.detach().float().cpu(), inputs.grad.float().cpu()))
    (ours, our_gradient), (theirs, their_gradient) = results
    torch.testing.assert_close(theirs, ours, atol=2e-2, rtol=2e-2)
    torch.testing.assert_close(their_gradient, our_gradient, atol=1e-1, rtol=5e-2)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.bfloat16, 5e-2)])
def test_the_same_logits(encoder_config: EncoderConfig, dtype: torch.dtype, tolerance: float) -> None:
    bert = random_bert(encoder_config, *OUTPUTS).eval()
    batch = PackedBatch.pack(random_encodings(encoder_config.vocab_size, LENGTHS))
    with torch.no_grad():
        expected = bert(batch)
        bert.to(CUDA)
        with autocast(dtype, CUDA):
            logits = bert(batch.to(CUDA))
    for name, values in expected.items():
        torch.testing.assert_close(logits[name].float().cpu(), values, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_the_same_training(encoder_config: EncoderConfig, optimizer: str) -> None:
    found = []
    for device in (CPU, CUDA):
        bert = random_bert(replace(encoder_config, dropout=0.0), *OUTPUTS)
        config = settings(learning_rate=1e-3, optimizer=optimizer)
        log = train(bert, Random(encoder_config, 5), config, device=device, report=Report(log_every=1, quiet=True))
        found.append(([loss for entries in log.losses.values() for _, loss in entries], weights(bert).cpu()))
    assert found[1][0] == pytest.approx(found[0][0], abs=2e-3)
    torch.testing.assert_close(found[1][1], found[0][1], atol=1e-3, rtol=0)


def test_compiled_training(encoder_config: EncoderConfig) -> None:
    """Compiled, on a CUDA device, against the CPU as it is; the model is left as it was."""
    found = []
    for device, compile in ((CPU, False), (CUDA, True)):
        bert = random_bert(replace(encoder_config, dropout=0.0), *OUTPUTS)
        log = train(
            bert,
            Random(encoder_config, 5),
            settings(learning_rate=1e-3, compile=compile),
            device=device,
            report=Report(log_every=1, quiet=True),
        )
        found.append(([loss for entries in log.losses.values() for _, loss in entries], weights(bert).cpu()))
        assert not any({"forward", "after_attention", "loss"} & vars(module).keys() for module in bert.modules())
    assert found[1][0] == pytest.approx(found[0][0], abs=2e-3)
    torch.testing.assert_close(found[1][1], found[0][1], atol=1e-3, rtol=0)


def test_recorded_training(encoder_config: EncoderConfig) -> None:
    """Recorded and replayed in bf16, against the same not recorded, and against the CPU in fp32."""
    recorded = pretrained(encoder_config, 12, True, "bf16", CUDA)
    direct = pretrained(encoder_config, 12, False, "bf16", CUDA)
    exact = pretrained(encoder_config, 12, False, "fp32", CPU)
    assert recorded[0] == pytest.approx(direct[0], rel=1e-2)
    assert recorded[0] == pytest.approx(exact[0], rel=2e-2)
    moved = (exact[1] - weights(random_bert(encoder_config, MASKED_LM, NEXT_SENTENCE))).norm()
    assert (recorded[1] - direct[1]).norm() < 0.2 * moved
    assert (recorded[1] - exact[1]).norm() < 0.3 * moved


def test_recordings_are_replayed(encoder_config: EncoderConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    replayed = []
    replay = torch.cuda.CUDAGraph.replay
    monkeypatch.setattr(torch.cuda.CUDAGraph, "replay", lambda graph: replayed.append(graph) or replay(graph))
    pretrained(encoder_config, 12, True, "bf16", CUDA)
    assert len(replayed) > len(set(replayed)) > 1
