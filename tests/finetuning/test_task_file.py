"""Several tables in one training: what a task file says, what it leads to, and a sentence for every mistake in one."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import films
from sklearn.metrics import accuracy_score

from bothways import cli
from bothways.errors import InputError
from bothways.evaluation.evaluate import evaluate_each, evaluate_file
from bothways.finetuning.config import FinetuningConfig
from bothways.finetuning.data import read_data
from bothways.finetuning.run import finetune
from bothways.finetuning.task_file import FinetuningTask, TaskTable, read_task
from bothways.inference.engine import Engine, load_classifier
from bothways.tables.joining import join
from bothways.tables.table import Columns, LabelColumn, read_table
from bothways.tasks import tasks_of

CONFIG = FinetuningConfig(epochs=12, learning_rate=3e-3, precision="fp32", batch_size=16)


def write(path: Path, header: Sequence[str], rows: Sequence[Sequence[object]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([header, *rows])
    return path


def reviews(path: Path, rows: int = 300, seed: int = 0) -> Path:
    """Columns text, mood and stars."""
    texts, labels = films(rows, seed)
    return write(
        path,
        ("text", "mood", "stars"),
        [(t, y, 5 if y == "positive" else 1) for t, y in zip(texts, labels, strict=True)],
    )


def titles(path: Path, rows: int = 300, seed: int = 1) -> Path:
    """Columns title, place (does it speak of a hotel?) and good."""
    texts, labels = films(rows, seed)
    return write(
        path,
        ("title", "place", "good"),
        [(t, "hotel" if "酒店" in t else "none", y) for t, y in zip(texts, labels, strict=True)],
    )


TWO = """
[settings]
epochs = 12
learning_rate = 3e-3
precision = "fp32"
batch_size = 16

[[table]]
train = "reviews.csv"
dev = "reviews-dev.csv"
outputs = { mood = "mood", stars = "stars:regression" }

[[table]]
train = "titles.csv"
text = "title"
outputs = { place = "place:single", mood = "good:single" }
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "folder"
    folder.mkdir()
    reviews(folder / "reviews.csv")
    reviews(folder / "reviews-dev.csv", 60, seed=2)
    titles(folder / "titles.csv")
    (folder / "task.toml").write_text(TWO, "utf-8")
    return folder


def test_a_file_says_what_the_dataclasses_do(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Names begin where the file is, wherever it is read."""
    monkeypatch.chdir(folder.parent)
    expected = FinetuningTask(
        tables=(
            TaskTable(
                train="folder/reviews.csv",
                dev="folder/reviews-dev.csv",
                columns=Columns(
                    labels=(
                        LabelColumn(output="mood", column="mood"),
                        LabelColumn(output="stars", column="stars", kind="regression"),
                    )
                ),
            ),
            TaskTable(
                train="folder/titles.csv",
                columns=Columns(
                    text="title",
                    labels=(LabelColumn(output="place", column="place"), LabelColumn(output="mood", column="good")),
                ),
            ),
        ),
        settings=CONFIG,
        source="folder/task.toml",
    )
    assert read_task("folder/task.toml") == expected


def test_an_encoder_begins_where_the_file_is(folder: Path) -> None:
    """If there is such a directory; else it is a name."""
    for written, found in (("zh-mini", "zh-mini"), ("mine", str(folder / "mine")), ("./no", str(folder / "no"))):
        (folder / "mine").mkdir(exist_ok=True)
        (folder / "task.toml").write_text(f'encoder = "{written}"\n{TWO}', "utf-8")
        assert read_task(folder / "task.toml").encoder == found


def test_two_tables_in_one_training(folder: Path, encoder_directory: Path) -> None:
    """One encoder, each table evaluated by itself; a shared output over the rows of both."""
    done = finetune(read_task(folder / "task.toml"), folder / "out", encoder=encoder_directory)
    metrics = json.loads((folder / "out" / "metrics.json").read_text("utf-8"))
    assert metrics == done.metrics
    of_reviews, of_titles = metrics["tables"].values()
    assert list(metrics["tables"]) == [str(folder / "reviews-dev.csv"), str(folder / "titles.csv")]
    assert (set(of_reviews["outputs"]), set(of_titles["outputs"])) == ({"mood", "stars"}, {"place", "mood"})
    assert (of_reviews["examples"], of_titles["examples"], metrics["examples"]) == (60, 30, 90)
    assert metrics["outputs"]["mood"]["examples"] == 90
    assert metrics["outputs"]["place"] == of_titles["outputs"]["place"]
    assert of_reviews["outputs"]["mood"]["accuracy"] >= 0.9
    assert of_reviews["outputs"]["stars"]["pearson"] >= 0.8
    assert of_titles["outputs"]["place"]["accuracy"] >= 0.9
    assert metrics["training"]["examples"] == 300 + 270
    assert metrics["evaluated_on"] == "reviews-dev.csv and 30 rows held out of titles.csv"
    assert not list(folder.glob(".out*"))


def test_a_shared_metric_is_that_of_all_rows(folder: Path, encoder_directory: Path) -> None:
    """Against scikit-learn, from the answers themselves."""
    task = replace(read_task(folder / "task.toml"), settings=replace(CONFIG, epochs=1))
    finetune(task, folder / "out", encoder=encoder_directory)
    engine = Engine(*load_classifier(folder / "out"))
    dev = read_data(task, task.settings).dev
    (mood,) = (one for one in engine.tasks if one.name == "mood")
    truth = [target for table in dev for target in table.targets(mood)]
    found = [mood.decide(p) for table in dev for p in mood.probabilities(engine.run(engine.encode([*table.texts])))]
    assert evaluate_each(engine, dev)["outputs"]["mood"]["accuracy"] == pytest.approx(accuracy_score(truth, found))


def test_a_table_is_evaluated_by_what_it_has(
    folder: Path, encoder_directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    task = replace(read_task(folder / "task.toml"), settings=replace(CONFIG, epochs=1))
    done = finetune(task, folder / "out", encoder=encoder_directory)
    capsys.readouterr()
    engine = Engine(*load_classifier(folder / "out"))
    found = evaluate_file(engine, folder / "reviews-dev.csv")
    assert found["outputs"] == done.metrics["tables"][str(folder / "reviews-dev.csv")]["outputs"]
    assert "there is no column 'place', so 'place' is left out" in capsys.readouterr().err
    write(folder / "none.csv", ("text", "other"), [("a", "b")])
    with pytest.raises(InputError, match="no column 'mood'"):
        evaluate_file(engine, folder / "none.csv")


def test_labels_are_those_of_all_training_rows(folder: Path) -> None:
    """In order; one that only a dev table has is refused, with its place."""
    write(folder / "titles.csv", ("title", "place", "good"), [("a", "x", "mixed"), ("b", "y", "positive")] * 5)
    task = read_task(folder / "task.toml")
    assert read_data(task, CONFIG).outputs[0].labels == ("mixed", "negative", "positive")
    write(folder / "reviews-dev.csv", ("text", "mood", "stars"), [("a", "positive", 1), ("b", "awful", 1)])
    with pytest.raises(InputError, match=r"reviews-dev\.csv, line 3: the label 'awful' of output 'mood'"):
        read_data(task, CONFIG)


def test_what_a_table_does_not_say_does_not_count(folder: Path) -> None:
    data = read_data(read_task(folder / "task.toml"), CONFIG)
    mood, stars, place = (data.train.targets(task) for task in tasks_of(data.outputs))
    assert (len(mood), len(stars), len(place)) == (570, 570, 570)
    assert np.isnan(stars[300:]).all()
    assert not np.isnan(stars[:300]).any()
    assert set(place[:300]) == {-100}
    assert -100 not in mood
    assert data.train.rows[300].startswith("titles.csv, "), "a row knows its file"


def test_words_and_sentences_in_one_training(folder: Path, encoder_directory: Path) -> None:
    """With an output of tags, the model reads words; sentences of other tables become words, Chinese too."""
    texts, _ = films(200)
    tags = [" ".join("B" if word == "film" else "O" for word in text.split()) for text in texts]
    write(folder / "words.csv", ("tokens", "tags"), list(zip(texts, tags, strict=True)))
    places = [(f"{text} {n}", place, "a") for n in range(20) for text, place in (("酒店很好", "x"), ("the film", "y"))]
    write(folder / "titles.csv", ("title", "place", "good"), places)
    (folder / "task.toml").write_text(
        '[[table]]\ntrain = "titles.csv"\ntext = "title"\nlabel = "place"\n'
        '[[table]]\ntrain = "words.csv"\ntext = "tokens"\noutputs = { slots = "tags:tags" }\n',
        "utf-8",
    )
    done = finetune(read_task(folder / "task.toml"), folder / "out", encoder=encoder_directory, config=CONFIG)
    assert done.metrics["outputs"]["slots"]["accuracy"] > 0.95
    assert done.metrics["outputs"]["place"]["accuracy"] == 1.0
    assert join([read_table(folder / "titles.csv", Columns(text="title", labels=()))], "x").texts[0] == "酒店很好 0"


def test_a_table_of_several_may_have_no_row_to_hold_out(folder: Path, encoder_directory: Path) -> None:
    write(folder / "titles.csv", ("title", "place", "good"), [("酒店很好", "x", "a"), ("the film", "y", "b")])
    (folder / "task.toml").write_text(
        '[[table]]\ntrain = "titles.csv"\ntext = "title"\nlabel = "place"\n'
        '[[table]]\ntrain = "reviews.csv"\nlabel = "mood"\n',
        "utf-8",
    )
    config = replace(CONFIG, epochs=1)
    done = finetune(read_task(folder / "task.toml"), folder / "out", encoder=encoder_directory, config=config)
    assert set(done.metrics["outputs"]) == {"mood"}
    assert (folder / "out" / "report.html").is_file()


def test_one_table_is_a_task_of_one(folder: Path, encoder_directory: Path) -> None:
    """The same weights, bit for bit."""
    label = (LabelColumn(output="mood", column="mood"),)
    config = replace(CONFIG, epochs=1)
    table = TaskTable(train=folder / "reviews.csv", dev=folder / "reviews-dev.csv", columns=Columns(labels=label))
    one = finetune(FinetuningTask(tables=(table,), settings=config), folder / "one", encoder=encoder_directory)
    same = finetune(
        folder / "reviews.csv",
        folder / "same",
        dev_file=folder / "reviews-dev.csv",
        columns=Columns(labels=label),
        encoder=encoder_directory,
        config=config,
    )
    assert "tables" not in one.metrics
    assert one.metrics["outputs"] == same.metrics["outputs"]
    for ours, theirs in zip(one.bert.parameters(), same.bert.parameters(), strict=True):
        assert torch.equal(ours, theirs)


TABLE = '[[table]]\ntrain = "reviews.csv"\nlabel = "mood"\n'
MISTAKES = {
    "empty": ("\n \n", [r"task\.toml: the file is empty"]),
    "no table": ("[settings]\nepochs = 1\n", ["there is no table"]),
    "a lone table": ('[table]\ntrain = "reviews.csv"\n', [r"two brackets"]),
    "no TOML": (TABLE + "epochs 3\n", [r"task\.toml, line 4: this is not TOML"]),
    "a table of rows": ("text,label\na,b\n", [r"task\.toml, line 1: this is not TOML"]),
    "a key twice": (TABLE + 'label = "stars"\n', [r"line 4", "this is not TOML"]),
    "unfinished": (TABLE + 'dev = "a', ["this is not TOML"]),
    "unknown key": (TABLE.replace("train", "trian"), [r"task\.toml, line 1: .*'trian'; did you mean 'train'"]),
    "unknown top key": ('encodr = "x"\n' + TABLE, ["'encodr'; did you mean 'encoder'"]),
    "unknown setting": ("[settings]\nepoch = 3\n" + TABLE, [r"\[settings\]: .*'epoch'; did you mean 'epochs'"]),
    "no such setting": ("[settings]\nxyzzy = 3\n" + TABLE, ["'xyzzy'; it may be", "learning_rate"]),
    "bad value": ("[settings]\nepochs = -1\n" + TABLE, [r"\[settings\]: --epochs is -1; give 1 or more"]),
    "bad type": ('[settings]\nepochs = "3"\n' + TABLE, ["--epochs is '3'", "whole number"]),
    "no file": ('[[table]]\nlabel = "mood"\n', ["no file to train on"]),
    "a number for a file": ("[[table]]\ntrain = 3\n", ['train is 3; write train = "…"']),
    "missing file": (TABLE.replace("reviews", "revs"), [r"revs\.csv: there is no such file"]),
    "missing dev": (TABLE + 'dev = "no.csv"\n', [r"no\.csv: there is no such file"]),
    "missing column": (TABLE.replace('"mood"', '"moods"'), [r"reviews\.csv, line 2: there is no column 'moods'"]),
    "a table twice": (TABLE + TABLE.replace("reviews", "./reviews"), [r"reviews\.csv is trained on twice"]),
    "unknown kind": (TABLE + 'outputs = { a = "mood:singel" }\n', ["'mood:singel'", "single, multi"]),
    "outputs as text": (TABLE + 'outputs = "mood"\n', ["outputs is 'mood'"]),
    "an output twice": (TABLE + 'outputs = { mood = "stars" }\n', [r"line 1: Two outputs are called 'mood'"]),
    "two kinds": (
        TABLE + '[[table]]\ntrain = "titles.csv"\ntext = "title"\noutputs = { mood = "good:multi" }\n',
        ["Output 'mood' is single in .*reviews.csv and multi in .*titles.csv"],
    ),
    "text for numbers": (
        '[[table]]\ntrain = "reviews.csv"\noutputs = { stars = "mood:regression" }\n',
        [r"reviews\.csv, line 2: '\w+' in column 'mood' is not a number"],
    ),
    "pairs and texts": (
        TABLE + '[[table]]\ntrain = "titles.csv"\ntext = "title"\ntext_pair = "place"\nlabel = "good"\n',
        [r"reviews\.csv has single texts and .*titles\.csv pairs"],
    ),
    "ids for labels": ('[[table]]\ntrain = "ids.csv"\n', ["'label' has 10,000 different labels in 10,000 rows"]),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_sentence_for_every_mistake(folder: Path, mistake: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before training, and nothing is written."""
    monkeypatch.setattr("bothways.finetuning.fit.train", lambda *a, **k: pytest.fail("training started"))
    content, says = MISTAKES[mistake]
    if mistake == "ids for labels":
        write(folder / "ids.csv", ("text", "label"), [(f"film {i}", f"id {i}") for i in range(10_000)])
    (folder / "task.toml").write_text(content, "utf-8")
    before = sorted(folder.iterdir())
    with pytest.raises(InputError) as error:
        finetune(read_task(folder / "task.toml"), folder / "out", encoder="./none")
    for pattern in says:
        error.match(pattern)
    assert "\n" not in str(error.value)
    assert sorted(folder.iterdir()) == before


def test_labels_on_one_row_are_told(folder: Path) -> None:
    write(folder / "reviews.csv", ("text", "mood"), [("a", "x"), ("b", "y")] * 9 + [("c", "rare")])
    (folder / "task.toml").write_text(TABLE, "utf-8")
    sentences = [found.sentence for found in read_data(read_task(folder / "task.toml"), CONFIG).findings]
    assert any("1 of 3 labels of output 'mood' have fewer than 5 rows: 'rare'" in sentence for sentence in sentences)


class TestCommandLine:
    """`bothways finetune --task`."""

    @staticmethod
    def run(monkeypatch: pytest.MonkeyPatch, *words: object) -> None:
        monkeypatch.setattr(sys, "argv", ["bothways", "finetune", *map(str, words)])
        cli.main()

    def test_flags_win_over_the_file(
        self, folder: Path, encoder_directory: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        use = ("--task", folder / "task.toml", "--out", folder / "out", "--encoder", encoder_directory)
        self.run(monkeypatch, *use, "--epochs", 1)
        settings = json.loads((folder / "out" / "metrics.json").read_text("utf-8"))["training"]["settings"]
        assert (settings["epochs"], settings["batch_size"], settings["learning_rate"]) == (1, 16, 3e-3)
        assert "titles.csv" in capsys.readouterr().out, "a table of figures each"

    @pytest.mark.parametrize(
        ("words", "says"),
        [
            ((), "Give one of --train, a table, and --task"),
            (("--train", "a.csv", "--task", "task.toml"), "Give one of --train, a table, and --task"),
            (("--task", "task.toml", "--label", "mood"), "--label is for a single table; say it in the task file"),
            (("--task", "task.toml", "--output", "a=b"), "--output is for a single table"),
            (("--task", "task.toml", "--dev", "d.csv"), "--dev is for a single table"),
            (("--task", "no.toml"), "no.toml: there is no such file"),
            (("--train", "a.csv", "--seeds", "0"), "--seeds is 0; give 1 or more"),
            (("--train", "a.csv", "--search", "-1"), "--search is -1.0; give a number of minutes above 0"),
            (("--train", "a.csv", "--search", "1", "--seeds", "2"), "--search and --seeds go one after the other"),
        ],
    )
    def test_what_does_not_go_together(
        self,
        folder: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
        words: tuple[str, ...],
        says: str,
    ) -> None:
        monkeypatch.chdir(folder)
        with pytest.raises(SystemExit) as ended:
            self.run(monkeypatch, "--out", "out", *words)
        assert ended.value.code == 2
        out, err = capsys.readouterr()
        assert says in err.splitlines()[-1]
        assert not out
        assert not (folder / "out").exists()
