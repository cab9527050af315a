"""What holds before rows are kept aside still holds for what remains to train on."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from cases.helpers import check_refusal, metrics_of, process, refuses, run, succeeds, write_csv

HELD_OUT = ["t.csv", "held-out", r"\b4\b"]


@pytest.mark.parametrize("share", ["0.9", "0.99"])
def test_rows_that_would_all_be_kept_aside_are_refused(share: str, encoder: Path) -> None:
    write_csv("t.csv", [["text", "label"], ["good", "pos"], ["worse", "neg"], ["worth", "pos"], ["thin", "neg"]])
    use = ("finetune", "--train", "t.csv", "--encoder", encoder, "--out", "out")
    refuses(*use, "--held-out", share, says=HELD_OUT)


@pytest.mark.parametrize(
    ("kind", "cells"),
    [("regression", ["1", "2", "3", "4"]), ("multi", ["a", "b", "a|b", ""]), ("tags", ["O", "X", "O", "X"])],
)
def test_so_they_are_for_every_kind_of_output(kind: str, cells: list[str], encoder: Path) -> None:
    write_csv("t.csv", [["text", "label"], *([word, cell] for word, cell in zip("abcd", cells, strict=True))])
    use = ("finetune", "--train", "t.csv", "--encoder", encoder, "--out", "out", "--output", f"label:{kind}")
    refuses(*use, "--held-out", "0.9", says=HELD_OUT)


@pytest.mark.parametrize("rows", [2, 3, 10])
def test_classes_of_one_row_are_trained_on(rows: int, encoder: Path) -> None:
    """Nothing can be kept aside; that is said, or refused, but no class is left without a row."""
    write_csv("t.csv", [["text", "label"], *([f"film {i}", f"class {i}"] for i in range(rows))])
    use = ("finetune", "--train", "t.csv", "--encoder", encoder, "--epochs", 1, "--out", "out")
    ended = run(*use, "--held-out", "0.5")
    if ended.status:
        check_refusal(ended, [r"t\.csv", "held-out|kept aside|held out"])
        return
    metrics = metrics_of("out")
    assert metrics["training"]["examples"] == rows
    assert metrics["examples"] == 0
    assert "aside" in ended.err or "held out" in ended.err or "judged" in ended.err


@pytest.mark.parametrize("seed", range(4))
def test_a_lone_row_of_a_class_is_trained_on(seed: int, encoder: Path) -> None:
    """With seed 1 chance would keep it aside, and the model would never see its label. What is kept aside is wholly
    right only if the row is not among it: a model that has seen no `pos` never answers it."""
    rows = [[f"the film {i}", "neg"] for i in range(99)]
    rows.insert(5, ["good", "pos"])
    write_csv("t.csv", [["text", "label"], *rows])
    use = ("finetune", "--train", "t.csv", "--encoder", encoder, "--epochs", 8, "--learning-rate", 0.003)
    ended = succeeds(*use, "--out", "out", "--seed", seed)
    metrics = metrics_of("out")
    assert metrics["outputs"]["label"]["accuracy"] == 1.0
    assert 1 <= metrics["examples"] <= 10
    assert metrics["examples"] + metrics["training"]["examples"] == 100
    assert "'pos'" in ended.err, f"that pos cannot be judged is not said:\n{ended.err}"


SCARCE = {
    "single": (["common"] * 50, [f"rare {i}" for i in range(50)]),
    "multi": (["common"] * 50, [f"common|rare {i}" for i in range(50)]),
    "tags": (["O O O O O"] * 50, [f"O O O O R{i}" for i in range(50)]),
}


@pytest.mark.parametrize("kind", SCARCE)
@pytest.mark.parametrize("more", [False, True], ids=["alone", "with another output"])
def test_every_label_keeps_a_row_to_train_on(kind: str, more: bool, encoder: Path) -> None:
    """Fifty rows have a label each that no other row has: whatever the chance, some would be kept aside. The model says
    what is common of everything, so that it is wholly right only where none was."""
    common, rare = SCARCE[kind]
    cells = [cell for both in zip(common, rare, strict=True) for cell in both]
    texts = [f"the film is a {('book', 'scene')[i // 2 % 2]}" for i in range(100)]
    write_csv("t.csv", [["text", "label", "stars"], *([t, cell, 3] for t, cell in zip(texts, cells, strict=True))])
    use = ("finetune", "--train", "t.csv", "--encoder", encoder, "--epochs", 20, "--learning-rate", 0.003)
    outputs = ("--output", f"label:{kind}", *(("--output", "stars:regression") if more else ()))
    ended = succeeds(*use, *outputs, "--out", "out")
    metrics = metrics_of("out")
    assert metrics["outputs"]["label"]["accuracy"] == 1.0
    assert metrics["examples"] + metrics["training"]["examples"] == 100
    assert metrics["examples"] >= 1
    assert "50" in ended.err or "'rare 0'" in ended.err or "'R0'" in ended.err, "what cannot be judged is not said"


@pytest.mark.parametrize("seed", range(3))
def test_a_lone_number_is_trained_on(seed: int, encoder: Path) -> None:
    """If the only row with a number is kept aside, what remains has no mean and the model answers NaN."""
    rows = [["the film", "x", ""], ["good", "y", ""]] * 10
    rows.insert(7 + seed, ["worth", "x", "4.5"])
    write_csv("t.csv", [["text", "label", "stars"], *rows])
    use = ("finetune", "--train", "t.csv", "--encoder", encoder, "--epochs", 1, "--out", "out", "--seed", seed)
    succeeds(*use, "--label", "label", "--output", "stars:regression", "--held-out", "0.9")
    for answer in succeeds("classify", "out", stdin=b"the film\n").answers:
        assert math.isfinite(answer["outputs"]["stars"]["value"])


def test_a_table_judged_on_another_is_trained_on_whole(encoder: Path) -> None:
    write_csv("t.csv", [["text", "label"], ["good", "pos"], ["worse", "neg"]])
    use = ("finetune", "--train", "t.csv", "--encoder", encoder, "--epochs", 1, "--out", "out")
    succeeds(*use, "--dev", "t.csv")
    assert metrics_of("out")["training"]["examples"] == 2


@pytest.mark.parametrize("share", ["0.5", "0.9", "0.99"])
def test_a_tiny_corpus_keeps_something_to_train_on(share: str, encoder: Path) -> None:
    """Refused or trained, but no traceback, and nothing is left of what is refused."""
    Path("docs.txt").write_text("A good film. It is worth it.\n\nA thin plot. It is worse.\n")
    succeeds("corpus", "build", "docs.txt", "--tokenizer", encoder, "--out", "corpus")
    use = ("pretrain", "--corpus", "corpus", "--encoder", encoder, "--sequence-lengths", 64, "--steps", 2)
    ended = run(*use, "--held-out", share, "--out", "out")
    if ended.status:
        check_refusal(ended, ["corpus|held-out"])
        assert not Path("out").exists()
    else:
        assert Path("out/model.safetensors").is_file()


def test_the_sentence_comes_before_the_encoder_is_read(encoder: Path) -> None:
    """From outside, with nothing else on standard error."""
    write_csv("t.csv", [["text", "label"], ["good", "pos"], ["worse", "neg"], ["worth", "pos"], ["thin", "neg"]])
    ended = process("finetune", "--train", "t.csv", "--encoder", encoder, "--out", "out", "--held-out", "0.9")
    check_refusal(ended, HELD_OUT)
    assert len(ended.err.splitlines()) == 1
