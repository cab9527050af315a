"""Several tables as one: rows end to end, an output that a table lacks unsaid for its rows."""

from __future__ import annotations

from collections.abc import Sequence

from bothways.errors import InputError
from bothways.files.names import public_name
from bothways.tables.table import Columns, LabelColumn, Table
from bothways.tasks.tags import words_of
from bothways.tokenizer import Text


def join(tables: Sequence[Table], source: str) -> Table:
    """The rows of all tables, in order, each saying which file it is from; one table alone is given back as it is.

    Outputs of one name are one output, whichever tables it is in. If a table has a label for each word, the texts of
    all come as words. The columns are those of the first table, and of each output's first.

    Raises InputError for two kinds of an output, and for single texts beside pairs.
    """
    if len(tables) == 1:
        return tables[0]
    outputs = joint_outputs(tables)
    columns = Columns(text=tables[0].columns.text, text_pair=tables[0].columns.text_pair, labels=outputs)
    joined = Table(source, columns, pairs=None if tables[0].pairs is None else [])
    joined.values.update({label.output: [] for label in outputs})
    for table in tables:
        if (table.pairs is None) != (joined.pairs is None):
            single, paired = sorted((tables[0], table), key=lambda t: t.pairs is not None)
            raise InputError(
                f"{source}: {single.source} has single texts and {paired.source} pairs; one model reads one or the "
                f"other, so train two."
            )
        joined.rows.extend(f"{public_name(table.source)}, {row}" for row in table.rows)
        joined.texts.extend(as_read(table.texts, columns.pretokenized))
        if joined.pairs is not None:
            joined.pairs.extend(as_read(table.pairs or [], columns.pretokenized))
        for label in outputs:
            joined.values[label.output] += table.values.get(label.output, [None] * len(table))
    return joined


def joint_outputs(tables: Sequence[Table]) -> tuple[LabelColumn, ...]:
    """Every output of some tables once. Raises InputError for one that has two kinds."""
    found: dict[str, tuple[LabelColumn, str]] = {}
    for table in tables:
        for label in table.columns.labels:
            first, where = found.setdefault(label.output, (label, table.source))
            if first.kind != label.kind:
                raise InputError(
                    f"Output {label.output!r} is {first.kind} in {where} and {label.kind} in {table.source}; give it "
                    f"one kind, or each its own name."
                )
    return tuple(label for label, _ in found.values())


def as_read(texts: Sequence[Text], pretokenized: bool) -> list[Text]:
    """Texts as words, if the model reads words."""
    return [words_of(text) if pretokenized and isinstance(text, str) else text for text in texts]
