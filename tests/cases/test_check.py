"""`bothways check` as a person uses it, and what fine-tuning keeps of the same checks."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from cases.helpers import metrics_of, refuses, review_rows, succeeds, write_csv, write_rows


def wrong_labels(count: int) -> list[dict[str, str]]:
    """Reviews of which the first few have the other label."""
    rows = [dict(row) for row in review_rows()]
    for row in rows[:count]:
        row["label"] = {"positive": "negative", "negative": "positive"}[row["label"]]
    return rows


def test_a_table_is_checked_beside_its_test_table(encoder: Path) -> None:
    rows = [{"text": f"the film {i}", "label": "ab"[i % 2]} for i in range(40)]
    write_rows("t.csv", [*rows, {"text": "The  film 3", "label": "a"}])
    write_rows("test.csv", [{"text": "THE FILM 5", "label": "b"}, {"text": "new", "label": "a"}])
    ended = succeeds("check", "t.csv", "--test", "test.csv", "--encoder", encoder, "--json", "found.json")
    found = json.loads(Path("found.json").read_text("utf-8"))
    checks = {(each["check"], each["table"]): each for each in found["checks"]}
    assert found["examples"] == 41
    assert checks["duplicates", "t.csv"]["examples"] == ["line 42"]
    assert checks["conflicts", "t.csv"]["count"] == 2
    assert checks["leakage", "test.csv (test)"]["examples"] == ["line 2"]
    assert all(each["sentence"] in ended.out for each in found["checks"])


def test_a_table_without_labels_is_checked(encoder: Path) -> None:
    write_csv("t.csv", [["text"], *([f"the film {i}"] for i in range(20)), [""]])
    ended = succeeds("check", "t.csv", "--encoder", encoder)
    assert "1 of 21 rows" in ended.out
    assert "empty text" in ended.out


def test_a_refusal_of_fine_tuning_is_a_finding_of_the_check(encoder: Path) -> None:
    write_rows("t.csv", [{"text": f"the film {i}", "label": f"id {i}"} for i in range(60)])
    assert "60 different labels" in succeeds("check", "t.csv", "--encoder", encoder).out
    refuses("finetune", "--train", "t.csv", "--encoder", encoder, "--out", "out", says=[r"t\.csv", "60 different"])


def test_labels_in_doubt_are_shown_and_written(encoder: Path) -> None:
    write_rows("t.csv", wrong_labels(5))
    ended = succeeds("check", "t.csv", "--encoder", encoder, "--folds", 4, "--out", "doubted.csv")
    with Path("doubted.csv").open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert len({row["line"] for row in rows} & {"2", "3", "4", "5", "6"}) >= 4
    assert "suggested label" in ended.out
    assert f"{len(rows)} of" in ended.err


def test_a_model_doubts_labels(classifier: Path) -> None:
    write_rows("t.csv", wrong_labels(5))
    ended = succeeds("check", "t.csv", "--model", classifier, "--out", "doubted.jsonl")
    assert Path("doubted.jsonl").exists()
    assert "--folds" in ended.err, "that a model believes what it was trained on is not said"


def test_a_model_says_what_to_label(classifier: Path) -> None:
    write_csv("t.csv", [["text"], *([row["text"]] for row in review_rows())])
    succeeds("check", "t.csv", "--model", classifier, "--next", 7, "--out", "next.jsonl")
    rows = [json.loads(line) for line in Path("next.jsonl").read_text("utf-8").splitlines()]
    assert len(rows) == 7
    assert rows[0].keys() == {"line", "text", "suggested_label", "score"}


def test_a_model_of_pairs_and_of_words_is_of_use(pair_classifier: Path, tagger: Path) -> None:
    write_csv("p.csv", [["text", "text_pair"], *([f"film {i}", "good"] for i in range(20))])
    succeeds("check", "p.csv", "--model", pair_classifier, "--next", 3, "--out", "next.csv")
    assert Path("next.csv").read_text("utf-8").startswith("line,text,text_pair,")
    write_csv("w.csv", [["tokens", "tags"], *[["the good film", "O B-X I-X"], ["我 爱 北 京", "O O B-X I-X"]] * 10])
    succeeds("check", "w.csv", "--model", tagger)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--folds", 5, "--out", "doubted.txt"], [r"doubted\.txt", r"\.csv"]),
        (["--folds", 1], ["--folds 1"]),
        (["--folds", 0], ["--folds 0"]),
        (["--next", -1], ["--next -1"]),
        (["--next", 3], [r"t\.csv", "--next"]),
        (["--folds", 5, "--out", "t.csv"], [r"t\.csv", "in use"]),
        (["--text", "body"], ["'body'"]),
    ],
)
def test_mistakes_are_refused(words: list[object], says: list[str], encoder: Path) -> None:
    write_rows("t.csv", review_rows())
    refuses("check", "t.csv", "--encoder", encoder, *words, says=says)


def test_a_model_and_folds_or_columns_do_not_go_together(classifier: Path) -> None:
    write_rows("t.csv", review_rows())
    refuses("check", "t.csv", "--model", classifier, "--folds", 5, says=["--folds", "--model"])
    refuses("check", "t.csv", "--model", classifier, "--label", "label", says=["--model", "--label"])


def test_a_table_is_checked_beside_itself(encoder: Path) -> None:
    write_rows("t.csv", review_rows())
    ended = succeeds("check", "t.csv", "--test", "t.csv", "--encoder", encoder)
    assert "have a text of t.csv; figures measured on them are too good" in ended.out


def test_rows_to_label_and_labels_in_doubt_are_asked_for_apart(classifier: Path, encoder: Path) -> None:
    rows = [*review_rows(), *({"text": f"new {i}", "label": " "} for i in range(10))]
    write_rows("t.csv", rows)
    ended = succeeds("check", "t.csv", "--model", classifier, "--next", 3, "--out", "next.csv")
    assert f"10 of {len(rows)} rows" in ended.out
    assert "have no label in column 'label'" in ended.out
    assert "probably wrong" not in ended.out + ended.err
    refuses("check", "t.csv", "--encoder", encoder, "--folds", 5, "--next", 3, says=["--folds", "--next"])


def test_labels_with_commas_between_them_are_told(encoder: Path) -> None:
    cells = ["acting, music", "acting", "music", "music, plot", "plot", "plot, acting"]
    write_csv("t.csv", [["text", "about"], *([f"the film {i}", cells[i % 6]] for i in range(60))])
    ended = succeeds("check", "t.csv", "--output", "about:multi", "--encoder", encoder)
    assert "30 of 60 rows (50.0%) have a label with a comma in column 'about'" in ended.out
    assert "write '|' between labels" in ended.out


def test_folds_need_labels(encoder: Path) -> None:
    write_csv("t.csv", [["text"], *([f"the film {i}"] for i in range(20))])
    refuses("check", "t.csv", "--encoder", encoder, "--folds", 5, says=[r"t\.csv", "--label"])


def test_fine_tuning_tells_and_keeps_what_was_found(encoder: Path) -> None:
    rows = [{"text": f"the film {i}", "label": "ab"[i % 2]} for i in range(40)]
    write_rows("t.csv", [*rows, *rows[:9]])
    use = ("finetune", "--train", "t.csv", "--encoder", encoder, "--epochs", 1)
    ended = succeeds(*use, "--out", "out", "--held-out", 0.2)
    checks = {each["check"]: each for each in metrics_of("out")["checks"]}
    assert {"lengths"} < checks.keys()
    assert {"duplicates", "leakage"} & checks.keys()
    assert all(each["sentence"] in ended.err for each in checks.values())
