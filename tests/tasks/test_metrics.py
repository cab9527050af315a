"""Metrics against scikit-learn, SciPy and hand-made cases."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from bothways.batch import UNLABELLED
from bothways.model.config import OutputConfig
from bothways.tasks import TASKS
from bothways.tasks.regression import ranks
from bothways.tasks.tags import entities


def test_single_leaves_unlabelled_rows_out() -> None:
    output = OutputConfig(name="x", kind="single", labels=("a", "b", "c"))
    result = TASKS[output.kind](output).metrics(
        [0, 1, UNLABELLED, 1], [np.int64(0), np.int64(1), np.int64(2), np.int64(0)]
    )
    assert result["examples"] == 3
    assert result["accuracy"] == pytest.approx(2 / 3)
    assert result["macro_f1"] == pytest.approx((2 / 3 + 2 / 3) / 2)


def test_regression_against_scipy() -> None:
    random = np.random.default_rng(0)
    true = np.round(random.normal(size=50), 1)
    predicted = true + random.normal(size=50)
    output = OutputConfig(name="x", kind="regression")
    result = TASKS[output.kind](output).metrics([*true.tolist(), float("nan")], [*predicted, np.float64(9)])
    assert result["examples"] == 50
    assert result["pearson"] == pytest.approx(stats.pearsonr(true, predicted)[0])
    assert result["spearman"] == pytest.approx(stats.spearmanr(true, predicted)[0])
    assert ranks(np.array([3.0, 1.0, 3.0])).tolist() == [2.5, 1.0, 2.5]


def test_multi() -> None:
    output = OutputConfig(name="x", kind="multi", labels=("a", "b"))
    expected = [np.array([1, 0], np.float32), np.array([1, 1], np.float32)]
    result = TASKS[output.kind](output).metrics(expected, [np.array([True, False]), np.array([True, False])])
    assert result["accuracy"] == 0.5
    assert result["micro_f1"] == pytest.approx(0.8)


def test_entities() -> None:
    assert entities(["O", "B-per", "I-per", "O", "B-loc", "B-loc"]) == {("per", 1, 3), ("loc", 4, 5), ("loc", 5, 6)}
    assert entities(["I-per", "I-loc", "I-loc"]) == {("per", 0, 1), ("loc", 1, 3)}
    assert entities([]) == set()


def test_tags() -> None:
    output = OutputConfig(name="x", kind="tags", labels=("B-per", "I-per", "O"))
    expected = [np.array([0, 1, 2]), None, np.array([2, 0])]
    predicted = [np.array([0, 1, 2]), np.array([2]), np.array([2, -1])]
    result = TASKS[output.kind](output).metrics(expected, predicted)
    assert result["accuracy"] == pytest.approx(4 / 5)
    assert (result["precision"], result["recall"]) == (1.0, 0.5)


def test_multi_with_one_label() -> None:
    """A lone label that is never found has an F1 of 0, however often its absence is."""
    output = OutputConfig(name="x", kind="multi", labels=("a",))
    expected = [np.array([p], np.float32) for p in (1, 0, 0, 0)]
    result = TASKS[output.kind](output).metrics(expected, [np.array([False])] * 4)
    assert (result["accuracy"], result["macro_f1"], result["micro_f1"]) == (0.75, 0.0, 0.0)


def test_multi_leaves_rows_that_say_nothing_out() -> None:
    output = OutputConfig(name="x", kind="multi", labels=("a", "b"))
    expected = [np.array([1, 0], np.float32), np.array([np.nan, np.nan], np.float32)]
    assert TASKS[output.kind](output).metrics(expected, [np.array([True, False])] * 2)["examples"] == 1
