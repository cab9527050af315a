"""What is told before a server starts, and how several processes act as one."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest

from bothways.errors import InputError
from bothways.serving import models
from bothways.serving.config import KEY_VARIABLE, ServingConfig
from bothways.serving.models import Generation, Source
from bothways.serving.run import key_of, listening, serve
from serving.test_robustness import answers_health, until


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"port": 70_000}, "port is 70000; it must be from 0 to 65535."),
        ({"workers": 0}, "workers is 0; it must be 1 or more."),
        ({"deadline": float("nan")}, "deadline is nan; it must be a number."),
        ({"body_timeout": 0.0}, "body_timeout is 0.0; it must be above 0 seconds."),
    ],
)
def test_a_setting_that_cannot_be_used_is_told(wrong: dict, sentence: str) -> None:
    with pytest.raises(InputError) as told:
        ServingConfig(**wrong)
    assert str(told.value) == sentence


def test_the_key_comes_from_a_file_or_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    assert key_of(ServingConfig()) is None
    monkeypatch.setenv(KEY_VARIABLE, "from outside")
    assert key_of(ServingConfig()) == "from outside"
    (tmp_path / "key").write_text("from a file \nand more\n", "utf-8")
    assert key_of(ServingConfig(api_key_file=tmp_path / "key")) == "from a file"
    for content in ("", "\n", "钥匙\n"):
        (tmp_path / "key").write_text(content, "utf-8")
        with pytest.raises(InputError, match="printable ASCII"):
            key_of(ServingConfig(api_key_file=tmp_path / "key"))
    with pytest.raises(InputError, match="cannot be read"):
        key_of(ServingConfig(api_key_file=tmp_path / "none"))


def test_models_have_names(tmp_path: Path, mood: Path) -> None:
    assert Source.parse(f"{mood}") == Source("mood", str(mood))
    assert Source.parse(f"it={mood}") == Source("it", str(mood))
    for wrong in ("", "=", "a b=", "a?b=x", "name="):
        with pytest.raises(InputError, match="NAME=DIR"):
            Source.parse(wrong)
    with pytest.raises(InputError, match="Two models are called 'mood'"):
        serve([str(mood), str(mood)], ServingConfig())
    with pytest.raises(InputError, match="no such directory"):
        serve([f"it={tmp_path}/none"], ServingConfig())


def test_a_port_in_use_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        with pytest.raises(InputError, match="name another --port"):
            with listening(ServingConfig(port=taken.getsockname()[1])):
                pass


class Read(NamedTuple):
    """What stands for a model that was read."""

    name: str
    source: str
    version: int


def test_a_slow_reading_overwrites_no_newer_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process has announced version 1, which is read slowly here while somebody asks for version 2."""
    version, slow, reading = 0, threading.Event(), threading.Event()

    def load(name: str, source: str) -> Read:
        found = Read(name, source, version)
        if version == 1:
            reading.set()
            assert slow.wait(20)
        if version == 3:
            raise MemoryError
        return found

    monkeypatch.setattr(models, "load", load)
    shared = tmp_path / "reloads"
    here, other = (models.Models([Source("x", "x")], generation=Generation(shared)) for _ in range(2))

    async def both() -> None:
        nonlocal version
        following = asyncio.ensure_future(here.follow(0.01))
        version = 1
        assert other._generation is not None
        other._generation.announce()
        assert await asyncio.to_thread(reading.wait, 20)
        version = 2
        asked = asyncio.ensure_future(here.reload())
        await asyncio.sleep(0.05)
        slow.set()
        await asked
        assert here.get("x").version == 2  # type: ignore[attr-defined]
        version = 3
        other._generation.announce()
        await asyncio.sleep(0.2)
        version = 4
        other._generation.announce()
        while here.get("x").version != 4:  # type: ignore[attr-defined]
            assert not following.done(), "what went wrong once ends nothing"
            await asyncio.sleep(0.01)
        following.cancel()

    asyncio.run(asyncio.wait_for(both(), 60))


@pytest.mark.slow
def test_workers_count_together_and_reload_together(mood: Path, several: Path, tmp_path: Path) -> None:
    place = tmp_path / "model"
    shutil.copytree(mood, place)
    command = [sys.executable, "-m", "bothways.cli", "serve", str(place), "--port", "0", "--workers", "2"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=os.environ | {KEY_VARIABLE: "secret"})
    assert process.stderr is not None
    try:
        address = process.stderr.readline().split(" on ")[1].strip()
        until(lambda: answers_health(address), 120)
        headers = {"authorization": "Bearer secret"}

        def shas() -> set[str]:
            """Of several connections, which the workers share out."""
            return {httpx.get(f"{address}/info", headers=headers).json()["model_sha"] for _ in range(6)}

        for _ in range(6):
            httpx.post(f"{address}/predict", json={"inputs": "a film"}, headers=headers).raise_for_status()
        assert 'te_request_success{method="single"} 6.0' in httpx.get(f"{address}/metrics", headers=headers).text
        (before,) = shas()
        shutil.rmtree(place)
        shutil.copytree(several, place)
        told = httpx.post(f"{address}/reload", json={}, headers=headers, timeout=60).json()
        after = told["models"]["model"]
        assert after != before
        until(lambda: all(shas() == {after} for _ in range(5)), 60)  # six may all have reached the one that was told
        time.sleep(0.1)
        assert shas() == {after}, json.dumps(told)
    finally:
        process.terminate()
        assert process.wait(60) == 0
        process.stderr.close()
