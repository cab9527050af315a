"""Many files are classified as each alone would be; a worker that is lost costs what it had in hand, and no row."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import sys
import threading
import time
from pathlib import Path

import fsspec
import pytest
from conftest import films

from bothways import InputError, TextClassifier
from bothways.cli import main
from bothways.inference.many_files import Job, classify_many, is_pattern, jobs_of


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from bothways.formats.hub import locate

    texts, names = films(40)
    directory = tmp_path_factory.mktemp("many") / "classifier"
    TextClassifier(locate("en-mini"), epochs=1, held_out=0.0, max_length=32).fit(texts, names).save(directory)
    return directory


def write_tables(folder: Path, rows: list[int]) -> list[str]:
    """Tables of so many rows → the texts of all."""
    folder.mkdir()
    written = []
    for number, size in enumerate(rows):
        with (folder / f"part-{number}.csv").open("w", newline="") as stream:
            texts = [f"row {number}-{row} is a good film" for row in range(size)]
            csv.writer(stream).writerows([["text"], *([text] for text in texts)])
            written += texts
    return written


def answered(folder: Path) -> list[dict]:
    return [json.loads(line) for file in sorted(folder.iterdir()) for line in file.read_text().splitlines()]


def test_one_after_the_other(classifier: Path, tmp_path: Path) -> None:
    texts = write_tables(tmp_path / "texts", [5, 1, 7])
    (tmp_path / "answers").mkdir()
    jobs = jobs_of(f"{tmp_path}/texts/*.csv", f"{tmp_path}/answers/*.jsonl")
    assert [Path(job.out).name for job in jobs] == ["part-0.jsonl", "part-1.jsonl", "part-2.jsonl"]
    outcome, refused = classify_many(classifier, jobs, "it")
    assert (outcome.rows, outcome.failed, refused) == (13, 0, [])
    found = answered(tmp_path / "answers")
    assert [answer["text"] for answer in found] == texts
    alone = list(TextClassifier.load(classifier).predict(texts))
    assert [answer["outputs"]["label"]["label"] for answer in found] == alone
    with pytest.raises(InputError, match=r"part-0.jsonl is there already; add --resume"):
        classify_many(classifier, jobs, "it")
    (tmp_path / "answers" / "part-1.jsonl").unlink()
    outcome, _ = classify_many(classifier, jobs, "it", resume=True)
    assert outcome.rows == 1, "the others are done"


def test_a_file_that_cannot_be_read_stops_no_other(
    classifier: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_tables(tmp_path / "texts", [2, 2])
    (tmp_path / "texts" / "part-0.csv").write_text("words\nno text here\n")
    (tmp_path / "answers").mkdir()
    monkeypatch.setattr(sys, "argv", ["bothways", "classify", str(classifier), "texts/*.csv", "--out", "answers/*.csv"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    told = capsys.readouterr().err
    assert "texts/part-0.csv" in told
    assert "answers/*.csv: 2 rows" in told
    assert [file.name for file in sorted((tmp_path / "answers").glob("*.csv"))] == ["part-1.csv"]


def test_what_makes_no_sense_is_said_before_the_work(tmp_path: Path) -> None:
    write_tables(tmp_path / "texts", [1, 1])
    here = f"{tmp_path}/texts"
    assert is_pattern(f"{here}/*.csv")
    assert not is_pattern(f"{here}/part-0.csv")
    for out in (None, f"{tmp_path}/answers.jsonl", f"{tmp_path}/*/*.jsonl"):
        with pytest.raises(InputError, match=r"name them with --out 'answers/\*.jsonl'"):
            jobs_of(f"{here}/*.csv", out)
    with pytest.raises(InputError, match="there is no such file"):
        jobs_of(f"{here}/*.tsv", f"{tmp_path}/*.jsonl")
    with pytest.raises(InputError, match="part-0"):
        jobs_of(f"{here}/*.csv", f"{here}/*.csv")
    (tmp_path / "texts" / "part-0.csv.gz").touch()
    with pytest.raises(InputError, match=r"part-0.csv and .*part-0.csv.gz would both be answered in"):
        jobs_of(f"{here}/part*", f"{tmp_path}/*.jsonl")


def test_the_answers_of_an_address_are_called_as_its_file_is(tmp_path: Path) -> None:
    with fsspec.open("memory://many/one.csv.gz?key=a/b", "wb") as stream:
        stream.write(b"")
    (job,) = jobs_of("memory://many/*", f"{tmp_path}/*.jsonl")
    assert Path(job.out).name == "one.jsonl"


def workers() -> list[int]:
    """The processes of Ray's that classify."""
    found = []
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            if (directory / "cmdline").read_bytes().startswith(b"ray::MapWorker"):
                found.append(int(directory.name))
        except OSError:
            continue
    return found


@pytest.mark.parametrize(
    ("cluster", "name", "told"),
    [
        ("local", "me/model", "{directory}"),
        ("auto", "me/model", "me/model@0123abcd"),
        ("auto", "me/model@v1", "me/model@0123abcd"),
        ("auto", "{classifier}", "{classifier}"),
    ],
)
def test_the_workers_of_a_cluster_use_the_commit_that_was_located(
    cluster: str, name: str, told: str, classifier: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_tables(tmp_path / "texts", [1])
    directory = tmp_path / "snapshots" / "0123abcd"
    shutil.copytree(classifier, directory)
    fetched, given = [], []

    def fetch(*asked: str | None) -> Path:
        fetched.append(asked)
        return directory

    def on_cluster(address: str, arguments: tuple, rows: list[dict]) -> list[dict]:
        given.append(str(arguments[0]))
        return []

    monkeypatch.setattr("bothways.formats.hub.fetch", fetch)
    monkeypatch.setattr("bothways.inference.many_files.on_cluster", on_cluster)
    words = ["classify", name.format(classifier=classifier), f"{tmp_path}/texts/*.csv"]
    monkeypatch.setattr(sys, "argv", ["bothways", *words, "--out", f"{tmp_path}/*.jsonl", "--cluster", cluster])
    main()
    assert given == [told.format(directory=directory, classifier=classifier)]
    assert len(fetched) == name.startswith("me/")


@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
def test_a_cluster_of_two_workers_of_which_one_is_killed(classifier: Path, tmp_path: Path) -> None:
    ray = pytest.importorskip("ray")
    texts = write_tables(tmp_path / "texts", [3000] * 6)
    (tmp_path / "answers").mkdir()
    jobs = jobs_of(f"{tmp_path}/texts/*.csv", f"{tmp_path}/answers/*.jsonl")
    killed = []

    def kill() -> None:
        until = time.monotonic() + 60
        while time.monotonic() < until and not killed:
            time.sleep(0.02)
            if list((tmp_path / "answers").glob("*.run/parts")) and (found := workers()):
                os.kill(found[0], signal.SIGKILL)
                killed.append(found[0])

    killer = threading.Thread(target=kill)
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        killer.start()
        outcome, refused = classify_many(classifier, jobs, "it", cluster="local")
    finally:
        ray.shutdown()
        killer.join()
    assert killed, "in the middle of the work"
    assert refused == []
    assert [answer["text"] for answer in answered(tmp_path / "answers")] == texts
    assert outcome.rows == len(texts)


def test_a_cluster_that_is_not_there(classifier: Path) -> None:
    pytest.importorskip("ray")
    with pytest.raises(InputError, match="there is no Ray cluster"):
        classify_many(classifier, [Job("a.csv", "a.jsonl")], "it", cluster="auto")
