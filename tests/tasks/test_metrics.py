"""Metrics against scikit-learn, SciPy and hand-made cases."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as sklearn_metrics

from bothways.batch import UNLABELLED
from bothways.model.config import OutputConfig
from bothways.tasks import TASKS
from bothways.tasks.metrics import SAMPLE, Metrics
from bothways.tasks.regression import ranks
from bothways.tasks.statistics import confidence_statistics, reliability, wilson_interval
from bothways.tasks.tags import entities


def metrics_of(
    output: OutputConfig, expected: Sequence[Any], probabilities: Sequence[np.ndarray], parts: int = 1
) -> dict[str, Any]:
    """The metrics of an output, its rows counted in so many parts."""
    metrics = Metrics(TASKS[output.kind](output))
    for part in np.array_split(np.arange(len(expected)), parts):
        metrics.add([expected[i] for i in part], [probabilities[i] for i in part])
    return metrics.result()


def certain(classes: Sequence[int], width: int) -> np.ndarray:
    """Probabilities that leave no doubt."""
    return np.eye(width, dtype=np.float32)[list(classes)]


def test_single_leaves_unlabelled_rows_out() -> None:
    output = OutputConfig(name="x", kind="single", labels=("a", "b", "c"))
    result = metrics_of(output, [0, 1, UNLABELLED, 1], certain([0, 1, 2, 0], 3))
    assert result["examples"] == 3
    assert result["accuracy"] == pytest.approx(2 / 3)
    assert result["macro_f1"] == pytest.approx((2 / 3 + 2 / 3) / 2)


@pytest.mark.parametrize("parts", [1, 7])
def test_single_against_scikit_learn(parts: int) -> None:
    random = np.random.default_rng(0)
    expected = random.choice(4, 500, p=[0.6, 0.3, 0.1, 0.0])  # the last class never occurs, but is predicted
    probabilities = random.dirichlet(np.ones(5), 500).astype(np.float32)
    probabilities[:, 4] = 0.0  # this one is neither
    predicted = probabilities.argmax(-1)
    output = OutputConfig(name="x", kind="single", labels=("a", "b", "c", "d", "e"))
    result = metrics_of(output, expected.tolist(), probabilities, parts)
    assert result["accuracy"] == pytest.approx(sklearn_metrics.accuracy_score(expected, predicted))
    for average in ("macro", "weighted"):
        f1 = sklearn_metrics.f1_score(expected, predicted, average=average, labels=[0, 1, 2], zero_division=0.0)
        assert result[f"{average}_f1"] == pytest.approx(f1)
    matthews = sklearn_metrics.matthews_corrcoef(expected, predicted)
    assert result["matthews_correlation"] == pytest.approx(matthews)
    loss = -np.log(probabilities[np.arange(500), expected]).mean()
    assert result["log_loss"] == pytest.approx(loss, rel=1e-5)
    precision, recall, f1, support = sklearn_metrics.precision_recall_fscore_support(
        expected, predicted, labels=range(5), zero_division=0.0
    )
    for index, label in enumerate(output.labels):
        of_class = {"precision": precision[index], "recall": recall[index], "f1": f1[index], "examples": support[index]}
        assert result["classes"][label] == pytest.approx(of_class)


def test_expected_calibration_error_by_hand() -> None:
    output = OutputConfig(name="x", kind="single", labels=("a", "b"))
    probabilities = np.array([[0.9, 0.1]] * 10 + [[0.6, 0.4]] * 10, np.float32)
    expected = [0] * 5 + [1] * 5 + [0] * 6 + [1] * 4  # 0.9 is right half of the time, 0.6 as often as it says
    result = metrics_of(output, expected, probabilities)
    assert result["expected_calibration_error"] == pytest.approx(0.5 * 0.4 + 0.5 * 0.0, abs=1e-6)
    assert [b["examples"] for b in result["bins"]] == [10, 10]
    assert [b["accuracy"] for b in result["bins"]] == pytest.approx([0.6, 0.5])


def test_a_row_of_nan_is_in_no_bin() -> None:
    found = confidence_statistics(np.array([0.9, np.nan]), np.array([True, False]))
    result = reliability({name: statistic.sum(0) for name, statistic in found.items()})
    assert result["expected_calibration_error"] == pytest.approx(0.1)
    assert [one["examples"] for one in result["bins"]] == [1]


def test_intervals_hold_what_they_promise() -> None:
    """Of many tables with an accuracy of 0.8 the intervals of about 95 % hold it."""
    output = OutputConfig(name="x", kind="single", labels=("a", "b"))
    random = np.random.default_rng(1)
    held = 0
    for _ in range(100):
        right = random.random(200) < 0.8
        low, high = metrics_of(output, [0] * 200, certain(1 - right.astype(int), 2))["intervals"]["accuracy"]
        assert high - low == pytest.approx(2 * 1.96 * np.sqrt(0.8 * 0.2 / 200), rel=0.4)
        held += low <= 0.8 <= high
    assert 85 <= held <= 100


def test_few_rows_that_are_all_right_are_no_certainty() -> None:
    """Their replicates are all the same: accuracy has Wilson's interval, the others none."""
    output = OutputConfig(name="x", kind="single", labels=("a", "b"))
    found = metrics_of(output, [0, 1] * 6, certain(np.array([0, 1] * 6), 2))
    assert found["accuracy"] == 1.0
    assert found["intervals"]["accuracy"] == pytest.approx([0.757, 1.0], abs=0.001)
    assert "macro_f1" not in found["intervals"]
    assert "matthews_correlation" not in found["intervals"]


@pytest.mark.parametrize(("right", "rows"), [(0, 1), (0, 12), (7, 12), (12, 12), (870, 872)])
def test_wilson_interval_is_that_of_scipy(right: int, rows: int) -> None:
    reference = stats.binomtest(right, rows).proportion_ci(method="wilson")
    assert wilson_interval(right, rows) == pytest.approx((reference.low, reference.high), abs=1e-6)


@pytest.mark.parametrize("parts", [1, 3])
def test_regression_against_scipy(parts: int) -> None:
    random = np.random.default_rng(0)
    true = np.round(random.normal(size=50), 1) + 2000
    predicted = true + random.normal(size=50)
    result = metrics_of(
        OutputConfig(name="x", kind="regression"), [*true.tolist(), float("nan")], [*predicted[:, None], [9.0]], parts
    )
    assert result["examples"] == 50
    assert result["pearson"] == pytest.approx(stats.pearsonr(true, predicted)[0])
    assert result["spearman"] == pytest.approx(stats.spearmanr(true, predicted)[0])
    assert result["mean_squared_error"] == pytest.approx(((true - predicted) ** 2).mean())
    assert ranks(np.array([3.0, 1.0, 3.0])).tolist() == [2.5, 1.0, 2.5]


def test_pairs_of_a_large_table_are_a_fair_sample() -> None:
    metrics = Metrics(TASKS["regression"](OutputConfig(name="x", kind="regression")))
    values = np.arange(3.0 * SAMPLE)
    for part in np.split(values, 6):
        metrics.add(part.tolist(), part[:, None])
    assert metrics.sample is not None
    assert len(metrics.sample) == SAMPLE
    assert metrics.sample[:, 0].mean() == pytest.approx(values.mean(), rel=0.01)
    assert metrics.result()["spearman"] == pytest.approx(1.0)


def test_a_correlation_is_0_where_nothing_changes() -> None:
    result = metrics_of(OutputConfig(name="x", kind="regression"), [1.0, 2.0, 3.0], np.full((3, 1), 2.0))
    assert (result["pearson"], result["spearman"]) == (0.0, 0.0)


@pytest.mark.parametrize("parts", [1, 4])
def test_multi_against_scikit_learn(parts: int) -> None:
    random = np.random.default_rng(2)
    expected = (random.random((60, 3)) < [0.5, 0.2, 0.05]).astype(np.float32)
    probabilities = random.random((60, 3)).astype(np.float32)
    output = OutputConfig(name="x", kind="multi", labels=("a", "b", "c"), thresholds=(0.5, 0.7, 0.9))
    predicted = probabilities >= np.array([0.5, 0.7, 0.9], np.float32)
    result = metrics_of(output, list(expected), probabilities, parts)
    assert result["accuracy"] == pytest.approx((expected.astype(bool) == predicted).all(-1).mean())
    for average in ("macro", "micro", "weighted"):
        f1 = sklearn_metrics.f1_score(expected, predicted, average=average, zero_division=0.0)
        assert result[f"{average}_f1"] == pytest.approx(f1)
    likelier = probabilities >= 0.5
    confidence, right = np.where(likelier, probabilities, 1 - probabilities), likelier == expected.astype(bool)
    bins = np.minimum((confidence * 15).astype(int), 14)
    error = sum(abs((confidence - right)[bins == b].sum()) for b in range(15)) / confidence.size
    assert result["expected_calibration_error"] == pytest.approx(error, abs=1e-6)


def test_entities() -> None:
    assert entities(["O", "B-per", "I-per", "O", "B-loc", "B-loc"]) == {("per", 1, 3), ("loc", 4, 5), ("loc", 5, 6)}
    assert entities(["I-per", "I-loc", "I-loc"]) == {("per", 0, 1), ("loc", 1, 3)}
    assert entities([]) == set()


def test_tags() -> None:
    output = OutputConfig(name="x", kind="tags", labels=("B-per", "I-per", "O"))
    expected = [np.array([0, 1, 2]), None, np.array([2, 0])]
    unread = np.full((1, 3), np.nan, np.float32)
    predicted = [certain([0, 1, 2], 3), certain([2], 3), np.concatenate((certain([2], 3), unread))]
    result = metrics_of(output, expected, predicted)
    assert result["accuracy"] == pytest.approx(4 / 5)
    assert (result["precision"], result["recall"]) == (1.0, 0.5)
    assert result["classes"] == {"per": {"precision": 1.0, "recall": 0.5, "f1": pytest.approx(2 / 3), "examples": 2}}
    assert (result["words"], result["examples"]) == (5, 2)


def test_multi_with_one_label() -> None:
    """A lone label that is never found has an F1 of 0, however often its absence is."""
    output = OutputConfig(name="x", kind="multi", labels=("a",))
    expected = [np.array([p], np.float32) for p in (1, 0, 0, 0)]
    result = metrics_of(output, expected, np.zeros((4, 1), np.float32))
    assert (result["accuracy"], result["macro_f1"], result["micro_f1"]) == (0.75, 0.0, 0.0)


def test_multi_leaves_rows_that_say_nothing_out() -> None:
    output = OutputConfig(name="x", kind="multi", labels=("a", "b"))
    expected = [np.array([1, 0], np.float32), np.array([np.nan, np.nan], np.float32)]
    assert metrics_of(output, expected, np.array([[1, 0], [1, 0]], np.float32))["examples"] == 1


def test_rows_that_say_nothing_have_no_metrics() -> None:
    output = OutputConfig(name="x", kind="single", labels=("a", "b"))
    assert metrics_of(output, [UNLABELLED], certain([0], 2)) == {"examples": 0}


@pytest.mark.parametrize("kind", ["single", "tags"])
def test_ten_thousand_classes_take_little_memory(kind: Any) -> None:
    labels = tuple(f"c{i}" for i in range(10_000))
    metrics = Metrics(TASKS[kind](OutputConfig(name="x", kind=kind, labels=labels)))
    found = np.full(10_000, 1e-6, np.float32)
    found[7] = 0.99
    for _ in range(3):
        metrics.add(
            [7, 8] if kind == "single" else [np.array([7]), np.array([8])],
            [found, found] if kind == "single" else [found[None]] * 2,
        )
    assert metrics.result()["accuracy"] == 0.5
    assert sum(array.nbytes for array in metrics.replicates.values()) < 60e6
