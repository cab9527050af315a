"""One sentence of advice, computed: which method to take for these rows, and why."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from bothways.comparison.measure import Measured
from bothways.evaluation.page import Words
from bothways.evaluation.significance import Interval, difference_interval
from bothways.tasks.statistics import NORMAL_975

WORTH_SAYING = 1.5
"""A method that is less than this much faster is not said to be faster."""
NEARLY_ALL = 0.995
"""Two methods that are right so often need no more rows."""
BETWEEN_SCRIPTS = re.compile(r"(?<=[\u4e00-\u9fff])(?=[A-Za-z])|(?<=[A-Za-z])(?=[\u4e00-\u9fff])")
"""Where Chinese and Latin letters meet, Chinese is written with a space."""


def difference(first: Measured, second: Measured) -> tuple[float, Interval]:
    """How much more often the first is right, with its 95 % interval: by the paired bootstrap over test rows, and as
    much wider as the means of several seeds are uncertain."""
    assert first.right is not None
    assert second.right is not None
    mean = float(np.mean(first.right - second.right))
    low, high = difference_interval(first.right, second.right)
    of_seeds = NORMAL_975 * float(np.sqrt(sum(variance_of_mean(one.seeds) for one in (first, second))))
    return mean, (mean - float(np.hypot(mean - low, of_seeds)), mean + float(np.hypot(high - mean, of_seeds)))


def variance_of_mean(values: Sequence[float]) -> float:
    """How uncertain the mean of some values is; 0 of one value, which does not tell."""
    return float(np.var(values, ddof=1)) / len(values) if len(values) > 1 else 0.0


def as_good(first: Measured, second: Measured) -> bool:
    """Whether these rows cannot tell two methods apart: the interval of their difference holds 0."""
    _, (low, high) = difference(first, second)
    return low <= 0 <= high


def ranked(results: Sequence[Measured]) -> list[Measured]:
    """Those that have answered, the best first, of equals the faster; see `Measured.ranked_by`."""
    done = [one for one in results if one.done]
    return sorted(done, key=lambda one: (-one.ranked_by, one.fit_seconds))


def advise(results: Sequence[Measured], rows: int) -> Words:
    """Which to take. `rows`: how many they have learned from."""
    said = sentences(results, rows)
    return Words(said.en, BETWEEN_SCRIPTS.sub(" ", said.zh))


def sentences(results: Sequence[Measured], rows: int) -> Words:
    """`advise`, before Chinese is parted from what is not."""
    order = ranked(results)
    if not order:
        return Words("No method came to an end; see why in the table.", "没有任何方法完成；原因见表格。")
    best = order[0]
    if len(order) == 1:
        return Words(
            f"On these {rows:,} rows {best.title.en} is right on {shown(best)}; there is nothing to set it against.",
            f"在这 {rows:,} 行数据上，{best.title.zh}答对 {shown(best)}；没有其他方法可比。",
        )
    if better := above(order):
        return contradicted(best, max(better, key=lambda one: one.accuracy or 0.0), rows)
    quickest = quickest_equal(order)
    compared = best_first(best, quickest, rows) if quickest is not best else alone(best, order[1], rows)
    other = quickest if quickest is not best else order[1]
    return joined(compared, growth(best, other))


def advised(results: Sequence[Measured]) -> Measured | None:
    """The method that `advise` says to take; None where it names none."""
    order = ranked(results)
    return quickest_equal(order) if order and not above(order) else None


def above(order: Sequence[Measured]) -> list[Measured]:
    """Those that are better on the test rows than the first of `order`, which dev rows have ranked."""
    return [one for one in order[1:] if difference(one, order[0])[1][0] > 0]


def quickest_equal(order: Sequence[Measured]) -> Measured:
    """Of those as good as the first of `order`, the quickest to train."""
    equals = [one for one in order if one is order[0] or as_good(order[0], one)]
    return min(equals, key=lambda one: one.fit_seconds or 0.0)


def best_first(best: Measured, quickest: Measured, rows: int) -> Words:
    """A quicker method that is as good."""
    times = (best.fit_seconds or 0.0) / max(1e-9, quickest.fit_seconds or 0.0)
    fast = times >= WORTH_SAYING
    return Words(
        f"On these {rows:,} rows {quickest.title.en} is as good as {best.title.en} ({shown(quickest)} against "
        f"{shown(best)}, within the noise)" + (f" and {few(times)} times as fast to train." if fast else "."),
        f"在这 {rows:,} 行数据上，{quickest.title.zh}与{best.title.zh}一样好（{shown(quickest)} 对 {shown(best)}，"
        f"差别在噪声之内）" + (f"，训练速度是其 {few(times)} 倍。" if fast else "。"),
    )


def alone(best: Measured, second: Measured, rows: int) -> Words:
    """The best is the quickest of its equals, or has none."""
    mean, (low, high) = difference(best, second)
    points, span = f"{100 * mean:.1f}", (f"{100 * low:.1f}", f"{100 * high:.1f}")
    if low <= 0:
        longer = (second.fit_seconds or 0.0) / max(1e-9, best.fit_seconds or 0.0)
        slower = longer >= WORTH_SAYING
        return Words(
            f"On these {rows:,} rows take {best.title.en}: right on {shown(best)}; {second.title.en} is as good within "
            f"the noise ({shown(second)}) "
            + (f"but takes {few(longer)} times as long to train." if slower else "but no quicker to train."),
            f"在这 {rows:,} 行数据上，请用{best.title.zh}：答对 {shown(best)}；{second.title.zh}在噪声之内一样好"
            f"（{shown(second)}），" + (f"但训练时间是其 {few(longer)} 倍。" if slower else "但训练并不更快。"),
        )
    times = (best.fit_seconds or 0.0) / max(1e-9, second.fit_seconds or 0.0)
    slow = times >= WORTH_SAYING
    return Words(
        f"On these {rows:,} rows {best.title.en} is best: right on {shown(best)}, {points} points above "
        f"{second.title.en} (95 % interval {span[0]} to {span[1]})"
        + (f"; it takes {few(times)} times as long to train." if slow else "."),
        f"在这 {rows:,} 行数据上，{best.title.zh}最好：答对 {shown(best)}，比{second.title.zh}高 {points} 个百分点"
        f"（95% 区间 {span[0]} 至 {span[1]}）" + (f"；训练时间是其 {few(times)} 倍。" if slow else "。"),
    )


def contradicted(best: Measured, better: Measured, rows: int) -> Words:
    """The dev rows rank one method first, the test rows another."""
    mean, (low, high) = difference(better, best)
    points, span = f"{100 * mean:.1f}", (f"{100 * low:.1f}", f"{100 * high:.1f}")
    return Words(
        f"On these {rows:,} rows the dev rows put {best.title.en} first, but on the test rows {better.title.en} is "
        f"right on {shown(better)}, {points} points above its {shown(best)} (95 % interval {span[0]} to {span[1]}): "
        f"trust the larger of the two tables.",
        f"在这 {rows:,} 行数据上，验证数据把{best.title.zh}排在第一，但在测试数据上{better.title.zh}答对 "
        f"{shown(better)}，比前者的 {shown(best)} 高 {points} 个百分点（95% 区间 {span[0]} 至 {span[1]}）："
        f"请以两张表中较大的为准。",
    )


def growth(first: Measured, second: Measured) -> Words | None:
    """Which of two methods more rows would help, by the last step of their learning curves."""
    curves = [dict(one.curve) for one in (first, second)]
    sizes = sorted(curves[0].keys() & curves[1].keys())[-2:]
    if len(sizes) < 2 or min(curve[sizes[1]] for curve in curves) > NEARLY_ALL:
        return None
    gains = [curve[sizes[1]] - curve[sizes[0]] for curve in curves]
    assert first.right is not None
    share = min(NEARLY_ALL, max(curve[sizes[1]] for curve in curves))
    noise = NORMAL_975 * float(np.sqrt(share * (1 - share) / len(first.right)))  # of one accuracy on the test rows
    span = Words(f"from {sizes[0]:,} to {sizes[1]:,} rows", f"从 {sizes[0]:,} 行到 {sizes[1]:,} 行")
    if max(gains) < noise:
        return Words(
            f"More rows would hardly help: {span.en} neither rose beyond the noise.",
            f"更多数据帮助不大：{span.zh}，两者的上升都没有超出噪声。",
        )
    if abs(gains[0] - gains[1]) < noise:
        both = moved(float(np.mean(gains)))
        return Words(
            f"More rows would help both alike: {span.en} each {both.en}.",
            f"更多数据对两者的帮助相当：{span.zh}，各{both.zh}。",
        )
    more, less = (first, second) if gains[0] > gains[1] else (second, first)
    most, least = moved(max(gains)), moved(min(gains))
    return Words(
        f"More rows would help {more.title.en} more: {span.en} it {most.en}, {less.title.en} {least.en}.",
        f"更多数据对{more.title.zh}帮助更大：{span.zh}，它{most.zh}，{less.title.zh}{least.zh}。",
    )


def moved(gain: float) -> Words:
    """How an accuracy changed."""
    points, up = f"{100 * abs(gain):.1f}", gain >= 0
    return Words(f"{'rose' if up else 'fell'} by {points} points", f"{'上升' if up else '下降'} {points} 个百分点")


def joined(first: Words, second: Words | None) -> Words:
    """Two sentences, or one."""
    return first if second is None else Words(f"{first.en} {second.en}", first.zh + second.zh)


def shown(one: Measured) -> str:
    """Its accuracy."""
    assert one.accuracy is not None
    return f"{100 * one.accuracy:.1f} %"


def few(times: float) -> str:
    """How many times, in two digits."""
    return f"{times:.1f}" if times < 10 else f"{float(f'{times:.2g}'):,.0f}"
