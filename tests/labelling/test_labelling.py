"""Labels that are probably wrong and rows that are worth a label, held against what was made wrong and against others'
arithmetic."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from conftest import films, random_bert
from sklearn.linear_model import LogisticRegression

from bothways.cli import classifiers
from bothways.errors import InputError
from bothways.inference.engine import Engine
from bothways.labelling import label_errors as module
from bothways.labelling.active_learning import at_random, diverse, most_uncertain, uncertain_and_diverse
from bothways.labelling.features import Features, tfidf_features
from bothways.labelling.label_errors import label_errors
from bothways.labelling.out_of_fold import folds_of, out_of_fold, predicted
from bothways.labelling.run import check, doubted
from bothways.labelling.suggestions import as_rows, screenful, write_rows
from bothways.model.bert import Bert
from bothways.model.config import EncoderConfig, OutputConfig
from bothways.tables.table import Columns, LabelColumn, Table
from bothways.tasks import TASKS
from bothways.tokenizer import Tokenizer

SINGLE = TASKS["single"](OutputConfig(name="label", kind="single", labels=("negative", "positive"), column="label"))


def reviews(rows: int, wrong: int, seed: int = 0) -> tuple[Table, set[int]]:
    """Made-up reviews of which the first few have the other label."""
    texts, labels = films(rows, seed)
    other = {"positive": "negative", "negative": "positive"}
    labels[:wrong] = [other[label] for label in labels[:wrong]]
    lines = [f"line {i}" for i in range(2, rows + 2)]
    return Table("t.csv", Columns(), lines, texts, None, {"label": labels}), set(range(wrong))


def write(path: Path, table: Table, *, labelled: int) -> Path:
    """A table as a file, of whose rows only the first so many have a label."""
    rows = [
        {"text": text, "label": label if i < labelled else None}
        for i, (text, label) in enumerate(zip(table.texts, table.values["label"], strict=True))
    ]
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
    return path


# ── Out of fold ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_folds_are_even_and_keep_the_same_text_together() -> None:
    keys = np.array([*range(90), *range(10)], np.uint64)
    names = ["a", "b", "b"] * 30 + ["a", "b", "b"] * 3 + ["a"]
    fold = folds_of(keys, names, 5)
    assert (fold[:10] == fold[90:]).all()
    for label, of_each in (("a", 6), ("b", 12)):
        chosen = [fold[i] for i in range(90) if names[i] == label]
        assert np.bincount(chosen, minlength=5).tolist() == [of_each] * 5
    assert (fold == folds_of(keys, names, 5)).all()


@pytest.mark.parametrize("folds", [1, 0, 11])
def test_folds_that_cannot_be_are_refused(folds: int) -> None:
    with pytest.raises(InputError, match=f"--folds {folds}"):
        folds_of(np.arange(10, dtype=np.uint64), ["a", "b"] * 5, folds)


def test_probabilities_out_of_fold_are_those_of_a_loop_over_folds() -> None:
    table, _ = reviews(60, 5)
    features, targets = tfidf_features(table), table.targets(SINGLE)
    fold = np.arange(60) % 3
    found = out_of_fold([features], SINGLE, targets, fold)
    for number in range(3):
        outside = fold != number
        model = LogisticRegression(C=3.0, max_iter=1000).fit(features.vectors[outside], np.array(targets)[outside])
        np.testing.assert_allclose(found[~outside], model.predict_proba(features.vectors[~outside]), atol=1e-6)


def test_a_label_that_is_not_trained_on_has_no_probability() -> None:
    task = TASKS["single"](OutputConfig(name="label", kind="single", labels=("a", "b", "c"), column="label"))
    features = Features(np.eye(6), C=1.0)
    found = predicted(task, features, np.array([0, 2, 0, 2, 0, 2]), features)
    assert (found[:, 1] == 0).all()
    np.testing.assert_allclose(found.sum(1), 1, atol=1e-6)
    assert predicted(task, features, np.array([2] * 6), features).tolist() == [[0, 0, 1]] * 6


def test_any_number_of_labels_is_learned_label_by_label() -> None:
    task = TASKS["multi"](OutputConfig(name="label", kind="multi", labels=("a", "b"), column="label"))
    features = Features(np.random.default_rng(0).normal(size=(40, 3)), C=1.0)
    targets = np.stack([features.vectors[:, 0] > 0, features.vectors[:, 1] > 0], 1).astype(np.float32)
    found = predicted(task, features, targets, features)
    for label in range(2):
        alone = LogisticRegression(C=1.0).fit(features.vectors, targets[:, label]).predict_proba(features.vectors)
        np.testing.assert_allclose(found[:, label], alone[:, 1], atol=1e-5)


# ── Label errors ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_labels_that_were_made_wrong_are_found(tmp_path: Path) -> None:
    table, wrong = reviews(300, 15)
    done = check(write(tmp_path / "t.jsonl", table, labelled=300), folds=5)
    assert done.errors is not None
    found = {each.index for each in done.errors}
    assert len(found & wrong) >= 13
    assert len(found - wrong) <= 5
    assert [each.score for each in done.errors] == sorted(each.score for each in done.errors)
    first = done.errors[0]
    assert (first.given, first.suggested) in {("positive", "negative"), ("negative", "positive")}


def test_only_rows_with_a_label_are_doubted(tmp_path: Path) -> None:
    table, wrong = reviews(200, 10)
    done = check(write(tmp_path / "t.jsonl", table, labelled=150), folds=5)
    assert done.errors
    assert {each.index for each in done.errors} & wrong
    assert max(each.index for each in done.errors) < 150


def test_every_kind_that_names_labels_has_its_errors() -> None:
    """The label of row 0 is what the model thinks impossible."""
    random = np.random.default_rng(0)
    right = random.integers(0, 2, 60)
    sure = np.where(right[:, None] == np.arange(2), 0.9, 0.1)
    given = [["a", "b"][label] for label in right]
    given[0] = ["a", "b"][1 - right[0]]
    values = {"single": given, "multi": [[label] for label in given], "tags": [[label, label] for label in given]}
    for kind, labels in values.items():
        task = TASKS[kind](OutputConfig(name="label", kind=kind, labels=("a", "b"), column="label"))  # type: ignore[arg-type]
        columns = Columns(labels=(LabelColumn(output="label", column="label", kind=kind),))  # type: ignore[arg-type]
        rows = [f"line {i}" for i in range(60)]
        table = Table("t.csv", columns, rows, [["x", "y"]] * 60, None, {"label": labels})
        probabilities = [np.stack([p, p]) for p in sure] if kind == "tags" else list(sure)
        (found,) = label_errors(table, [task], {"label": probabilities})
        assert found.index == 0, kind
        assert found.given == task.written(labels[0])
        assert found.suggested == task.written(task.decided(task.decide(probabilities[0])))
        assert found.score <= 0.5


def test_words_that_were_not_read_are_not_doubted() -> None:
    task = TASKS["tags"](OutputConfig(name="label", kind="tags", labels=("O", "X"), column="label"))
    targets = [np.array([0, 1, 1]), np.array([1, 0]), *[np.array([0, 1])] * 20]
    sure = np.array([[0.9, 0.1], [0.1, 0.9]])
    probabilities = [np.array([[0.9, 0.1], [np.nan, np.nan]]), *[sure] * 21]
    scores, wrong = task.label_errors(targets, probabilities)
    assert scores[0] == pytest.approx(0.9)
    assert not wrong[0]
    assert wrong[1]


def table_of(kind: str, labels: list) -> Table:
    columns = Columns(labels=(LabelColumn(output="label", column="label", kind=kind),))  # type: ignore[arg-type]
    return Table(
        "t.csv", columns, [f"line {i + 2}" for i in range(len(labels))], ["x"] * len(labels), None, {"label": labels}
    )


def test_agreement_is_counted_by_label_and_not_by_row() -> None:

    def agreement(kind: str, labels: list, probabilities: list) -> float:
        task = TASKS[kind](OutputConfig(name="label", kind=kind, labels=("a", "b"), column="label"))  # type: ignore[arg-type]
        return doubted(table_of(kind, labels), [task], {"label": probabilities})[1]

    a, b, unread = [0.9, 0.1], [0.1, 0.9], [np.nan, np.nan]
    single = [["a", "b"][i % 2] for i in range(40)]
    assert agreement("single", [*single, None], [*map(np.array, [b, b, *[a, b] * 19]), np.array(a)]) == 39 / 40
    tags = [["a", "b"] * 5] * 40
    said = [np.array([b, b, *[a, b] * 4])] * 40
    assert agreement("tags", tags, said) == pytest.approx(0.9)
    assert agreement("tags", tags, [np.array([b, *[unread] * 3, *[a, b] * 2])] * 40) == pytest.approx(4 / 5)
    assert agreement("tags", [[], *tags], [np.zeros((0, 2)), *said]) == pytest.approx(0.9)
    multi = [["a", "b"], ["a"], ["b"], []] * 10
    both, none = np.array([0.9, 0.9]), np.array([0.1, 0.1])
    right = [both, np.array(a), np.array(b), none] * 10
    assert agreement("multi", multi, right) == 1.0
    assert agreement("multi", multi, [np.array(a), *right[1:]]) == pytest.approx(78 / 79)
    assert agreement("multi", multi, [none] * 40) == 0.0


@pytest.mark.parametrize("wrong", [0, 60])
def test_a_model_is_called_wrong_only_where_it_doubts(
    wrong: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(classifiers, "SURE", 1.1)
    table, _ = reviews(300, wrong)
    classifiers.check(str(write(tmp_path / "t.jsonl", table, labelled=300)), folds=5)
    said = capsys.readouterr()
    assert ("often wrong itself" in said.out + said.err) == bool(wrong)


def test_without_cleanlab_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install 'bothways\[labels\]'"):
        check(tmp_path / "t.csv", folds=5)


def test_numbers_and_words_cannot_be_cross_validated() -> None:
    for kind in ("tags", "regression"):
        task = TASKS[kind](OutputConfig(name="label", kind=kind, labels=("O",), column="label"))  # type: ignore[arg-type]
        with pytest.raises(InputError, match="--model"):
            task.linear_model(1.0)


# ── What to label next ───────────────────────────────────────────────────────────────────────────────────────────────


def test_uncertainty_is_what_the_best_is_not_ahead_of_the_next() -> None:
    assert SINGLE.uncertainty(np.array([0.7, 0.3])) == pytest.approx(0.6)
    multi = TASKS["multi"](OutputConfig(name="m", kind="multi", labels=("a", "b"), column="m"))
    assert multi.uncertainty(np.array([0.5, 1.0])) == pytest.approx(0.5)
    tags = TASKS["tags"](OutputConfig(name="t", kind="tags", labels=("a", "b"), column="t"))
    assert tags.uncertainty(np.array([[0.5, 0.5], [1.0, 0.0], [np.nan, np.nan]])) == pytest.approx(0.5)
    assert tags.uncertainty(np.zeros((0, 2))) == 0
    assert TASKS["regression"](OutputConfig(name="r", kind="regression", column="r")).uncertainty(np.ones(1)) == 0


@pytest.mark.parametrize("way", [at_random, most_uncertain, diverse, uncertain_and_diverse])
@pytest.mark.parametrize("count", [1, 7, 500])
def test_every_way_chooses_as_many_as_it_can_and_no_text_twice(way: object, count: int) -> None:
    random = np.random.default_rng(0)
    uncertainty, features = random.random(200), random.normal(size=(200, 4))
    chosen = way(uncertainty, features, count, 0)  # type: ignore[operator]
    assert len(set(chosen.tolist())) == len(chosen) == min(count, 200)
    assert (chosen == way(uncertainty, features, count, 0)).all()  # type: ignore[operator]


def test_the_uncertain_and_diverse_are_uncertain_and_of_every_group() -> None:
    random = np.random.default_rng(0)
    group = np.arange(400) % 4
    features = np.eye(4)[group] * 10 + random.normal(size=(400, 4)) * 0.1
    uncertainty = np.where(np.arange(400) < 40, 0.9, 0.1)
    chosen = uncertain_and_diverse(uncertainty, features, 4, 0)
    assert (chosen < 40).all()
    assert set(group[chosen]) == {0, 1, 2, 3}


def test_rows_without_a_label_are_chosen_by_the_rows_with_one(tmp_path: Path, encoder_directory: Path) -> None:
    table, _ = reviews(120, 0)
    path = write(tmp_path / "t.jsonl", table, labelled=60)
    done = check(path, encoder=encoder_directory, to_label=10)
    assert len({each.index for each in done.to_label}) == 10
    assert min(each.index for each in done.to_label) >= 60
    scores = [each.score for each in done.to_label]
    assert scores == sorted(scores, reverse=True)
    assert {each.suggested for each in done.to_label} <= {"positive", "negative"}


def test_without_any_label_the_choice_is_varied(
    tmp_path: Path, encoder_directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    texts, _ = films(50)
    path = tmp_path / "t.csv"
    path.write_text("text\n" + "\n".join(texts) + "\n", "utf-8")
    done = check(path, encoder=encoder_directory, to_label=5)
    assert len(done.to_label) == 5
    assert {each.suggested for each in done.to_label} == {""}
    assert "no row has a label" in capsys.readouterr().err


def test_where_all_is_labelled_there_is_nothing_to_label(tmp_path: Path, encoder_directory: Path) -> None:
    table, _ = reviews(40, 0)
    with pytest.raises(InputError, match="every row has a label"):
        check(write(tmp_path / "t.jsonl", table, labelled=40), encoder=encoder_directory, to_label=5)


# ── Features and files ───────────────────────────────────────────────────────────────────────────────────────────────


def test_features_do_not_depend_on_neighbours_and_are_the_mean_of_tokens(
    encoder_config: EncoderConfig, tokenizer: Tokenizer
) -> None:
    import torch

    from bothways.batch import PackedBatch

    bert: Bert = random_bert(encoder_config)
    texts, _ = films(40)
    engine = Engine(bert, tokenizer, precision="fp32", batch_tokens=50)
    found = engine.features(texts)
    assert found.shape == (40, 32)
    for i in (0, 17, 39):
        with torch.inference_mode():
            hidden = bert.encode(PackedBatch.pack(engine.encode([texts[i]])))
        np.testing.assert_allclose(found[i], hidden.mean(0), atol=1e-5)
    assert engine.features([]).shape == (0, 32)


def test_rows_are_written_as_the_name_says(tmp_path: Path) -> None:
    table, _ = reviews(120, 6)
    done = check(write(tmp_path / "t.jsonl", table, labelled=120), folds=4)
    assert done.errors
    rows = as_rows(done.table, done.errors)
    write_rows(tmp_path / "e.csv", rows)
    write_rows(tmp_path / "e.jsonl", rows)
    with (tmp_path / "e.csv").open(newline="", encoding="utf-8") as stream:
        from_csv = list(csv.DictReader(stream))
    from_json = [json.loads(line) for line in (tmp_path / "e.jsonl").read_text("utf-8").splitlines()]
    assert from_json == rows
    assert from_csv == [{name: str(value) for name, value in row.items()} for row in rows]
    assert list(rows[0]) == ["line", "text", "given_label", "suggested_label", "score"]
    assert table.texts[done.errors[0].index] == rows[0]["text"]
    assert len(list(screenful(rows))) == min(10, len(rows))
    with pytest.raises(InputError, match=r"e\.txt"):
        write_rows(tmp_path / "e.txt", rows)
