"""Entities are counted as their scheme has them; a Chinese sentence without spaces is tagged by character."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from cases.helpers import (
    SPECIAL,
    check_refusal,
    labels_of,
    refuses,
    run,
    succeeds,
    tiny_config,
    write_csv,
    write_rows,
    write_vocabulary,
)


def oracle(directory: Path, labels: Sequence[str]) -> Path:
    """A published tagger that says the first label of the word `w0`, the second of `w1` and so on: nothing but a word's
    own embedding counts, and that points at its label."""
    import transformers

    words = [f"w{i}" for i in range(len(labels))]
    config = tiny_config(
        vocab_size=len(SPECIAL) + len(words),
        id2label=dict(enumerate(labels)),
        label2id={label: i for i, label in enumerate(labels)},
    )
    model = transformers.BertForTokenClassification(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        for name, parameter in model.named_parameters():
            if name.endswith("LayerNorm.weight"):
                parameter.fill_(1.0)
        for i in range(len(labels)):
            model.bert.embeddings.word_embeddings.weight[len(SPECIAL) + i, i] = 1.0
            model.classifier.weight[i, i] = 1.0
    model.save_pretrained(directory)
    return write_vocabulary(directory, [*SPECIAL, *words])


def judged(place: Path, labels: Sequence[str], rows: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """The figures of a tagger that answers the second sequence of each row where the first is right."""
    oracle(place / "oracle", labels)
    words = {label: f"w{i}" for i, label in enumerate(labels)}
    table = [{"text": " ".join(words[tag] for tag in said.split()), "tags": true} for true, said in rows]
    write_rows("t.csv", table)
    answers = succeeds("classify", "oracle", "t.csv").answers
    assert [" ".join(answer["outputs"]["tags"]["labels"]) for answer in answers] == [said for _, said in rows]
    succeeds("evaluate", "oracle", "t.csv", "--json", "metrics.json")
    return json.loads(Path("metrics.json").read_text())["outputs"]["tags"]


BIO = ["O", "B-X", "I-X", "B-Y", "I-Y"]
BIOES = ["O", "B-X", "I-X", "E-X", "S-X", "B-Y", "E-Y", "S-Y"]
BILOU = ["O", "B-X", "I-X", "L-X", "U-X", "B-Y", "L-Y", "U-Y"]
BMES = ["O", "B-X", "M-X", "E-X", "S-X", "B-Y", "E-Y", "S-Y"]
BMEWO = ["O", "B-X", "M-X", "E-X", "W-X"]

FIGURES: dict[str, tuple[list[str], list[tuple[str, str]], tuple[int, int, int]]] = {
    # labels, (true, said) rows, (right, said, true) entities counted by hand
    "BIO, all right": (BIO, [("B-X I-X O B-Y", "B-X I-X O B-Y")], (2, 2, 2)),
    "BIO, one too short": (BIO, [("B-X I-X O B-Y", "B-X O O B-Y")], (1, 2, 2)),
    "BIO, neighbours": (BIO, [("B-X B-X I-X", "B-X I-X I-X")], (0, 1, 2)),
    "BIO, wrong type": (BIO, [("B-X I-X O", "B-Y I-Y O"), ("B-Y O O", "B-Y O O")], (1, 2, 2)),
    "BIOES, all right": (BIOES, [("B-X I-X E-X O S-Y", "B-X I-X E-X O S-Y")], (2, 2, 2)),
    "BIOES, only single words": (BIOES, [("S-X O S-Y", "S-X O S-Y")], (2, 2, 2)),
    "BIOES, single words missed": (BIOES, [("B-X E-X O S-Y S-X", "B-X E-X O O O")], (1, 1, 3)),
    "BIOES, single words invented": (BIOES, [("B-X E-X O O O", "B-X E-X O S-Y S-X")], (1, 3, 1)),
    "BIOES, two for one": (BIOES, [("B-X I-X E-X", "B-X E-X S-X")], (0, 2, 1)),
    "BIOES, wrong type": (BIOES, [("S-X O B-Y E-Y", "S-Y O B-Y E-Y")], (1, 2, 2)),
    "BIOES, side by side": (BIOES, [("B-X E-X B-X E-X S-X S-X", "B-X E-X B-X E-X S-X S-X")], (4, 4, 4)),
    "BILOU, all right": (BILOU, [("B-X I-X L-X O U-Y", "B-X I-X L-X O U-Y")], (2, 2, 2)),
    "BILOU, single words missed": (BILOU, [("B-X L-X O U-Y", "B-X L-X O O")], (1, 1, 2)),
    "BILOU, only single words": (BILOU, [("U-X O U-Y", "U-X O O")], (1, 1, 2)),
    "BMES, all right": (BMES, [("B-X M-X M-X E-X O S-Y", "B-X M-X M-X E-X O S-Y")], (2, 2, 2)),
    "BMES, one too short": (BMES, [("B-X M-X E-X O", "B-X E-X O O")], (0, 1, 1)),
    "BMES, single words missed": (BMES, [("B-X M-X E-X S-Y", "B-X M-X E-X O")], (1, 1, 2)),
    "BMES, side by side": (BMES, [("B-X E-X B-X E-X", "B-X M-X M-X E-X")], (0, 1, 2)),
    "BMEWO, all right": (BMEWO, [("B-X M-X E-X O W-X", "B-X M-X E-X O W-X")], (2, 2, 2)),
    "BMEWO, single words missed": (BMEWO, [("B-X E-X O W-X", "B-X E-X O O")], (1, 1, 2)),
    "words of Chinese, all right": (["B", "M", "E", "S"], [("B E S B M E", "B E S B M E")], (3, 3, 3)),
    "words of Chinese, two for one": (["B", "M", "E", "S"], [("B M E S B E", "B E S S B E")], (2, 4, 3)),
    "several rows": (BIOES, [("S-X O", "S-X O"), ("O S-Y", "O O"), ("B-X E-X", "B-X E-X")], (2, 2, 3)),
}


@pytest.mark.parametrize("case", FIGURES)
def test_entities_are_counted_by_their_scheme(case: str, place: Path) -> None:
    labels, rows, (right, said, true) = FIGURES[case]
    figures = judged(place, labels, rows)
    assert math.isclose(figures["precision"], right / said)
    assert math.isclose(figures["recall"], right / true)
    assert math.isclose(figures["f1"], 2 * right / (said + true))


@pytest.mark.parametrize("labels", [["O", "S-X"], ["O", "U-X"], ["O", "S-X", "S-Y"]], ids=str)
def test_a_scheme_of_single_words_alone_has_entities_too(labels: list[str], place: Path) -> None:
    single = labels[1]
    figures = judged(place, labels, [(f"{single} O {single}", f"{single} O O")])
    assert (figures["precision"], figures["recall"]) == (1.0, 0.5)


def test_tags_of_no_scheme_have_no_entities(place: Path) -> None:
    """Parts of speech."""
    figures = judged(place, ["NN", "VB", "X-Y", "E", "S"], [("NN VB X-Y E S", "NN NN X-Y E S")])
    assert "f1" not in figures
    assert figures["accuracy"] == 0.8


@pytest.mark.parametrize("scheme", [BIOES, BILOU, BMES], ids=["BIOES", "BILOU", "BMES"])
def test_fine_tuning_counts_entities_in_the_same_way(scheme: list[str], encoder: Path) -> None:
    """Every text is the same, so that all of it is learned and all of it is right."""
    single, last = scheme[4], scheme[3]
    write_csv("t.csv", [["text", "tags"], *[["the good film is", f"{single} B-X {last} O"]] * 40])
    use = ("finetune", "--train", "t.csv", "--encoder", encoder, "--epochs", 20, "--learning-rate", 0.003)
    succeeds(*use, "--output", "tags:tags", "--out", "out")
    figures = json.loads(Path("out/metrics.json").read_text())["outputs"]["tags"]
    assert figures["accuracy"] == 1.0
    assert figures["f1"] == 1.0


# ── Chinese without spaces ───────────────────────────────────────────────────────────────────────────────────────────

SENTENCES = [("我爱北京", "O O B-X I-X"), ("上海人很爱书", "B-X I-X O O O O"), ("我在NBA！", "O O B-X I-X I-X O")]


@pytest.fixture(scope="module")
def chinese(tmp_path_factory: pytest.TempPathFactory, encoder: Path) -> Path:
    """A tagger trained on sentences without spaces, a tag for each character."""
    folder = tmp_path_factory.mktemp("chinese")
    table = write_csv(folder / "t.csv", [["tokens", "tags"], *(list(pair) for pair in SENTENCES * 14)])
    use = ("finetune", "--train", table, "--encoder", encoder, "--epochs", 2, "--out", folder / "model")
    succeeds(*use, "--text", "tokens", "--output", "tags=tags:tags")
    return folder / "model"


def test_a_sentence_without_spaces_is_trained_on_by_character(chinese: Path) -> None:
    assert labels_of(chinese) == ["B-X", "I-X", "O"]


@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "t.jsonl", "t.parquet"])
def test_it_is_judged_by_character(name: str, chinese: Path) -> None:
    write_rows(name, [{"tokens": tokens, "tags": tags} for tokens, tags in SENTENCES])
    succeeds("evaluate", chinese, name, "--json", "metrics.json")
    assert json.loads(Path("metrics.json").read_text())["outputs"]["tags"]["words"] == 4 + 6 + 6


def test_it_is_answered_by_character(chinese: Path) -> None:
    answers = succeeds("classify", chinese, stdin="\n".join(text for text, _ in SENTENCES).encode()).answers
    for answer, (text, _) in zip(answers, SENTENCES, strict=True):
        assert answer["outputs"]["tags"]["words"] == list(text)
        assert len(answer["outputs"]["tags"]["labels"]) == len(text)
        assert None not in answer["outputs"]["tags"]["labels"]


def test_characters_apart_and_together_are_the_same(chinese: Path) -> None:
    """Whoever puts a space between characters gets the same answer."""
    together, apart = succeeds("classify", chinese, stdin="我爱北京\n我 爱 北 京\n".encode()).answers
    assert together["outputs"] == apart["outputs"]


@pytest.mark.parametrize("tags", ["O O O", "O O O O O", "O O"])
@pytest.mark.parametrize("verb", ["finetune", "evaluate"])
def test_other_numbers_of_tags_are_refused(verb: str, tags: str, encoder: Path, tagger: Path) -> None:
    """The sentence gives both numbers, and says how to write tokens."""
    write_csv("t.csv", [["tokens", "tags"], ["我 爱 北 京", "O O B-X I-X"], ["我爱北京", tags]])
    words: tuple[object, ...] = ("evaluate", tagger, "t.csv")
    if verb == "finetune":
        words = ("finetune", "--train", "t.csv", "--encoder", encoder, "--out", "out", "--text", "tokens")
        words += ("--output", "tags=tags:tags")
    count = len(tags.split())
    refuses(*words, says=[r"t\.csv", r"line 3\b", rf"\b{count} tags", r"\b4 characters|space"])


def test_an_english_word_is_no_row_of_characters(encoder: Path) -> None:
    """Three letters and three tags, yet one word."""
    write_csv("t.csv", [["text", "tags"], ["the good film", "O B-X I-X"], ["bad", "O B-X I-X"]])
    use = ("finetune", "--train", "t.csv", "--encoder", encoder, "--out", "out", "--output", "tags:tags")
    refuses(*use, says=[r"t\.csv", r"line 3\b", r"\b1 token", r"\b3 tags"])


def test_a_lone_chinese_word_with_one_tag_stays_a_word(encoder: Path) -> None:
    """Whose tokens are words marks words: `酒店` with one tag is one."""
    write_csv("t.csv", [["text", "tags"], *[["很 不错", "O B-X"], ["酒店", "O"]] * 20])
    use = ("finetune", "--train", "t.csv", "--encoder", encoder, "--epochs", 1, "--out", "out")
    succeeds(*use, "--output", "tags:tags")
    assert labels_of("out") == ["B-X", "O"]


def test_a_list_of_tokens_is_taken_as_it_is(tagger: Path) -> None:
    """JSON lines may say what the tokens are; nothing is guessed."""
    write_rows("t.jsonl", [{"tokens": ["我爱", "北京"], "tags": ["O", "B-X"]}])
    succeeds("evaluate", tagger, "t.jsonl", "--json", "metrics.json")
    assert json.loads(Path("metrics.json").read_text())["outputs"]["tags"]["words"] == 2


def test_a_chinese_sentence_is_never_one_word_in_silence(tagger: Path) -> None:
    """A tagger whose training had spaces: it answers by character, or says that spaces are wanted."""
    ended = run("classify", tagger, stdin="我爱北京\n".encode())
    if ended.status:
        check_refusal(ended, ["line 1", "space"])
    elif len(ended.answers[0]["outputs"]["tags"]["words"]) == 1:
        assert "space" in ended.err
    else:
        assert ended.answers[0]["outputs"]["tags"]["words"] == list("我爱北京")
