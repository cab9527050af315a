"""Explanations in a terminal: words in colour, and the same as signed numbers for where there is none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from bothways.explanation.result import Explained, Explanation, Neighbour

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text as RichText

    from bothways.explanation.inside import Inside
    from bothways.explanation.masked_words import Guess

FOR, AGAINST = (31, 119, 200), (214, 110, 0)
"""Blue and orange, which colour-blind people tell apart, too."""
STRONGEST = 10
"""Words in the table of an explanation."""
BAR = 20
"""Characters of the longest bar."""


def show_explanation(explanation: Explanation, console: Console) -> None:
    """The text with its words in colour, and the words that contribute most."""
    if any(each.word is not None for each in explanation.explained):
        show_tags(explanation, console)
        return
    for each in explanation.explained:
        score = f"{each.score:.4g}" if each.label is None else f"{printable(each.label)}  {each.score:.1%}"
        known = "  (the text is of none of the classes)" if explanation.known is False else ""
        console.print(f"{printable(explanation.output)}: {score}{known}", markup=False, style="bold")
        console.print(coloured(explanation, each))
        show_strongest(explanation, each, console)


def show_strongest(explanation: Explanation, each: Explained, console: Console) -> None:
    """The words that contribute most, as a table."""
    from rich.table import Table
    from rich.text import Text as RichText

    without = each.scores_without
    table = Table("word", explanation.unit, "for +, against -", *["score without it"] * (without is not None))
    strongest = each.strongest(STRONGEST)
    largest = max((abs(each.contributions[i] or 0.0) for i in strongest), default=0.0)
    for i in strongest:
        value = each.contributions[i] or 0.0
        bar = ("+" if value > 0 else "-") * round(BAR * abs(value) / largest if largest else 0)
        cells: list[str | RichText] = [
            RichText(printable(explanation.words[i].text)),
            f"{value:+.3f}",
            RichText(bar, rgb(value)),
        ]
        if without is not None:
            cells.append(f"{without[i]:.4g}")
        table.add_row(*cells)
    if strongest:
        console.print(table)


def show_tags(explanation: Explanation, console: Console) -> None:
    """Each word with its tag and the words that contribute most to it."""
    from rich.markup import escape
    from rich.table import Table
    from rich.text import Text as RichText

    strongest = f"the words that contribute most, in {explanation.unit}"
    table = Table("word", escape(printable(explanation.output)), "score", strongest)
    for each in explanation.explained:
        assert each.word is not None
        reasons = (
            f"{printable(explanation.words[i].text)} {each.contributions[i] or 0.0:+.2f}" for i in each.strongest(3)
        )
        cells = (printable(explanation.words[each.word].text), printable(each.label or ""))
        table.add_row(*map(RichText, (*cells, f"{each.score:.2f}", ", ".join(reasons))))
    console.print(table)


def coloured(explanation: Explanation, each: Explained) -> RichText:
    """The text, and below it the other of a pair: the darker the more a word contributes, blue for, orange against."""
    from rich.text import Text as RichText

    largest = max((abs(value) for value in each.contributions if value is not None), default=0.0)
    shown = RichText()
    for of, text in (("text", explanation.text), ("pair", explanation.pair)):
        if text is None:
            continue
        at = 0
        for word, value in zip(explanation.words, each.contributions, strict=True):
            if word.of != of:
                continue
            shown.append(printable(text[at : word.start]))
            strength = abs(value) / largest if value is not None and largest else 0.0
            shown.append(printable(text[word.start : word.end]), background(value or 0.0, strength))
            at = word.end
        shown.append(printable(text[at:]) + "\n")
    return shown


def background(value: float, strength: float) -> str:
    """The style of a word; the weakest have none, so that the others stand out."""
    if strength < 0.1:
        return ""
    red, green, blue = (round(255 + (c - 255) * (0.15 + 0.85 * strength)) for c in (FOR if value > 0 else AGAINST))
    return f"{'white' if strength > 0.6 else 'black'} on rgb({red},{green},{blue})"


def rgb(value: float) -> str:
    """The colour of a number."""
    return "rgb({},{},{})".format(*(FOR if value > 0 else AGAINST))


def show_neighbours(neighbours: Sequence[Neighbour], console: Console) -> None:
    """The nearest training rows."""
    from rich.markup import escape
    from rich.table import Table
    from rich.text import Text as RichText

    if not neighbours:
        return
    outputs = (escape(printable(name)) for name in neighbours[0].outputs)
    table = Table("row", "alike", *outputs, "nearest training rows")
    for each in neighbours:
        text = each.text if each.pair is None else f"{each.text} | {each.pair}"
        said = (printable(value or "") for value in each.outputs.values())
        table.add_row(*map(RichText, (str(each.row), f"{each.similarity:.3f}", *said, printable(text))))
    console.print(table)


def show_inside(inside: Inside, console: Console) -> None:
    """Of each token the norms of its embedding's parts, and how much attention it gets in each layer."""
    from rich.table import Table
    from rich.text import Text as RichText

    layers = range(1, len(inside.attention) + 1)
    title = "length of each embedding's parts and of their sum; attention that a token gets, by layer"
    table = Table("", *inside.norms, *map(str, layers), title=title)
    for i, token in enumerate(inside.tokens):
        norms = (f"{norms[i]:.2f}" for norms in inside.norms.values())
        table.add_row(RichText(token), *norms, *(f"{share:.1%}" for share in inside.received[:, i]))
    console.print(table)


def show_guesses(guesses: Sequence[Guess], console: Console) -> None:
    """What may stand at each place."""
    from rich.table import Table
    from rich.text import Text as RichText

    table = Table("word", "token", "its probability", "the likeliest")
    for guess in guesses:
        own = "" if guess.probability is None else f"{guess.probability:.1%}"
        best = ", ".join(f"{t} {p:.1%}" for t, p in zip(guess.tokens, guess.probabilities, strict=True))
        table.add_row(*map(RichText, (printable(guess.word.text), guess.token, own, best)))
    console.print(table)


def printable(text: str) -> str:
    """A text without characters that would steer the terminal."""
    return "".join(c if c.isprintable() or c in "\n\t" else "�" for c in text)
