"""What one entrance refuses, every other refuses too: all readers, all verbs, the command line and Python."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pyarrow
import pyarrow.parquet
import pytest
from conftest import films

from bothways import InputError, TextClassifier
from cases.helpers import (
    check_refusal,
    check_sentence,
    contents,
    process,
    refuses,
    refuses_in_python,
    review_rows,
    run,
    succeeds,
    write_csv,
    write_rows,
)

TWICE = r"two columns|twice|same name|more than once"
KEY_TWICE = r"twice|two|same|more than once|again"


# ── Two columns of one name ──────────────────────────────────────────────────────────────────────────────────────────


def write_twice(name: str, columns: list[str], rows: int = 40) -> Path:
    """A table with these columns, names repeated, in the format that `name` tells."""
    labels = films(rows)[1]
    cells = [[f"the film {i}" if column == "text" else labels[i] for column in columns] for i in range(rows)]
    if name.endswith(".parquet"):
        arrays = [pyarrow.array(column) for column in zip(*cells, strict=True)]
        pyarrow.parquet.write_table(pyarrow.Table.from_arrays(arrays, names=columns), name)
    elif name.endswith(".jsonl"):
        lines = [
            ", ".join(f"{json.dumps(c)}: {json.dumps(v)}" for c, v in zip(columns, row, strict=True)) for row in cells
        ]
        Path(name).write_text("".join(f"{{{line}}}\n" for line in lines), "utf-8")
    else:
        write_csv(name, [columns, *cells], "\t" if name.endswith(".tsv") else ",")
    return Path(name)


@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "t.jsonl", "t.parquet"])
def test_two_columns_of_one_name_are_refused_by_every_reader(name: str, encoder: Path) -> None:
    write_twice(name, ["text", "label", "label"])
    where = [] if name == "t.parquet" else ["line 1"]
    refuses(
        *("finetune", "--train", name, "--encoder", encoder, "--out", "out"),
        says=[name, "'label'", KEY_TWICE if name == "t.jsonl" else TWICE, *where],
    )


@pytest.mark.parametrize("name", ["t.parquet", "t.jsonl", "t.csv"])
@pytest.mark.parametrize("verb", ["classify", "evaluate", "dev", "tokenizer", "corpus"])
def test_two_columns_of_one_name_are_refused_by_every_verb(
    verb: str, name: str, encoder: Path, classifier: Path
) -> None:
    write_twice(name, ["text", "text", "label"])
    write_rows("train.csv", review_rows())
    words: dict[str, tuple[object, ...]] = {
        "classify": ("classify", classifier, name, "--out", "answers.jsonl"),
        "evaluate": ("evaluate", classifier, name, "--json", "metrics.json"),
        "dev": ("finetune", "--train", "train.csv", "--dev", name, "--encoder", encoder, "--out", "out"),
        "tokenizer": ("tokenizer", "train", name, "--vocab-size", 100, "--out", "tokenizer"),
        "corpus": ("corpus", "build", name, "--tokenizer", encoder, "--out", "corpus"),
    }
    refuses(*words[verb], says=[name, "'text'", KEY_TWICE if name == "t.jsonl" else TWICE])


# ── Texts and pairs of texts in Python ───────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("verb", ["predict", "predict_proba", "score"])
def test_a_classifier_of_texts_refuses_pairs(verb: str, classifier: Path) -> None:
    loaded = TextClassifier.load(classifier)
    more = (["negative"],) if verb == "score" else ()
    refuses_in_python(lambda: getattr(loaded, verb)([("a", "b")], *more), ["pair", "text"])


@pytest.mark.parametrize("verb", ["predict", "predict_proba", "score"])
def test_a_classifier_of_pairs_refuses_texts(verb: str, pair_classifier: Path) -> None:
    loaded = TextClassifier.load(pair_classifier)
    more = (["negative"],) if verb == "score" else ()
    refuses_in_python(lambda: getattr(loaded, verb)(["a"], *more), ["pair"])
    assert loaded.predict([("a", "b")]).shape == (1,)


def test_a_freshly_fitted_classifier_knows_what_it_reads_too(encoder: Path) -> None:
    texts, labels = films(40)
    fitted = TextClassifier(encoder, epochs=1).fit(texts, labels)
    refuses_in_python(lambda: fitted.predict([("a", "b")]), ["pair"])
    fitted = TextClassifier(encoder, epochs=1).fit([(text, "the film") for text in texts], labels)
    refuses_in_python(lambda: fitted.predict(["a"]), ["pair"])


@pytest.mark.parametrize(
    "given",
    [{"text": ["good", "worse", "thin"]}, pandas.DataFrame({"text": ["good", "worse", "thin"]})],
    ids=["dict", "frame"],
)
def test_the_names_of_columns_are_never_taken_for_texts(given: Any, classifier: Path) -> None:
    """Either there is an answer for each row, or a sentence; never one for the word `text`."""
    loaded = TextClassifier.load(classifier)
    try:
        answers = loaded.predict(given)
    except InputError as error:
        check_sentence(str(error), ["list|column|Series"])
    else:
        assert answers.tolist() == loaded.predict(["good", "worse", "thin"]).tolist()


# ── Missing labels in Python ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "missing",
    [None, float("nan"), np.float32("nan"), pandas.NA, pandas.NaT],
    ids=["None", "nan", "float32 nan", "NA", "NaT"],
)
def test_a_missing_label_is_named_by_its_number(missing: Any, encoder: Path) -> None:
    texts, labels = films(40)
    given: list[Any] = list(labels)
    given[19] = missing
    refuses_in_python(lambda: TextClassifier(encoder, epochs=1).fit(texts, given), ["Label 20 is"])


@pytest.mark.parametrize(
    "make",
    [
        lambda labels: np.array([float(y == "positive") if y else np.nan for y in labels]),
        lambda labels: np.array(labels, object),
        lambda labels: pandas.Series(labels),
        lambda labels: pandas.Series(labels, dtype="string"),
        lambda labels: pandas.Series(labels, dtype="category"),
        lambda labels: pandas.Series([1 if y else None for y in labels], dtype="Int64"),
        lambda labels: np.ma.masked_equal([9 if y is None else int(y == "positive") for y in labels], 9),
    ],
    ids=["floats", "objects", "Series", "strings", "categories", "Int64", "masked array"],
)
def test_a_missing_label_is_seen_in_every_kind_of_array(make: Callable[[list[Any]], Any], encoder: Path) -> None:
    texts, labels = films(40)
    given = make([*labels[:19], None, *labels[20:]])
    refuses_in_python(lambda: TextClassifier(encoder, epochs=1).fit(texts, given), ["Label 20 is"])


def test_an_empty_label_is_a_missing_one_in_python_as_in_a_table(encoder: Path) -> None:
    texts, labels = films(40)
    rows = [{"text": t, "label": y} for t, y in zip(texts, [*labels[:19], "", *labels[20:]], strict=True)]
    for name in ("t.csv", "t.jsonl"):
        write_rows(name, rows)
        line = "line 21" if name == "t.csv" else "line 20"
        use = ("finetune", "--train", name, "--encoder", encoder, "--out", "out")
        refuses(*use, says=[name, line, "'label' is empty"])
    given = [row["label"] for row in rows]
    refuses_in_python(lambda: TextClassifier(encoder, epochs=1).fit(texts, given), ["Label 20 is"])


@pytest.mark.parametrize("name", ["t.jsonl", "t.parquet"])
@pytest.mark.parametrize("kind", ["multi", "tags", "tokens"])
def test_a_null_inside_a_list_is_a_missing_one(kind: str, name: str, encoder: Path) -> None:
    """Never a label or a word called None."""
    rows: list[dict[str, Any]] = [{"text": ["a", "b"], "label": ["x", "y"]} for _ in range(10)]
    if kind == "multi":
        rows = [{"text": "a", "label": ["x", "y"]} for _ in range(10)]
    rows[4]["text" if kind == "tokens" else "label"] = ["x", None]
    write_rows(name, rows)
    refuses(
        *("finetune", "--train", name, "--encoder", encoder, "--out", "out"),
        *("--output", "label:multi" if kind == "multi" else "label:tags"),
        says=[name, "(line|row) 5", "'text'" if kind == "tokens" else "'label'", "null|missing|empty|None"],
    )


@pytest.mark.parametrize("name", ["t.jsonl", "t.parquet"])
def test_a_null_inside_the_lines_of_a_document_is_no_word(name: str, place: Path) -> None:
    """Refused, or left out; never the word None."""
    write_rows(name, [{"text": ["zwei gute", None]}] * 20)
    ended = run("tokenizer", "train", name, "--vocab-size", 100, "--out", "tokenizer")
    if ended.status:
        check_refusal(ended, [name, "(line|row) 1", "'text'"])
    else:
        assert '"none"' not in (place / "tokenizer" / "tokenizer.json").read_text("utf-8")


# ── Settings in Python ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("pooling", "median"),
        ("optimizer", "sgd"),
        ("precision", "fp8"),
        ("epochs", 1.5),
        ("epochs", "3"),
        ("batch_size", "32"),
        ("batch_size", 0),
        ("learning_rate", float("nan")),
        ("learning_rate", "fast"),
        ("max_length", 4),
        ("seed", -1),
        ("seed", None),
    ],
)
def test_a_wrong_setting_is_refused_in_python_as_on_the_command_line(setting: str, value: Any, encoder: Path) -> None:
    texts, labels = films(40)
    made = TextClassifier(encoder, **{"epochs": 1, setting: value})
    refuses_in_python(lambda: made.fit(texts, labels), [setting.replace("_", "[-_ ]"), str(value)])


@pytest.mark.parametrize(
    ("flag", "value"), [("seed", "-1"), ("pooling", "median"), ("epochs", "1.5"), ("held-out", "1")]
)
def test_a_wrong_setting_is_refused_on_the_command_line(flag: str, value: str, encoder: Path, place: Path) -> None:
    write_rows("t.csv", review_rows())
    use = ("finetune", "--train", "t.csv", "--encoder", encoder, "--out", "out")
    ended = run(*use, f"--{flag}={value}")
    assert ended.status == 2
    assert f"--{flag}" in ended.err
    assert "Traceback" not in ended.err
    assert not (place / "out").exists()


# ── Standard output that cannot show everything, standard streams that are closed ────────────────────────────────────

STRANGE = "标签😀"


@pytest.fixture(scope="module")
def strange_model(tmp_path_factory: pytest.TempPathFactory, encoder: Path) -> Path:
    """A classifier whose output has a name that few encodings can write."""
    folder = tmp_path_factory.mktemp("strange")
    rows = [{"text": row["text"], STRANGE: row["label"]} for row in review_rows()]
    table = write_rows(folder / "t.csv", rows)
    use = ("finetune", "--train", table, "--encoder", encoder, "--epochs", 1, "--out", folder / "model")
    succeeds(*use, "--label", STRANGE)
    return folder / "model"


@pytest.mark.parametrize("encoding", ["gbk", "latin-1", "ascii", "utf-8"])
def test_figures_are_shown_on_any_standard_output(encoding: str, strange_model: Path) -> None:
    write_rows("t.csv", [{"text": row["text"], STRANGE: row["label"]} for row in review_rows()])
    ended = process("evaluate", strange_model, "t.csv", env={"PYTHONIOENCODING": encoding})
    assert ended.status == 0, ended.err
    assert "accuracy" in ended.out
    assert "Traceback" not in ended.err


@pytest.mark.parametrize("encoding", ["gbk", "ascii"])
def test_fine_tuning_shows_its_figures_on_any_standard_output(encoding: str, encoder: Path, place: Path) -> None:
    write_rows("t.csv", [{"text": row["text"], STRANGE: row["label"]} for row in review_rows()])
    use = ("finetune", "--train", "t.csv", "--encoder", encoder, "--epochs", 1, "--label", STRANGE)
    ended = process(*use, "--out", f"{STRANGE}1", env={"PYTHONIOENCODING": encoding})
    assert ended.status == 0, ended.err
    assert "accuracy" in ended.out
    assert "Traceback" not in ended.err
    assert (place / f"{STRANGE}1" / "model.safetensors").is_file()


@pytest.mark.parametrize("words", [("--help",), ("finetune", "--help"), ("classify", "--ouut")])
def test_help_is_shown_on_any_standard_output(words: tuple[str, ...]) -> None:
    ended = process(*words, env={"PYTHONIOENCODING": "ascii"})
    assert ended.status == (0 if "--help" in words else 2), ended.err
    assert "Traceback" not in ended.err
    assert "classify" in ended.out + ended.err or "--epochs" in ended.out


def test_a_sentence_is_shown_on_any_standard_error() -> None:
    ended = process("classify", f"./{STRANGE}", "t.csv", env={"PYTHONIOENCODING": "ascii"})
    check_refusal(ended, ["directory"])


def test_answers_are_utf_8_on_any_standard_output(classifier: Path) -> None:
    ended = process("classify", classifier, stdin="很好😀\n".encode(), env={"PYTHONIOENCODING": "ascii"})
    assert ended.status == 0, ended.err
    assert ended.answers[0]["text"] == "很好😀"


def test_a_closed_standard_input_is_one_sentence(classifier: Path) -> None:
    check_refusal(process("classify", classifier, redirected="<&-"), ["standard input", "closed|no "])


def test_a_table_needs_no_standard_input(classifier: Path) -> None:
    write_rows("t.csv", review_rows(3))
    ended = process("classify", classifier, "t.csv", redirected="<&-")
    assert ended.status == 0, ended.err
    assert len(ended.answers) == 3


@pytest.mark.parametrize("verb", ["classify", "evaluate"])
def test_a_closed_standard_output_is_one_sentence(verb: str, classifier: Path) -> None:
    write_rows("t.csv", review_rows(3))
    ended = process(verb, classifier, "t.csv", redirected=">&-")
    check_refusal(ended, ["standard output"])


def test_nothing_is_written_to_a_closed_standard_output_if_it_goes_to_a_file(classifier: Path, place: Path) -> None:
    write_rows("t.csv", review_rows(3))
    ended = process("classify", classifier, "t.csv", "--out", "answers.jsonl", redirected=">&- <&-")
    assert ended.status == 0, ended.err
    assert len((place / "answers.jsonl").read_text("utf-8").splitlines()) == 3


def test_words_to_the_person_never_get_among_the_answers(classifier: Path) -> None:
    """Python prints to standard output what it is asked to print to a standard error that is closed."""
    ended = process("classify", classifier, stdin=b"the film " * 100, redirected="2>&-")
    assert ended.status == 0
    assert [answer["truncated"] for answer in ended.answers] == [True]


def test_a_byte_order_mark_is_no_part_of_a_text_on_standard_input_either(classifier: Path) -> None:
    assert succeeds("classify", classifier, stdin="\ufeff很好\n".encode()).answers[0]["text"] == "很好"


# ── What is read is never written over ───────────────────────────────────────────────────────────────────────────────


def other_names(path: Path) -> dict[str, str]:
    """Names by which a file is known, some of them made here."""
    (path.parent / "link").symlink_to(path.name)
    (path.parent / "hard").hardlink_to(path)
    return {
        "itself": path.name,
        "dotted": f"./{path.name}",
        "absolute": str(path.absolute()),
        "roundabout": f"../{path.parent.name}/{path.name}",
        "link": "link",
        "hard link": "hard",
    }


NAMES = ["itself", "dotted", "absolute", "roundabout", "link", "hard link"]


@pytest.mark.parametrize("name", NAMES)
def test_answers_never_replace_their_table(name: str, classifier: Path, place: Path) -> None:
    write_rows("in.csv", review_rows(3))
    goal = other_names(place / "in.csv")[name]
    refuses("classify", classifier, "in.csv", "--out", goal, says=["in.csv", "read|in use|input|same"])


def test_answers_never_replace_a_table_read_by_another_name(classifier: Path, place: Path) -> None:
    write_rows("in.csv", review_rows(3))
    (place / "link.csv").symlink_to("in.csv")
    for name in ("link.csv", (place / "in.csv").as_uri(), f"local://{place}/in.csv"):
        refuses("classify", classifier, name, "--out", "in.csv", says=["in.csv", "read|in use|input|same"])


@pytest.mark.parametrize("name", NAMES)
def test_figures_never_replace_their_table(name: str, classifier: Path, place: Path) -> None:
    write_rows("in.csv", review_rows(3))
    goal = other_names(place / "in.csv")[name]
    refuses("evaluate", classifier, "in.csv", "--json", goal, says=["in.csv", "read|in use|input|same"])


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
@pytest.mark.parametrize("verb", ["classify", "evaluate"])
def test_neither_replaces_a_file_of_the_model(verb: str, name: str, classifier: Path, place: Path) -> None:
    shutil.copytree(classifier, place / "model")
    write_rows("in.csv", review_rows(3))
    flag = "--out" if verb == "classify" else "--json"
    refuses(verb, "model", "in.csv", flag, f"model/{name}", says=[name, "read|in use|input|same"])


@pytest.mark.parametrize("words", [("-",), ()], ids=["dash", "nothing"])
def test_answers_never_replace_the_file_that_is_standard_input(
    words: tuple[str, ...], classifier: Path, place: Path
) -> None:
    (place / "in.txt").write_text("good\nworse\n")
    before = contents(place)
    ended = process("classify", classifier, *words, "--out", "in.txt", redirected="< in.txt")
    check_refusal(ended, ["in.txt", "read|in use|input|same"])
    assert contents(place) == before


def test_answers_are_never_appended_to_their_table(classifier: Path, place: Path) -> None:
    """As `cat a >> a` has it: the output is the input."""
    write_rows("in.csv", review_rows(3))
    before = contents(place)
    ended = process("classify", classifier, "in.csv", redirected=">> in.csv")
    assert contents(place) == before
    check_refusal(ended, ["in.csv", "read|in use|input|same"])


@pytest.mark.parametrize("verb", ["finetune", "continue", "corpus", "pretrain", "tokenizer", "dev", "train"])
@pytest.mark.parametrize("name", ["itself", "link"])
def test_a_directory_never_replaces_what_it_is_made_from(verb: str, name: str, encoder: Path, place: Path) -> None:
    shutil.copytree(encoder, place / "encoder")
    write_rows("t.csv", review_rows())
    (place / "docs").mkdir()
    (place / "docs" / "docs.txt").write_text("A good film. It is worth it.\n\nA thin plot. It is worse.\n" * 20)
    (place / "tables").mkdir()
    shutil.copy("t.csv", "tables")
    succeeds("corpus", "build", "docs/docs.txt", "--tokenizer", "encoder", "--out", "corpus")
    words: dict[str, tuple[str, tuple[object, ...]]] = {
        "finetune": ("encoder", ("finetune", "--train", "t.csv", "--encoder", "encoder", "--epochs", 1)),
        "continue": (
            "encoder",
            ("pretrain", "--corpus", "corpus", "--encoder", "encoder", "--steps", 2, "--sequence-lengths", 64),
        ),
        "corpus": ("encoder", ("corpus", "build", "docs/docs.txt", "--tokenizer", "encoder")),
        "pretrain": ("corpus", ("pretrain", "--corpus", "corpus", "--preset", "tiny", "--steps", 2)),
        "tokenizer": ("docs", ("tokenizer", "train", "docs/docs.txt", "--vocab-size", 100)),
        "dev": ("tables", ("finetune", "--train", "t.csv", "--dev", "tables/t.csv", "--encoder", "encoder")),
        "train": ("tables", ("finetune", "--train", "tables/t.csv", "--encoder", "encoder", "--epochs", 1)),
    }
    goal, use = words[verb]
    if name == "link":
        os.symlink(goal, "link")
        goal = "link"
    refuses(*use, "--out", goal, "--overwrite", says=[goal, "read|in use|input|same"])


def test_a_tokenizer_never_replaces_its_documents(place: Path) -> None:
    Path("docs.txt").write_text("A good film.\n\nA thin plot.\n" * 20)
    use = ("tokenizer", "train", "docs.txt", "--vocab-size", 100, "--out", "docs.txt", "--overwrite")
    refuses(*use, says=[r"docs\.txt", "read|in use|input|same"])
