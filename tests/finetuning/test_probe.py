"""Output layers that start from a linear probe."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import random_bert
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from bothways.finetuning.config import PROBED_RATE, PROBED_ROWS, FinetuningConfig
from bothways.finetuning.fit import resolved_for
from bothways.finetuning.probe import PENALTY, fit_probe
from bothways.model.config import EncoderConfig, OutputConfig
from bothways.model.outputs import OutputLayer

CLASSES = OutputConfig(name="topic", kind="single", labels=("a", "b", "c"), reads="mean")


def layer_of(encoder: EncoderConfig, output: OutputConfig) -> OutputLayer:
    return random_bert(encoder, output).output(output.name)


def features(encoder: EncoderConfig, rows: int = 60) -> np.ndarray:
    random = np.random.default_rng(0)
    return (3 + random.normal(size=(rows, encoder.hidden_size)) * random.uniform(0.01, 2, encoder.hidden_size)).astype(
        np.float32
    )


def test_it_is_logistic_regression(encoder_config: EncoderConfig) -> None:
    given = features(encoder_config)
    classes = np.random.default_rng(1).integers(0, 3, len(given))
    layer = layer_of(encoder_config, CLASSES)
    fit_probe(layer, torch.from_numpy(given), torch.from_numpy(classes))
    scaled = StandardScaler().fit_transform(given)
    reference = LogisticRegression(C=1 / PENALTY, tol=1e-8, max_iter=10_000).fit(scaled, classes)
    with torch.no_grad():
        found = torch.softmax(layer.projection(torch.from_numpy(given)), -1)
    np.testing.assert_allclose(found.numpy(), reference.predict_proba(scaled), atol=2e-3)
    assert layer.projection.weight.grad is None or not layer.projection.weight.grad.any()


def test_rows_without_a_label_count_for_nothing(encoder_config: EncoderConfig) -> None:
    given = features(encoder_config)
    numbers = given @ np.random.default_rng(1).normal(size=given.shape[1])
    numbers = ((numbers - numbers.mean()) / numbers.std()).astype(np.float32)
    some = np.where(np.arange(len(given)) < 50, numbers, np.nan).astype(np.float32)
    layer = layer_of(encoder_config, OutputConfig(name="score", kind="regression", reads="mean"))
    fit_probe(layer, torch.from_numpy(given), torch.from_numpy(some))
    with torch.no_grad():
        found = layer.projection(torch.from_numpy(given)).squeeze(-1).numpy()
    assert np.corrcoef(found[50:], numbers[50:])[0, 1] > 0.8
    present = np.random.default_rng(2).integers(0, 2, (len(given), 3)).astype(np.float32)
    many = layer_of(encoder_config, replace(CLASSES, kind="multi"))
    fit_probe(many, torch.from_numpy(given), torch.from_numpy(present))
    scaled = StandardScaler().fit_transform(given)
    for label in range(3):
        reference = LogisticRegression(C=1 / PENALTY, tol=1e-8, max_iter=10_000).fit(scaled, present[:, label])
        with torch.no_grad():
            found = torch.sigmoid(many.projection(torch.from_numpy(given)))[:, label]
        np.testing.assert_allclose(found.numpy(), reference.predict_proba(scaled)[:, 1], atol=2e-3)


@pytest.mark.parametrize(
    ("width", "rows", "probed"), [(384, 499, True), (384, 500, False), (256, 100, False), (768, 100, False)]
)
def test_for_few_rows(encoder_config: EncoderConfig, width: int, rows: int, probed: bool) -> None:
    assert PROBED_ROWS == 500
    bert = random_bert(replace(encoder_config, hidden_size=width))
    outputs = (CLASSES,)
    chosen = resolved_for(FinetuningConfig(), bert, rows, outputs)
    assert chosen.linear_probe == probed
    assert (chosen.learning_rate <= PROBED_RATE) == (probed or width == 768)
    given = resolved_for(FinetuningConfig(linear_probe=not probed), bert, rows, outputs)
    assert given.linear_probe != probed


def test_where_words_are_labelled_outputs_are_fast_and_not_probed(encoder_config: EncoderConfig) -> None:
    bert = random_bert(replace(encoder_config, hidden_size=384))
    tags = OutputConfig(name="tags", kind="tags", labels=("O", "B-x"), reads="tokens")
    for outputs in ((tags,), (CLASSES, tags)):
        for rows in (100, 50_000):
            chosen = resolved_for(FinetuningConfig(), bert, rows, outputs)
            assert not chosen.linear_probe
            assert (chosen.learning_rate, chosen.output_rate) == (4e-4, 10)


@pytest.mark.parametrize(
    ("classes", "rows", "rate"), [(16, 3200, 1), (17, 3200, 10), (150, 29_999, 10), (150, 30_000, 1)]
)
def test_outputs_of_many_classes_are_fast(encoder_config: EncoderConfig, classes: int, rows: int, rate: float) -> None:
    bert = random_bert(replace(encoder_config, hidden_size=384))
    output = replace(CLASSES, labels=tuple(f"class {number}" for number in range(classes)))
    assert resolved_for(FinetuningConfig(), bert, rows, (output,)).output_rate == rate
    wide = random_bert(replace(encoder_config, hidden_size=512))
    assert resolved_for(FinetuningConfig(), wide, rows, (output,)).output_rate == 1
