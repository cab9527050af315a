"""What the machine is fast at decides every number format: no bf16 where there are no instructions for it."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import films
from torch.utils._python_dispatch import TorchDispatchMode

from bothways import InputError, TextClassifier
from bothways.corpus.shards import Corpus
from bothways.hardware import PRECISION_VARIABLE, described, fast_precision, one_thread, openmp, resolve
from bothways.model.config import preset
from bothways.pretraining.config import PretrainingConfig
from bothways.pretraining.initialization import new_encoder
from bothways.pretraining.run import fit

CPU = torch.device("cpu")


class OperationsInBf16(TorchDispatchMode):
    """Notes every operation that is given or gives a bf16 tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.found: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for value in torch.utils._pytree.tree_leaves((args, kwargs, result)):
            if isinstance(value, torch.Tensor) and value.dtype == torch.bfloat16:
                self.found.add(str(func))
        return result


def finetune_and_classify(encoder: Path, corpus: Corpus) -> None:
    texts, labels = films(40)
    TextClassifier(encoder, epochs=1, optimizer="muon").fit(texts, labels).predict(texts)


def pretrain(encoder: Path, corpus: Corpus) -> None:
    config = PretrainingConfig(steps=2, batch_tokens=256, sequence_lengths=(32,))
    size = replace(preset("tiny", corpus.tokenizer.vocab_size), max_positions=32)
    fit(new_encoder(size), corpus, config, quiet=True)


@pytest.mark.parametrize("work", [finetune_and_classify, pretrain])
def test_nothing_runs_in_bf16_where_it_is_slow(
    work: Callable[[Path, Corpus], None], encoder_directory: Path, corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PRECISION_VARIABLE, "fp32")
    with OperationsInBf16() as operations:
        work(encoder_directory, corpus)
    assert not operations.found


@pytest.mark.parametrize("work", [finetune_and_classify, pretrain])
def test_where_it_is_fast_it_is_used(
    work: Callable[[Path, Corpus], None], encoder_directory: Path, corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which also shows that the test above could fail."""
    monkeypatch.setenv(PRECISION_VARIABLE, "bf16")
    with OperationsInBf16() as operations:
        work(encoder_directory, corpus)
    assert any("addmm" in name or "mm." in name for name in operations.found), operations.found


@pytest.mark.parametrize(
    ("instructions", "expected"),
    [((), "fp32"), (("avx2",), "fp32"), (("amx_bf16",), "bf16"), (("avx512_bf16",), "bf16"), (("bf16",), "bf16")],
)
def test_the_processor_decides(instructions: tuple[str, ...], expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(PRECISION_VARIABLE, raising=False)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: dict.fromkeys(instructions, True))
    assert fast_precision(CPU) == expected
    assert described()["number format"].startswith(f"{expected} in training")


def test_a_person_overrules_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PRECISION_VARIABLE, "fp32")
    assert resolve(None, CPU) == torch.float32
    assert resolve("bf16", CPU) == torch.bfloat16
    monkeypatch.setenv(PRECISION_VARIABLE, "fp64")
    with pytest.raises(InputError, match="BOTHWAYS_PRECISION is 'fp64'; set it to fp32 or bf16"):
        resolve(None, CPU)


@pytest.mark.skipif(openmp() is None, reason="PyTorch shares out its operations by another library")
def test_within_one_thread_the_others_are_left_alone_and_come_back_after_an_error() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with pytest.raises(ValueError, match="stop"), one_thread():
            assert torch.get_num_threads() == 1
            with ThreadPoolExecutor(1) as other:
                assert other.submit(torch.get_num_threads).result() == 2
            raise ValueError("stop")
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
