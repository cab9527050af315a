"""What `bothways explain` does: a model and a text → what is shown and what is written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from bothways.errors import InputError
from bothways.explanation import show
from bothways.explanation.config import ExplainConfig, MethodName
from bothways.explanation.examples import Examples
from bothways.explanation.explain import Method, explain
from bothways.explanation.gradients import IntegratedGradients, require_captum
from bothways.explanation.inside import look_inside
from bothways.explanation.leave_out import LeaveOneOut
from bothways.explanation.masked_words import predict_masked
from bothways.explanation.result import Explanation
from bothways.explanation.words import read
from bothways.formats.hub import locate
from bothways.formats.reading import load_model
from bothways.inference.engine import Engine, load_classifier
from bothways.model.bert import Bert

if TYPE_CHECKING:
    from rich.console import Console

NEAREST = 3
"""So many training rows are shown where nothing else is asked for."""


@dataclass(frozen=True)
class Told:
    """What is told of a text."""

    content: dict[str, Any]
    """As JSON."""
    show: Callable[[Console], None]
    """Shows it to a person."""
    notes: list[str] = field(default_factory=list)
    """What a person should know besides."""


def explain_text(model: str, text: str, pair: str | None = None, *, config: ExplainConfig = ExplainConfig()) -> Told:
    """Explain what a model directory says of one text, or of a pair.

    Raises InputError for a model that cannot be read or lacks what the method needs, and for names that it does not
    have.
    """
    return METHODS[config.method](model, text, pair, config)


def by_words(model: str, text: str, pair: str | None, config: ExplainConfig) -> Told:
    """Leave-one-word-out."""
    bert, tokenizer = load_classifier(model)
    return contributions(LeaveOneOut(Engine(bert, tokenizer)), model, text, pair, config)


def by_gradients(model: str, text: str, pair: str | None, config: ExplainConfig) -> Told:
    """Integrated gradients."""
    require_captum()  # before the model is read
    bert, tokenizer = load_classifier(model)
    return contributions(IntegratedGradients(bert, Engine(bert, tokenizer)), model, text, pair, config)


def contributions(method: Method, model: str, text: str, pair: str | None, config: ExplainConfig) -> Told:
    """What each word contributes, and the nearest training rows if they were kept."""
    engine = method.engine
    found = explain(method, text, pair, output=config.output, label=config.label)
    number = NEAREST if config.nearest is None else config.nearest
    examples = Examples.load(locate(model), engine) if number else None
    nearest = [] if examples is None else examples.nearest(read(engine, text, pair).encoding, number)

    def shown(console: Console) -> None:
        show.show_explanation(found, console)
        show.show_neighbours(nearest, console)

    content = found.as_json() | ({} if examples is None else {"nearest": [row.as_json() for row in nearest]})
    others = [task.name for task in engine.tasks if task.name != found.output]
    notes = notes_on(found, [] if config.output else others)
    if config.nearest and examples is None:  # who did not ask for them misses nothing
        notes.append("This model has kept none of its training rows; finetune --keep-examples keeps them.")
    return Told(content, shown, notes)


def notes_on(found: Explanation, others: list[str]) -> list[str]:
    """What to know of an explanation. `others`: outputs of the model that were not asked for."""
    notes = []
    if not found.words:
        notes.append("The text has no words, so there is nothing to explain.")
    if found.truncated:
        notes.append(f"The text is longer than the model reads: {found.unread:,} of its words were not looked at.")
    if found.together > 1:
        notes.append(f"The text is long, so {found.together} words that stand together were left out at a time.")
    gaps = [each.completeness for each in found.explained if each.completeness is not None]
    if gaps:
        worst = max(gaps, key=lambda each: each.gap)
        notes.append(
            f"Contributions add up to {worst.sum:+.3f}; the {found.unit} of the text less that of [MASK] in place of "
            f"every word is {worst.difference:+.3f} ({worst.steps} steps)."
        )
    if others:
        notes.append(f"This explains output {found.output!r}; --output names another: {', '.join(others)}.")
    return notes


def by_attention(model: str, text: str, pair: str | None, config: ExplainConfig) -> Told:
    """Attention and the parts of each embedding: how it works, not why."""
    inside = look_inside(*load_encoder(model, config)[:2], text, pair)
    notes = ["This is how the model works; where attention looks is not the reason for what it decides."]
    if inside.truncated:
        notes.append(f"The text is long; its first {len(inside.tokens)} tokens are shown.")
    return Told(inside.as_json(), lambda console: show.show_inside(inside, console), notes)


def by_masking(model: str, text: str, pair: str | None, config: ExplainConfig) -> Told:
    """What the encoder would read where a word is hidden."""
    if pair is not None:
        raise InputError("Masked words are those of one text; leave out --pair.")
    guesses = predict_masked(*load_encoder(model, config)[:2], text, config.top)
    content = {"text": text, "method": "masked", "guesses": [guess.as_json() for guess in guesses]}
    return Told(content, lambda console: show.show_guesses(guesses, console))


def load_encoder(model: str, config: ExplainConfig) -> tuple[Bert, Any, Any]:
    """A model with or without output layers that classify. InputError for settings that are about those."""
    for name in ("output", "label", "nearest"):
        if getattr(config, name) is not None:
            raise InputError(f"--{name} belongs to --method words and gradients; leave it out with {config.method}.")
    return load_model(locate(model))


METHODS: dict[MethodName, Callable[[str, str, str | None, ExplainConfig], Told]] = {
    "words": by_words,
    "gradients": by_gradients,
    "attention": by_attention,
    "masked": by_masking,
}
