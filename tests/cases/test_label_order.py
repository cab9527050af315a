"""Labels stand in an order that nothing but the labels decides, are told apart by their place, and keep their type."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import films

from bothways import InputError, TextClassifier
from cases.helpers import (
    check_refusal,
    check_sentence,
    edit_json,
    labels_of,
    process,
    reference,
    refuses_in_python,
    run,
    succeeds,
    write_csv,
    write_rows,
)

Published = Callable[..., Path]
HASH_SEEDS = ("2", "3")
"""Two with which the sets of the labels below have other orders."""

# ── The order of a set ───────────────────────────────────────────────────────────────────────────────────────────────


def test_labels_of_equal_value_have_one_order(encoder: Path) -> None:
    """The same bits, whatever seed Python hashes texts with; for every kind of output that has labels."""
    labels = ["01", "1", "2"]
    rows = [[f"film {i}", labels[i % 3], f"{labels[i % 3]}|{labels[i // 3 % 3]}"] for i in range(30)]
    write_csv("t.csv", [["text", "label", "several"], *rows])
    write_csv("tags.csv", [["text", "tags"], *([f"film {i}", f"{labels[i % 3]} 2"] for i in range(30))])
    use = ("finetune", "--encoder", encoder, "--epochs", 1, "--seed", 1)
    results = []
    for hash_seed in HASH_SEEDS:
        env = {"PYTHONHASHSEED": hash_seed}
        several, tags = f"several{hash_seed}", f"tags{hash_seed}"
        outputs = ("--label", "label", "--output", "several:multi", "--output", "number=label:regression")
        for words in (("t.csv", *outputs, "--out", several), ("tags.csv", "--output", "tags:tags", "--out", tags)):
            ended = process(*use, "--train", *words, env=env)
            assert ended.status == 0, ended.err
        found = [labels_of(several), labels_of(several, 1), labels_of(tags)]
        files = (f"{several}/model.safetensors", f"{several}/outputs.safetensors", f"{tags}/model.safetensors")
        results.append([*found, *(hashlib.sha256(Path(file).read_bytes()).hexdigest() for file in files)])
    assert results[0] == results[1]


def test_digits_of_other_writings_have_one_order(encoder: Path) -> None:
    labels = ["１", "1", "0001"]
    write_csv("t.csv", [["text", "label"], *([f"film {i}", labels[i % 3]] for i in range(30))])
    orders = []
    for hash_seed in HASH_SEEDS:
        use = ("finetune", "--train", "t.csv", "--encoder", encoder, "--epochs", 1, "--out", f"out{hash_seed}")
        assert process(*use, env={"PYTHONHASHSEED": hash_seed}).status == 0
        orders.append(labels_of(f"out{hash_seed}"))
    assert orders[0] == orders[1]


def test_a_corpus_is_the_same_bits_in_every_process(encoder: Path) -> None:
    Path("docs.txt").write_text("".join(f"{chr(0x4E00 + i)} film {i}. It is good.\n\n" for i in range(100)), "utf-8")
    made = []
    for seed in HASH_SEEDS:
        use = ("corpus", "build", "docs.txt", "--tokenizer", encoder, "--duplicates", "near", "--out", f"corpus{seed}")
        ended = process(*use, env={"PYTHONHASHSEED": seed})
        assert ended.status == 0, ended.err
        made.append({p.name: p.read_bytes() for p in Path(f"corpus{seed}").iterdir() if p.suffix != ".json"})
    assert made[0] == made[1]


def test_a_set_of_texts_has_no_order(classifier: Path) -> None:
    """Nobody could tell whose answer is whose."""
    loaded = TextClassifier.load(classifier)
    refuses_in_python(lambda: loaded.predict({"good", "worse"}), ["list", "set|order"])  # type: ignore[arg-type]


# ── Names in place of indices ────────────────────────────────────────────────────────────────────────────────────────

TEXTS = ["the good film", "worse", "酒店 书", "thin plot with the scene", "is worth", "a b c", "我爱北京", "空洞"]
TWICE = {"0": "good", "1": "bad", "2": "bad"}


def test_two_classes_of_one_name_never_get_each_others_score(published: Published, place: Path) -> None:
    """Refused, or the score is that of the class that is the likeliest."""
    directory = published(place / "p", num_labels=3)
    expected = reference(directory, TEXTS)
    assert 1 in expected.argmax(-1), "no case at all"
    edit_json(directory / "config.json", id2label=TWICE, label2id={"good": 0, "bad": 2})
    ended = run("classify", "p", stdin="\n".join(TEXTS).encode())
    if ended.status:
        check_refusal(ended, [r"p/config\.json", "id2label", "'bad'"])
        return
    for answer, probabilities in zip(ended.answers, expected, strict=True):
        said = answer["outputs"]["label"]
        assert said["label"] == TWICE[str(probabilities.argmax())]
        assert abs(said["score"] - probabilities.max()) < 1e-3


def test_nor_do_they_in_python(published: Published, place: Path) -> None:
    directory = published(place / "p", num_labels=3)
    expected = reference(directory, TEXTS)
    edit_json(directory / "config.json", id2label=TWICE, label2id={"good": 0, "bad": 2})
    try:
        loaded = TextClassifier.load("p", precision="fp32")
    except InputError as error:
        check_sentence(str(error), [r"p/config\.json", "id2label", "'bad'"])
        return
    assert len(set(loaded.classes_.tolist())) == len(loaded.classes_)
    assert expected.shape == loaded.predict_proba(TEXTS).shape


@pytest.mark.parametrize("verb", ["classify", "evaluate"])
@pytest.mark.parametrize("kind", ["multi", "tags"])
def test_nor_do_labels_of_the_other_kinds(kind: str, verb: str, published: Published, place: Path) -> None:
    """Several labels of one name have one entry among the scores; a wrong one is no answer."""
    if kind == "multi":
        published(place / "p", num_labels=3, problem_type="multi_label_classification")
    else:
        published(place / "p", "BertForTokenClassification", num_labels=3)
    edit_json(place / "p" / "config.json", id2label=TWICE, label2id={"good": 0, "bad": 2})
    name = "label" if kind == "multi" else "tags"
    write_rows("t.csv", [{"text": "film", name: "bad"}, {"text": "book", name: "good"}])
    check_refusal(run(verb, "p", "t.csv"), [r"p/config\.json", "id2label", "'bad'"])


def test_labels_are_taken_by_their_number_wherever_they_stand(published: Published, place: Path) -> None:
    directory = published(place / "p", num_labels=12)
    expected = reference(directory, TEXTS)
    names = {str(i): f"name {i}" for i in (10, 2, 0, 1, 11, 3, 9, 4, 8, 5, 7, 6)}
    edit_json(directory / "config.json", id2label=names, label2id={name: int(i) for i, name in names.items()})
    for answer, probabilities in zip(
        succeeds("classify", "p", stdin="\n".join(TEXTS).encode()).answers, expected, strict=True
    ):
        assert answer["outputs"]["label"]["label"] == f"name {probabilities.argmax()}"


@pytest.mark.parametrize("names", [("a", "a.b"), ("bert", "classifier"), ("x", "x.weight"), ("1", "0"), ("a/b", "a b")])
def test_outputs_are_told_apart_whatever_their_names(names: tuple[str, str], encoder: Path) -> None:
    """Weights have the names of their outputs in the file."""
    texts, labels = films(30)
    rows = [{"text": t, "label": y, "n": i} for i, (t, y) in enumerate(zip(texts, labels, strict=True))]
    write_rows("t.csv", rows)
    outputs = ("--output", f"{names[0]}=label:single", "--output", f"{names[1]}=n:regression")
    succeeds("finetune", "--train", "t.csv", "--encoder", encoder, "--epochs", 1, "--out", "out", *outputs)
    answer = succeeds("classify", "out", stdin=b"good\n").answers[0]["outputs"]
    assert list(answer) == list(names)
    assert set(answer[names[0]]["scores"]) == set(labels)
    assert isinstance(answer[names[1]]["value"], float)


# ── The types that were given ────────────────────────────────────────────────────────────────────────────────────────

GIVEN: list[Sequence[Any]] = [
    ["0", "1"],
    ["1", "2", "10"],
    ["False", "True"],
    ["0.0", "1.0"],
    ["None", "nan"],
    ["-1", "1"],
    [0.0, 1.0],
    [0.5, 1.5, -2.25],
    [0.1 + 0.2, 0.3],
    [1e300, 1e-300],
    [0, 1],
    [9, 10, -1],
    [2**53 + 1, 2**53],
    [10**18, 10**17],
    [False, True],
    ["a", "b"],
    ["1", "a"],
    ["a", "a b"],
]


@pytest.mark.parametrize("given", GIVEN, ids=str)
def test_labels_come_back_as_what_they_were(given: Sequence[Any], encoder: Path) -> None:
    """After fitting, after saving and loading, in `classes_` and in what is predicted."""
    texts = [f"film {i}" for i in range(30)]
    labels = [given[i % len(given)] for i in range(30)]
    expected = sorted(given)
    fitted = TextClassifier(encoder, epochs=1).fit(texts, labels)
    fitted.save("out")
    loaded = TextClassifier.load("out")
    for classifier in (fitted, loaded):
        classes = classifier.classes_.tolist()
        assert classes == expected
        assert [type(value) for value in classes] == [type(value) for value in expected]
        assert {type(value) for value in classifier.predict(texts).tolist()} == {type(given[0])}
    assert loaded.predict(texts).tolist() == fitted.predict(texts).tolist()


@pytest.mark.parametrize("dtype", [np.int8, np.uint64, np.float32, np.bool_, object, "U8", "S8"], ids=str)
def test_labels_of_an_array_come_back_as_what_they_were(dtype: Any, encoder: Path) -> None:
    """What cannot be kept is refused."""
    texts = [f"film {i}" for i in range(30)]
    labels = np.array([i % 2 for i in range(30)]).astype(dtype)
    try:
        fitted = TextClassifier(encoder, epochs=1).fit(texts, labels)
    except InputError as error:
        check_sentence(str(error), ["label"])
        return
    fitted.save("out")
    loaded = TextClassifier.load("out")
    assert loaded.classes_.tolist() == fitted.classes_.tolist() == sorted(set(labels.tolist()))
    assert [type(value) for value in loaded.classes_.tolist()] == [type(labels.tolist()[0])] * 2


@pytest.mark.parametrize("given", [[1, "a"], [1, "1"], [True, "True"], [0.5, "x"]], ids=str)
def test_labels_of_several_types_are_refused_or_kept(given: list[Any], encoder: Path) -> None:
    """NumPy makes texts of all of them, and scikit-learn cannot sort them."""
    texts = [f"film {i}" for i in range(30)]
    labels = [given[i % 2] for i in range(30)]
    try:
        fitted = TextClassifier(encoder, epochs=1).fit(texts, labels)
    except InputError as error:
        check_sentence(str(error), ["label", r"\btypes?\b|mixed|\bkinds?\b|\bint\b|\bnumbers?\b"])
    else:
        assert set(fitted.predict(texts).tolist()) <= set(given)
        assert set(fitted.classes_.tolist()) == set(given)


def test_transformers_reads_labels_of_any_type_as_text(encoder: Path) -> None:
    texts = [f"film {i}" for i in range(30)]
    TextClassifier(encoder, epochs=1, pooling="first").fit(texts, [0.5, 1.5] * 15).save("out")
    from transformers import AutoModelForSequenceClassification

    model = AutoModelForSequenceClassification.from_pretrained("out")
    assert list(model.config.id2label.values()) == ["0.5", "1.5"]
    assert torch.isfinite(model.classifier.weight).all()
    assert json.loads(Path("out/config.json").read_text())["label2id"] == {"0.5": 0, "1.5": 1}
