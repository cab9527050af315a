"""A report of a fine-tuning: one HTML page that says what a classifier is, how good it is, and where it errs."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bothways.evaluation.observation import Observation
from bothways.evaluation.page import Language, Words, excerpt, render
from bothways.evaluation.pictures import Chart, lines
from bothways.evaluation.sections import Excerpts, Section, section
from bothways.language import mostly_chinese
from bothways.progress import clock
from bothways.tasks.single import SingleLabel

MOST_BYTES = 300_000
ROOM = 120_000
"""Bytes of texts; if the page is too large nevertheless, half as many are tried, and so on."""
MOST_OUTPUTS = 8
"""A model may have a hundred outputs; so many have pictures, the others their figures."""
MOST_NAMED = 100
"""So many have their figures at the top."""
METRIC_NAMES = {
    "accuracy": Words("accuracy", "准确率"),
    "macro_f1": Words("macro F1", "宏平均 F1"),
    "micro_f1": Words("micro F1", "微平均 F1"),
    "weighted_f1": Words("weighted F1", "加权 F1"),
    "matthews_correlation": Words("Matthews correlation", "马修斯相关系数"),
    "expected_calibration_error": Words("expected calibration error", "期望校准误差"),
    "log_loss": Words("log loss", "对数损失"),
    "mean_absolute_error": Words("mean absolute error", "平均绝对误差"),
    "mean_squared_error": Words("mean squared error", "均方误差"),
    "pearson": Words("Pearson correlation", "皮尔逊相关"),
    "spearman": Words("Spearman correlation", "斯皮尔曼相关"),
    "precision": Words("precision", "精确率"),
    "recall": Words("recall", "召回率"),
    "f1": Words("F1", "F1"),
}


def report_page(findings: Observation) -> str:
    """The page, at most `MOST_BYTES` long: fewer texts are shown where labels or charts need the room."""
    language: Language = "zh" if mostly_chinese(findings.texts) else "en"
    room = ROOM
    while True:
        page = render(
            "report.html",
            language=language,
            title=Words(findings.title, findings.title),
            findings=findings,
            facts=facts(findings),
            sections=sections(findings, room),
            overview=overview(findings),
            chosen=chosen(findings.metrics),
            charts=curves(findings),
            commands=commands(findings),
            python=python(findings),
        )
        if len(page.encode()) <= MOST_BYTES or room < 1000:
            return page
        room //= 2


def sections(findings: Observation, room: int) -> list[Section]:
    """What each output has to show, the texts shared out equally."""
    found = []
    chosen = [output for output in findings.outputs if len(output.labelled)][:MOST_OUTPUTS]
    for number, output in enumerate(chosen):
        texts = Excerpts(findings, room // len(chosen))
        metrics = findings.metrics["outputs"].get(output.task.name, {})
        found.append(section(output.task, number, output, metrics, texts))
    return found


def facts(findings: Observation) -> list[tuple[Words, Words]]:
    """(name, value) of what it is and how it came to be."""
    metrics, training = findings.metrics, findings.metrics.get("training") or {}
    told = [(Words("encoder", "编码器"), same(excerpt(findings.encoder, 80)))]
    if training:
        told.append(
            (Words("trained on", "训练数据"), Words(f"{training['examples']:,} rows", f"{training['examples']:,} 行"))
        )
        told.append((Words("training took", "训练用时"), same(clock(training["seconds"]))))
        settings = training.get("settings") or {}
        if "epochs" in settings:
            times = settings["epochs"]
            told.append((Words("each row seen", "每行学习"), Words(f"{times} ×", f"{times} 遍")))
    if "evaluated_on" in metrics:
        told.append((Words("evaluated on", "评测数据"), same(excerpt(str(metrics["evaluated_on"]), 120))))
    if metrics.get("examples", 0) > len(findings.texts):
        shown, all_rows = f"{len(findings.texts):,}", f"{metrics['examples']:,}"
        sample = Words(f"{shown} of {all_rows} rows", f"{all_rows} 行中的 {shown} 行")
        told.append((Words("shown here", "此处展示"), sample))
    truncated = metrics.get("truncated")
    if truncated:
        share = f"{truncated:,} / {metrics['examples']:,}"
        told.append((Words("texts truncated", "被截断的文本"), same(share)))
    return told


def chosen(metrics: Mapping[str, Any]) -> Words | None:
    """That it is the best of several, and what the others were; None where there was one training."""
    if "search" in metrics:
        trials = len(metrics["search"]["trials"])
        return Words(
            f"The best of {trials:,} trials, chosen by the rows of these figures, so they are a little too good; rows "
            f"that have chosen nothing tell how good it is.",
            f"这是 {trials:,} 次尝试中最好的一次，而且正是由这些数据选出的，所以下面的数字略微偏高；"
            f"要知道真实效果，请在没有参与选择的数据上评测。",
        )
    if "seeds" not in metrics:
        return None
    seeds, means = metrics["seeds"], []
    for output, measured in list(seeds["outputs"].items())[:MOST_OUTPUTS]:
        metric = next((name for name in ("accuracy", "pearson") if name in measured), None)
        if metric:
            found = measured[metric]
            means.append(f"{output} {metric} {found['mean']:.3f} ± {found['deviation']:.3f}")
    told, number = "; ".join(means), len(seeds["seeds"])
    return Words(
        f"The best of {number:,} trainings, chosen by the rows of these figures; the mean of all, which the next "
        f"training can be expected to reach: {told}.",
        f"这是 {number:,} 次训练中最好的一次，由这些数据选出；全部训练的平均值，也就是再训练一次可以期望的结果："
        f"{told}。",
    )


def same(text: str) -> Words:
    """What is written alike in both languages."""
    return Words(text, text)


def overview(findings: Observation) -> list[tuple[str, list[tuple[Words, str, str]]]]:
    """(output, its metrics): each with a name that people know, and its interval where one was computed."""
    rows = []
    for name, measured in list(findings.metrics["outputs"].items())[:MOST_NAMED]:
        intervals = measured.get("intervals") or {}
        shown = []
        for key, value in measured.items():
            if isinstance(value, bool) or not isinstance(value, float):
                continue
            low, high = intervals.get(key) or (None, None)
            words = METRIC_NAMES.get(key) or same(key.replace("_", " "))
            shown.append((words, f"{value:.3f}", f"{low:.3f}–{high:.3f}" if low is not None else ""))
        rows.append((excerpt(name, 40), shown))
    return rows


def curves(findings: Observation) -> list[Chart]:
    """Losses over updates, and what was measured on held-out rows meanwhile."""
    updates = Words("updates", "更新次数")
    losses = lines(
        dict(list(findings.losses.items())[:MOST_OUTPUTS]),
        caption=Words("Training loss", "训练损失"),
        x_title=updates,
        y_title=Words("loss", "损失"),
    )
    followed = lines(
        {name.replace("_", " "): points for name, points in findings.followed.items()},
        caption=Words("After each epoch, on held-out rows: the best was kept", "每轮之后在留出数据上：保留最好的一轮"),
        x_title=updates,
        y_title=Words("metric", "指标"),
        shares=all(0 <= value <= 1 for points in findings.followed.values() for _, value in points),
    )
    return [chart for chart in (losses, followed) if chart is not None]


def commands(findings: Observation) -> list[tuple[Words, str]]:
    """(what it does, a line for a shell)."""
    path = shlex.quote(findings.path)
    return [
        (
            Words("Classify a table, or one text a line", "对表格分类，或每行一条文本"),
            f"bothways classify {path} FILE --out answers.jsonl",
        ),
        (
            Words("How good it is on another labelled table", "在另一张带标签的表格上评测"),
            f"bothways evaluate {path} FILE",
        ),
    ]


def python(findings: Observation) -> str:
    """Lines of Python that do the same: the estimator where the model is one, else the engine."""
    outputs = [output.task for output in findings.outputs]
    if len(outputs) == 1 and isinstance(outputs[0], SingleLabel):
        given = "[(first, second), …]" if findings.pairs is not None else "[text, …]"
        return (
            f"from bothways import TextClassifier\n\nclassifier = TextClassifier.load({findings.path!r})\n"
            f"classifier.predict({given})\nclassifier.predict_proba({given})"
        )
    return (
        "from bothways.inference.engine import Engine, load_classifier\n\n"
        f"engine = Engine(*load_classifier({findings.path!r}))\n"
        "for predictions in engine.predict(texts):\n"
        "    for task in engine.tasks:\n"
        "        print(task.name, task.probabilities(predictions))"
    )


def named(path: Any) -> str:
    """The whole path of a model directory, so that the lines of the page work from anywhere."""
    return str(Path(path).absolute())
