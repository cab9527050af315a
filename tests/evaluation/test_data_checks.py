"""What is found in tables: each finding with its count and rows, and silence about what is as it should be."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from conftest import films

from bothways.errors import InputError
from bothways.evaluation.data_checks import check_tables
from bothways.evaluation.findings import Finding, as_json, places, refuse_meaningless
from bothways.evaluation.token_checks import check_tokens
from bothways.model.config import OutputKind
from bothways.tables.duplicates import folded, groups, keys
from bothways.tables.table import Columns, LabelColumn, Table
from bothways.tokenizer import Tokenizer


def table_of(texts: list, labels: list, kind: OutputKind = "single", **unused: list) -> Table:
    """A table of one output; its rows stand under a header."""
    columns = Columns(labels=(LabelColumn(output="label", column="label", kind=kind),))
    rows = [f"line {i}" for i in range(2, len(texts) + 2)]
    return Table("t.csv", columns, rows, texts, None, {"label": labels}, unused)


def found_in(*tables: Table) -> dict[str, Finding]:
    """The findings about the first of some tables, or about the others beside it, by check."""
    names = ["train.csv", "dev.csv", "test.csv"]
    return {f.check: f for f in check_tables(dict(zip(names, tables, strict=False)))}


def many(count: int) -> list[str]:
    """Different texts."""
    return [f"text number {i}" for i in range(count)]


def test_a_tidy_table_gives_no_finding() -> None:
    assert found_in(table_of(many(40), ["a", "b"] * 20), table_of(["one", "two"], ["a", "b"])) == {}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("A  film", "a film"),
        ("ＡＢＣ，好", "abc,好"),
        ("这 家 酒店", "这家酒店"),
        ("STRASSE", "straße"),
        (["a", "Film"], "a film"),
        ("cafe\u0301", "caf\u00e9"),
        ("一\u3000二", "一二"),
    ],
)
def test_what_people_overlook_is_folded(one: str | list[str], other: str) -> None:
    assert folded(one) == folded(other)


@pytest.mark.parametrize(("one", "other"), [("a film", "afilm"), ("good", "good!"), ("café", "cafe"), ("酒店", "酒家")])
def test_what_differs_stays_different(one: str, other: str) -> None:
    assert folded(one) != folded(other)


def test_duplicates_are_those_that_a_counter_finds() -> None:
    texts, _ = films(500)
    table = table_of(texts, ["a"] * 500)
    counted = Counter(map(folded, texts))
    repeated = sum(count - 1 for count in counted.values())
    assert repeated > 10
    assert found_in(table)["duplicates"].count == repeated
    assert sorted(len(rows) for rows in groups(keys(table))) == sorted(c for c in counted.values() if c > 1)
    for rows in groups(keys(table)):
        assert len({folded(texts[i]) for i in rows}) == 1
        assert (np.diff(rows) > 0).all(), "the first is the first in the table"


def test_pairs_are_the_same_only_if_both_texts_are() -> None:
    table = replace(table_of(["a", "a", "b c", "b"], ["x", "y", "x", "y"]), pairs=["b", "c", "d", "c d"])
    assert "duplicates" not in found_in(table)
    assert found_in(replace(table, pairs=["b", "B ", "d", "c d"]))["duplicates"].examples == ("line 3",)


def test_the_same_text_with_another_label_is_a_conflict() -> None:
    texts = [*many(10), "Film", "film", "book", "book"]
    found = found_in(table_of(texts, [*"ababababab", "a", "b", "a", "a"]))
    assert found["conflicts"].examples == ("line 12", "line 13")
    assert found["conflicts"].share == round(2 / 14, 6)
    assert found["duplicates"].examples == ("line 13", "line 15")
    assert "1 of them letter for letter" in found["duplicates"].sentence


def test_labels_in_another_order_are_no_conflict_and_no_label_is_none() -> None:
    same = table_of(["t", "t", "u"], [["a", "b"], ["b", "a"], ["a"]], "multi")
    assert "conflicts" not in found_in(same)
    assert "conflicts" in found_in(table_of(["t", "t", "u"], [["a", "b"], ["b"], ["a"]], "multi"))
    assert "conflicts" not in found_in(table_of(["t", "t", "u"], ["a", None, "b"]))


def test_texts_that_were_trained_on_leak() -> None:
    training = table_of(many(20), ["a", "b"] * 10)
    found = found_in(training, table_of(["TEXT number 3", "new"], ["a", "b"]))
    assert (found["leakage"].count, found["leakage"].share, found["leakage"].examples) == (1, 0.5, ("line 2",))


def test_labels_that_no_row_to_evaluate_on_has_are_named() -> None:
    training = table_of(many(20), ["a", "b"] * 10)
    sentence = found_in(training, table_of(["new"], ["a"]))["unseen_labels"].sentence
    assert "1 of 2 labels" in sentence
    assert "'b'" in sentence


def test_empty_texts_and_written_lists_are_shown() -> None:
    found = found_in(table_of(["", "  ", "['a', 'b']", "[sic]", *many(6)], ["a", "b"] * 5))
    assert found["empty_texts"].examples == ("line 2", "line 3")
    assert found["written_lists"].examples == ("line 4",)


def test_rare_and_dominant_labels_are_counted() -> None:
    found = found_in(table_of(many(100), ["a"] * 96 + ["b"] * 4))
    assert found["rare_labels"].count == 4
    assert (found["imbalance"].count, found["imbalance"].share) == (96, 0.96)
    assert "imbalance" not in found_in(table_of(many(100), ["a"] * 80 + ["b"] * 20))


def test_a_tag_may_be_everywhere() -> None:
    assert found_in(table_of([["a", f"b{i}"] for i in range(60)], [["O", "B-X"]] * 60, "tags")) == {}


def test_a_header_among_the_rows_is_told() -> None:
    found = found_in(table_of([*many(20), "sentence"], [*["a", "b"] * 10, "Label"]))
    assert found["header_as_label"].examples == ("line 22",)


def test_columns_left_out_are_named_and_longer_texts_among_them() -> None:
    labels = ["a", "b"] * 10
    sentence = found_in(table_of(many(20), labels, id=list(range(20))))["unused_columns"].sentence
    assert "'id'" in sentence
    assert "--text" not in sentence
    bodies = ["many words that say much more than a title says, as the body of a letter does"] * 20
    assert "'body' has" in found_in(table_of(many(20), labels, body=bodies))["unused_columns"].sentence


def test_labels_that_are_ids_are_refused_with_the_column_that_may_be_meant() -> None:
    found = found_in(table_of(many(60), [f"id{i}" for i in range(60)], topic=["x", "y"] * 30))
    with pytest.raises(InputError, match=r"60 different labels in 60 rows.*'topic'"):
        refuse_meaningless(found.values())
    refuse_meaningless(found_in(table_of(many(40), [str(i) for i in range(40)])).values())


def test_numbers_to_classify_are_perhaps_to_be_predicted() -> None:
    sentence = found_in(table_of(many(60), [f"{i}.5" for i in range(60)]))["labels_are_ids"].sentence
    assert "regression" in sentence
    assert found_in(table_of(many(60), [i + 0.5 for i in range(60)], "regression")) == {}


def test_one_text_for_all_rows_is_refused() -> None:
    with pytest.raises(InputError, match="all 6 rows have the same text in column 'text'"):
        refuse_meaningless(found_in(table_of(["Film", "film "] * 3, ["a", "b"] * 3)).values())


def test_lengths_are_those_of_the_tokenizer(tokenizer: Tokenizer) -> None:
    texts, labels = films(300)
    (found,) = check_tokens("t.csv", table_of(texts, labels), tokenizer, 9)
    encoded = tokenizer.encode_batch(texts, max_length=9)
    too_long = [f"line {i}" for i, encoding in enumerate(encoded, start=2) if encoding.dropped]
    assert 0 < len(too_long) < 300
    assert (found.count, found.examples) == (len(too_long), tuple(too_long[:5]))
    assert f"the longest {max(len(e) + e.dropped for e in encoded)}" in found.sentence


def test_another_language_is_told_by_unknown_tokens(tokenizer: Tokenizer) -> None:
    _, unknown = check_tokens("t.csv", table_of(["a film", "кино хорошее"], ["a", "b"]), tokenizer, 64)
    assert unknown.check == "unknown_tokens"
    assert unknown.examples == ("line 3",)


def test_long_tables_are_tokenized_in_part(tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bothways.evaluation.token_checks.AT_MOST", 50)
    texts, labels = films(300)
    found = [list(check_tokens("t.csv", table_of(texts, labels), tokenizer, 9)) for _ in range(2)]
    assert found[0] == found[1]
    assert "of 50 rows drawn at random" in found[0][0].sentence


def test_findings_are_json_and_name_their_rows() -> None:
    found = found_in(table_of(["", *many(9)], ["a", "b"] * 5))["empty_texts"]
    (told,) = as_json([found])
    assert told["examples"] == ["line 2"]
    assert {"check", "table", "count", "share", "sentence", "fatal"} < told.keys()
    assert places(found) == " (line 2)"
    assert places(replace(found, count=9)) == " (line 2, …)"
