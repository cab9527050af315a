"""Several processes under torchrun: the same losses as one, and a run that survives the death of a worker."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import films
from test_loop import weights

from bothways.corpus.build import build_corpus
from bothways.formats.reading import load_model
from bothways.tokenizer import Tokenizer

RANKS = """
import os, sys
from bothways.errors import InputError
from bothways.pretraining.run import pretrain
try:
    pretrain(f"{sys.argv[1]}/corpus-of-{os.environ['RANK']}", f"{sys.argv[1]}/differing", size="tiny")
except InputError as error:
    print(error)
"""
"""A rank whose corpus is its own."""
APART = """
import os, shutil, sys
sys.argv = ["bothways", *sys.argv[2:]]
from bothways.cli import main
if os.environ["RANK"] == "1":
    elsewhere = sys.argv[sys.argv.index("--out") + 1] + "-elsewhere"
    sys.argv[sys.argv.index("--out") + 1] = elsewhere
main()
"""
"""A rank whose run is in a directory of its own."""


def free_port() -> int:
    with socket.socket() as opened:
        opened.bind(("127.0.0.1", 0))
        return opened.getsockname()[1]


def command(processes: int, folder: Path, out: str, *more: str, restarts: int = 0) -> list[str]:
    words = ["pretrain", "--corpus", str(folder / "corpus"), "--preset", "tiny", "--steps", "50", "--precision", "fp32"]
    words += ["--batch-tokens", "1024", "--sequence-lengths", "32", "--held-out", "0"]
    words += ["--out", str(folder / out), *more]
    if processes == 1:
        return [sys.executable, "-m", "bothways.cli", *words]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(processes)]
    torchrun += ["--master-port", str(free_port()), "--max-restarts", str(restarts), "-m", "bothways.cli"]
    return [*torchrun, *words]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, tokenizer: Tokenizer) -> Path:
    folder = tmp_path_factory.mktemp("distributed")
    build_corpus([[t + "." for t in films(12, seed=s)[0]] for s in range(80)], tokenizer, folder / "corpus")
    subprocess.run(
        command(1, folder, "one"), check=True, capture_output=True, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    return folder


def losses(directory: Path) -> np.ndarray:
    measured = json.loads((directory / "metrics.json").read_text())
    return np.array([[loss for _, loss in measured["losses"][name]] for name in ("mlm", "nsp")])


@pytest.mark.parametrize("shard", ["--no-shard", "--shard"])
def test_two_processes_do_what_one_does(folder: Path, shard: str) -> None:
    """Each with the whole model, or each with half of it."""
    out = "two" + shard
    subprocess.run(command(2, folder, out, shard), check=True, capture_output=True)
    np.testing.assert_allclose(losses(folder / out), losses(folder / "one"), rtol=2e-4)
    one, two = (load_model(folder / name)[0] for name in ("one", out))
    torch.testing.assert_close(weights(two), weights(one), atol=2e-3, rtol=0)
    tokens = [json.loads((folder / name / "metrics.json").read_text())["tokens"] for name in ("one", out)]
    assert tokens[0] == tokens[1]


@pytest.mark.parametrize("shard", ["--no-shard", "--shard"])
def test_a_worker_is_killed_and_the_run_goes_on(folder: Path, shard: str) -> None:
    out = "killed" + shard
    words = command(2, folder, out, shard, "--resume", "--checkpoint-minutes", "0", restarts=2)
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not list((folder / f"{out}.run" / "checkpoints").glob("update-0*")) and time.monotonic() < deadline:
        time.sleep(0.02)
    children = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True).stdout.split()
    assert len(children) >= 2
    os.kill(int(children[-1]), signal.SIGKILL)
    _, said = process.communicate(timeout=180)
    assert process.returncode == 0, said
    np.testing.assert_allclose(losses(folder / out), losses(folder / "one"), rtol=2e-4)


def test_ranks_that_see_different_checkpoints(folder: Path, tmp_path: Path) -> None:
    """As on machines that do not share the directory of the run: only the first has what it wrote."""
    stopping = command(1, folder, "apart", "--checkpoint-minutes", "0", "--resume")
    process = subprocess.Popen(stopping, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not list((folder / "apart.run" / "checkpoints").glob("update-0*")) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.terminate()
    assert process.wait(60) == 143
    (tmp_path / "rank.py").write_text(APART)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port"]
    done = subprocess.run(
        [*torchrun, str(free_port()), str(tmp_path / "rank.py"), str(folder), *stopping[3:]],
        capture_output=True,
        text=True,
    )
    assert done.returncode != 0
    assert "Rank 1 has another newest checkpoint in " in done.stderr, done.stderr
    assert not (folder / "apart").exists()


def test_ranks_that_see_different_corpora(folder: Path, tokenizer: Tokenizer) -> None:
    """As on a cluster whose machines have copies of their own."""
    build_corpus([[t + "." for t in films(12, seed=s)[0]] for s in range(9)], tokenizer, folder / "corpus-of-1")
    (folder / "corpus-of-0").symlink_to(folder / "corpus")
    (folder / "ranks.py").write_text(RANKS)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*torchrun, "--master-port", str(free_port()), str(folder / "ranks.py"), str(folder)],
        capture_output=True,
        text=True,
    )
    assert done.stdout.count("Rank 1 has another corpus than rank 0; give every rank the same.") == 2, done.stderr
    assert not list(folder.glob("differing*"))
