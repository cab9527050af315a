"""Resume: killed or stopped at any moment, a run ends in the same weights, bit for bit."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import films, random_bert
from test_loop import CPU, OUTPUTS, QUIET, Random, settings, weights

from bothways.corpus.build import build_corpus
from bothways.errors import InputError, Stopped
from bothways.formats.reading import load_model
from bothways.model.bert import Bert
from bothways.model.config import EncoderConfig
from bothways.tokenizer import Tokenizer
from bothways.training import checkpoint as checkpoint_module
from bothways.training.checkpoint import Checkpoints
from bothways.training.log import TrainingLog
from bothways.training.loop import Report, train

UPDATES = 12


class Every(Checkpoints):
    """Checkpoints after every update."""

    due = True  # type: ignore[assignment]


class Crash(Exception):
    """Stands in for a kill between two updates."""


def run(encoder: EncoderConfig, directory: Path | None, stop_after: int | None = None) -> torch.Tensor:
    """The weights after a run, with dropout, bf16 and accumulation; `stop_after`: it crashes after that update."""
    dropping = replace(encoder, dropout=0.1)
    bert = random_bert(dropping, *OUTPUTS)

    def crash(bert: Bert, log: TrainingLog) -> None:
        if log.updates == stop_after:
            raise Crash

    checkpoints = None if directory is None else Every(directory, {"rate": 1})
    config = settings(precision="bf16", optimizer="muon")
    train(
        bert,
        Random(dropping, UPDATES, micro=2),
        config,
        device=CPU,
        checkpoints=checkpoints,
        after_update=crash,
        report=Report(log_every=5, quiet=True),
    )
    return weights(bert)


def test_crashes_change_nothing(encoder_config: EncoderConfig, tmp_path: Path) -> None:
    undisturbed = run(encoder_config, None)
    for moment in (2, 3, 7, 11):
        with pytest.raises(Crash):
            run(encoder_config, tmp_path / "run", moment)
    assert torch.equal(run(encoder_config, tmp_path / "run"), undisturbed)


def test_the_log_goes_on(encoder_config: EncoderConfig, tmp_path: Path) -> None:
    logs = []
    for directory, stops in ((None, ()), (tmp_path / "run", (3, 8))):
        for stop in (*stops, None):
            bert = random_bert(encoder_config, *OUTPUTS)

            def end(bert: Bert, log: TrainingLog, stop: int | None = stop) -> None:
                if log.updates == stop:
                    raise Crash

            checkpoints = directory and Every(directory, {})
            try:
                log = train(
                    bert,
                    Random(encoder_config, UPDATES),
                    settings(),
                    device=CPU,
                    checkpoints=checkpoints,
                    after_update=end,
                    report=Report(log_every=5, quiet=True),
                )
            except Crash:
                continue
        logs.append(log)
    assert logs[0].losses == logs[1].losses
    assert (logs[0].updates, logs[0].tokens) == (logs[1].updates, logs[1].tokens)


def test_the_last_few_are_kept(encoder_config: EncoderConfig, tmp_path: Path) -> None:
    (tmp_path / ".update-00000002.99.tmp").mkdir()
    run(encoder_config, tmp_path)
    assert [p.name for p in sorted(tmp_path.iterdir())] == [f"update-000000{n:02}" for n in (9, 10, 11)]


@pytest.mark.parametrize("damage", ["cut", "flipped", "missing", "no json", "other json", "no digests"])
def test_a_damaged_one_is_named_and_the_one_before_it_used(
    encoder_config: EncoderConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: str
) -> None:
    undisturbed = run(encoder_config, tmp_path)
    newest = tmp_path / "update-00000011"
    state = newest / "state.safetensors"
    content = state.read_bytes()
    if damage == "cut":
        state.write_bytes(content[:-10])
    elif damage == "flipped":
        state.write_bytes(content[:-10] + bytes([content[-10] ^ 1]) + content[-9:])
    elif damage == "missing":
        state.unlink()
    elif damage == "no digests":
        (newest / "SHA256SUMS").unlink()
    elif damage == "other json":
        known = (newest / "state.json").read_text()
        (newest / "state.json").write_text(known.replace('"updates": 11', '"updates": 12'))
        assert (newest / "state.json").read_text() != known
    else:
        (newest / "state.json").write_text('{"upd')
    found = Every(tmp_path, {"rate": 1}).latest()
    assert found is not None
    assert found.update == 10
    assert f"{newest}: this checkpoint is damaged" in capsys.readouterr().err
    assert torch.equal(run(encoder_config, tmp_path), undisturbed)


def test_damaged_ones_do_not_push_good_ones_out(encoder_config: EncoderConfig, tmp_path: Path) -> None:
    with pytest.raises(Crash):
        run(encoder_config, tmp_path, 3)
    for later in ("update-00000800", "update-00000900"):
        (tmp_path / later).mkdir()
    run(encoder_config, tmp_path)
    assert [p.name for p in sorted(tmp_path.iterdir())] == [f"update-000000{n:02}" for n in (9, 10, 11)]


def test_other_settings_and_no_good_one(encoder_config: EncoderConfig, tmp_path: Path) -> None:
    assert Every(tmp_path / "none", {}).latest() is None
    run(encoder_config, tmp_path)
    with pytest.raises(InputError, match="started with rate 1, not 2"):
        Every(tmp_path, {"rate": 2}).latest()
    for path in tmp_path.glob("*/state.safetensors"):
        path.write_bytes(b"")
    with pytest.raises(InputError, match="every checkpoint is damaged"):
        Every(tmp_path, {"rate": 1}).latest()


def test_a_full_disk_leaves_the_last_good_one(
    encoder_config: EncoderConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: object) -> None:
        raise checkpoint_module.SafetensorError("I/O error: No space left on device (os error 28)")

    with pytest.raises(Crash):
        run(encoder_config, tmp_path, 3)
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint_module, "save_file", full)
        with pytest.raises(InputError, match="update-00000003: no space left on the device"):
            run(encoder_config, tmp_path)
    assert [p.name for p in sorted(tmp_path.iterdir())] == ["update-00000001", "update-00000002"]
    assert torch.equal(run(encoder_config, tmp_path), run(encoder_config, None))


def test_a_lost_directory_is_not_made_anew(encoder_config: EncoderConfig, tmp_path: Path) -> None:
    """What was in it may come back; a fresh one in its place would hide that, and begin again from nothing."""
    bert = random_bert(encoder_config, *OUTPUTS)

    def lose(bert: Bert, log: TrainingLog) -> None:
        if log.updates == 4:
            (tmp_path / "run").rename(tmp_path / "elsewhere")

    with pytest.raises(InputError, match="run is gone; put it back and go on with --resume"):
        train(
            bert,
            Random(encoder_config, UPDATES),
            settings(),
            device=CPU,
            checkpoints=Every(tmp_path / "run", {}),
            after_update=lose,
            report=QUIET,
        )
    assert [p.name for p in tmp_path.iterdir()] == ["elsewhere"]
    assert len(list((tmp_path / "elsewhere").iterdir())) == 3


def test_sha256sum_reads_the_digests(encoder_config: EncoderConfig, tmp_path: Path) -> None:
    run(encoder_config, tmp_path)
    for path in tmp_path.iterdir():
        subprocess.run(["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"], cwd=path, check=True)


def test_asked_to_stop(encoder_config: EncoderConfig, tmp_path: Path) -> None:
    bert = random_bert(encoder_config, *OUTPUTS)

    def ask(bert: Bert, log: TrainingLog) -> None:
        if log.updates == 4:
            os.kill(os.getpid(), signal.SIGTERM)

    checkpoints = Checkpoints(tmp_path, {})
    with pytest.raises(Stopped, match="after 4 of 12 updates"):
        train(
            bert,
            Random(encoder_config, 12),
            settings(),
            device=CPU,
            checkpoints=checkpoints,
            after_update=ask,
            report=QUIET,
        )
    assert [p.name for p in tmp_path.iterdir()] == ["update-00000004"]
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_a_command_killed_again_and_again(tmp_path: Path, tokenizer: Tokenizer) -> None:
    """`bothways pretrain` under SIGKILL and SIGTERM at random moments, against the same command left alone."""
    documents = [[t + "." for t in films(8, seed=seed)[0]] for seed in range(60)]
    build_corpus(documents, tokenizer, tmp_path / "corpus")
    command = [
        sys.executable,
        "-m",
        "bothways.cli",
        "pretrain",
        "--corpus",
        str(tmp_path / "corpus"),
        "--preset",
        "tiny",
    ]
    command += ["--steps", "60", "--batch-tokens", "2048", "--checkpoint-minutes", "0", "--out"]
    chance, kills = random.Random(0), 0
    for attempt in range(30):
        process = subprocess.Popen(
            [*command, str(tmp_path / "disturbed"), "--resume"], stderr=subprocess.PIPE, text=True
        )
        run_directory = tmp_path / "disturbed.run" / "checkpoints"
        seen = set(run_directory.glob("update-*"))
        deadline = time.monotonic() + 60
        while process.poll() is None and time.monotonic() < deadline:
            if kills < 4 and set(run_directory.glob("update-*")) - seen:
                time.sleep(chance.random() * 0.3)
                process.send_signal(signal.SIGTERM if attempt == 1 else signal.SIGKILL)
                kills += 1
                break
            time.sleep(0.01)
        _, said = process.communicate(timeout=60)
        if process.returncode == 0:
            break
        assert process.returncode in (143, -signal.SIGKILL), said
        if process.returncode == 143:
            assert "The same command with --resume goes on." in said
            assert "Traceback" not in said
    assert process.returncode == 0
    assert kills >= 2
    assert not (tmp_path / "disturbed.run").exists()
    again = [*command, str(tmp_path / "disturbed"), "--resume"]
    finished = subprocess.run(again, check=True, capture_output=True, text=True)
    assert "disturbed is finished; there is nothing to resume." in finished.stderr
    subprocess.run([*command, str(tmp_path / "alone")], check=True, stderr=subprocess.DEVNULL)
    ours, others = (load_model(tmp_path / name)[0] for name in ("disturbed", "alone"))
    assert torch.equal(weights(ours), weights(others))
