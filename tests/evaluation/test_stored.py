"""What is kept of an evaluation: the confusion matrix to the last text, bounded, and readable by the server."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from evaluation.test_report import HOSTILE, findings, single

from bothways.evaluation import stored
from bothways.evaluation.observation import OutputObservation
from bothways.evaluation.page import Words
from bothways.evaluation.sections.parts import Grid
from bothways.evaluation.stored import CELL_TEXTS, MOST_CHARACTERS, evaluation_json
from bothways.model.config import OutputConfig
from bothways.tasks import TASKS

schemas = pytest.importorskip("bothways.serving.schemas")


def written(content: str) -> dict:
    """As JSON, once the server has found nothing wrong in it."""
    schemas.Evaluation.model_validate_json(content)
    return json.loads(content)


def test_the_cells_are_the_confusion_matrix() -> None:
    output = single(["bad", "good", "odd"], 300)
    (told,) = written(evaluation_json(findings(output)))["outputs"]
    truth, p = np.array(output.expected), np.array(output.probabilities)
    counts = np.zeros((3, 3), int)
    for cell in told["cells"]:
        counts[cell["expected"], cell["predicted"]] = cell["count"]
    expected = np.zeros((3, 3), int)
    np.add.at(expected, (truth, p.argmax(-1)), 1)
    assert counts.tolist() == expected.tolist()
    assert told["totals"] == expected.sum(1).tolist()
    right = [cell["expected"] == cell["predicted"] for cell in told["cells"]]
    assert right == sorted(right), "what is confused comes first"


def test_a_wrong_cell_has_its_surest_texts_and_a_right_one_its_least_sure() -> None:
    output = single(["bad", "good"], 400)
    (told,) = written(evaluation_json(findings(output)))["outputs"]
    for cell in told["cells"]:
        sure = [text["score"] for text in cell["texts"]]
        is_right = cell["expected"] == cell["predicted"]
        assert len(sure) == min(CELL_TEXTS, cell["count"])
        assert sure == sorted(sure, reverse=not is_right)
        for text in cell["texts"]:
            row = int(text["row"]["en"].removeprefix("line ")) - 2
            assert text["texts"] == [f"text number {row}"]
            assert text["score"] == pytest.approx(output.probabilities[row][cell["predicted"]], abs=1e-4)
            assert text["expected_score"] == pytest.approx(output.probabilities[row][cell["expected"]], abs=1e-4)


def test_many_classes_long_texts_and_many_outputs_stay_small(monkeypatch: pytest.MonkeyPatch) -> None:
    wide = single([f"class {i} " + "很" * 500 for i in range(150)], 3000)
    outputs = [replace(wide, task=TASKS["single"](replace(wide.task.output, name=f"o{i}"))) for i in range(4)]
    found = findings(*outputs, texts=["很长的文本" * 1000] * 3000)
    monkeypatch.setattr(stored, "MOST_BYTES", 500_000)
    content = evaluation_json(found)
    assert len(content.encode()) <= 500_000
    told = written(content)["outputs"]
    assert [one["name"] for one in told] == [f"o{i}" for i in range(4)]
    texts = [text for one in told for cell in one["cells"] for text in cell["texts"]]
    assert texts
    assert {len(text["texts"][0]) for text in texts} == {MOST_CHARACTERS}
    assert all(text["truncated"] for text in texts)


def several(one: OutputObservation, count: int) -> list[OutputObservation]:
    return [replace(one, task=TASKS["single"](replace(one.task.output, name=f"o{i}"))) for i in range(count)]


def test_matrices_that_do_not_fit_are_left_out_and_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each report's section is made once, however often the file has to become smaller."""
    made = []
    section = stored.section
    monkeypatch.setattr(stored, "section", lambda *given: made.append(given) or section(*given))
    monkeypatch.setattr(stored, "MOST_BYTES", 300_000)
    found = findings(*several(single([f"{i:03d}" + "类别名" * 12 for i in range(300)], 200), 20))
    content = evaluation_json(found)
    assert len(made) == 20
    assert len(content.encode()) <= 300_000
    told = written(content)
    assert [one["name"] for one in told["outputs"]] == [f"o{i}" for i in range(20)]
    assert told["outputs_left_out"] == 0
    whole = [one["name"] for one in told["outputs"] if one["labels"]]
    assert whole == [f"o{i}" for i in range(len(whole))]
    assert 2 <= len(whole) < 20
    for one in told["outputs"]:
        assert ("no room" in one["notes"][-1]["en"]) == (one["name"] not in whole)
        assert one["sentence"]["en"]


@pytest.mark.parametrize(("most_bytes", "kept"), [(2_000_000, 100), (20_000, range(1, 100)), (400, 0)])
def test_outputs_that_do_not_fit_are_counted(
    most_bytes: int, kept: int | range, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stored, "MOST_BYTES", most_bytes)
    content = evaluation_json(findings(*several(single(["a", "b"], 20), 110)))
    told = written(content)
    assert len(told["outputs"]) + told["outputs_left_out"] == 110
    assert len(told["outputs"]) in (kept if isinstance(kept, range) else (kept,))
    assert len(content.encode()) <= most_bytes


def test_lines_of_tables_that_are_left_out_are_counted() -> None:
    grid = Grid(Words("a", "b"), [Words("c", "d")], [["e"]] * 30, 5)
    assert (len(stored.grid_as_json(grid, 10)["rows"]), stored.grid_as_json(grid, 10)["left_out"]) == (10, 25)
    assert stored.grid_as_json(grid, 200)["left_out"] == 5


def test_a_sample_is_told_as_one() -> None:
    found = findings(single(["a", "b"], 50))
    assert written(evaluation_json(found))["all_rows"] == 50
    told = written(evaluation_json(replace(found, metrics={**found.metrics, "examples": 20_000})))
    assert (told["rows"], told["all_rows"]) == (50, 20_000)


def test_while_there_is_room_every_cell_has_a_text_before_any_has_two() -> None:
    output = single([f"class {i}" for i in range(30)], 2000)
    found = findings(output)
    told = stored.evaluation(found, [stored.seen(found, output, 60_000)], 60_000, 20_000)["outputs"][0]["cells"]
    assert sum(cell["count"] for cell in told) == 2000
    assert min(len(cell["texts"]) for cell in told) in (0, 1)
    some = [len(cell["texts"]) for cell in told if cell["count"] > 1]
    assert max(some) - min(some) <= 1


def test_hostile_texts_and_pairs_are_kept_as_text() -> None:
    output = single([HOSTILE, "good"], 60)
    found = replace(findings(output, texts=[HOSTILE] * 60), pairs=["\x00</p>"] * 60)
    (told,) = written(evaluation_json(found))["outputs"]
    assert told["labels"][0].startswith("</script><script>")
    assert told["cells"][0]["texts"][0]["texts"] == [HOSTILE, "\x00</p>"]


@pytest.mark.filterwarnings("error")
def test_what_is_not_finite_is_null() -> None:
    output = single(["bad", "good"], 20)
    p = np.array(output.probabilities)
    p[:, 0] = np.nan
    (told,) = written(evaluation_json(replace(findings(output), outputs=[replace(output, probabilities=p)])))["outputs"]
    assert {text["score"] for cell in told["cells"] for text in cell["texts"]} == {None}


def test_kinds_without_a_matrix_tell_what_their_report_tells() -> None:
    random = np.random.default_rng(1)
    stars = OutputConfig(name="stars", kind="regression")
    number = replace(
        single(["a", "b"], 50),
        task=TASKS["regression"](stars),
        expected=random.random(50).tolist(),
        probabilities=random.random((50, 1)),
    )
    topics = OutputConfig(name="topics", kind="multi", labels=("plot", "service"))
    several = replace(
        single(["a", "b"], 50),
        task=TASKS["multi"](topics),
        expected=list(random.integers(2, size=(50, 2)).astype(float)),
        probabilities=random.random((50, 2)),
    )
    told = {one["name"]: one for one in written(evaluation_json(findings(number, several)))["outputs"]}
    for one in told.values():
        assert not one["cells"]
        assert one["sentence"]["zh"] != one["sentence"]["en"]
        assert one["mistakes"][0]["texts"][0].startswith("text number")
    assert told["topics"]["grids"][0]["rows"]
