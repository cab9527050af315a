"""A task file: several labelled tables, each with its outputs, for one training. TOML, and the same as dataclasses.

    encoder = "zh-mini"

    [settings]
    epochs = 3

    [[table]]
    train = "reviews.csv"
    dev = "reviews-dev.csv"
    outputs = { sentiment = "sentiment:single", category = "category:single" }

    [[table]]
    train = "news.csv"
    text = "title"
    label = "topic"

Names of files, and of an encoder that is a directory, begin where the task file is.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from bothways.errors import InputError
from bothways.files.reading import read_lines
from bothways.finetuning.config import FinetuningConfig
from bothways.formats.hub import AUTO
from bothways.tables.table import Columns, LabelColumn
from bothways.tasks import TASKS

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FORM = 'COLUMN:KIND", with KIND one of ' + ", ".join(TASKS)


@dataclass(frozen=True, kw_only=True)
class TaskTable:
    """A labelled table and what is to be learned from it."""

    train: str | os.PathLike
    """CSV, TSV, JSON lines or Parquet; local or remote, compressed or not."""
    dev: str | os.PathLike | None = None
    """A table to evaluate on. None: some training rows are held out."""
    columns: Columns = field(default_factory=Columns)
    """Which columns mean what."""


@dataclass(frozen=True, kw_only=True)
class FinetuningTask:
    """What to train: one encoder on some tables at once."""

    tables: tuple[TaskTable, ...]
    """At least one. Outputs of one name are one output layer, whose labels are those of all its tables."""
    encoder: str | os.PathLike = AUTO
    """Directory, shipped encoder (en-mini, zh-mini) or hub id; auto: the shipped one for the texts' language."""
    settings: FinetuningConfig = field(default_factory=FinetuningConfig)
    """How to train."""
    source: str = "the task"
    """What is said of it in messages: the file."""

    def __post_init__(self) -> None:
        if not self.tables:
            raise InputError(f'{self.source}: there is no table; add [[table]] with train = "FILE".')
        trained = [os.fspath(table.train) for table in self.tables]
        if twice := [name for name in trained if trained.count(name) > 1]:
            raise InputError(
                f"{self.source}: {twice[0]} is trained on twice; name it in one [[table]], with all of its outputs."
            )

    @property
    def files(self) -> list[str | os.PathLike]:
        """Every file it reads."""
        return [file for table in self.tables for file in (table.train, table.dev) if file is not None]


def read_task(path: str | os.PathLike) -> FinetuningTask:
    """Read a task file. Raises InputError, naming file and line, for anything that is not understood."""
    text = "\n".join(line for _, line in read_lines(path))
    if not text.strip():
        raise InputError(f'{path}: the file is empty; add [[table]] with train = "FILE".')
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise not_toml(path, text, error) from None
    except RecursionError:
        raise InputError(f"{path}: lists in lists in lists are not read; write it more simply.") from None
    place = os.fspath(path)
    require_known(content, ("encoder", "settings", "table"), place)
    folder = Path(path).parent
    encoder = text_of(content, "encoder", place) or AUTO
    if (folder / encoder).is_dir() or encoder.startswith("."):
        encoder = beside(encoder, folder)
    tables = content.get("table", [])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise InputError(f"{path}: table is no list of tables; write [[table]] above each, with two brackets.")
    lines = [number for number, line in enumerate(text.split("\n"), 1) if re.match(r"\s*\[\[\s*table\s*\]\]", line)]
    places = [f"{path}, table {n}" for n in range(1, len(tables) + 1)]
    if len(lines) == len(tables):
        places = [f"{path}, line {line}" for line in lines]
    return FinetuningTask(
        tables=tuple(table_of(table, place, folder) for table, place in zip(tables, places, strict=True)),
        encoder=encoder,
        settings=settings_of(content.get("settings", {}), f"{path}, [settings]"),
        source=place,
    )


def not_toml(path: str | os.PathLike, text: str, error: Exception) -> InputError:
    """The sentence about what is not TOML."""
    what, _, where = str(error).rpartition(" (at ")
    found = re.match(r"line (\d+)", where)
    line = found[1] if found else text.count("\n") + 1  # the end of the document
    return InputError(
        f"{path}, line {line}: this is not TOML ({what or error}); bothways finetune --help says what it holds."
    )


def table_of(content: Mapping[str, Any], place: str, folder: Path) -> TaskTable:
    """One [[table]]; `folder`: where relative names begin."""
    require_known(content, ("train", "dev", "text", "text_pair", "label", "outputs"), place)
    train, dev = text_of(content, "train", place), text_of(content, "dev", place)
    if train is None:
        raise InputError(f'{place}: the table has no file to train on; add train = "FILE".')
    outputs = content.get("outputs", {})
    if not isinstance(outputs, dict):
        raise InputError(f'{place}: outputs is {outputs!r}; write outputs = {{ NAME = "{FORM} }}.')
    labels = [output_of(name, declared, place) for name, declared in outputs.items()]
    label = text_of(content, "label", place)
    if label is not None or not labels:
        labels.insert(0, LabelColumn(output=label or "label", column=label or "label"))
    try:
        columns = Columns(
            text=text_of(content, "text", place) or "text",
            text_pair=text_of(content, "text_pair", place),
            labels=tuple(labels),
        )
    except InputError as error:
        raise InputError(f"{place}: {error}") from None
    return TaskTable(train=beside(train, folder), dev=None if dev is None else beside(dev, folder), columns=columns)


def output_of(name: str, declared: Any, place: str) -> LabelColumn:
    """NAME = "COLUMN:KIND" → a column of labels."""
    match = re.fullmatch(r"([^:]+)(?::(\w+))?", declared) if isinstance(declared, str) else None
    kind = match and (match[2] or "single")
    if not match or kind not in TASKS or not name:
        raise InputError(
            f'{place}: {name} = {declared!r} in outputs is not understood; write {name or "NAME"} = "{FORM}.'
        )
    return LabelColumn(output=name, column=match[1], kind=kind)  # type: ignore[arg-type]


def settings_of(content: Any, place: str) -> FinetuningConfig:
    """[settings] → the settings of fine-tuning."""
    if not isinstance(content, dict):
        raise InputError(f"{place}: settings is {content!r}; write [settings] on a line, and NAME = VALUE below it.")
    require_known(content, [known.name for known in fields(FinetuningConfig)], place)
    try:
        return FinetuningConfig(**content)
    except InputError as error:
        raise InputError(f"{place}: {error}") from None


def require_known(content: Mapping[str, Any], known: Collection[str], place: str) -> None:
    """Raise InputError for a key that means nothing, with the one that may have been meant."""
    for key in content:
        if key not in known:
            near = get_close_matches(key, known, 1)
            meant = f"did you mean {near[0]!r}?" if near else f"it may be {', '.join(known)}."
            raise InputError(f"{place}: there is no setting {key!r}; {meant}")


def text_of(content: Mapping[str, Any], key: str, place: str) -> str | None:
    """A text, or None where there is none."""
    value = content.get(key)
    if value is not None and not (isinstance(value, str) and value):
        raise InputError(f'{place}: {key} is {value!r}; write {key} = "…", a text in quotes.')
    return value


def beside(name: str, folder: Path) -> str:
    """A file's name as seen from here: relative ones begin in `folder`, addresses such as s3://… stay as they are."""
    return name if "://" in name else os.path.normpath(folder / name)
