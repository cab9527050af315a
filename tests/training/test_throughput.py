"""The count of operations against PyTorch's own counter."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import random_bert, random_encodings
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from bothways.batch import PackedBatch
from bothways.model.config import MASKED_LM, NEXT_SENTENCE, EncoderConfig, OutputConfig
from bothways.training.throughput import peak, training_operations


@pytest.mark.parametrize(
    "outputs",
    [
        (MASKED_LM, NEXT_SENTENCE),
        (MASKED_LM,),
        (OutputConfig(name="a", kind="tags", labels=("x", "y"), reads="tokens"),),
    ],
)
def test_operations_are_those_pytorch_counts(encoder_config: EncoderConfig, outputs: tuple[OutputConfig, ...]) -> None:
    bert = random_bert(encoder_config, *outputs)
    batch = PackedBatch.pack(random_encodings(encoder_config.vocab_size, [9, 9, 30, 17, 64]))
    if outputs[0] is MASKED_LM:
        batch = replace(batch, masked_positions=torch.from_numpy(np.arange(0, 129, 7)))
    # As three operations, since the counter does not know the fused attention of a CPU; in fp32, in which nothing is
    # computed for filler.
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        sum(logits.sum() for logits in bert(batch).values()).backward()
    assert training_operations(bert, batch) == pytest.approx(counter.get_total_flops(), rel=0.02)


def test_a_peak_is_found() -> None:
    assert peak(torch.device("cpu"), torch.float32) > 1e9
