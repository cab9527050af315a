"""Several processes that share a port; one that dies is started anew."""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from bothways.hardware import cores
from bothways.serving.config import ServingConfig

SHORT_LIFE = 10.0
"""A worker that ends sooner, in seconds, has failed to start; then all end, since the next one would fail as well."""
CHECK_SECONDS = 0.2


class Workers:
    """The processes of a server, and the signals that end them."""

    def __init__(self, sources: Sequence[str], config: ServingConfig, key: str | None, sock: socket.socket) -> None:
        self.sock, self.number = sock, config.workers
        threads = max(1, cores() // config.workers)
        self.arguments = (list(sources), config, key, sock, threads)
        self.ends = threading.Event()
        self._began: dict[BaseProcess, float] = {}

    def run(self) -> None:
        """Serve until SIGTERM or SIGINT, or until a worker cannot start."""
        before: dict[Any, Any] = {
            sign: signal.signal(sign, lambda number, frame: self.ends.set()) for sign in (signal.SIGINT, signal.SIGTERM)
        }
        with tempfile.TemporaryDirectory(prefix="bothways-") as shared:
            try:
                processes = [self._start(Path(shared)) for _ in range(self.number)]
                while not self.ends.wait(CHECK_SECONDS):
                    processes = [self._kept_alive(process, Path(shared)) for process in processes]
                self.sock.close()  # else new connections would wait in vain
                for process in processes:
                    process.terminate()
                for process in processes:
                    process.join()
            finally:
                for sign, handler in before.items():
                    signal.signal(sign, handler)

    def _start(self, shared: Path) -> BaseProcess:
        process = multiprocessing.get_context("spawn").Process(target=work, args=(*self.arguments, shared))
        process.start()
        self._began[process] = time.monotonic()
        return process

    def _kept_alive(self, process: BaseProcess, shared: Path) -> BaseProcess:
        if process.is_alive():
            return process
        if time.monotonic() - self._began[process] < SHORT_LIFE:
            print("bothways: a worker could not start, so the server stops.", file=sys.stderr)
            self.ends.set()
            return process
        print(f"bothways: worker {process.pid} has died; another takes its place.", file=sys.stderr)
        return self._start(shared)


def work(
    sources: Sequence[str], config: ServingConfig, key: str | None, sock: socket.socket, threads: int, shared: Path
) -> None:
    """One of several processes, with its share of the cores that all of them may use."""
    os.environ["OMP_NUM_THREADS"] = str(threads)
    metrics = shared / "metrics"
    metrics.mkdir(exist_ok=True)
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(metrics)
    # What reads these two variables is imported from here on.
    import torch

    from bothways.serving.app import Application
    from bothways.serving.models import Generation, Models, Source
    from bothways.serving.server import Server

    torch.set_num_threads(threads)
    models = Models([Source.parse(source) for source in sources], generation=Generation(shared / "reloads"))
    Server(Application(models, config, key=key), config).run(sockets=[sock])
