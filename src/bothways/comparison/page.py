"""What was found, on a page and on a screen."""

from __future__ import annotations

from collections.abc import Sequence

from bothways.comparison.advice import as_good, difference, ranked
from bothways.comparison.comparison import Comparison
from bothways.comparison.measure import Measured
from bothways.evaluation.page import Language, Words, percent, render
from bothways.evaluation.pictures import Chart, intervals, lines
from bothways.language import mostly_chinese
from bothways.progress import clock, size
from bothways.tokenizer import Text

FAR = 0.25
"""A method this far below the best is in the table, not in the pictures."""
HEADER = [
    Words("method", "方法"),
    Words("accuracy", "准确率"),
    Words("95 % interval", "95% 区间"),
    Words("macro F1", "宏平均 F1"),
    Words("vs. best", "与最好者比"),
    Words("training", "训练用时"),
    Words("texts/s", "文本/秒"),
    Words("parameters", "参数量"),
    Words("on disk", "磁盘占用"),
]


def table(found: Comparison) -> list[list[Words]]:
    """The cells below `HEADER`, the best method first, what failed last."""
    order = ranked(found.results)
    failed = [one for one in found.results if not one.done]
    return [cells(one, order[0]) for one in order] + [[one.title, *[same("–")] * (len(HEADER) - 1)] for one in failed]


def cells(one: Measured, best: Measured) -> list[Words]:
    """A method's line."""
    assert one.accuracy is not None
    assert one.macro_f1 is not None
    low, high = one.accuracy_interval or (one.accuracy, one.accuracy)
    spread = f" ± {100 * deviation(one.seeds):.1f}" if len(one.seeds) > 1 else ""
    return [
        one.title,
        same(percent(one.accuracy) + spread),
        same(f"{100 * low:.1f}–{100 * high:.1f}"),
        same(f"{one.macro_f1:.3f}"),
        against(one, best),
        same("–" if one.fit_seconds is None else seconds(one.fit_seconds)),
        same("–" if one.texts_per_second is None else counted(round(one.texts_per_second))),
        same("–" if one.parameters is None else counted(one.parameters)),
        same("–" if one.bytes is None else size(one.bytes)),
    ]


def against(one: Measured, best: Measured) -> Words:
    """How it stands to the best method."""
    if one is best:
        return Words("best", "最好")
    if as_good(one, best):
        return Words("as good", "一样好")
    points = 100 * difference(one, best)[0]
    return same(f"{'+' if points > 0 else '−'}{abs(points):.1f}")


def same(text: str) -> Words:
    """What is written alike in both languages."""
    return Words(text, text)


def deviation(values: Sequence[float]) -> float:
    """Standard deviation of a sample."""
    mean = sum(values) / len(values)
    return float((sum((value - mean) ** 2 for value in values) / (len(values) - 1)) ** 0.5)


def seconds(taken: float) -> str:
    """Seconds as people say them: 0.3 s, 12 s, 4:05."""
    return clock(taken) if taken >= 100 else f"{taken:.0f} s" if taken >= 10 else f"{taken:.1f} s"


def counted(number: int) -> str:
    """A large number in few characters: 9,831, 12.4 k, 11.2 M."""
    if number < 10_000:
        return f"{number:,}"
    unit, size_of_unit = ("M", 1e6) if number >= 1e6 else ("k", 1e3)
    value = number / size_of_unit
    return f"{value:.3g} {unit}" if value < 1000 else f"{value:,.0f} {unit}"


def charts(found: Comparison) -> list[Chart]:
    """Accuracy, speed and the learning curves of methods not far below the best: others would press all that is worth
    seeing into a corner."""
    order = ranked(found.results)
    near = [one for one in order if (one.accuracy or 0) >= (order[0].accuracy or 0) - FAR]
    drawn = (accuracies(near, found.test_rows, all_of_them=len(near) == len(order)), speeds(near), curves(near))
    return [chart for chart in drawn if chart is not None]


def accuracies(methods: Sequence[Measured], test_rows: int, *, all_of_them: bool) -> Chart | None:
    """How often each method is right."""
    within = f"{100 * FAR:.0f}"
    some = Words(f"; methods within {within} points of the best", f"；与最好者相差 {within} 个百分点以内的方法")
    en, zh = ("", "") if all_of_them else some
    rows = [(one.title, one.accuracy or 0.0, *one.accuracy_interval) for one in methods if one.accuracy_interval]
    if not rows:
        return None
    return intervals(
        rows,
        caption=Words(
            f"Accuracy on {test_rows:,} test texts, with 95 % intervals{en}",
            f"{test_rows:,} 条测试文本上的准确率及 95% 区间{zh}",
        ),
        x_title=Words("accuracy", "准确率"),
    )


def speeds(methods: Sequence[Measured]) -> Chart | None:
    """How many texts each method classifies in a second."""
    rows = [(one.title, speed, speed, speed) for one in methods if (speed := one.texts_per_second)]
    if not rows:
        return None
    return intervals(
        rows,
        caption=Words("Texts a second on this machine; each step is ten times", "本机每秒处理的文本数；每格为十倍"),
        x_title=Words("texts a second", "文本/秒"),
        logarithmic=True,
        tick=lambda speed: counted(round(speed)),
        value=lambda speed: counted(round(speed)),
    )


def curves(methods: Sequence[Measured]) -> Chart | None:
    """How accuracy grows with the rows."""
    return lines(
        {one.method: one.curve for one in methods if one.curve},
        caption=Words("What more rows bring", "更多数据带来的提升"),
        x_title=Words("training rows", "训练行数"),
        y_title=Words("accuracy", "准确率"),
        logarithmic=True,
        shares=True,
        names={one.method: one.title for one in methods},
        height=320,
    )


def comparison_page(found: Comparison, texts: Sequence[Text]) -> str:
    """The page; it opens in the language of the texts."""
    language: Language = "zh" if mostly_chinese(texts) else "en"
    return render(
        "comparison.html",
        language=language,
        title=Words("Methods compared", "方法比较"),
        found=found,
        header=HEADER,
        rows=table(found),
        order=[*ranked(found.results), *(one for one in found.results if not one.done)],
        charts=charts(found),
        failed=[one for one in found.results if one.error],
    )


NARROW, NOT_IN_NARROW = 120, ("95 % interval", "parameters")
"""A screen narrower than this many letters has no room for these columns."""


def show(found: Comparison) -> None:
    """The table and the advice on standard output."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console()
    if not console.is_terminal:
        console = Console(width=NARROW)
    left_out = NOT_IN_NARROW if console.width < NARROW else ()
    shown = [index for index, name in enumerate(HEADER) if name.en not in left_out]
    screen = Table(title=f"{found.train_rows:,} training rows, {found.test_rows:,} test rows")
    for index in shown:
        screen.add_column(
            HEADER[index].en, justify="right" if index else "left", no_wrap=index > 0, min_width=0 if index else 20
        )
    for row in table(found):
        screen.add_row(*(escape(row[index].en) for index in shown))
    console.print(screen)
    for one in found.results:
        if one.error:
            console.print(f"{one.title.en}: {one.error}", markup=False)
    console.print(found.advice.en, markup=False)
