"""Small servers: an application asked in this process, and a live one on loopback."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from conftest import random_bert

from bothways.formats.writing import save_model
from bothways.model.config import EncoderConfig, OutputConfig
from bothways.serving.app import Application
from bothways.serving.config import ServingConfig
from bothways.serving.models import Models, Source
from bothways.serving.run import listening
from bothways.serving.server import Server
from bothways.tokenizer import Tokenizer

MOOD = OutputConfig(name="mood", kind="single", labels=("bad", "good", "<b>odd</b>"), reads="mean")
SEVERAL = (
    MOOD,
    OutputConfig(name="topics", kind="multi", labels=("plot", "service"), reads="mean"),
    OutputConfig(name="stars", kind="regression", reads="mean"),
)


@pytest.fixture(scope="session")
def mood(tmp_path_factory: pytest.TempPathFactory, encoder_config: EncoderConfig, tokenizer: Tokenizer) -> Path:
    """A classifier with one output, as a directory."""
    path = tmp_path_factory.mktemp("serving") / "mood"
    save_model(path, random_bert(encoder_config, MOOD), tokenizer)
    return path


@pytest.fixture(scope="session")
def several(mood: Path, encoder_config: EncoderConfig, tokenizer: Tokenizer) -> Path:
    """A classifier with outputs of several kinds."""
    path = mood.parent / "several"
    save_model(path, random_bert(encoder_config, *SEVERAL, seed=1), tokenizer)
    return path


class Live:
    """A server on loopback, in a thread of its own."""

    def __init__(self, application: Application, config: ServingConfig) -> None:
        self.application = application
        self.server = Server(application, config)
        self._listening = listening(config)
        sock, self.address = self._listening.__enter__()
        self.thread = threading.Thread(target=self._run, args=(sock,))
        self.thread.start()
        while not self.server.started:
            assert self.thread.is_alive()
            time.sleep(0.01)

    def _run(self, sock: object) -> None:
        asyncio.run(self.server.serve(sockets=[sock]))

    def stop(self) -> None:
        """As after SIGTERM."""
        self.server.should_exit = True
        self.thread.join(30)
        assert not self.thread.is_alive()


Serve = Callable[..., "Live"]


@contextmanager
def served(*sources: Path | str, key: str | None = None, **settings: object) -> Iterator[Live]:
    """A live server of some models."""
    config = ServingConfig(port=0, **settings)  # type: ignore[arg-type]
    models = Models([Source.parse(str(source)) for source in sources])
    live = Live(Application(models, config, key=key), config)
    try:
        yield live
    finally:
        live.stop()


@pytest.fixture(scope="module")
def live(mood: Path, several: Path) -> Iterator[Live]:
    """A server of two models."""
    with served(mood, several) as running:
        yield running


@pytest.fixture
def client(live: Live) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=live.address, timeout=20) as opened:
        yield opened
