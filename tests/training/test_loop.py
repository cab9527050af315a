"""The training loop: repeatable, exact in accumulation, learning what there is to learn."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from conftest import random_bert, random_encodings

from bothways.batch import UNLABELLED, PackedBatch, TrainingBatch
from bothways.errors import InputError
from bothways.hardware import fast_in_bf16, resolve
from bothways.model.bert import Bert
from bothways.model.config import EncoderConfig, OutputConfig
from bothways.training.checkpoint import Checkpoints
from bothways.training.config import OptimizerName, TrainingConfig
from bothways.training.loop import Report, train
from bothways.training.optimization import Muon, optimizers_for, orthogonalize, schedule
from bothways.training.prefetching import prefetched
from bothways.training.step import backward, compiled

OUTPUTS = (
    OutputConfig(name="a", kind="single", labels=("x", "y"), class_weights=(1.0, 3.0)),
    OutputConfig(name="b", kind="multi", labels=("x", "y", "z"), loss_weight=0.5),
    OutputConfig(name="c", kind="regression"),
    OutputConfig(name="d", kind="tags", labels=("O", "B"), reads="tokens"),
)
CPU = torch.device("cpu")
QUIET = Report(quiet=True)
GOLDEN = [1.084, 1.3804, 1.2043, 1.6622, 0.967]
"""Losses of five updates in `test_golden_losses`; a rewrite of the model or the loop must not change them."""


class Random:
    """Updates of some random texts with random targets, each in `micro` parts."""

    def __init__(self, encoder: EncoderConfig, updates: int, micro: int = 1) -> None:
        self.encoder, self.updates, self.micro = encoder, updates, micro

    def __len__(self) -> int:
        return self.updates

    def update(self, step: int) -> list[TrainingBatch]:
        random = np.random.default_rng(step)
        lengths = random.integers(3, 20, 8).tolist()
        encodings = random_encodings(self.encoder.vocab_size, lengths, seed=step)
        targets = {
            "a": random.integers(0, 2, 8),
            "b": random.integers(0, 2, (8, 3)).astype(np.float32),
            "c": random.normal(size=8).astype(np.float32),
            "d": random.integers(0, 2, sum(lengths)),
        }
        targets["a"][0], targets["b"][1], targets["c"][2] = UNLABELLED, np.nan, np.nan
        targets["d"][::2] = UNLABELLED
        ends = np.cumsum([0, *lengths])
        batches = []
        for part in np.array_split(np.arange(8), self.micro):
            tokens = slice(ends[part[0]], ends[part[-1] + 1])
            batches.append(
                TrainingBatch(
                    PackedBatch.pack([encodings[i] for i in part]),
                    {name: torch.from_numpy(t[tokens] if name == "d" else t[part]) for name, t in targets.items()},
                )
            )
        return batches


def settings(**changes: object) -> TrainingConfig:
    return TrainingConfig(**{"learning_rate": 1e-2, "precision": "fp32", **changes})  # type: ignore[arg-type]


def weights(bert: Bert) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in bert.parameters()])


def test_gradients_do_not_depend_on_how_an_update_is_cut(encoder_config: EncoderConfig) -> None:
    gradients = []
    for micro in (1, 3, 8):
        bert = random_bert(encoder_config, *OUTPUTS)
        losses = backward(bert, Random(encoder_config, 1, micro).update(0), torch.float32, CPU)
        assert {name: count for name, (_, count) in losses.items()}["a"] == 7
        gradients.append(torch.cat([p.grad.to_dense().flatten() for p in bert.parameters() if p.grad is not None]))
    torch.testing.assert_close(gradients[1], gradients[0], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(gradients[2], gradients[0], atol=1e-5, rtol=1e-4)


def test_same_seed_same_weights(encoder_config: EncoderConfig) -> None:
    from dataclasses import replace

    dropping = replace(encoder_config, dropout=0.1)
    runs = []
    for seed in (0, 0, 1):
        bert = random_bert(dropping, *OUTPUTS)
        train(bert, Random(dropping, 5), settings(seed=seed), device=CPU, report=QUIET)
        runs.append(weights(bert))
    assert torch.equal(runs[0], runs[1])
    assert not torch.equal(runs[0], runs[2])


def test_golden_losses(encoder_config: EncoderConfig) -> None:
    from dataclasses import replace

    fixed = replace(encoder_config, vocab_size=100)
    bert = random_bert(fixed, *OUTPUTS)
    log = train(
        bert, Random(fixed, 5), settings(learning_rate=1e-3), device=CPU, report=Report(log_every=1, quiet=True)
    )
    assert [loss for _, loss in log.losses["a"]] == pytest.approx(GOLDEN, abs=2e-3)
    assert log.updates == 5
    assert log.tokens == sum(len(b.inputs.token_ids) for step in range(5) for b in Random(fixed, 5).update(step))


def test_gradients_kept_in_place_change_nothing(encoder_config: EncoderConfig) -> None:
    """The loop's sparse, persistent gradients against PyTorch's own way of taking the same steps."""
    bert, plain = random_bert(encoder_config, *OUTPUTS), random_bert(encoder_config, *OUTPUTS)
    config = settings()
    train(bert, Random(encoder_config, 6), config, device=CPU, report=QUIET)
    (optimizer,) = optimizers_for(plain, learning_rate=config.learning_rate, weight_decay=config.weight_decay)
    plain.train()
    for step in range(6):
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * schedule(step, total=6, warmup=config.warmup)
        backward(plain, Random(encoder_config, 6).update(step), torch.float32, CPU)
        for parameter in plain.parameters():  # AdamW passes over what has no gradient; ours has zeros there
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        torch.nn.utils.clip_grad_norm_(plain.parameters(), config.gradient_clip)
        optimizer.step()
        optimizer.zero_grad()
    torch.testing.assert_close(weights(bert), weights(plain), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(
    ("every", "said", "after"),
    [(0, "The weights are no longer numbers", 1), (600, "The loss of 'a' is no longer a", 25)],
)
def test_what_is_no_number_ends_the_run(
    encoder_config: EncoderConfig, tmp_path: Path, every: float, said: str, after: int
) -> None:
    """A checkpoint of it would push out the last good ones, and stand in the way of going on."""
    bert = random_bert(encoder_config, *OUTPUTS)
    next(bert.parameters()).register_hook(lambda gradient: gradient * float("nan"))
    checkpoints = Checkpoints(tmp_path, {}, every_seconds=every)
    with pytest.raises(InputError, match=rf"{said}.* after {after} updates; .*--learning-rate"):
        train(bert, Random(encoder_config, 40), settings(), device=CPU, checkpoints=checkpoints, report=QUIET)
    assert checkpoints.latest() is None


def test_the_last_update_is_judged_too(encoder_config: EncoderConfig) -> None:
    """Its loss was computed before it."""
    bert = random_bert(encoder_config, *OUTPUTS)
    next(bert.parameters()).register_hook(lambda gradient: gradient * float("nan"))
    with pytest.raises(InputError, match="The weights are no longer numbers after 1 updates"):
        train(bert, Random(encoder_config, 1), settings(), device=CPU, report=QUIET)


def test_schedule() -> None:
    factors = [schedule(step, total=100, warmup=0.1) for step in range(101)]
    assert max(factors) == factors[10] == 1.0
    assert factors[0] > 0
    assert factors[100] == 0
    assert np.allclose(np.diff(factors[:10]), factors[0])
    assert np.allclose(np.diff(factors[10:]), -1 / 90)


def test_vectors_do_not_decay(encoder_config: EncoderConfig) -> None:
    bert = random_bert(encoder_config)
    for name in get_args(OptimizerName):
        adamw, *muon = optimizers_for(bert, name, learning_rate=1.0, weight_decay=0.5)
        *decaying, others = [*(group for optimizer in muon for group in optimizer.param_groups), *adamw.param_groups]
        assert {group["weight_decay"] for group in decaying} == {0.5}
        assert others["weight_decay"] == 0.0
        assert {p.ndim for group in decaying for p in group["params"]} == {2}
        assert {p.ndim for p in others["params"]} == {1}
        held = [p for group in (*decaying, others) for p in group["params"]]
        assert {id(p) for p in held} == {id(p) for p in bert.parameters()}
        assert len(held) == len(list(bert.parameters()))
        assert len(muon) == (name == "muon")
        assert all(p.shape[0] > 2 for optimizer in muon for p in optimizer.param_groups[0]["params"])


def test_bf16_learns_like_fp32(encoder_config: EncoderConfig) -> None:
    losses = {}
    for precision in ("fp32", "bf16"):
        bert = random_bert(encoder_config, *OUTPUTS)
        log = train(
            bert,
            Random(encoder_config, 10),
            settings(precision=precision),
            device=CPU,
            report=Report(log_every=10, quiet=True),
        )
        losses[precision] = log.losses["a"][-1][1]
        assert {p.dtype for p in bert.parameters()} == {torch.float32}
    assert losses["bf16"] == pytest.approx(losses["fp32"], abs=0.05)
    assert resolve(None, CPU) == (torch.bfloat16 if fast_in_bf16(CPU) else torch.float32)


def test_compiling_changes_no_number_and_is_done_once(
    encoder_config: EncoderConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Traced and differentiated as for CUDA, but run operation by operation, so bit for bit what it was."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))
    bert = random_bert(replace(encoder_config, dropout=0.0), *OUTPUTS)
    updates = [Random(encoder_config, 4).update(step) for step in range(4)]

    def gradients(update: list[TrainingBatch]) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        bert.zero_grad()
        losses = backward(bert, update, torch.float32, CPU)
        return [loss for loss, _ in losses.values()], [p.grad.clone() for p in bert.parameters() if p.grad is not None]

    expected = [gradients(update) for update in updates]
    with compiled(bert):
        found = [gradients(updates[0])]
        with torch.compiler.set_stance("fail_on_recompile"):  # other lengths, other numbers of tokens
            found += [gradients(update) for update in updates[1:]]
    assert not any({"forward", "after_attention", "loss"} & vars(module).keys() for module in bert.modules())
    torch.testing.assert_close(found, expected, atol=0, rtol=0)


def test_batches_come_in_order_however_long_each_takes(encoder_config: EncoderConfig) -> None:
    """As on CUDA, by several threads; the slowest first."""
    given = Random(encoder_config, 9)
    asked: list[int] = []

    def slow(step: int) -> list[TrainingBatch]:
        asked.append(step)
        time.sleep(0.05 if step % 4 == 2 else 0)
        return given.update(step)

    came = [batch.inputs.token_ids for (batch,) in prefetched(slow, range(2, 9), makers=4, ahead=8)]
    assert sorted(asked) == list(range(2, 9))
    for step, token_ids in enumerate(came, start=2):
        assert torch.equal(token_ids, given.update(step)[0].inputs.token_ids)


@pytest.mark.parametrize("together", [False, True])
def test_muon_is_that_of_pytorch(together: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """With every matrix moved every time, and a rate that is a number or a tensor; in bf16, as PyTorch's always is."""
    monkeypatch.setenv("BOTHWAYS_PRECISION", "bf16")
    random = np.random.default_rng(0)
    shapes = [(24, 8), (8, 8), (8, 24)] * 2
    started = [torch.from_numpy(random.normal(size=shape).astype(np.float32)) for shape in shapes]
    ours, theirs = ([torch.nn.Parameter(matrix.clone()) for matrix in started] for _ in range(2))
    reference = torch.optim.Muon(theirs, lr=0.01, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    muon = Muon(ours, learning_rate=0.01, weight_decay=0.1, together=together)
    for update in range(3):
        for our, their in zip(ours, theirs, strict=True):
            our.grad = torch.from_numpy(random.normal(size=our.shape).astype(np.float32))
            their.grad = our.grad.clone()
        for group in muon.param_groups:
            group["lr"], group["update"] = torch.tensor(0.01) if together else 0.01, update
        muon.step()
        reference.step()
    torch.testing.assert_close([p.detach() for p in ours], [p.detach() for p in theirs], atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("shape", [(24, 24), (96, 24), (24, 96)])
@pytest.mark.parametrize("decades", [0, 4, 8])
@pytest.mark.parametrize("size", [1e3, 1.0, 1e-12])
def test_eigenvectors_give_what_newton_and_schulz_do(shape: tuple[int, int], decades: int, size: float) -> None:
    """Against the iteration in float64, for singular values over many decades; bf16 is wrong by 1e-2 to 1e-1."""
    random = torch.from_numpy(np.random.default_rng(0).normal(size=shape))
    left, _, right = torch.linalg.svd(random, full_matrices=False)
    matrix = size * (left * torch.logspace(0, -decades, 24, dtype=torch.float64)) @ right
    settings = (3.4445, -4.775, 2.0315), 5, 1e-7
    exact = orthogonalize(matrix, *settings, torch.float64)
    found = orthogonalize(matrix.float(), *settings, torch.float32)
    assert (found.shape, found.dtype) == (shape, torch.float32)
    assert float((found - exact).norm() / exact.norm()) < 2e-3
    assert torch.equal(found, orthogonalize(matrix.float(), *settings, torch.float32))


def test_orthogonal_takes_what_has_no_eigenvectors() -> None:
    """Zeros stay zeros, and what is not a number is left to the loop to tell of."""
    settings = (3.4445, -4.775, 2.0315), 5, 1e-7, torch.float32
    assert torch.equal(orthogonalize(torch.zeros(8, 16), *settings), torch.zeros(8, 16))
    assert orthogonalize(torch.full((8, 16), float("nan")), *settings).isnan().all()


def test_matrices_take_turns() -> None:
    """Each is moved every third update, three times as far; what it was told in between is not lost."""
    matrices = [torch.nn.Parameter(torch.zeros(8, 8)) for _ in range(4)]
    muon = Muon(matrices, learning_rate=0.01, weight_decay=0.0, every=3)
    moved = []
    for update in range(6):
        before = [matrix.detach().clone() for matrix in matrices]
        for matrix in matrices:
            matrix.grad = torch.eye(8) * (100.0 if update == 1 else 1.0)
        muon.param_groups[0]["update"] = update
        muon.step()
        moved.append([not torch.equal(matrix, old) for matrix, old in zip(matrices, before, strict=True)])
    assert moved == [[(update + number) % 3 == 0 for number in range(4)] for update in range(6)]
    once = torch.nn.Parameter(torch.zeros(8, 8))
    once.grad = torch.eye(8)
    Muon([once], learning_rate=0.03, weight_decay=0.0).step()
    assert float(matrices[0].detach().norm()) == pytest.approx(2 * float(once.detach().norm()), rel=0.05)
