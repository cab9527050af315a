"""What several verbs share."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from bothways.errors import InputError
from bothways.terminal import in_one_sentence

if TYPE_CHECKING:
    from bothways.inference.engine import Engine
    from bothways.tables.table import Columns

NumberFormat = Literal["fp32", "bf16", "int16", "int8"]
"""As `hardware.NumberFormat`, which comes with torch."""


class ToldInOneSentence:
    """Settings check themselves when they are made, which tyro does; it would put the error into a box of its own."""

    def __post_init__(self) -> None:
        with in_one_sentence():
            super().__post_init__()  # type: ignore[misc]


def require(inputs: tuple[str, ...], what: str) -> None:
    if not inputs:
        raise InputError(f"Name one {what} at least.")


def declared_columns(text: str, text_pair: str | None, label: str | None, output: tuple[str, ...]) -> Columns:
    """The columns that the flags name; `--label COLUMN` and `--output …` add up."""
    from bothways.tables.table import Columns, LabelColumn

    labels = [LabelColumn.parse(text) for text in output]
    if label is not None or not labels:
        labels.insert(0, LabelColumn(output=label or "label", column=label or "label"))
    return Columns(text=text, text_pair=text_pair, labels=tuple(labels))


def flags_given() -> frozenset[str]:
    """The settings that stand on the command line, by name: such a one counts though it says what would hold anyway."""
    flags = (word[2:].split("=")[0] for word in sys.argv[1:] if word.startswith("--"))
    return frozenset(flag.removeprefix("no-").replace("-", "_") for flag in flags)


def in_task_file(**flags: object) -> None:
    """Refuse flags about a table beside a task file."""
    for name, value in flags.items():
        if value is not None:
            raise InputError(f"--{name.replace('_', '-')} is for a single table; say it in the task file.")


def located(model: Path | str) -> Path:
    """The directory of a model, so that a hub is asked for it but once."""
    from bothways.formats.hub import locate

    return locate(model)


def write_json(path: Path | None, content: dict[str, Any]) -> None:
    """Write what was found as JSON, whole or not at all. None: to standard output."""
    from bothways.files.writing import writing

    with writing(path) as stream:
        stream.write(json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def standard_input() -> str:
    """All of standard input as one text."""
    if sys.stdin is None:
        raise InputError("standard input is closed; give a text.")
    return sys.stdin.buffer.read().decode("utf-8", "replace").strip()


def load_engine(directory: Path, precision: NumberFormat | None = None) -> Engine:
    """A classifier made ready for use."""
    from bothways.inference.engine import Engine, load_classifier

    return Engine(*load_classifier(directory), precision=precision)
