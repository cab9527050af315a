"""Figures against scikit-learn, SciPy and hand-made cases."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from bothways.batch import UNLABELLED
from bothways.evaluation.evaluate import entities, figures, ranks
from bothways.model.config import OutputConfig


def test_single_leaves_unlabelled_rows_out() -> None:
    output = OutputConfig(name="x", kind="single", labels=("a", "b", "c"))
    result = figures(output, [0, 1, UNLABELLED, 1], [np.int64(0), np.int64(1), np.int64(2), np.int64(0)])
    assert result["examples"] == 3
    assert result["accuracy"] == pytest.approx(2 / 3)
    assert result["macro_f1"] == pytest.approx((2 / 3 + 2 / 3) / 2)


def test_regression_against_scipy() -> None:
    random = np.random.default_rng(0)
    true = np.round(random.normal(size=50), 1)
    said = true + random.normal(size=50)
    output = OutputConfig(name="x", kind="regression")
    result = figures(output, [*true.tolist(), float("nan")], [*said, np.float64(9)])
    assert result["examples"] == 50
    assert result["pearson"] == pytest.approx(stats.pearsonr(true, said)[0])
    assert result["spearman"] == pytest.approx(stats.spearmanr(true, said)[0])
    assert ranks(np.array([3.0, 1.0, 3.0])).tolist() == [2.5, 1.0, 2.5]


def test_multi() -> None:
    output = OutputConfig(name="x", kind="multi", labels=("a", "b"))
    truth = [np.array([1, 0], np.float32), np.array([1, 1], np.float32)]
    result = figures(output, truth, [np.array([True, False]), np.array([True, False])])
    assert result["accuracy"] == 0.5
    assert result["micro_f1"] == pytest.approx(0.8)


def test_entities() -> None:
    assert entities(["O", "B-per", "I-per", "O", "B-loc", "B-loc"]) == {("per", 1, 3), ("loc", 4, 5), ("loc", 5, 6)}
    assert entities(["I-per", "I-loc", "I-loc"]) == {("per", 0, 1), ("loc", 1, 3)}
    assert entities([]) == set()


def test_tags() -> None:
    output = OutputConfig(name="x", kind="tags", labels=("B-per", "I-per", "O"))
    truth = [np.array([0, 1, 2]), None, np.array([2, 0])]
    said = [np.array([0, 1, 2]), np.array([2]), np.array([2, -1])]
    result = figures(output, truth, said)
    assert result["accuracy"] == pytest.approx(4 / 5)
    assert (result["precision"], result["recall"]) == (1.0, 0.5)


def test_multi_with_one_label() -> None:
    """A lone label that is never found has an F1 of 0, however often its absence is."""
    output = OutputConfig(name="x", kind="multi", labels=("a",))
    truth = [np.array([p], np.float32) for p in (1, 0, 0, 0)]
    result = figures(output, truth, [np.array([False])] * 4)
    assert (result["accuracy"], result["macro_f1"], result["micro_f1"]) == (0.75, 0.0, 0.0)


def test_multi_leaves_rows_that_say_nothing_out() -> None:
    output = OutputConfig(name="x", kind="multi", labels=("a", "b"))
    truth = [np.array([1, 0], np.float32), np.array([np.nan, np.nan], np.float32)]
    assert figures(output, truth, [np.array([True, False])] * 2)["examples"] == 1
