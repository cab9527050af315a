"""Classes of unequal size: weights against scikit-learn's, the focal loss against its formula."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import films, random_bert, random_encodings
from sklearn.utils.class_weight import compute_class_weight
from torch.nn.functional import cross_entropy

from bothways import TextClassifier
from bothways.batch import UNLABELLED, PackedBatch, TrainingBatch
from bothways.errors import InputError
from bothways.finetuning.config import FinetuningConfig, Imbalance
from bothways.finetuning.imbalance import GAMMA, POWER, balanced
from bothways.finetuning.run import finetune
from bothways.inference.engine import load_classifier
from bothways.model.config import EncoderConfig, OutputConfig
from bothways.model.outputs import KINDS
from bothways.tables.table import Columns, LabelColumn, Table, learn_outputs
from bothways.tasks import TASKS
from bothways.training.step import backward

CPU = torch.device("cpu")
LABELS = ["a"] * 90 + ["b"] * 9 + ["c"]


def table(kind: str, values: list) -> Table:
    columns = Columns(labels=(LabelColumn(output="y", column="y", kind=kind),))  # type: ignore[arg-type]
    texts = [["word"] * len(v) if kind == "tags" and v else "word" for v in values]
    return Table("t", columns, [f"line {i}" for i in range(len(values))], texts, None, {"y": values})


def weights_of(kind: str, values: list, imbalance: Imbalance) -> tuple[float, ...]:
    rows = table(kind, values)
    (output,) = balanced(learn_outputs(rows), rows, imbalance)
    return output.class_weights


@pytest.mark.parametrize("kind", ["single", "tags"])
def test_weights_are_scikit_learns(kind: str) -> None:
    """To the power of a half, and then 1 in the mean over the rows."""
    values = LABELS if kind == "single" else [LABELS[:50], LABELS[50:], None]
    reference = compute_class_weight("balanced", classes=np.array(["a", "b", "c"]), y=LABELS)
    rows = table(kind, values)
    (output,) = learn_outputs(rows)
    task = TASKS[kind](output)
    np.testing.assert_allclose(task.class_weights(rows.targets(task), power=1.0), reference, rtol=1e-6)
    tempered = reference**POWER
    found = weights_of(kind, values, "weights")
    np.testing.assert_allclose(np.array(found) / found[0], tempered / tempered[0], rtol=1e-6)
    counts = Counter(LABELS)
    assert sum(w * counts[label] for w, label in zip(found, "abc", strict=True)) / 100 == pytest.approx(1.0)


def test_weights_of_several_labels() -> None:
    """Each label by itself: rows without it over rows with it. A row that says nothing does not count."""
    values = [["a"]] * 80 + [["a", "b"]] * 10 + [[]] * 10 + [None] * 5
    assert weights_of("multi", values, "weights") == pytest.approx(((10 / 90) ** POWER, (90 / 10) ** POWER))


@pytest.mark.parametrize(
    ("kind", "values", "weighted"),
    [
        ("single", LABELS, True),
        ("single", ["a"] * 50 + ["b"] * 30, False),
        ("multi", [["a"]] * 90 + [["b"]], False),
        ("tags", [["O"] * 9 + ["B"]] * 5, False),
        ("regression", [1.0] * 50 + [2.0], False),
    ],
)
def test_auto_weighs_where_it_is_known_to_help(kind: str, values: list, weighted: bool) -> None:
    assert (weights_of(kind, values, "auto") != ()) == weighted
    assert weights_of(kind, values, "none") == ()


def test_weights_that_were_given_stay() -> None:
    rows = table("single", LABELS)
    given = OutputConfig(name="y", kind="single", labels=("a", "b", "c"), class_weights=(1.0, 2.0, 3.0))
    assert balanced((given,), rows, "weights") == (given,)


def layer_of(config: EncoderConfig, kind: str, **settings: object) -> torch.nn.Module:
    return KINDS[kind](OutputConfig(name="y", kind=kind, labels=("a", "b", "c"), **settings), config)  # type: ignore[arg-type]


@pytest.mark.parametrize("weights", [(), (0.5, 1.0, 3.0)])
@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_focal_loss_is_the_formula(encoder_config: EncoderConfig, gamma: float, weights: tuple[float, ...]) -> None:
    """In float64, by hand; what is right beyond doubt, and what has no label, has a gradient, too: 0."""
    logits = torch.from_numpy(np.random.default_rng(0).normal(0, 3, (6, 3)).astype(np.float32))
    logits[0] = torch.tensor([200.0, 0.0, 0.0])
    w = np.array(weights or (1.0, 1.0, 1.0))

    targets = np.array([0, 1, 2, UNLABELLED, 0, 1])
    p = np.exp(logits.double().numpy())
    p = (p / p.sum(-1, keepdims=True))[np.arange(6), targets.clip(0)]
    expected = np.sum(((1 - p) ** gamma * -np.log(p) * w[targets.clip(0)])[targets >= 0])
    logits.requires_grad_()
    loss = layer_of(encoder_config, "single", focal_gamma=gamma, class_weights=weights).loss(
        logits, torch.from_numpy(targets)
    )
    assert loss.item() == pytest.approx(expected, rel=1e-4)
    loss.backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()
    assert not logits.grad[3].any()

    present = np.array([[1, 0, 1], [0, 0, 0], [1, 1, 1], [0, 1, 0], [np.nan] * 3, [0, 0, 1]], np.float32)
    q = 1 / (1 + np.exp(-logits.detach().double().numpy()))
    q = np.where(present > 0, q, 1 - q).clip(1e-300)
    by_label = (1 - q) ** gamma * -np.log(q) * np.where(present > 0, w, 1.0)
    loss = layer_of(encoder_config, "multi", focal_gamma=gamma, class_weights=weights).loss(
        logits.detach(), torch.from_numpy(present)
    )
    # A logit of 200 where the label is absent: log(1 - q) is not a number that float64 has, so it is left out of both.
    rows = [1, 2, 3, 5]
    rest = layer_of(encoder_config, "multi", focal_gamma=gamma, class_weights=weights).loss(
        logits.detach()[rows], torch.from_numpy(present[rows])
    )
    assert float(rest) == pytest.approx(by_label[rows].mean(-1).sum(), rel=1e-4)
    assert torch.isfinite(loss)


def test_an_update_in_shares_is_the_update(encoder_config: EncoderConfig) -> None:
    """Weighted and focal losses are divided by the number of targets, whichever micro-batch they are in."""
    output = OutputConfig(
        name="y", kind="single", labels=("a", "b", "c"), class_weights=(0.5, 1.0, 3.0), focal_gamma=2.0
    )
    bert = random_bert(encoder_config, output)
    encodings = random_encodings(encoder_config.vocab_size, [9, 9, 9, 9, 9])
    targets = torch.tensor([0, 2, UNLABELLED, 1, 0])

    def gradient(parts: list[slice]) -> torch.Tensor:
        bert.zero_grad()
        backward(
            bert,
            [TrainingBatch(PackedBatch.pack(encodings[p]), {"y": targets[p]}) for p in parts],
            torch.float32,
            CPU,
        )
        (layer,) = bert.outputs
        assert layer.projection.weight.grad is not None
        return layer.projection.weight.grad.clone()

    whole, shared = gradient([slice(0, 5)]), gradient([slice(0, 1), slice(1, 3), slice(3, 5)])
    torch.testing.assert_close(whole, shared, atol=1e-6, rtol=1e-4)


def test_weights_of_1_change_nothing(encoder_config: EncoderConfig) -> None:
    logits, targets = torch.randn(5, 3, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 2, 0, 1])
    layer = layer_of(encoder_config, "single", class_weights=(1.0, 1.0, 1.0))
    assert float(layer.loss(logits, targets)) == pytest.approx(float(cross_entropy(logits, targets, reduction="sum")))


def test_a_rare_class_is_found(tmp_path: Path, encoder_directory: Path) -> None:
    """The choice arrives in the model that is written, by table and in Python; a level table is left alone."""
    texts, labels = films(300)
    kept = [(t, y) for i, (t, y) in enumerate(zip(texts, labels, strict=True)) if y == "positive" or i % 10 == 0]
    (tmp_path / "a.csv").write_text("text,label\n" + "".join(f"{t},{y}\n" for t, y in kept), "utf-8")
    (tmp_path / "b.csv").write_text(
        "text,label\n" + "".join(f"{t},{y}\n" for t, y in zip(texts, labels, strict=True)), "utf-8"
    )

    def output(name: str, **settings: object) -> OutputConfig:
        out = tmp_path / f"{name}-{len(list(tmp_path.iterdir()))}"
        finetune(
            tmp_path / f"{name}.csv",
            out,
            encoder=encoder_directory,
            config=FinetuningConfig(epochs=1, precision="fp32", **settings),  # type: ignore[arg-type]
        )
        json.loads((out / "config.json").read_text("utf-8"))
        return load_classifier(out)[0].config.outputs[0]

    auto = output("a")
    assert auto.class_weights[0] > 2 * auto.class_weights[1] > 0
    assert output("a", imbalance="none").class_weights == ()
    focal = output("a", imbalance="focal")
    assert (focal.class_weights, focal.focal_gamma) == ((), GAMMA)
    assert output("b").class_weights == ()
    classifier = TextClassifier(encoder_directory, epochs=1).fit(*zip(*kept, strict=True))
    assert classifier.bert_.config.outputs[0].class_weights[0] > 1


def test_what_makes_no_sense() -> None:
    with pytest.raises(InputError, match="--imbalance is 'balanced'; give one of auto, none, weights, focal"):
        FinetuningConfig(imbalance="balanced")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="focal_gamma of output 'y' is -1"):
        OutputConfig(name="y", kind="single", labels=("a", "b"), focal_gamma=-1)
