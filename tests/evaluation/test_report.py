"""The page of a fine-tuning: right figures, hostile texts, a bounded size, no complaint of a browser."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from bothways.evaluation.observation import Observation, OutputObservation
from bothways.evaluation.page import Words, digest, excerpt, script_json
from bothways.evaluation.pictures import lines, rounded_out, thinned, ticks
from bothways.evaluation.report import MOST_BYTES, report_page
from bothways.model.config import OutputConfig
from bothways.tasks import TASKS
from bothways.tasks.metrics import Metrics

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)> & \"quotes\" 'too'"
VOID = {"meta", "link", "input", "br", "img"}


class Page(HTMLParser):
    """A page as a browser would take it apart: what is open must be closed."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self.feed(html)
        assert not self.open, self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def single(labels: list[str], rows: int, seed: int = 0) -> OutputObservation:
    """A classifier that is right four times in five."""
    random = np.random.default_rng(seed)
    expected = random.integers(len(labels), size=rows)
    p = random.random((rows, len(labels))) * 0.2
    said = np.where(random.random(rows) < 0.8, expected, random.integers(len(labels), size=rows))
    p[np.arange(rows), said] += 1
    p /= p.sum(-1, keepdims=True)
    output = OutputConfig(name="label", kind="single", labels=tuple(labels))
    return OutputObservation(task=TASKS["single"](output), expected=expected.tolist(), probabilities=p)


def findings(*outputs: OutputObservation, texts: list | None = None) -> Observation:
    rows = len(outputs[0].expected)
    texts = texts or [f"text number {row}" for row in range(rows)]
    measured = {}
    for one in outputs:
        metrics = Metrics(one.task)
        metrics.add(one.expected, one.probabilities)
        measured[one.task.name] = {"kind": one.task.kind, **metrics.result()}
    return Observation(
        title="classifier",
        encoder="en-mini",
        path="/models/a classifier",
        metrics={"examples": rows, "outputs": measured, "evaluated_on": "dev.csv"},
        texts=texts,
        rows=[f"line {row + 2}" for row in range(rows)],
        outputs=outputs,
        losses={one.task.name: [(10, 1.5), (20, 0.75), (30, 0.5)] for one in outputs},
    )


def test_what_early_stopping_went_by_is_drawn() -> None:
    found = findings(single(["bad", "good"], 20))
    told = "After each epoch, on held-out rows: the best was kept"
    assert told not in Page(report_page(found)).words
    assert told in Page(report_page(replace(found, followed={"log_loss": [(3, 1.5), (6, 1.2)]}))).words


def test_figures_are_those_of_all_rows_where_a_sample_is_drawn() -> None:
    found = findings(single(["bad", "good"], 200))
    found.metrics["outputs"]["label"] |= {"accuracy": 0.9234, "examples": 100_000}
    assert "Right on 92.3 % of 100,000 texts" in Page(report_page(found)).words


def test_a_sample_is_told_as_one() -> None:
    found = findings(single(["bad", "good"], 200))
    assert "shown here" not in Page(report_page(found)).words
    sample = replace(found, metrics={**found.metrics, "examples": 20_000})
    assert "200 of 20,000 rows" in Page(report_page(sample)).words


def test_a_classifier_of_few_classes() -> None:
    output = single(["bad", "good"], 200)
    page = Page(report_page(findings(output)))
    truth, said = np.array(output.expected), np.array([p.argmax() for p in output.probabilities])
    assert f"{(truth == said).mean():.1%}".replace("%", " %") in page.words
    links = {a["href"] for a in page.all("a")}
    anchors = {f"#{part['id']}" for part in page.all("section") if part.get("id")}
    assert links == anchors, "every number of the matrix leads to its texts"
    assert len(links) == 4
    assert f"{((truth == 0) & (said == 1)).sum()}" in page.words
    assert "bothways classify '/models/a classifier' FILE" in page.words
    assert "TextClassifier.load('/models/a classifier')" in page.words


def test_hostile_texts_and_labels_stay_text() -> None:
    output = replace(single([HOSTILE, "good"], 60), known_scores=np.arange(60.0), threshold=50.0)
    found = replace(
        findings(output, texts=[HOSTILE] * 60),
        title=HOSTILE,
        path=HOSTILE,
        checks=[{"check": "x", "count": 1, "share": 0.1, "sentence": HOSTILE, "examples": [HOSTILE]}],
    )
    html = report_page(found)
    page = Page(html)
    assert [script.get("type") for script in page.all("script")] == ["application/json", None]
    assert not page.all("img")
    assert "alert(1)" in page.words
    assert not [a for _, attributes in page.tags for a in attributes if a.startswith("on") or a == "style"]
    assert "</script" not in script_json({"text": HOSTILE})
    assert json.loads(script_json({"text": HOSTILE})) == {"text": HOSTILE}


def test_a_page_asks_nothing_of_the_network_and_runs_only_its_own() -> None:
    html = report_page(findings(single(["bad", "good"], 50)))
    page = Page(html)
    (policy,) = [m["content"] for m in page.all("meta") if m.get("http-equiv") == "Content-Security-Policy"]
    assert policy is not None
    assert policy.startswith("default-src 'none'")
    (script,) = re.findall(r"<script>(.*?)</script>", html, re.DOTALL)
    (style,) = re.findall(r"<style>(.*?)</style>", html, re.DOTALL)
    assert digest(script) in policy
    assert digest(style) in policy
    assert not re.findall(r"https?:|url\(|@import", html)


@pytest.mark.parametrize("rows", [30, 5000])
def test_a_page_is_bounded(rows: int) -> None:
    """Many classes with long names, long texts, many outputs."""
    labels = [f"{index} " + "长标签" * 30 for index in range(300)]
    outputs = [single(labels, rows, seed) for seed in range(9)]
    named = []
    for index, one in enumerate(outputs):
        task = type(one.task)(replace(one.task.output, name=f"output {index}"))
        named.append(replace(one, task=task))
    html = report_page(findings(*named, texts=["文本<&>" * 2000] * rows))
    assert len(html.encode()) <= MOST_BYTES
    assert "more are not shown" in html


def test_many_classes_are_pairs_and_not_a_matrix() -> None:
    html = report_page(findings(single([f"class {i}" for i in range(40)], 400)))
    assert 'class="matrix"' not in html
    assert "The classes most confused" in html


def test_the_language_is_that_of_the_texts() -> None:
    output = single(["差", "好"], 20)
    assert '<html lang="zh-Hans">' in report_page(findings(output, texts=["屏幕很好"] * 20))
    assert '<html lang="en">' in report_page(findings(output))


def test_regression_multi_and_tags() -> None:
    numbers = OutputObservation(
        task=TASKS["regression"](OutputConfig(name="stars", kind="regression")),
        expected=[1.0, 2.0, float("nan"), 4.0],
        probabilities=np.array([[1.5], [2.0], [3.0], [2.0]], np.float32),
    )
    topics = OutputObservation(
        task=TASKS["multi"](OutputConfig(name="topics", kind="multi", labels=("film", "书"), thresholds=(0.3, 0.5))),
        expected=[np.array([1.0, 0.0]), np.array([0.0, 1.0]), np.array([1.0, 1.0]), np.array([0.0, 0.0])],
        probabilities=np.array([[0.4, 0.1], [0.1, 0.9], [0.9, 0.2], [0.2, 0.2]]),
    )
    labels = ("B-city", "I-city", "O")
    tags = OutputObservation(
        task=TASKS["tags"](OutputConfig(name="slots", kind="tags", labels=labels, reads="tokens")),
        expected=[np.array([0, 1]), None, np.array([2, 0]), np.array([2, 2])],
        probabilities=[np.eye(3)[[0, 1]], np.eye(3)[[0, 1]], np.eye(3)[[0, 0]], np.eye(3)[[2]]],
    )
    found = findings(numbers, topics, tags, texts=[["New", "York"], ["a", "b"], ["in", "Rome"], ["an", "end"]])
    page = Page(report_page(found))
    assert "Off by 0.833 on average on 3 texts" in page.words
    assert "All labels are right for 75.0 % of 4 texts" in page.words
    assert "Right for 66.7 % of the words of 3 texts; F1 over whole entities is 0.800." in page.words
    assert "in: O → in: B-city" in page.words
    assert "0.30" in page.words, "thresholds are shown"
    assert "engine.predict(texts)" in page.words


def test_calibration_none_of_these_and_intervals_are_told() -> None:
    output = replace(
        single(["bad", "good"], 101),
        known_scores=np.arange(101.0)[::-1],
        threshold=90.0,
        calibration={"temperature": 1.7, "before": 0.12, "after": 0.031, "bins": []},
    )
    found = findings(output)
    found.metrics["outputs"]["label"]["intervals"] = {"accuracy": [0.7, 0.9]}
    html = report_page(found)
    assert "3.1 % on average (expected calibration error), 12.0 % before" in html
    assert "each half of the rows with the temperature of the other half" in html
    assert "每一半数据都用另一半拟合的温度来测量" in html
    assert "(95 % interval 70.0 % to 90.0 %)" in html
    (data,) = re.findall(r'<script type="application/json"[^>]*>(.*?)</script>', html, re.DOTALL)
    steps, now = (json.loads(data)[key] for key in ("steps", "now"))
    assert steps[-1][:2] == [1.0, 100.0]
    assert steps[now][1] == pytest.approx(90.0, abs=0.6)
    right = np.array([p.argmax() for p in output.probabilities]) == np.array(output.expected)
    assert steps[-1][2] == pytest.approx(right.mean(), abs=1e-4)


def test_both_calibration_errors_are_one_where_nothing_was_calibrated() -> None:
    found = findings(single(["bad", "good"], 90))
    error = found.metrics["outputs"]["label"]["expected_calibration_error"]
    words = Page(report_page(found)).words
    assert f"off by {100 * error:.1f} % on average (expected calibration error)" in words
    assert f"{error:.3f}" in words


def test_a_model_that_was_not_evaluated_has_a_page() -> None:
    found = replace(findings(single(["a", "b"], 4)), texts=[], rows=[], outputs=())
    found = replace(found, metrics={"examples": 0, "outputs": {}})
    assert "It was not evaluated" in Page(report_page(found)).words


@pytest.mark.parametrize(
    ("low", "high", "expected"), [(0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1.0]), (0.83, 0.94, [0.85, 0.9]), (3, 3, [3])]
)
def test_ticks_are_round(low: float, high: float, expected: list[float]) -> None:
    assert ticks(low, high) == pytest.approx(expected)


def test_scales_and_lines() -> None:
    assert rounded_out(0.83, 0.94) == pytest.approx((0.8, 0.95))
    assert thinned([(i, 1.0) for i in range(1000)], 100)[-1] == (999, 1.0)
    words = Words("", "")
    assert lines({"loss": []}, caption=words, x_title=words, y_title=words) is None
    chart = lines({"loss": [(1, float("nan")), (2, 1.0)]}, caption=words, x_title=words, y_title=words)
    assert chart is not None
    assert "nan" not in chart.marks[0].path
    assert excerpt("a\n b" + "c" * 500, 10) == "a bcccccc…"


def test_a_browser_has_no_complaint(tmp_path: Path) -> None:
    """Opened in Chromium where there is one: nothing in the console, and the slider speaks."""
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        pytest.skip("there is no Chromium; the other tests parse the page")
    output = replace(single(["bad", "good"], 60), known_scores=np.arange(60.0), threshold=50.0)
    (tmp_path / "report.html").write_text(report_page(findings(output, texts=[HOSTILE] * 60)), "utf-8")
    flags = [browser, "--headless=new", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--dump-dom"]
    done = subprocess.run(
        [*flags, f"--user-data-dir={tmp_path / 'profile'}", f"file://{tmp_path / 'report.html'}"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "CONSOLE" not in done.stderr
    assert re.search(r'data-part="kept">\d+\.\d %<', done.stdout), "the slider tells what is kept"
