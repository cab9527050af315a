"""Classifying tables of any size: forms of input and output, rows that are wrong, going on after an interruption."""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from conftest import SENTENCES, random_bert

from bothways import InputError
from bothways.files.reading import open_input
from bothways.inference import classify as module
from bothways.inference.classify import AnswerConfig, Outcome, classify
from bothways.inference.engine import Engine
from bothways.model.bert import Bert
from bothways.model.config import BertConfig, EncoderConfig, OutputConfig
from bothways.tables.rows import read_rows
from bothways.tokenizer import Tokenizer

LABELS = ("a", "b", "c")
OUTPUTS = (
    OutputConfig(name="topic", kind="single", labels=LABELS, set_threshold=0.3),
    OutputConfig(name="topic.distance", kind="mahalanobis", of="topic", labels=LABELS, distance_threshold=10.0),
    OutputConfig(name="parts", kind="multi", labels=("x", "y")),
    OutputConfig(name="stars", kind="regression"),
)


@pytest.fixture
def engine(encoder_config: EncoderConfig, tokenizer: Tokenizer) -> Engine:
    return Engine(random_bert(encoder_config, *OUTPUTS), tokenizer)


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(module, "WINDOW_ROWS", 8)
    return tmp_path


def write_lines(name: str, rows: int = 50) -> list[dict[str, Any]]:
    """A table of rows of mixed lengths with a number each."""
    given = [{"id": i, "text": " ".join(SENTENCES[: i % 5 + 1])} for i in range(rows)]
    Path(name).write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in given), "utf-8")
    return given


def read_json_lines(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(name).read_text("utf-8").splitlines()]


def stop_after(monkeypatch: pytest.MonkeyPatch, engine: Engine, windows: int) -> None:
    """Have the engine break off after so many windows, as a signal does."""
    run, left = engine.run, iter(range(windows))

    def broken(encodings: Any) -> Any:
        if next(left, None) is None:
            raise KeyboardInterrupt
        return run(encodings)

    monkeypatch.setattr(engine, "run", broken)


# ── Forms ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_json_lines_are_as_the_engine_has_them(engine: Engine) -> None:
    given = write_lines("in.jsonl")
    outcome = classify(engine, "in.jsonl", "out.jsonl")
    assert (outcome.rows, outcome.failed) == (50, 0)
    answers = read_json_lines("out.jsonl")
    assert [answer["text"] for answer in answers] == [row["text"] for row in given]
    predictions = engine.run(engine.encode([row["text"] for row in given]))
    topics = engine.tasks[0].probabilities(predictions)
    for answer, probabilities in zip(answers, topics, strict=True):
        assert list(answer) == ["text", "outputs", "tokens", "truncated"]
        assert answer["outputs"]["topic"]["label"] == LABELS[probabilities.argmax()]
        assert answer["outputs"]["topic"]["scores"] == pytest.approx(
            dict(zip(LABELS, map(float, probabilities), strict=True)), abs=2e-6
        )


@pytest.mark.parametrize("name", ["out.csv", "out.tsv", "out.parquet", "out.CSV.gz", "out.tsv.xz", "out.csv.zst"])
def test_tables_say_what_json_lines_say(name: str, engine: Engine) -> None:
    write_lines("in.jsonl")
    classify(engine, "in.jsonl", "out.jsonl")
    classify(engine, "in.jsonl", name, config=AnswerConfig(keep=("id",)))
    rows, answers = [cells for _, cells in read_rows(name)], read_json_lines("out.jsonl")
    assert len(rows) == 50
    for i, (row, answer) in enumerate(zip(rows, answers, strict=True)):
        assert list(row) == [
            *("text", "id", "topic.label", "topic.score", "topic.set", "topic.known", "parts.labels", "stars.value"),
            *("token_count", "truncated", "error"),
        ]
        topic = answer["outputs"]["topic"]
        assert (row["text"], int(row["id"]), row["topic.label"]) == (answer["text"], i, topic["label"])
        assert float(row["topic.score"]) == topic["score"]
        assert row["topic.set"].split("|") == topic["set"]
        assert str(row["topic.known"]).lower() == str(topic["known"]).lower()
        assert row["parts.labels"] == "|".join(answer["outputs"]["parts"]["labels"])
        assert float(row["stars.value"]) == answer["outputs"]["stars"]["value"]
        assert int(row["token_count"]) == answer["tokens"]


@pytest.mark.parametrize("name", ["in.csv", "in.tsv", "in.parquet", "in.jsonl.gz"])
def test_every_form_of_input_gives_the_same_answers(name: str, engine: Engine) -> None:
    given = write_lines("in.jsonl")
    if name == "in.parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(given), name, row_group_size=7)
    elif name == "in.jsonl.gz":
        Path(name).write_bytes(gzip.compress(Path("in.jsonl").read_bytes()))
    else:
        with Path(name).open("w", encoding="utf-8", newline="") as stream:
            writer = csv.writer(stream, delimiter="\t" if name == "in.tsv" else ",")
            writer.writerows([["id", "text"], *([row["id"], row["text"]] for row in given)])
    classify(engine, "in.jsonl", "one.jsonl")
    classify(engine, name, "other.jsonl")
    assert Path("one.jsonl").read_bytes() == Path("other.jsonl").read_bytes()


@pytest.mark.parametrize("name", ["out.csv", "out.tsv", "out.jsonl"])
def test_texts_that_need_quotes_come_back(name: str, engine: Engine) -> None:
    texts = ['say "no", they said', '"all of it"', " spaces ", "", "很好；不错，", "a;b|c", "'"]
    Path("in.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), "utf-8")
    classify(engine, "in.jsonl", name)
    assert [cells["text"] for _, cells in read_rows(name)] == texts


def test_a_line_end_within_a_text_is_kept_in_csv_and_is_a_space_in_tsv(engine: Engine) -> None:
    Path("in.jsonl").write_text(json.dumps({"text": "one\ntwo\tthree"}) + "\n")
    classify(engine, "in.jsonl", "out.csv")
    classify(engine, "in.jsonl", "out.tsv")
    assert [cells["text"] for _, cells in read_rows("out.csv")] == ["one\ntwo\tthree"]
    assert [cells["text"] for _, cells in read_rows("out.tsv")] == ["one two three"]


def test_a_remote_file_is_written_whole(engine: Engine) -> None:
    write_lines("in.jsonl")
    classify(engine, "in.jsonl", "here.csv.gz")
    classify(engine, "in.jsonl", "memory://folder/there.csv.gz")
    with open_input("memory://folder/there.csv.gz") as there, open_input("here.csv.gz") as here:
        assert there.read() == here.read()


def test_an_empty_table_gives_an_empty_one(engine: Engine) -> None:
    Path("in.csv").write_text("text,id\n")
    for name in ("out.csv", "out.parquet", "out.jsonl"):
        assert classify(engine, "in.csv", name).rows == 0
        assert [cells for _, cells in read_rows(name)] == []
    assert Path("out.csv").read_text().startswith("text,topic.label,")


def test_kept_columns_of_parquet_are_numbers_where_all_are_and_else_text(engine: Engine) -> None:
    ids: list[Any] = [*range(8), *[None] * 8, *[0.5] * 8]
    others: list[Any] = [*range(8), *["x"] * 8, *[[1, 2]] * 8]
    rows = [{"text": "good", "id": i, "other": o, "even": True} for i, o in zip(ids, others, strict=True)]
    Path("in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    classify(engine, "in.jsonl", "out.parquet", config=AnswerConfig(keep=("all",)))
    table = pyarrow.parquet.read_table("out.parquet")
    assert table["id"].to_pylist() == ids
    assert table["other"].to_pylist() == [*map(str, range(8)), *["x"] * 8, *["[1, 2]"] * 8]
    assert table["even"].to_pylist() == [True] * 24
    assert table.schema.field("id").type == pyarrow.float64()


@pytest.mark.parametrize(
    ("out", "says"),
    [
        ("folder", "this is a directory"),
        ("x" * 250 + ".csv", "this name is too long"),
        ("out.parquet.gz", "compressed already"),
        ("out.csv.zip", "no .zip is written"),
        ("nothing://out.csv", "nothing://out.csv"),
    ],
)
def test_what_cannot_be_written_is_refused_at_once(out: str, says: str, engine: Engine, place: Path) -> None:
    write_lines("in.jsonl")
    (place / "folder").mkdir()
    with pytest.raises(InputError, match=says):
        classify(engine, "in.jsonl", out)
    assert sorted(path.name for path in place.iterdir()) == ["folder", "in.jsonl"]


# ── What is said ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_top_gives_the_likeliest_labels_first(engine: Engine) -> None:
    write_lines("in.jsonl")
    classify(engine, "in.jsonl", "all.jsonl")
    classify(engine, "in.jsonl", "top.jsonl", config=AnswerConfig(top=2))
    classify(engine, "in.jsonl", "top.csv", config=AnswerConfig(top=2))
    rows = [cells for _, cells in read_rows("top.csv")]
    for every, few, row in zip(read_json_lines("all.jsonl"), read_json_lines("top.jsonl"), rows, strict=True):
        scores = every["outputs"]["topic"]["scores"]
        best = sorted(scores, key=scores.get, reverse=True)[:2]
        assert list(few["outputs"]["topic"]["scores"].items()) == [(label, scores[label]) for label in best]
        assert (row["topic.label"], row["topic.label_2"]) == tuple(best)
        assert float(row["topic.score_2"]) == scores[best[1]]
        assert {row["parts.label_1"], row["parts.label_2"]} == {"x", "y"}
    with pytest.raises(InputError, match="--top is 0"):
        AnswerConfig(top=0)


def test_kept_columns_stand_beside_the_answer(engine: Engine) -> None:
    write_lines("in.jsonl")
    classify(engine, "in.jsonl", "out.jsonl", config=AnswerConfig(keep=("id",)))
    assert [answer["kept"] for answer in read_json_lines("out.jsonl")] == [{"id": i} for i in range(50)]
    with pytest.raises(InputError, match="no column 'ID' to keep, only 'id', 'text'"):
        classify(engine, "in.jsonl", "other.jsonl", config=AnswerConfig(keep=("ID",)))
    Path("in.csv").write_text("text,error\ngood,1\n")
    with pytest.raises(InputError, match="'error' cannot be kept"):
        classify(engine, "in.csv", "other.csv", config=AnswerConfig(keep=("all",)))
    assert not list(Path().glob("other*"))


# ── Rows that are wrong ──────────────────────────────────────────────────────────────────────────────────────────────

WRONG = {
    "in.jsonl": '{"text": "a"}\n{"text": null}\n{"text": \n{"txt": "b"}\n["a"]\n'
    '{"text": "c", "text": "d"}\n{"text": "e"}\n',
    "in.csv": 'id,text\n1,a\n2\n3,b,c\nid,text\n4,"x"y\n5,"z\nz" \n6,e\n',
    "in.tsv": "id\ttext\n1\ta\n2\n3\tb\tc\nid\ttext\n4\n5\n6\te\n",
}


@pytest.mark.parametrize("name", WRONG)
@pytest.mark.parametrize("goal", ["out.jsonl", "out.csv"])
def test_a_wrong_row_is_written_as_such_and_the_rest_is_classified(name: str, goal: str, engine: Engine) -> None:
    Path(name).write_text(WRONG[name])
    outcome = classify(engine, name, goal)
    assert (outcome.rows, outcome.failed, len(outcome.errors)) == (7, 5, 5)
    rows = [cells for _, cells in read_rows(goal)]
    assert [rows[0]["text"], rows[-1]["text"]] == ["a", "e"]
    assert [bool(row.get("error")) for row in rows] == [False, True, True, True, True, True, False]
    for row, said in zip(rows[1:-1], outcome.errors, strict=True):
        assert row["error"] == said
        assert said.startswith(f"{name}, line ")
    if goal == "out.jsonl":
        assert rows[2] == {"row": 3, "error": outcome.errors[1]}


def test_an_input_whose_first_row_is_wrong_is_refused(engine: Engine, place: Path) -> None:
    for name, content in (("in.jsonl", "[\n{}"), ("in.csv", "text\na,b\n"), ("in.tsv", "txt\nno\n")):
        Path(name).write_text(content)
        with pytest.raises(InputError, match=name):
            classify(engine, name, "out.csv")
    assert sorted(path.name for path in place.iterdir() if path.name.startswith("out")) == []


def test_a_quote_that_is_never_closed_is_no_row_that_is_wrong(engine: Engine) -> None:
    """All that follows it would be lost."""
    Path("in.csv").write_text('text\na\n"b\n' + "c\n" * 100)
    with pytest.raises(InputError, match=r"in\.csv, line 3: unexpected end of data"):
        classify(engine, "in.csv", "out.csv")


# ── Going on ─────────────────────────────────────────────────────────────────────────────────────────────────────────

GOALS = ["out.jsonl", "out.csv", "out.tsv.gz", "out.parquet"]


@pytest.mark.parametrize("goal", GOALS)
def test_what_was_interrupted_is_gone_on_with(goal: str, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    write_lines("in.jsonl")
    classify(engine, "in.jsonl", f"whole_{goal}", config=AnswerConfig(keep=("id",)))
    for windows in (2, 0, 3):
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            stop_after(patch, engine, windows)
            classify(engine, "in.jsonl", goal, config=AnswerConfig(keep=("id",)), resume=True)
        assert not Path(goal).exists()
        with Path(f"{goal}.run/parts").open("ab") as parts:
            parts.write(b"cut sho")  # what a kill leaves
    outcome = classify(engine, "in.jsonl", goal, config=AnswerConfig(keep=("id",)), resume=True)
    assert (outcome.rows, outcome.earlier) == (50, 40)
    assert Path(goal).read_bytes() == Path(f"whole_{goal}").read_bytes()
    assert not Path(f"{goal}.run").exists()


def interrupted(engine: Engine, monkeypatch: pytest.MonkeyPatch, **use: Any) -> None:
    """Two windows of a table are classified."""
    write_lines("in.jsonl")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        stop_after(patch, engine, 2)
        classify(engine, "in.jsonl", "out.jsonl", model="one", **use)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda: {"model": "another"}, "begun with another model"),
        (lambda: {"config": AnswerConfig(top=1)}, "begun with another top"),
        (lambda: Path("in.jsonl").write_text('{"text": "other"}\n' * 50) and {}, "first 16 rows are not those"),
        (lambda: write_lines("in.jsonl", 12) and {}, "first 16 rows are not those"),
    ],
)
def test_other_work_is_not_gone_on_with(
    change: Callable[[], dict[str, Any]], says: str, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupted(engine, monkeypatch)
    use = {"model": "one", **change()}
    with pytest.raises(InputError, match=says):
        classify(engine, "in.jsonl", "out.jsonl", resume=True, **use)
    assert Path("out.jsonl.run/journal.json").exists()
    assert classify(engine, "in.jsonl", "out.jsonl", **use).earlier == 0
    assert not Path("out.jsonl.run").exists()


def test_rows_after_those_that_are_done_may_be_corrected(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupted(engine, monkeypatch)
    write_lines("in.jsonl", 60)
    outcome = classify(engine, "in.jsonl", "out.jsonl", model="one", resume=True)
    assert (outcome.rows, outcome.earlier) == (60, 16)
    assert len(read_json_lines("out.jsonl")) == 60


def test_only_a_file_of_this_machine_can_be_gone_on_with(engine: Engine) -> None:
    write_lines("in.jsonl")
    for out in (None, "memory://out.jsonl", "/dev/null"):
        with pytest.raises(InputError, match="--out"):
            classify(engine, "in.jsonl", out, resume=True)


def test_counts_of_earlier_runs_are_kept(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = ['{"text": "good"}', '{"text": 1', json.dumps({"text": "good " * 99}), *['{"text": "worse"}'] * 40]
    Path("in.jsonl").write_text("\n".join(rows))
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        stop_after(patch, engine, 2)
        classify(engine, "in.jsonl", "out.jsonl")
    outcome = classify(engine, "in.jsonl", "out.jsonl", resume=True)
    assert isinstance(outcome, Outcome)
    assert (outcome.rows, outcome.failed, outcome.truncated, outcome.errors) == (43, 1, 1, [])


def test_windows_read_ahead_give_the_same_answers(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where the model computes on a device of its own."""
    write_lines("in.jsonl")
    classify(engine, "in.jsonl", "one.jsonl")
    monkeypatch.setattr(engine.backend, "side_by_side", 1)
    classify(engine, "in.jsonl", "other.jsonl")
    one, other = read_json_lines("one.jsonl"), read_json_lines("other.jsonl")
    assert [answer["text"] for answer in one] == [answer["text"] for answer in other]
    assert [a["outputs"]["stars"]["value"] for a in one] == pytest.approx(
        [a["outputs"]["stars"]["value"] for a in other], abs=1e-4
    )


def test_words_with_tags_are_cells_too(encoder_config: EncoderConfig, tokenizer: Tokenizer) -> None:
    tagger = Engine(
        random_bert(encoder_config, OutputConfig(name="slots", kind="tags", labels=("O", "B"), reads="tokens")),
        tokenizer,
    )
    Path("in.jsonl").write_text('{"text": "the quiet film"}\n{"text": ["这家", "酒店"]}\n{"text": ""}\n')
    classify(tagger, "in.jsonl", "out.jsonl")
    classify(tagger, "in.jsonl", "out.csv")
    for answer, (_, row) in zip(read_json_lines("out.jsonl"), read_rows("out.csv"), strict=True):
        assert row["slots.labels"] == " ".join(answer["outputs"]["slots"]["labels"])
        assert row["slots.scores"] == " ".join(map(str, answer["outputs"]["slots"]["scores"]))
    assert [row["text"] for _, row in read_rows("out.csv")] == ["the quiet film", "这家 酒店", ""]


@pytest.mark.parametrize("name", ["out.jsonl", "out.csv", "out.parquet"])
def test_pairs_and_texts_that_are_numbers_are_written_as_texts(
    name: str, encoder_config: EncoderConfig, tokenizer: Tokenizer
) -> None:
    config = BertConfig(encoder=encoder_config, outputs=OUTPUTS[-1:], text_columns=("one", "two"))
    of_pairs = Engine(Bert(config).eval(), tokenizer)
    Path("in.jsonl").write_text('{"one": 1, "two": ["a", 2]}\n{"one": "x", "two": {}}\n{"one": "x", "two": "y"}\n')
    assert classify(of_pairs, "in.jsonl", name).failed == 1
    rows = [cells for _, cells in read_rows(name)]
    if name == "out.jsonl":
        assert [row.get("text") for row in rows] == ["1", None, "x"]
        return
    assert [(row["one"], row["two"]) for row in rows] == [("1", "a 2"), ("x", "{}"), ("x", "y")]
