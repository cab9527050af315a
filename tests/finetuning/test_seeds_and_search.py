"""Several trainings for one classifier: seeds that tell how much is chance, and a search for settings."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import films

from bothways.cli.shared import flags_given
from bothways.errors import InputError
from bothways.evaluation.evaluate import evaluate_file
from bothways.finetuning.config import FinetuningConfig
from bothways.finetuning.data import read_data
from bothways.finetuning.run import Finetuned, Training, as_task, finetune
from bothways.finetuning.search import Search, space_around
from bothways.finetuning.seeds import Seeds, goodness
from bothways.inference.engine import Engine, load_classifier

CONFIG = FinetuningConfig(epochs=2, learning_rate=1e-3, precision="fp32", batch_size=16, seed=5)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    texts, labels = films(120)
    rows = "".join(f"{t},{y}\n" for t, y in zip(texts, labels, strict=True))
    (tmp_path / "train.csv").write_text("text,label\n" + rows, "utf-8")
    return tmp_path / "train.csv"


def test_seeds(tmp_path: Path, table: Path, encoder_directory: Path) -> None:
    """Each seed's figures are those of that seed alone on the same held-out rows; the best is kept and written."""
    out = tmp_path / "out"
    done = finetune(table, out, encoder=encoder_directory, config=CONFIG, strategy=Seeds(3))
    told = json.loads((out / "metrics.json").read_text("utf-8"))["seeds"]
    assert told["seeds"] == [5, 6, 7]
    f1 = told["outputs"]["label"]["macro_f1"]
    assert f1["mean"] == pytest.approx(np.mean(f1["values"]))
    assert f1["deviation"] == pytest.approx(np.std(f1["values"], ddof=1))
    assert len(set(told["outputs"]["label"]["matthews_correlation"]["values"])) > 1, "seeds differ"
    best = int(np.argmax(f1["values"]))
    assert told["kept"] == 5 + best
    assert goodness(done) == f1["values"][best] == done.metrics["outputs"]["label"]["macro_f1"]
    assert done.metrics["training"]["settings"]["seed"] == told["kept"]
    alone = finetune(table, tmp_path / "alone", encoder=encoder_directory, config=CONFIG)
    assert alone.metrics["outputs"]["label"]["macro_f1"] == f1["values"][0]
    assert "seeds" not in alone.metrics


def test_one_seed_deviates_by_nothing(tmp_path: Path, table: Path, encoder_directory: Path) -> None:
    done = finetune(table, tmp_path / "out", encoder=encoder_directory, config=CONFIG, strategy=Seeds(1))
    assert done.metrics["seeds"]["outputs"]["label"]["accuracy"]["deviation"] == 0.0


def test_seeds_end_somewhere(tmp_path: Path, table: Path, encoder_directory: Path) -> None:
    config = FinetuningConfig(seed=(1 << 32) - 1)
    with pytest.raises(InputError, match="go beyond"):
        finetune(table, tmp_path / "out", encoder=encoder_directory, config=config, strategy=Seeds(2))


def test_a_search_keeps_the_best_and_tells_all(
    tmp_path: Path, table: Path, encoder_directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = FinetuningConfig(epochs=1, precision="fp32")
    out = tmp_path / "out"
    began = time.monotonic()
    done = finetune(table, out, encoder=encoder_directory, config=config, strategy=Search(minutes=0.1))
    assert time.monotonic() - began < 20
    told = json.loads((out / "metrics.json").read_text("utf-8"))["search"]
    trials = told["trials"]
    assert len(trials) > 1
    assert all(set(trial["settings"]) == {"learning_rate", "batch_size", "dropout"} for trial in trials), "epochs given"
    assert goodness(done) == max(trial["goodness"] for trial in trials)
    kept = trials[int(np.argmax([trial["goodness"] for trial in trials]))]
    settings = done.metrics["training"]["settings"]
    assert kept["settings"] == {name: settings[name] for name in kept["settings"]}
    assert kept["outputs"]["label"].items() <= done.metrics["outputs"]["label"].items()
    assert "accuracy" in kept["outputs"]["label"]
    err = capsys.readouterr().err
    assert f"Trial {len(trials)}: " in err
    held_out = evaluate_file(Engine(*load_classifier(out)), table)  # it is what was written
    assert held_out["examples"] == 120


def test_what_is_given_stays_though_it_is_the_usual_value(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {"learning_rate": 1e-3, "epochs": 4, "batch_size": 32, "dropout": 0.0}
    assert set(space_around(settings, FinetuningConfig())) == set(settings)
    monkeypatch.setattr("sys.argv", ["bothways", "finetune", "--batch-size", "32", "--no-compile", "--seed=0"])
    assert flags_given() == {"batch_size", "compile", "seed"}
    assert set(space_around(settings, FinetuningConfig(), flags_given())) == set(settings) - {"batch_size"}
    of_a_file = FinetuningConfig(batch_size=16, seed=7, epochs=2)
    chosen = of_a_file.changed_by(FinetuningConfig(), flags_given())
    assert (chosen.batch_size, chosen.seed, chosen.epochs) == (32, 0, 2)


def test_a_search_proposes_the_same_for_the_same_seed(table: Path, encoder_directory: Path) -> None:
    """With a training that only pretends, so that many fit into little time; it also finds what is best."""
    data = read_data(as_task(table, None, None), CONFIG)
    real = Training(encoder_directory, data)(CONFIG)

    class Pretending(Training):
        def __call__(self, config: FinetuningConfig, **hook: object) -> Finetuned:
            settings = {"learning_rate": 1e-3, "epochs": 4, "batch_size": 32, "dropout": 0.0}
            settings |= {name: value for name in settings if (value := getattr(config, name)) is not None}
            figures = {"macro_f1": 1 - abs(settings["epochs"] - 7) / 10}
            metrics = {"outputs": {"label": figures}, "training": {"settings": settings}}
            return replace(real, metrics=metrics, log=replace(real.log, seconds=1e-3))

    def proposed(seed: int) -> list[dict[str, float]]:
        done = Search(minutes=1 / 60)(Pretending(encoder_directory, data), FinetuningConfig(seed=seed))
        trials = done.metrics["search"]["trials"]
        assert goodness(done) == max(trial["goodness"] for trial in trials) > 0.7, "better than where it began"
        return [trial["settings"] for trial in trials[:5]]

    assert proposed(0) == proposed(0)
    assert proposed(0)[1] != proposed(1)[1]


def test_a_search_stops_in_time(tmp_path: Path, table: Path, encoder_directory: Path) -> None:
    """A training under way is left when time is over; the first is finished even so."""

    class Slow(Training):
        def __call__(self, config: FinetuningConfig, **hook: object) -> Finetuned:
            if hook.get("after_update"):
                time.sleep(1.5)  # whatever it was expected to take
            return super().__call__(config, **hook)  # type: ignore[arg-type]

    def strategy(training: Training, config: FinetuningConfig) -> Finetuned:
        return Search(minutes=2 / 60)(Slow(training.directory, training.data), config)

    began = time.monotonic()
    config = FinetuningConfig(epochs=3, precision="fp32")
    done = finetune(table, tmp_path / "out", encoder=encoder_directory, config=config, strategy=strategy)
    assert time.monotonic() - began < 6
    assert len(done.metrics["search"]["trials"]) <= 2


def test_a_search_needs_optuna_and_rows(
    tmp_path: Path, table: Path, encoder_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use = {"encoder": encoder_directory, "strategy": Search(minutes=1)}
    config = FinetuningConfig(epochs=1, held_out=0.0)
    with pytest.raises(InputError, match="--search needs rows to evaluate on"):
        finetune(table, tmp_path / "out", config=config, **use)
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(InputError, match=r"pip install 'bothways\[search\]'"):
        finetune(table, tmp_path / "out", config=CONFIG, **use)
    assert not (tmp_path / "out").exists()
