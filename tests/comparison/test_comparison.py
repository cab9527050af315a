"""Methods side by side: the same rows for all, figures as scikit-learn has them, and advice that follows from them."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import films
from sklearn.metrics import f1_score

from bothways.baselines.majority import Majority
from bothways.baselines.methods import Options
from bothways.classifier import TextClassifier
from bothways.comparison.advice import advise, advised, as_good, difference
from bothways.comparison.measure import Contender, Measured
from bothways.comparison.methods import contenders
from bothways.comparison.page import against, charts, show
from bothways.comparison.run import compare, named
from bothways.comparison.saving import how_to_use, parameters_of
from bothways.errors import InputError
from bothways.evaluation.evaluate import evaluate_file
from bothways.evaluation.page import Words
from bothways.evaluation.significance import (
    confusion,
    difference_interval,
    macro_f1,
    macro_f1_interval,
    mean_interval,
)
from bothways.inference.engine import Engine, load_classifier
from bothways.tables.table import Columns, LabelColumn


class Keyword:
    """Knows some words of films that are good."""

    def __init__(self, words: Sequence[str], error: BaseException | None = None, seed: int = 0, noise: float = 0.0):
        self.words, self.error, self.random, self.noise = words, error, np.random.default_rng(seed), noise
        self.seen = 0

    def fit(self, texts: Sequence[Any], labels: Sequence[str]) -> Keyword:
        if self.error is not None:
            raise self.error
        self.seen = len(texts)
        return self

    def predict(self, texts: Sequence[str]) -> list[str]:
        found = [any(word in text.split() for word in self.words) for text in texts]
        turned = self.random.random(len(texts)) < self.noise
        return ["positive" if one != other else "negative" for one, other in zip(found, turned, strict=True)]

    def save(self, path: Path) -> None:
        path.mkdir()
        (path / "words.txt").write_text("x" * 10)


ALL = ("good", "不错", "worth")


def contender(name: str, words: Sequence[str] = ALL, error: BaseException | None = None, noise: float = 0) -> Contender:
    return Contender(name, Words(name, name), lambda seed: Keyword(words, error, seed, noise))


def write_table(path: Path, rows: int, seed: int) -> Path:
    with path.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([("text", "label"), *zip(*films(rows, seed), strict=True)])
    return path


@pytest.fixture
def tables(tmp_path: Path) -> tuple[Path, Path]:
    return write_table(tmp_path / "train.csv", 400, 0), write_table(tmp_path / "test.csv", 200, 1)


def test_all_methods_side_by_side(
    tmp_path: Path, tables: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    methods = [
        contender("half", ("good", "worth")),
        contender("broken", error=RuntimeError("the <b>disk</b> is gone")),
        contender("lacking", error=InputError("Install it with pip install 'bothways[compare]'.")),
        contender("whole"),
    ]
    found = compare(methods, *tables, tmp_path / "out", curve=True)
    written = json.loads((tmp_path / "out" / "compare.json").read_text("utf-8"))
    assert [entry["method"] for entry in written] == ["half", "broken", "lacking", "whole"]
    half, broken, lacking, whole = written
    assert whole["accuracy"] == 1.0
    assert 0.5 < half["accuracy"] < 1.0
    assert half["accuracy_interval"][0] < half["accuracy"] < half["accuracy_interval"][1]
    assert half["below_best"] == pytest.approx(half["accuracy"] - 1)
    assert [size for size, _ in whole["curve"]] == [100, 300, 400]
    assert (whole["parameters"], whole["bytes"]) == (None, 10)
    assert broken["accuracy"] is None
    assert broken["error"] == "RuntimeError: the <b>disk</b> is gone"
    assert lacking["error"] == "Install it with pip install 'bothways[compare]'."
    assert (tmp_path / "out" / "whole" / "words.txt").exists()
    page = (tmp_path / "out" / "report.html").read_text("utf-8")
    assert "the &lt;b&gt;disk&lt;/b&gt; is gone" in page
    assert found.advice.en in page
    accuracy, speed = charts(found)[:2]
    assert [label.text for label in accuracy.labels] != [label.text for label in speed.labels]
    assert len(accuracy.labels) == len(speed.labels)
    assert "Texts a second on this machine" in page
    assert found.advice.en.startswith("On these 400 rows whole is best: right on 100.0 %")
    show(found)
    printed = capsys.readouterr()
    assert "bothways[compare]" in printed.out
    assert "whole: training on 400 rows" in printed.err
    assert found.use is None  # what cannot be loaded


def test_the_method_that_is_advised_can_be_used(
    tmp_path: Path, tables: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lines that are shown run as they are, and answer as the method did."""
    monkeypatch.chdir(tmp_path)
    found = compare([contenders()["majority"], contenders()["svm"]], *tables, "out")
    assert found.use is not None
    what, lines = found.use
    assert what == ("To use TF-IDF + SVM, in Python:", "在 Python 中使用 TF-IDF + SVM：")
    first, second = lines.splitlines()
    names: dict[str, Any] = {}
    exec(first, names)
    assert second == """BagOfWords.load('out/svm').predict(["a text"])"""
    assert eval(second, names).tolist() in (["positive"], ["negative"])
    texts, labels = films(200, 1)
    assert np.mean(names["BagOfWords"].load("out/svm").predict(texts) == np.array(labels)) == found.results[1].accuracy
    page = (tmp_path / "out" / "report.html").read_text("utf-8")
    assert "BagOfWords.load(&#39;out/svm&#39;)" in page
    assert what.zh in page


def test_how_a_method_is_used_depends_on_what_was_saved() -> None:
    one = Measured(method="bert", title=Words("fine-tuned BERT", "微调的 BERT"), saved_as=TextClassifier)
    assert how_to_use(one, Path("my out"), pairs=False) == (
        Words("To use fine-tuned BERT:", "使用微调的 BERT："),
        "bothways classify 'my out/bert' FILE --out answers.jsonl",
    )
    pairs = how_to_use(replace(one, method="majority", saved_as=Majority), Path("out"), pairs=True)
    assert pairs is not None
    assert pairs[1].endswith("""Majority.load('out/majority').predict([("a text", "another")])""")
    assert how_to_use(replace(one, saved_as=None), Path("out"), pairs=False) is None


def test_a_trained_bert_knows_the_columns_of_the_table(encoder_directory: Path, tmp_path: Path) -> None:
    """As one of finetune does, so that evaluate and classify read the same tables; its output has the column's name."""
    for name, rows, seed in (("train.csv", 120, 0), ("test.csv", 40, 1)):
        with (tmp_path / name).open("w", newline="", encoding="utf-8") as stream:
            csv.writer(stream).writerows([("review", "mood"), *zip(*films(rows, seed), strict=True)])
    columns = Columns(text="review", labels=(LabelColumn(output="mood", column="mood"),))
    methods = [replace(contenders()["bert"], make=lambda seed: TextClassifier(encoder_directory, epochs=1, seed=seed))]
    compare(methods, tmp_path / "train.csv", tmp_path / "test.csv", tmp_path / "out", columns=columns)
    engine = Engine(*load_classifier(tmp_path / "out" / "bert"))
    assert engine.config.text_columns == ("review",)
    assert [(output.name, output.column, output.of) for output in engine.config.outputs] == [
        ("mood", "mood", ""),
        ("mood.known", "", "mood"),
    ]
    (written,) = json.loads((tmp_path / "out" / "compare.json").read_text("utf-8"))
    assert evaluate_file(engine, tmp_path / "test.csv")["outputs"]["mood"]["accuracy"] == written["accuracy"]


def test_what_a_method_has_learned_is_counted() -> None:
    """Weights of words and coefficients; every weight of a network once."""
    texts, labels = films(60)
    known = contenders()
    linear = known["logistic_regression"].make(0).fit(texts, labels)
    features = linear.features_.transform(texts).shape[1]
    assert parameters_of(linear) == features + features + 1
    assert parameters_of(known["majority"].make(0).fit(texts, labels)) == 2
    network = torch.nn.Linear(3, 2)
    linear.bert_ = network
    assert parameters_of(linear) == 2 * features + 1 + 8
    assert parameters_of(object()) is None


def test_seeds_are_for_methods_that_throw_dice(tmp_path: Path, tables: tuple[Path, Path]) -> None:
    methods = [contender("sure"), contender("dice", noise=0.2)]
    sure, dice = compare(methods, *tables, tmp_path / "out", seeds=4).results
    assert len(sure.seeds) == 1
    assert len(dice.seeds) == 4
    assert len(set(dice.seeds)) > 1
    assert dice.accuracy == pytest.approx(np.mean(dice.seeds))


def test_ctrl_c_keeps_what_is_done(tmp_path: Path, tables: tuple[Path, Path]) -> None:
    stopping = contender("stopping", error=KeyboardInterrupt())
    found = compare([contender("whole"), stopping, contender("late")], *tables, tmp_path / "out")
    assert found.stopped
    errors = [entry["error"] for entry in json.loads((tmp_path / "out" / "compare.json").read_text("utf-8"))]
    assert errors == [None, "not run: it was stopped", "not run: it was stopped"]
    with pytest.raises(KeyboardInterrupt):
        compare([stopping], *tables, tmp_path / "nothing")
    assert not (tmp_path / "nothing").exists()


def test_rows_are_drawn_once_for_all(tmp_path: Path, tables: tuple[Path, Path]) -> None:
    seen: list[list[str]] = []

    class Seeing(Keyword):
        def fit(self, texts: Sequence[Any], labels: Sequence[str]) -> Keyword:
            seen.append(list(texts))
            return super().fit(texts, labels)

    methods = [Contender(name, Words(name, name), lambda seed: Seeing(ALL)) for name in ("a", "b")]
    compare(methods, *tables, tmp_path / "out", rows=150, curve=True)
    assert [len(texts) for texts in seen] == [150, 100, 150, 100]
    assert seen[:2] == seen[2:]


def test_mistakes_are_found_before_anything_is_trained(tmp_path: Path, tables: tuple[Path, Path]) -> None:
    train, test = tables
    never = [contender("never", error=AssertionError("it was trained"))]
    (tmp_path / "odd.csv").write_text("text,label\nfilm,mixed\n")
    with pytest.raises(InputError, match=r"odd\.csv, line 2: the label 'mixed'"):
        compare(never, train, tmp_path / "odd.csv", tmp_path / "out")
    for setting, value in (("seeds", 0), ("rows", 1)):
        with pytest.raises(InputError, match=f"--{setting} is {value}"):
            compare(never, train, test, tmp_path / "out", **{setting: value})  # type: ignore[arg-type]
    with pytest.raises(InputError, match="exists already"):
        compare(never, train, test, tmp_path)
    with pytest.raises(InputError, match=r"'vsm' is not known; choose from .*svm"):
        named("svm,vsm", contenders())
    with pytest.raises(InputError, match="names svm twice"):
        named("svm, svm", contenders())
    assert [one.name for one in named("bert,svm", contenders())] == ["bert", "svm"]


def measured(name: str, right: np.ndarray, seconds: float, curve: Sequence[tuple[int, float]] = ()) -> Measured:
    return Measured(
        method=name,
        title=Words(name, name),
        accuracy=float(right.mean()),
        fit_seconds=seconds,
        right=right.astype(float),
        curve=list(curve),
    )


def test_advice_follows_from_the_figures() -> None:
    random = np.random.default_rng(0)
    right = random.random(1200) < 0.93
    nearly = right.copy()
    nearly[np.flatnonzero(right)[:12]] = False
    nearly[np.flatnonzero(~right)[:10]] = True
    bert = measured("BERT", right, 40.0, [(300, 0.8), (1000, 0.9), (9600, 0.931)])
    svm = measured("SVM", nearly, 1.0, [(300, 0.85), (1000, 0.915), (9600, 0.929)])
    said = advise([svm, bert], 9600)
    assert "SVM is as good as BERT" in said.en
    assert advised([svm, bert]) is svm
    assert "within the noise) and 40 times as fast to train." in said.en
    assert "SVM 与 BERT 一样好" in said.zh
    assert "More rows would help BERT more: from 1,000 to 9,600 rows it rose by 3.1 points, SVM rose by 1.4" in said.en
    assert "一样好" in said.zh
    flat = [measured(name, right, 1.0, [(300, 0.9), (1000, 0.9)]) for name in ("BERT", "SVM")]
    assert "More rows would hardly help: from 300 to 1,000 rows neither rose beyond the noise." in advise(flat, 1000).en
    worse = measured("SVM", right & (random.random(1200) < 0.9), 1.0)
    assert "BERT is best" in advise([worse, bert], 9600).en
    assert "takes 40 times as long" in advise([worse, bert], 9600).en
    quick = measured("BERT", right, 0.5)
    assert "take BERT" in advise([svm, quick], 9600).en
    assert "nothing to set it against" in advise([bert], 9600).en
    bert.curve[-1] = (9600, 0.92)
    assert "More rows would help both alike: from 1,000 to 9,600" in advise([svm, bert], 9600).en
    assert "No method came to an end" in advise([Measured(method="x", title=Words("x", "x"), error="y")], 9).en


def test_dev_rows_choose_the_best(tmp_path: Path, tables: tuple[Path, Path]) -> None:
    train, test = tables
    (tmp_path / "dev.csv").write_text("text,label\ngood,positive\nthin,negative\n不错 film,negative\n")
    methods = [contender("whole"), contender("half", ("good", "worth"))]
    found = compare(methods, train, test, tmp_path / "out", dev_file=tmp_path / "dev.csv")
    assert [one.dev_accuracy for one in found.results] == pytest.approx([2 / 3, 1.0])
    assert found.as_json()[1]["below_best"] == 0.0


def test_test_rows_that_contradict_the_dev_rows_are_told() -> None:
    right = np.random.default_rng(0).random(2000) < 0.8
    worse = right & (np.random.default_rng(1).random(2000) < 0.95)
    first, second = measured("SVM", worse, 1.0), measured("BERT", right, 50.0)
    first.dev_accuracy, second.dev_accuracy = 0.8, 0.79
    said = advise([first, second], 900)
    points = 100 * float(np.mean(right.astype(float) - worse))
    assert "the dev rows put SVM first, but on the test rows BERT is right on" in said.en
    assert f"{points:.1f} points above" in said.en
    assert against(second, first).en == f"+{points:.1f}"
    assert against(first, second).en == f"−{points:.1f}"
    assert advised([first, second]) is None


def test_macro_f1_is_that_of_scikit_learn() -> None:
    random = np.random.default_rng(0)
    expected, predicted = random.choice(list("abcd"), 300), random.choice(list("abce"), 300)
    true, said, counts = confusion(expected, predicted)
    reference = f1_score(expected, predicted, average="macro", labels=np.unique(expected), zero_division=0.0)
    assert macro_f1(true, said, counts[None])[0] == pytest.approx(reference)


def test_intervals_are_those_of_the_plain_bootstrap() -> None:
    """Which draws the rows one by one."""
    random = np.random.default_rng(1)
    expected = random.integers(0, 3, 400)
    predicted = np.where(random.random(400) < 0.7, expected, random.integers(0, 3, 400))
    right = (expected == predicted).astype(float)
    draws = random.integers(0, 400, (2000, 400))
    np.testing.assert_allclose(mean_interval(right), np.percentile(right[draws].mean(-1), (2.5, 97.5)), atol=0.006)
    plain = [f1_score(expected[rows], predicted[rows], average="macro") for rows in draws[:500]]
    np.testing.assert_allclose(macro_f1_interval(expected, predicted), np.percentile(plain, (2.5, 97.5)), atol=0.012)
    low, high = difference_interval(right, np.zeros(400))
    assert low == pytest.approx(mean_interval(np.append(right, (1, -1)))[0])
    assert low < right.mean() < high
    assert macro_f1_interval(list("abab"), list("abab")) is None


def test_methods_that_answer_alike_are_as_good_and_a_clear_lead_is_not() -> None:
    right = np.arange(500) % 10 > 0
    one, same, worse = (measured("x", r, 1.0) for r in (right, right, right & (np.arange(500) % 7 > 0)))
    mean, (low, high) = difference(one, same)
    assert mean == 0
    assert -0.01 < low < 0 < high < 0.01
    assert as_good(one, same)
    assert not as_good(one, worse)
    few, fewer = (measured("x", np.arange(12) < n, 1.0) for n in (12, 8))
    quick, slow = measured("x", right, 1.0), measured("y", right & (np.arange(500) % 9 > 0), 1.0)
    assert not as_good(quick, slow)
    slow.seeds = [0.9, 0.7]
    assert as_good(quick, slow), "a mean of two seeds that differ so much may be anything"
    assert as_good(few, fewer)  # four of twelve, which McNemar's exact test gives one chance in eight


def test_static_vectors_take_part_where_a_directory_is_given(tmp_path: Path) -> None:
    """Without one they could but fail; asked for by name they say so."""
    assert "static_vectors" not in [one.name for one in named(None, contenders())]
    assert "static_vectors" in [one.name for one in named("static_vectors", contenders())]
    assert "static_vectors" in [one.name for one in named(None, contenders(Options(static_vectors=tmp_path)))]
