"""Pictures: from numbers to the marks of an SVG, which `templates/pictures.html` draws.

No plotting library: a chart is a frame, ticks, and marks that are strings of SVG paths. All have one width, so that
their letters have one size on a page, and colours are classes of the stylesheet, which knows light and dark.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from bothways.evaluation.page import Words
from bothways.tasks.statistics import BINS

WIDTH = 400
LEFT, RIGHT, TOP, BOTTOM = 58, 18, 12, 40
Points = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Mark:
    """A path and the class that says how it looks."""

    path: str
    look: str


@dataclass(frozen=True)
class Label:
    """A text at a place."""

    x: float
    y: float
    text: Words | str
    look: str = ""


@dataclass(frozen=True)
class Scale:
    """Values of an axis → places in the picture."""

    low: float
    high: float
    start: float
    end: float
    logarithmic: bool = False

    def __call__(self, value: float) -> float:
        low, high, value = (math.log(v) if self.logarithmic else v for v in (self.low, self.high, value))
        return round(self.start + (value - low) / ((high - low) or 1.0) * (self.end - self.start), 1)


@dataclass(frozen=True, kw_only=True)
class Chart:
    """What the macro `chart` draws."""

    caption: Words
    height: int
    x_title: Words
    y_title: Words
    x_ticks: list[Label]
    y_ticks: list[Label]
    marks: list[Mark]
    labels: list[Label] = field(default_factory=list)
    legend: list[tuple[str, Words | str]] = field(default_factory=list)
    """(look of the line, what it is)"""
    left: float = LEFT
    width: int = WIDTH
    right: float = WIDTH - RIGHT
    top: float = TOP

    @property
    def bottom(self) -> float:
        """Where the horizontal axis lies."""
        return self.height - BOTTOM


def ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Round numbers from `low` to `high`, `most` + 1 of them at most: steps of 1, 2 or 5 times a power of ten."""
    if not high > low:
        return [low]
    rough = (high - low) / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * (1 - 1e-9))
    first = math.ceil(low / step - 1e-9)
    return [round(index * step, 12) for index in range(first, math.floor(high / step + 1e-9) + 1)]


def rounded_out(low: float, high: float, most: int = 5) -> tuple[float, float]:
    """The limits of an axis that holds both numbers and ends on round ones."""
    if not high > low:
        low, high = low - (abs(low) or 1) / 2, high + (abs(high) or 1) / 2
    found = ticks(low, high, most)
    step = found[1] - found[0] if len(found) > 1 else high - low
    return math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step


def number(value: float) -> str:
    """A tick: 12,000, 0.5, 1e-05."""
    return f"{value:,.0f}" if value == int(value) and abs(value) < 1e7 else f"{value:.4g}"


def share(value: float) -> str:
    """A tick that is a share."""
    return f"{100 * value:.4g} %"


def path_of(places: Points) -> str:
    """A line through points."""
    return "M" + "L".join(f"{x:g} {y:g}" for x, y in places)


def dots_of(places: Points) -> str:
    """Points as lines of no length, which round ends make visible: some ten bytes each."""
    return "".join(f"M{x:g} {y:g}h0" for x, y in places)


def thinned(points: Points, most: int = 200) -> Points:
    """At most so many points, first and last among them: means of neighbours."""
    if len(points) <= most:
        return points
    edges = [round(i * len(points) / most) for i in range(most + 1)]
    groups = [points[a:b] for a, b in pairwise(edges)]
    return [(group[-1][0], math.fsum(y for _, y in group) / len(group)) for group in groups]


def lines(
    series: Mapping[str, Points],
    *,
    caption: Words,
    x_title: Words,
    y_title: Words,
    logarithmic: bool = False,
    shares: bool = False,
    names: Mapping[str, Words] | None = None,
    height: int = 250,
) -> Chart | None:
    """A line for each series of (x, y). `logarithmic`: the horizontal axis; `shares`: the vertical one is in percent.

    None where there is nothing to draw.
    """
    series = {name: thinned([p for p in points if math.isfinite(p[1])]) for name, points in series.items()}
    everything = [point for points in series.values() for point in points]
    if not everything:
        return None
    xs, ys = sorted({x for x, _ in everything}), [y for _, y in everything]
    low, high = rounded_out(min(ys) if shares else min(0.0, *ys), max(ys))
    x_low, x_high = (xs[0], xs[-1]) if logarithmic else (min(0.0, xs[0]), xs[-1])
    if logarithmic and x_low == x_high:
        x_low, x_high = x_low / 2, x_high * 2
    across = Scale(x_low, x_high, LEFT, WIDTH - RIGHT, logarithmic)
    up = Scale(low, high, height - BOTTOM, TOP)
    marks, legend = [], []
    for index, (name, points) in enumerate(series.items()):
        places = [(across(x), up(y)) for x, y in points]
        look = f"s{index % 8}"
        marks.append(Mark(path_of(places), f"line {look}"))
        if len(places) <= 12:
            marks.append(Mark(dots_of(places), f"dot {look}"))
        legend.append((look, (names or {}).get(name, name)))
    chosen = spaced(xs, across) if logarithmic else ticks(x_low, x_high)
    return Chart(
        caption=caption,
        height=height,
        x_title=x_title,
        y_title=y_title,
        x_ticks=[Label(across(x), height - BOTTOM, number(x)) for x in chosen],
        y_ticks=[Label(LEFT, up(y), share(y) if shares else number(y)) for y in ticks(low, high)],
        marks=marks,
        legend=legend if len(legend) > 1 else [],
    )


def spaced(values: Sequence[float], across: Scale, apart: float = 44) -> list[float]:
    """Those of some values whose labels have room, the last one always."""
    chosen: list[float] = []
    for value in reversed(values):
        if not chosen or across(chosen[-1]) - across(value) >= apart:
            chosen.append(value)
    return chosen[::-1]


def reliability(bins: Sequence[Mapping[str, float]]) -> Chart:
    """How often answers of each confidence are right (arXiv 1706.04599, figure 1). `bins`: confidence, accuracy and
    examples of each; the wider a bar is, the more examples it has."""
    height = 290
    across, up = Scale(0, 1, LEFT, WIDTH - RIGHT), Scale(0, 1, height - BOTTOM, TOP)
    full = [one for one in bins if one["examples"]]
    most = max((one["examples"] for one in full), default=1)
    room = (across(1) - across(0)) / BINS
    marks = [Mark(path_of([(across(0), up(0)), (across(1), up(1))]), "ideal")]
    for one in full:
        x, y, base = across(one["confidence"]), up(one["accuracy"]), up(0)
        half = max(1.5, room * 0.46 * math.sqrt(one["examples"] / most))
        marks.append(Mark(f"M{x - half:.1f} {base:g}V{y:g}h{2 * half:.1f}V{base:g}z", "bar"))
    marks.append(Mark(dots_of([(across(one["confidence"]), up(one["accuracy"])) for one in full]), "dot s0"))
    at = [0, 0.2, 0.4, 0.6, 0.8, 1]
    return Chart(
        caption=Words("How often it is right, by how sure it is", "把握程度与正确率"),
        height=height,
        x_title=Words("probability of its answer", "所答类别的概率"),
        y_title=Words("answers right", "答对的比例"),
        x_ticks=[Label(across(x), height - BOTTOM, share(x)) for x in at],
        y_ticks=[Label(LEFT, up(y), share(y)) for y in at],
        marks=marks,
    )


def scatter(points: Points, *, caption: Words, x_title: Words, y_title: Words) -> Chart:
    """Expected against predicted numbers on one scale, with the line on which they are equal."""
    height = 330
    values = [value for point in points for value in point]
    low, high = rounded_out(min(values), max(values), 8)
    across, up = Scale(low, high, LEFT, WIDTH - RIGHT), Scale(low, high, height - BOTTOM, TOP)
    at = ticks(low, high, 8)
    return Chart(
        caption=caption,
        height=height,
        x_title=x_title,
        y_title=y_title,
        x_ticks=[Label(across(x), height - BOTTOM, number(x)) for x in at],
        y_ticks=[Label(LEFT, up(y), number(y)) for y in at],
        marks=[
            Mark(path_of([(across(low), up(low)), (across(high), up(high))]), "ideal"),
            Mark(dots_of([(across(x), up(y)) for x, y in points]), "dot faint s0"),
        ],
    )


def intervals(
    rows: Sequence[tuple[Words, float, float, float]],
    *,
    caption: Words,
    x_title: Words,
    logarithmic: bool = False,
    tick: Callable[[float], str] = share,
    value: Callable[[float], str] = lambda value: f"{100 * value:.1f} %",
) -> Chart:
    """A line for each (name, value, low, high): a dot in its interval, names above, so that long ones have room.

    `tick`, `value`: how a number is written at the axis, and at the end of a line.
    """
    step, left = 34, 24
    height = TOP + step * len(rows) + 8 + BOTTOM
    lowest, highest = min(row[2] for row in rows), max(row[3] for row in rows)
    low, high = powers_out(lowest, highest) if logarithmic else rounded_out(lowest, highest)
    across = Scale(low, high, left, WIDTH - RIGHT, logarithmic)
    marks, labels = [], []
    for index, (name, middle, least, most) in enumerate(rows):
        y = TOP + step * index + 24
        if most > least:
            marks.append(Mark(path_of([(across(least), y), (across(most), y)]), "interval"))
        marks.append(Mark(dots_of([(across(middle), y)]), "dot big s0"))
        labels.append(Label(left, y - 10, name, "name"))
        labels.append(Label(WIDTH - RIGHT, y - 10, value(middle), "value"))
    return Chart(
        caption=caption,
        height=height,
        x_title=x_title,
        y_title=Words("", ""),
        x_ticks=[Label(across(x), height - BOTTOM, tick(x)) for x in (powers if logarithmic else ticks)(low, high)],
        y_ticks=[],
        marks=marks,
        labels=labels,
        left=left,
    )


def powers_out(low: float, high: float) -> tuple[float, float]:
    """The limits of a logarithmic axis that holds both numbers: powers of ten."""
    least = math.floor(math.log10(low))
    return 10.0**least, 10.0 ** max(least + 1, math.ceil(math.log10(high)))


def powers(low: float, high: float) -> list[float]:
    """The powers of ten from one to another."""
    return [10.0**power for power in range(round(math.log10(low)), round(math.log10(high)) + 1)]
