"""Nothing half-written stays where a person would find it, however a verb ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest

from cases.helpers import check_refusal, contents, environment, refuses, review_rows, run, write_rows

STOPPED = {signal.SIGTERM: 143, signal.SIGHUP: 129, signal.SIGINT: 130}


def begun(*words: object, first: bytes, until: Callable[[], bool]) -> subprocess.Popen[bytes]:
    """A verb that waits in the middle of its work for more of standard input."""
    started = subprocess.Popen(
        [sys.executable, "-m", "bothways.cli", *map(str, words)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=environment(),
    )
    assert started.stdin is not None
    started.stdin.write(first)
    started.stdin.flush()
    limit = time.monotonic() + 60
    while not until() and started.poll() is None and time.monotonic() < limit:
        time.sleep(0.05)
    assert started.poll() is None, started.stderr and started.stderr.read().decode()
    assert until(), "it never began to write"
    return started


def stopped(started: subprocess.Popen[bytes], sign: signal.Signals) -> str:
    """What it says when it is stopped; its exit status must tell how."""
    started.send_signal(sign)
    try:
        _, err = started.communicate(timeout=30)
    finally:
        started.kill()
    assert started.returncode in (STOPPED[sign], -sign), err.decode()
    assert b"Traceback" not in err
    return err.decode()


def something_new(folder: Path) -> Callable[[], bool]:
    """Whether a folder holds something that it did not."""
    before = set(os.listdir(folder))
    return lambda: set(os.listdir(folder)) != before


@pytest.mark.parametrize("sign", STOPPED)
def test_a_stopped_classify_leaves_nothing(sign: signal.Signals, classifier: Path, place: Path) -> None:
    started = begun("classify", classifier, "--out", "ans.jsonl", first=b"good\n" * 10, until=something_new(place))
    stopped(started, sign)
    assert os.listdir(place) == []


@pytest.mark.parametrize("sign", STOPPED)
def test_a_classify_that_is_stopped_half_way_says_how_to_go_on(
    sign: signal.Signals, classifier: Path, place: Path
) -> None:
    journal = place / "ans.jsonl.run" / "journal.json"
    started = begun(
        "classify", classifier, "--out", "ans.jsonl", first=(b"good " * 4 + b"\n") * 9000, until=journal.exists
    )
    assert "the same command with --resume goes on" in stopped(started, sign)
    assert os.listdir(place) == ["ans.jsonl.run"]


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_classify_keeps_what_was_there(sign: signal.Signals, classifier: Path, place: Path) -> None:
    (place / "ans.jsonl").write_text("old answers\n")
    before = contents(place)
    stopped(begun("classify", classifier, "--out", "ans.jsonl", first=b"good\n", until=something_new(place)), sign)
    assert contents(place) == before


@pytest.mark.parametrize("sign", STOPPED)
def test_a_stopped_tokenizer_leaves_nothing(sign: signal.Signals, place: Path) -> None:
    use = ("tokenizer", "train", "/dev/stdin", "--vocab-size", 100, "--out", "tok")
    stopped(begun(*use, first=b"a good film\n\n" * 10, until=something_new(place)), sign)
    assert os.listdir(place) == []


def test_a_stopped_verb_leaves_no_folder_above_its_goal_either(place: Path) -> None:
    use = ("tokenizer", "train", "/dev/stdin", "--vocab-size", 100, "--out", "new/folder/tok")
    stopped(begun(*use, first=b"a good film\n\n" * 10, until=something_new(place)), signal.SIGTERM)
    assert os.listdir(place) == []


@pytest.mark.parametrize("verb", ["tokenizer", "corpus"])
def test_a_refusal_leaves_no_folder_above_its_goal(verb: str, encoder: Path) -> None:
    Path("docs.txt").write_text("\n\n")
    words: dict[str, tuple[object, ...]] = {
        "tokenizer": ("tokenizer", "train", "docs.txt", "--vocab-size", 100),
        "corpus": ("corpus", "build", "docs.txt", "--tokenizer", encoder),
    }
    refuses(*words[verb], "--out", "new/folder/out", says=["no text"])


def test_a_mistake_in_the_last_line_leaves_nothing(classifier: Path) -> None:
    Path("t.jsonl").write_bytes(lines(review_rows()) + b"\xff\n")
    refuses("classify", classifier, "t.jsonl", "--out", "answers.jsonl", says=[r"t\.jsonl", "line 41", "UTF-8"])


def test_a_mistake_in_the_last_line_keeps_what_was_there(classifier: Path) -> None:
    Path("t.jsonl").write_bytes(lines(review_rows()) + b"\xff\n")
    Path("answers.jsonl").write_text("old answers\n")
    refuses("classify", classifier, "t.jsonl", "--out", "answers.jsonl", says=[r"t\.jsonl", "line 41", "UTF-8"])


def lines(rows: Sequence[Mapping[str, str]]) -> bytes:
    """Rows as JSON lines."""
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def test_a_directory_that_cannot_be_replaced_stays(encoder: Path, place: Path) -> None:
    """--overwrite destroys nothing before the new one is there."""
    (place / "out").mkdir()
    (place / "out" / "kept.txt").write_text("old")
    write_rows("t.csv", [{"text": "a", "label": "x"}])
    use = ("finetune", "--train", "t.csv", "--encoder", encoder, "--out", "out", "--overwrite")
    refuses(*use, says=["out is no directory that bothways has written", "--overwrite"])
    (place / "out" / "config.json").write_text("{}")
    refuses(*use, says=[r"t\.csv", "only the one class"])
    assert (place / "out" / "kept.txt").read_text() == "old"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_place_where_one_may_not_write_is_named(classifier: Path, place: Path) -> None:
    (place / "locked").mkdir(mode=0o500)
    ended = run("classify", classifier, "--out", "locked/answers.jsonl", stdin=b"good\n")
    check_refusal(ended, ["locked", "may not write"])
