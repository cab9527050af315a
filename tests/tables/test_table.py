"""Tables: every format in, every mistake answered in one sentence that names the place."""

from __future__ import annotations

import gzip
import json
import lzma
import zipfile
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from bothways.batch import UNLABELLED
from bothways.errors import InputError
from bothways.model.config import OutputConfig
from bothways.tables import rows
from bothways.tables.duplicates import folded
from bothways.tables.rows import reader_of
from bothways.tables.splitting import split_off
from bothways.tables.table import Columns, LabelColumn, Table, learn_outputs, read_table
from bothways.tables.writing import format_named
from bothways.tasks import TASKS

ROWS = [('好 film, "quoted"', "good"), ("", "bad"), ("two\nlines", "good")]


def zstd(content: bytes) -> bytes:
    return pyarrow.Codec("zstd").compress(content, asbytes=True)


def targets(table: Table, output: OutputConfig) -> list[Any]:
    return table.targets(TASKS[output.kind](output))


def write_csv(path: Path, text: str) -> Path:
    path.write_bytes(text.encode())
    return path


def test_every_format_gives_the_same_table(tmp_path: Path) -> None:
    csv = 'text,label\n"好 film, ""quoted""",good\n,bad\n"two\nlines",good\n'
    lines = "".join(json.dumps({"text": t, "label": y, "more": [1]}) + "\n" for t, y in ROWS)
    (tmp_path / "a.csv").write_text(csv)
    (tmp_path / "a.jsonl").write_text("\ufeff" + lines)
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(csv.encode()))
    (tmp_path / "a.csv.xz").write_bytes(lzma.compress(csv.encode()))
    (tmp_path / "a.jsonl.zst").write_bytes(zstd(lines.encode()))
    columns = {"label": [y for _, y in ROWS], "text": [t for t, _ in ROWS]}
    pyarrow.parquet.write_table(pyarrow.table(columns), tmp_path / "a.parquet")
    for path in sorted(tmp_path.iterdir()):
        table = read_table(path, Columns())
        assert list(zip(table.texts, table.values["label"], strict=True)) == ROWS, path.name
        assert table.pairs is None


def test_tab_separated_with_and_without_quotes(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.tsv", '\ntext\tlabel\n"hello\tpos\nworld"\tneg\n"a ""b"" c"\tpos\n')
    table = read_table(path, Columns())
    assert table.texts == ['"hello', 'world"', 'a "b" c']
    assert table.rows == ["line 3", "line 4", "line 5"]


def test_cells_of_every_type(tmp_path: Path) -> None:
    columns = {"text": [b"good", "好".encode()], "label": [1.5, 2.0], "stars": [None, 3.0]}
    pyarrow.parquet.write_table(pyarrow.table(columns), tmp_path / "a.parquet")
    labels = (LabelColumn.parse("label"), LabelColumn.parse("stars:regression"))
    table = read_table(tmp_path / "a.parquet", Columns(labels=labels))
    assert table.texts == ["good", "好"]
    assert table.values == {"label": ["1.5", "2.0"], "stars": [None, 3.0]}
    (tmp_path / "a.jsonl").write_text('{"text": "half \\ud83d", "label": true}\n{"text": 5, "label": false}\n')
    table = read_table(tmp_path / "a.jsonl", Columns())
    assert table.texts == ["half \ufffd", "5"]
    assert table.values["label"] == ["True", "False"]


def test_rows_need_not_say_something_for_every_output(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", "text,mood,slots\na b,x,O B\nc d,y,\ne,,O\n")
    labels = (LabelColumn.parse("mood"), LabelColumn.parse("slots:tags"))
    assert read_table(path, Columns(labels=labels)).values == {
        "mood": ["x", "y", None],
        "slots": [["O", "B"], None, ["O"]],
    }
    (tmp_path / "a.jsonl").write_text(
        '{"text": "a", "m": "x", "n": ["p"]}\n{"text": "b", "m": "y", "n": null}\n{"text": "c", "m": "y", "n": []}\n'
    )
    table = read_table(tmp_path / "a.jsonl", Columns(labels=(LabelColumn.parse("m"), LabelColumn.parse("n:multi"))))
    np.testing.assert_array_equal(targets(table, learn_outputs(table)[1]), [[1], [np.nan], [0]])


def test_a_second_text_is_found_by_its_name(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", "text_pair,text,label\nb,a,x\nd,c,y\n")
    assert read_table(path, Columns()).pairs is None
    table = read_table(path, Columns(), find_pair=True)
    assert (table.texts, table.pairs) == (["a", "c"], ["b", "d"])
    assert table.columns.text_pair == "text_pair"


def test_all_kinds_of_output(tmp_path: Path) -> None:
    path = write_csv(
        tmp_path / "a.csv",
        "words,mood,topics,stars,slots\nthe 好 film,good,a|b,4.5,O B I\nworse,bad,,1,O\nempty,,b,,O\n",
    )
    labels = ("mood=mood", "topics:multi", "stars=stars:regression", "tags=slots:tags")
    columns = Columns(text="words", labels=tuple(map(LabelColumn.parse, labels)))
    table = read_table(path, columns)
    assert table.texts == [["the", "好", "film"], ["worse"], ["empty"]]
    mood, topics, stars, tags = learn_outputs(table)
    assert mood.labels == ("bad", "good")
    assert tags.reads == "tokens"
    assert targets(table, mood) == [1, 0, UNLABELLED]
    assert np.array(targets(table, topics)).tolist() == [[1, 1], [0, 0], [0, 1]]
    assert targets(table, stars)[:2] == [4.5, 1.0]
    assert np.isnan(targets(table, stars)[2])
    assert [t.tolist() for t in targets(table, tags)] == [[2, 0, 1], [2], [2]]


def test_numbers_as_labels_are_ordered_by_value(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", "text,label\n" + "".join(f"t,{n}\n" for n in (10, 9, 2, -1)))
    assert learn_outputs(read_table(path, Columns()))[0].labels == ("-1", "2", "9", "10")


MISTAKES = {
    "missing column": ("a.csv", b"txt,label\na,b\n", ["line 2", "no column 'text'", "'txt'", "--text"]),
    "null text": ("a.jsonl", b'{"text": "a", "label": "x"}\n{"text": null, "label": "y"}\n', ["line 2", "null"]),
    "no label": ("a.csv", b"text,label\na,x\nb,\n", ["line 3", "'label' is empty"]),
    "one class": ("a.csv", b"text,label\na,x\nb,x\n", ["only the one class 'x'"]),
    "not UTF-8": ("a.csv", "text,label\na,x\n好,y\n".encode("gb18030"), ["line 3", "not UTF-8", "iconv"]),
    "cut gzip": ("a.csv.gz", gzip.compress(b"text,label\n" + b"a,x\n" * 50_000)[:-40], ["cut short"]),
    "cut xz": ("a.csv.xz", lzma.compress(b"text,label\n" + b"a,x\n" * 50_000)[:-40], ["cut short"]),
    "cut zst": ("a.csv.zst", zstd(b"text,label\n" + b"a,x\n" * 50_000)[:-40], ["cut short"]),
    "damaged zst": ("a.csv.zst", b"nothing of the sort", ["not compressed", "beginning is damaged"]),
    "not gzip": ("a.csv.gz", b"text,label\na,x\n", ["not compressed", "rename"]),
    "gzip twice": ("a.csv.gz", gzip.compress(gzip.compress(b"text,label\na,x\n")), ["compressed twice", "gzip"]),
    "two columns of a name": ("a.csv", b"text,label,label\na,x,y\n", ["line 1", "two columns are called 'label'"]),
    "cells in a tsv": ("a.tsv", b"text\tlabel\na\tx\tb\n", ["line 2", "3 cells", "has 2"]),
    "a list as label": ("a.jsonl", b'{"text": "a", "label": ["x"]}\n', ["line 1", "holds a list"]),
    "damaged zip": ("a.csv.zip", b"PK\x03\x04 nothing", ["cut short or damaged"]),
    "too few cells": ("a.csv", b'text,label\n"a\nb",x\nlonely\n', ["line 4", "1 cells", "has 2"]),
    "open quote": ("a.csv", b'text,label\n"a,x\nb,y\n', ["line 2", "quotes"]),
    "not JSON": ("a.jsonl", b'{"text": "a", "label": "x"}\n{text}\n', ["line 2", "not JSON"]),
    "a number of 5,000 digits": ("a.jsonl", b'{"text": ' + b"9" * 5000 + b"}\n", ["line 1", "not JSON"]),
    "lists in lists": ("a.jsonl", b'{"text": ' + b"[" * 100_000 + b"}\n", ["line 1", "not JSON"]),
    "no object": ("a.jsonl", b"[1, 2]\n", ["line 1", "object"]),
    "not Parquet": ("a.parquet", b"nothing of the sort", ["Parquet"]),
    "empty file": ("a.csv", b"", ["empty"]),
    "header alone": ("a.csv", b"text,label\n", ["no rows"]),
    "unknown format": ("a.xlsx", b"", ["tells no format", ".csv"]),
    "no file": ("b/none.csv", None, ["no such file"]),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes(tmp_path: Path, mistake: str) -> None:
    name, content, said = MISTAKES[mistake]
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError) as error:
        learn_outputs(read_table(path, Columns()))
    sentence = str(error.value)
    assert str(path) in sentence
    assert "\n" not in sentence
    for part in said:
        assert part in sentence, sentence


@pytest.mark.parametrize("name", ["t.csv", "t.tsv"])
@pytest.mark.parametrize("row", ["很好，1", "很好,1"])
def test_full_width_commas_between_the_names_of_columns_are_named(tmp_path: Path, name: str, row: str) -> None:
    path = write_csv(tmp_path / name, f"text，label\n{row}\n")
    with pytest.raises(InputError, match=r"line 1: there are full-width commas \(，\) between the names"):
        read_table(path, Columns())
    path.write_text("text\n很好，真的\n", "utf-8")
    assert read_table(path, Columns(labels_optional=True)).texts == ["很好，真的"]


def test_the_path_of_an_address_tells_the_format(tmp_path: Path) -> None:
    text = "text,label\n好,1\n坏,2\n"
    with zipfile.ZipFile(tmp_path / "t.zip", "w") as archive:
        archive.writestr("t.csv", text)
        archive.writestr("notes.md", "none")
    contents = {
        "t.csv": text.encode(),
        "t.csv.xz": lzma.compress(text.encode()),
        "t.csv.zip": (tmp_path / "t.zip").read_bytes(),
        "t.TSV": text.replace(",", "\t").encode(),
        "get.php": text.encode(),
    }
    for name, content in contents.items():
        end = "?file=t.csv" if name == "get.php" else "?key=a/b.c&X-Amz-Signature=1#2"
        address = f"memory://bucket/{name}{end}"
        with fsspec.open(address, "wb") as stream:
            stream.write(content)
        assert read_table(address, Columns()).texts == ["好", "坏"], name
    assert read_table(f"zip://t.csv::{tmp_path}/t.zip", Columns()).texts == ["好", "坏"]
    assert reader_of("https://host/t.txt?key=a.b") is None
    assert type(format_named("https://host/t.csv.gz?key=1")) is type(format_named("t.csv.gz"))
    assert format_named("memory://t.tsv?key=1").has_columns


def test_a_row_that_is_too_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "LONGEST_ROW", 1000)
    (tmp_path / "a.jsonl").write_text('{"text": "a", "label": "x"}\n{"text": "' + "a" * 2000 + '"}\n')
    with pytest.raises(InputError, match=r"line 2: this is not JSON \(a row of more than 0 MB is not read whole\)"):
        read_table(tmp_path / "a.jsonl", Columns())


def test_mistakes_in_targets(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", "text,tags\na b,O O\na b c,O B\n")
    columns = Columns(labels=(LabelColumn.parse("tags:tags"),))
    with pytest.raises(InputError, match="line 3: 3 tokens but 2 tags"):
        read_table(path, columns)
    path = write_csv(tmp_path / "b.csv", "text,stars\na,1\nb,many\n")
    with pytest.raises(InputError, match="line 3: 'many' in column 'stars' is not a number"):
        read_table(path, Columns(labels=(LabelColumn.parse("stars:regression"),)))
    with pytest.raises(InputError, match="NAME=COLUMN:KIND"):
        LabelColumn.parse("a=b:sometimes")


def test_a_label_that_training_has_not_seen(tmp_path: Path) -> None:
    train = read_table(write_csv(tmp_path / "train.csv", "text,label\na,x\nb,y\n"), Columns())
    dev = read_table(write_csv(tmp_path / "dev.csv", "text,label\na,x\nb,z\n"), Columns())
    with pytest.raises(InputError, match=r"dev\.csv, line 3: the label 'z' .* does not occur in the training"):
        targets(dev, learn_outputs(train)[0])


def test_split_off_repeats_itself(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", "text,label\n" + "".join(f"t{n},{n % 2}\n" for n in range(50)))
    table = read_table(path, Columns())
    rest, held_out = split_off(table, 0.2, seed=3)
    assert (len(rest), len(held_out)) == (40, 10)
    assert sorted([*rest.texts, *held_out.texts]) == sorted(table.texts)
    assert split_off(table, 0.2, seed=3)[1].texts == held_out.texts
    assert split_off(table, 0.2, seed=4)[1].texts != held_out.texts


def test_split_off_parts_no_text(tmp_path: Path) -> None:
    """Also where it differs in capitals; the share stays, and a text that stands often is drawn no more than others."""
    often = [f"Common {n % 10}" for n in range(100)]
    rows = [(f"t{n}", n % 2) for n in range(140)] + [(f"T{n}", n % 2) for n in range(60)]
    path = write_csv(
        tmp_path / "a.csv", "text,label\n" + "".join(f"{t},{y}\n" for t, y in rows + [(t, 0) for t in often])
    )
    table = read_table(path, Columns())
    drawn = []
    for seed in range(40):
        rest, held_out = split_off(table, 0.2, seed=seed)
        assert (len(rest), len(held_out)) == (240, 60)
        assert not {folded(text) for text in rest.texts} & {folded(text) for text in held_out.texts}
        assert split_off(table, 0.2, seed=seed)[1].rows == held_out.rows
        drawn.append(len({text for text in held_out.texts if text in often}))
    assert 1 <= np.mean(drawn) <= 3, "of ten texts a fifth"


def test_split_off_leaves_a_text_with_too_many_rows(tmp_path: Path) -> None:
    rows = "".join(f"{'the same' if n < 60 else f't{n}'},{n % 2}\n" for n in range(100))
    table = read_table(write_csv(tmp_path / "a.csv", "text,label\n" + rows), Columns())
    rest, held_out = split_off(table, 0.1, seed=0)
    assert len(held_out) == 10
    assert "the same" not in held_out.texts
    assert len(split_off(rest.take(range(60)), 0.1, seed=0)[1]) == 6, "one text alone: better known than none"


def test_split_off_parts_pairs_by_both_texts(tmp_path: Path) -> None:
    rows = "".join(f"same,t{n // 2},{n % 2}\n" for n in range(100))
    table = read_table(write_csv(tmp_path / "a.csv", "text,text_pair,label\n" + rows), Columns(), find_pair=True)
    rest, held_out = split_off(table, 0.1, seed=0)
    assert len(held_out) == 10
    assert not set(rest.pairs or ()) & set(held_out.pairs or ())


def test_a_file_in_the_place_of_a_folder(tmp_path: Path) -> None:
    write_csv(tmp_path / "a.csv", "text,label\n")
    with pytest.raises(InputError, match=r"b\.csv: this cannot be read"):
        read_table(tmp_path / "a.csv" / "b.csv", Columns())


def test_two_outputs_of_one_name() -> None:
    with pytest.raises(InputError, match="Two outputs are called 'a'"):
        Columns(labels=(LabelColumn.parse("a=x"), LabelColumn.parse("a=y:regression")))
