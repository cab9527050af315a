"""Tables as spreadsheets and people leave them, and other small things worth a word."""

from __future__ import annotations

import gzip
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
import torch
from conftest import films

from bothways import InputError, TextClassifier
from cases.helpers import (
    SPECIAL,
    VOCABULARY,
    check_refusal,
    csv_of,
    edit_weights,
    labels_of,
    metrics_of,
    reference,
    refuses,
    refuses_in_python,
    review_rows,
    run,
    succeeds,
    write_csv,
    write_json,
    write_rows,
    write_vocabulary,
)

Published = Callable[..., Path]
ROWS = review_rows()
TABLE = csv_of(ROWS)


def trained_on_all(name: str, encoder: Path, *words: object) -> None:
    """Fine-tuning reads forty rows of two classes from this table."""
    succeeds("finetune", "--train", name, "--encoder", encoder, "--epochs", 1, "--out", "out", *words)
    metrics = metrics_of("out")
    assert metrics["examples"] + metrics["training"]["examples"] == 40
    assert labels_of("out") == ["negative", "positive"]


# ── Names and separators ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", ["DATA.CSV", "Data.Csv", "DATA.TSV", "DATA.JSONL", "DATA.Parquet", "DATA.CSV.GZ"])
def test_endings_may_be_in_capitals(name: str, encoder: Path) -> None:
    small = name.lower()
    write_rows(small.removesuffix(".gz"), ROWS)
    if small.endswith(".gz"):
        Path(small).write_bytes(gzip.compress(TABLE.encode()))
    Path(small).rename(name)
    trained_on_all(name, encoder)


def test_so_they_may_where_documents_are_read(place: Path) -> None:
    Path("DOCS.TXT.GZ").write_bytes(gzip.compress(b"zwei gute Filme\n" * 20))
    write_rows("more.jsonl", [{"text": "drei gute Filme"}] * 20)
    Path("more.jsonl").rename("MORE.JSONL")
    use = ("tokenizer", "train", "DOCS.TXT.GZ", "MORE.JSONL", "--vocab-size", 100, "--out", "tok")
    succeeds(*use)
    assert '"filme"' in (place / "tok" / "tokenizer.json").read_text("utf-8")
    assert '"text"' not in (place / "tok" / "tokenizer.json").read_text("utf-8").split('"vocab"')[1]


SEPARATED = {
    "semicolons": (TABLE.replace(",", ";"), "semicolon|';'"),
    "tabs": (TABLE.replace(",", "\t"), r"\btabs?\b|\.tsv"),
    "bars": (TABLE.replace(",", "|"), r"'\|'|vertical bar|\bbars?\b"),
    "a sep=; line": (
        "sep=;\n" + TABLE.replace(",", ";"),
        r"sep=.*\b(remove|delete|drop|leave out|separat\w+|semicolons?)",
    ),
    "a sep=, line": ("sep=,\n" + TABLE, r"sep=.*\b(remove|delete|drop|leave out|separat\w+|commas?)"),
}


@pytest.mark.parametrize("case", SEPARATED)
@pytest.mark.parametrize("verb", ["finetune", "classify"])
def test_another_separator_is_read_or_named(case: str, verb: str, encoder: Path, classifier: Path) -> None:
    content, says = SEPARATED[case]
    Path("t.csv").write_text(content, "utf-8")
    words: tuple[object, ...] = ("classify", classifier, "t.csv")
    if verb == "finetune":
        words = ("finetune", "--train", "t.csv", "--encoder", encoder, "--epochs", 1, "--out", "out")
    ended = run(*words)
    if ended.status:
        check_refusal(ended, [r"t\.csv", r"\bline [12]\b", says])
        assert not Path("out").exists()
    elif verb == "classify":
        assert [answer["text"] for answer in ended.answers] == [row["text"] for row in ROWS]
    else:
        assert labels_of("out") == ["negative", "positive"]


def test_commas_under_the_name_of_a_tsv_are_read_or_named(classifier: Path) -> None:
    Path("t.tsv").write_text(TABLE, "utf-8")
    ended = run("classify", classifier, "t.tsv")
    if ended.status:
        check_refusal(ended, [r"t\.tsv", r"comma|\.csv"])
    else:
        assert [answer["text"] for answer in ended.answers] == [row["text"] for row in ROWS]


def test_a_column_with_a_semicolon_in_its_name_is_a_column(encoder: Path) -> None:
    write_rows("t.csv", [{"text": row["text"], "label": row["label"], "a;b": "x;y"} for row in ROWS])
    trained_on_all("t.csv", encoder)


# ── What Excel leaves ────────────────────────────────────────────────────────────────────────────────────────────────

LINES = TABLE.splitlines()
LEFT = {
    "empty columns": [line + ",," for line in LINES],
    "empty rows at the end": [*LINES, *[","] * 3],
    "empty rows in between": [*LINES[:20], ",", "", *LINES[20:]],
    "empty columns and rows": [*(line + ",," for line in LINES), *[",,,"] * 3],
    "empty cells after the last column": [LINES[0], *(line + ",," for line in LINES[1:])],
    "quoted empty cells": [*LINES, '"",""'],
    "spaces in an empty row": [*LINES, "  , "],
}


@pytest.mark.parametrize("case", LEFT)
@pytest.mark.parametrize("name", ["t.csv", "t.tsv"])
def test_what_is_empty_at_the_edges_of_a_table_is_left_out(case: str, name: str, encoder: Path) -> None:
    content = "\n".join(LEFT[case]) + "\n"
    Path(name).write_text(content if name == "t.csv" else content.replace(",", "\t"), "utf-8")
    trained_on_all(name, encoder)


def test_an_empty_column_with_something_in_it_is_named(encoder: Path) -> None:
    """Whose it is, nobody knows."""
    Path("t.csv").write_text("\n".join([LINES[0] + ",,", *(line + ",," for line in LINES[1:20]), "a,positive,x,"]))
    refuses("finetune", "--train", "t.csv", "--encoder", encoder, "--out", "out", says=[r"t\.csv", "line (1|21)"])


def test_an_empty_text_with_a_label_is_a_row(encoder: Path) -> None:
    """Empty cells make an empty row only together."""
    write_csv("t.csv", [["text", "label"], ["", "positive"], *([row["text"], row["label"]] for row in ROWS[1:])])
    trained_on_all("t.csv", encoder)


def test_answers_stay_in_step_with_their_table(classifier: Path) -> None:
    """An empty text in a column of its own has an answer, too."""
    Path("t.jsonl").write_text('{"text": "a"}\n{"text": ""}\n{"text": "b"}\n')
    write_csv("t.csv", [["text", "n"], ["a", 1], ["", 2], ["b", 3]])
    for name in ("t.jsonl", "t.csv"):
        assert [answer["text"] for answer in succeeds("classify", classifier, name).answers] == ["a", "", "b"]


@pytest.mark.parametrize("header", ["Text,Label", " text,label ", "text , label", '"text ",label', "TEXT,LABEL"])
def test_a_header_with_spaces_or_capitals_is_read_or_its_column_named(header: str, encoder: Path) -> None:
    Path("t.csv").write_text("\n".join([header, *LINES[1:]]) + "\n", "utf-8")
    ended = run("finetune", "--train", "t.csv", "--encoder", encoder, "--epochs", 1, "--out", "out")
    if ended.status:
        check_refusal(ended, [r"t\.csv", "'(text|label)'", "(?-i:Text|TEXT| text|text |label | label|Label|LABEL)"])
    else:
        assert labels_of("out") == ["negative", "positive"]


# ── Labels that look alike ───────────────────────────────────────────────────────────────────────────────────────────

ALIKE = [("1.0", "1"), ("neg ", "neg"), (" neg", "neg"), ("Neg", "neg"), ("neg\u00a0", "neg"), ("ｎｅｇ", "neg")]
ALIKE += [("e\u0301t\u00e9", "\u00e9t\u00e9"), ("01", "1")]


def names_both(words: str, pair: tuple[str, str]) -> bool:
    """Whether both labels stand on one line, told apart by what is around them."""
    return any(
        all(repr(label)[1:-1] + "'" in line or f"{label}'" in line for label in pair) for line in words.splitlines()
    )


@pytest.mark.parametrize("kind", ["single", "multi", "tags"])
@pytest.mark.parametrize("pair", ALIKE, ids=ascii)
def test_labels_that_look_alike_are_said(pair: tuple[str, str], kind: str, encoder: Path) -> None:
    """On standard error, or refused; never two classes in silence."""
    if kind != "single" and pair[0].strip() != pair[0]:
        pytest.skip("spaces part such labels, and are no part of them")
    rows = [{"text": "film", "label": (*pair, "pos")[i % 3]} for i in range(30)]
    write_rows("t.csv", rows)
    use = ("finetune", "--train", "t.csv", "--encoder", encoder, "--epochs", 1, "--out", "out")
    ended = run(*use, "--output", f"label:{kind}")
    if ended.status:
        check_refusal(ended, [r"t\.csv", "'label'"])
    elif len(labels_of("out")) == 3:
        assert names_both(ended.err, pair), f"not a word of {pair} in:\n{ended.err}"


@pytest.mark.parametrize("pair", ALIKE[:4], ids=ascii)
def test_so_they_are_in_python(pair: tuple[str, str], encoder: Path, recwarn: pytest.WarningsRecorder) -> None:
    texts, labels = ["film"] * 30, [(*pair, "pos")[i % 3] for i in range(30)]
    said = []
    try:
        TextClassifier(encoder, epochs=1).fit(texts, labels)
    except InputError as error:
        said.append(str(error))
    said += [str(warning.message) for warning in recwarn]
    assert any(names_both(sentence, pair) for sentence in said)


def test_numbers_of_two_kinds_of_writing_in_json_lines_are_said(encoder: Path) -> None:
    """1 and 1.0, which JSON does not tell apart and text does."""
    write_rows("t.jsonl", [{"text": "film", "label": [1, 1.0, 2][i % 3]} for i in range(30)])
    ended = run("finetune", "--train", "t.jsonl", "--encoder", encoder, "--epochs", 1, "--out", "out")
    if ended.status:
        check_refusal(ended, [r"t\.jsonl", "'label'"])
    elif len(labels_of("out")) == 3:
        assert names_both(ended.err, ("1.0", "1"))


def test_labels_that_differ_are_no_matter_for_words(encoder: Path) -> None:
    write_rows(
        "t.csv", [{"text": f"film {i}", "label": ["1", "10", "negative", "not negative"][i % 4]} for i in range(40)]
    )
    ended = succeeds("finetune", "--train", "t.csv", "--encoder", encoder, "--epochs", 1, "--out", "out")
    assert not names_both(ended.err, ("1", "10"))
    assert not names_both(ended.err, ("negative", "not negative"))


# ── Labels that a model does not know ────────────────────────────────────────────────────────────────────────────────


def test_a_label_that_a_published_model_does_not_know_is_answered_with_those_it_knows(
    published: Published, place: Path
) -> None:
    published(place / "p", num_labels=3)
    write_rows("t.csv", [{"text": "a", "label": "0"}, {"text": "b", "label": "1"}])
    refuses("evaluate", "p", "t.csv", says=[r"t\.csv", "line 2", "'0'", "LABEL_0", "LABEL_1", "LABEL_2"])


@pytest.mark.parametrize("verb", ["evaluate", "dev"])
@pytest.mark.parametrize("label", ["neg", "negative ", "Negative"])
def test_a_label_that_training_has_not_seen_is_answered_so_too(
    label: str, verb: str, encoder: Path, classifier: Path
) -> None:
    write_rows("train.csv", ROWS)
    write_rows("t.csv", [{"text": "a", "label": "positive"}, {"text": "b", "label": label}])
    words: tuple[object, ...] = ("evaluate", classifier, "t.csv")
    if verb == "dev":
        words = ("finetune", "--train", "train.csv", "--dev", "t.csv", "--encoder", encoder, "--out", "out")
    refuses(*words, says=[r"t\.csv", "line 3", f"'{label}'", r"\bnegative\b(?! ')", "positive"])


def test_a_thousand_known_labels_make_no_sentence_of_a_thousand_words(encoder: Path) -> None:
    write_rows("t.csv", [{"text": f"film {i}", "label": f"class {i % 300}"} for i in range(600)])
    write_rows("dev.csv", [{"text": "film", "label": "class x"}])
    use = ("finetune", "--train", "t.csv", "--dev", "dev.csv", "--encoder", encoder, "--out", "out")
    assert len(refuses(*use, says=[r"dev\.csv", "line 2", "'class x'", r"class \d"])) < 1000


# ── Weights and vocabularies ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod."])
def test_what_training_puts_before_names_is_left_off(prefix: str, published: Published, place: Path) -> None:
    """DataParallel and torch.compile name weights so."""
    directory = published(place / "p", num_labels=3)
    texts = ["the good film", "我爱北京"]
    expected = reference(directory, texts)
    edit_weights(directory / "model.safetensors", lambda w: {prefix + name: tensor for name, tensor in w.items()})
    answers = TextClassifier.load(directory, precision="fp32").predict_proba(texts)
    np.testing.assert_allclose(answers, expected, atol=1e-5)


def test_so_it_is_for_an_encoder(published: Published, place: Path) -> None:
    directory = published(place / "p", "BertModel")
    edit_weights(directory / "model.safetensors", lambda w: {"module." + name: tensor for name, tensor in w.items()})
    write_rows("t.csv", ROWS)
    trained_on_all("t.csv", directory)


@pytest.mark.parametrize("token", SPECIAL)
def test_a_vocabulary_without_a_special_token_is_named(token: str, published: Published, place: Path) -> None:
    tokens = ["[unused]" if entry == token else entry for entry in VOCABULARY]
    write_vocabulary(published(place / "p"), tokens)
    name = token.replace("[", r"\[").replace("]", r"\]")
    refuses("classify", "p", says=[r"\bp/vocab\.txt", name], stdin=b"good\n")


@pytest.mark.parametrize("verb", ["classify", "finetune", "corpus", "python"])
def test_so_is_a_tokenizer_json(verb: str, published: Published, encoder: Path, place: Path) -> None:
    from bothways import Tokenizer

    directory = published(place / "p") if verb == "classify" else Path(shutil.copytree(encoder, place / "p"))
    text = (directory / "tokenizer.json").read_text("utf-8")
    (directory / "tokenizer.json").write_text(text.replace("[MASK]", "[MASQUE]"), "utf-8")
    write_rows("t.csv", ROWS)
    Path("docs.txt").write_text("a film\n")
    says = [r"\bp/tokenizer\.json", r"\[MASK\]"]
    words: dict[str, tuple[object, ...]] = {
        "classify": ("classify", "p"),
        "finetune": ("finetune", "--train", "t.csv", "--encoder", "p", "--out", "out"),
        "corpus": ("corpus", "build", "docs.txt", "--tokenizer", "p", "--out", "corpus"),
    }
    if verb == "python":
        refuses_in_python(lambda: Tokenizer.load("p"), says)
    else:
        refuses(*words[verb], says=says, stdin=b"good\n")


def test_a_tokenizer_of_another_kind_is_named_with_its_file(published: Published, place: Path) -> None:
    write_json(
        published(place / "p") / "tokenizer.json",
        {
            "version": "1.0",
            "added_tokens": [],
            "model": {"type": "BPE", "vocab": {"a": 0}, "merges": []},
        },
    )
    refuses("classify", "p", says=[r"\bp/tokenizer\.json", "BPE"], stdin=b"good\n")


# ── scikit-learn's habits ────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "make",
    [
        lambda labels: pandas.DataFrame({"label": labels}),
        lambda labels: np.array(labels)[:, None],
        lambda labels: np.array(labels, object)[:, None],
        lambda labels: [[label] for label in labels],
        lambda labels: pandas.Series(labels, index=range(100, 100 + len(labels))),
    ],
    ids=["frame", "column", "column of objects", "list of lists", "Series of another index"],
)
def test_labels_in_one_column_are_labels(make: Callable[[list[str]], Any], encoder: Path) -> None:
    texts, labels = films(40)
    expected = TextClassifier(encoder, epochs=1).fit(texts, labels)
    fitted = TextClassifier(encoder, epochs=1).fit(texts, make(labels))
    assert fitted.classes_.tolist() == ["negative", "positive"]
    np.testing.assert_array_equal(fitted.predict_proba(texts), expected.predict_proba(texts))


@pytest.mark.parametrize(
    "make",
    [
        lambda labels: pandas.DataFrame({"a": labels, "b": labels}),
        lambda labels: np.array([labels, labels]).T,
        lambda labels: np.array([labels]),
        lambda labels: "positive",
        lambda labels: None,
        lambda labels: 5,
    ],
    ids=["two columns of a frame", "two columns", "a row", "a text", "None", "a number"],
)
def test_what_is_no_column_of_labels_is_refused(make: Callable[[list[str]], Any], encoder: Path) -> None:
    texts, labels = films(40)
    refuses_in_python(
        lambda: TextClassifier(encoder, epochs=1).fit(texts, make(labels)),
        ["label", "column|dimension|one each|one label|list"],
    )


def states() -> list[Any]:
    """Where everybody's random numbers stand."""
    numpy_state = np.random.get_state(legacy=True)  # noqa: NPY002 (the state of others is what is asked)
    return [torch.get_rng_state().tolist(), random.getstate(), numpy_state[1].tolist(), numpy_state[2]]


@pytest.mark.parametrize("action", ["fit", "predict", "load", "save"])
def test_the_random_numbers_of_others_go_on(action: str, encoder: Path, classifier: Path) -> None:
    """A library that seeds everybody makes experiments repeat that ought not to."""
    texts, labels = films(40)
    loaded = TextClassifier.load(classifier)
    actions: dict[str, Callable[[], object]] = {
        "fit": lambda: TextClassifier(encoder, epochs=1).fit(texts, labels),
        "predict": lambda: loaded.predict(texts),
        "load": lambda: TextClassifier.load(classifier),
        "save": lambda: loaded.save("saved"),
    }
    torch.manual_seed(12345)
    before = states()
    actions[action]()
    assert states() == before


def test_the_same_seed_is_the_same_classifier_whatever_came_before(encoder: Path) -> None:
    texts, labels = films(40)
    torch.manual_seed(1)
    first = TextClassifier(encoder, epochs=1, seed=3).fit(texts, labels).predict_proba(texts)
    torch.manual_seed(2)
    torch.rand(17)
    second = TextClassifier(encoder, epochs=1, seed=3).fit(texts, labels).predict_proba(texts)
    np.testing.assert_array_equal(first, second)
    other = TextClassifier(encoder, epochs=1, seed=4).fit(texts, labels).predict_proba(texts)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("change", ["threads", "gradients", "dtype"])
def test_the_switches_of_others_stay_as_they_are(change: str, encoder: Path) -> None:
    texts, labels = films(40)
    asked: dict[str, Callable[[], object]] = {
        "threads": torch.get_num_threads,
        "gradients": torch.is_grad_enabled,
        "dtype": torch.get_default_dtype,
    }
    before = asked[change]()
    TextClassifier(encoder, epochs=1).fit(texts, labels).predict(texts)
    assert asked[change]() == before
