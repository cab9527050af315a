"""The same code on an accelerator: the same numbers as on the CPU. Passed over where there is none."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from conftest import random_bert, random_encodings
from test_loop import CPU, OUTPUTS, Random, settings, weights

from bothways.batch import PackedBatch
from bothways.model.attention import packed_attention
from bothways.model.config import EncoderConfig
from bothways.training.loop import train
from bothways.training.precision import computing_in

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
CUDA = torch.device("cuda")
LENGTHS = [7, 3, 12, 12, 1, 30, 7, 64]


def test_variable_length_attention() -> None:
    """One call in bf16 against rectangles in fp32, forward and backward."""
    batch = PackedBatch.pack(random_encodings(100, LENGTHS))
    given = torch.randn(sum(LENGTHS), 3, 4, 64)
    results = []
    for device, dtype in ((CPU, torch.float32), (CUDA, torch.bfloat16)):
        inputs = given.to(device, dtype).requires_grad_()
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
        with computing_in(dtype, CUDA):
            logits = bert(batch.to(CUDA))
    for name, values in expected.items():
        torch.testing.assert_close(logits[name].float().cpu(), values, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_the_same_training(encoder_config: EncoderConfig, optimizer: str) -> None:
    found = []
    for device in (CPU, CUDA):
        bert = random_bert(replace(encoder_config, dropout=0.0), *OUTPUTS)
        config = settings(learning_rate=1e-3, optimizer=optimizer)
        log = train(bert, Random(encoder_config, 5), config, device=device, log_every=1, quiet=True)
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
            log_every=1,
            quiet=True,
        )
        found.append(([loss for entries in log.losses.values() for _, loss in entries], weights(bert).cpu()))
        assert not any({"forward", "after_attention", "loss"} & vars(module).keys() for module in bert.modules())
    assert found[1][0] == pytest.approx(found[0][0], abs=2e-3)
    torch.testing.assert_close(found[1][1], found[0][1], atol=1e-3, rtol=0)
