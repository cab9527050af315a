"""What goes wrong at a server: faulty requests, clients that leave or dawdle, too much to do, broken models."""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from bothways.tokenizer import Encoding
from serving.conftest import Live, served

KEY = {"authorization": "Bearer secret"}


FAULTS = [
    ({"inputs": []}, 400, "Empty"),
    ({"inputs": ""}, 400, "Empty"),
    ({"inputs": [[]]}, 400, "Empty"),
    ({"inputs": [[""]]}, 400, "Empty"),
    ({}, 422, "Validation"),
    ([], 422, "Validation"),
    ({"inputs": 3}, 422, "Validation"),
    ({"inputs": None}, 422, "Validation"),
    ({"inputs": ["a", "b", "c"]}, 422, "Validation"),
    ({"inputs": [["a"], ["b", "c"]]}, 422, "Validation"),
    ({"inputs": ["a", ["b"]]}, 422, "Validation"),
    ({"inputs": [["a"]] * 33}, 422, "Validation"),
    ({"inputs": "a" * 200_001}, 422, "Validation"),
    ({"inputs": "word " * 100, "truncate": False}, 422, "Validation"),
    ({"inputs": "a", "raw_scores": "yes"}, 422, "Validation"),
    ({"inputs": "a", "truncation_direction": "up"}, 422, "Validation"),
    ({"inputs": "a", "model": "none"}, 404, "Validation"),
]


@pytest.mark.parametrize(("body", "status", "kind"), FAULTS)
def test_a_faulty_request_gets_a_sentence(client: httpx.Client, body: object, status: int, kind: str) -> None:
    response = client.post("/predict", json=body)
    assert (response.status_code, response.json()["error_type"]) == (status, kind), response.text
    assert response.json()["error"].endswith((".", "`"))


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"{", 422),
        (b"", 422),
        (b"\xff\xfe", 422),
        (b"[" * 100_000, 400),
        (b'{"inputs": ' + b"9" * 10_000 + b"}", 400),
        (b'{"inputs": "\\ud800"}', 422),
        (b'{"inputs": "\\u0000\\u0007 film"}', 200),
        (b'{"inputs": NaN}', 422),
        (b'{"inputs": "' + b"a" * 10_000_000 + b'"}', 413),
        (b'{"inputs": [' + b'["a"],' * 100_000 + b'["a"]]}', 422),
    ],
)
def test_what_is_not_a_request_gets_a_sentence(client: httpx.Client, content: bytes, status: int) -> None:
    response = client.post("/predict", content=content, headers={"content-type": "application/json"})
    assert response.status_code == status, response.text[:200]
    assert "error" in response.json() or status == 200


def test_thousand_random_faults_leave_it_healthy(client: httpx.Client) -> None:
    random.seed(7)
    values = [
        None,
        3,
        -1.5,
        True,
        "",
        "a film",
        "\x00",
        [],
        ["a"],
        [["a"]],
        {},
        [None],
        "很" * 300,
        [["a", "b"]],
        10**30,
    ]
    keys = ["inputs", "input", "model", "truncate", "raw_scores", "parameters", "outputs", "id", "dimensions", "shape"]
    paths = ["/", "/predict", "/embed", "/tokenize", "/classify", "/v1/embeddings", "/answers", "/reload", "/v2/none"]
    paths += ["/v2/models/mood/infer"]
    for _ in range(1000):
        body = {random.choice(keys): random.choice(values) for _ in range(random.randint(0, 4))}
        response = client.post(random.choice(paths), json=random.choice([body, body, body, [body]]))
        assert response.status_code < 500, (response.text, body)
    assert client.get("/health").status_code == 200
    assert client.post("/predict", json={"inputs": "a film"}).status_code == 200


def test_what_is_truncated_is_said(client: httpx.Client) -> None:
    long = "word " * 100 + "good"
    response = client.post("/predict", json={"inputs": [[long], ["a film"]]})
    assert (response.status_code, response.headers["x-truncated"]) == (200, "1")
    assert "te_request_truncated 0.0" not in client.get("/metrics").text
    left = client.post("/predict", json={"inputs": [[long], ["a film"]], "truncation_direction": "left"})
    assert left.json()[0] != response.json()[0]
    for one, other in zip(left.json()[1], response.json()[1], strict=True):
        assert one == {"label": other["label"], "score": pytest.approx(other["score"], abs=1e-5)}


def test_texts_are_in_no_log_and_no_error(client: httpx.Client, caplog: pytest.LogCaptureFixture) -> None:
    for body in ({"inputs": "sesame", "truncate": "sesame"}, {"inputs": ["sesame"] * 3}, {"inputs": {"sesame": 1}}):
        assert "sesame" not in client.post("/predict", json=body).text
    client.post("/predict", json={"inputs": "sesame"})
    assert "sesame" not in caplog.text


def test_the_key_is_asked_for_everywhere_but_health(mood: Path) -> None:
    with served(mood, key="secret") as live, httpx.Client(base_url=live.address) as client:
        assert client.get("/health").status_code == 200
        for wrong in ({}, {"authorization": "Bearer other"}, {"authorization": "secret"}):
            for path in ("/info", "/metrics", "/docs", "/openapi.json"):
                assert client.get(path, headers=wrong).status_code == 401
            response = client.post("/predict", json={"inputs": "a film"}, headers=wrong)
            assert (response.status_code, response.json()["error_type"]) == (401, "Unauthorized")
        assert client.post("/predict", json={"inputs": "a film"}, headers=KEY).status_code == 200


def test_without_a_key_nobody_reloads(client: httpx.Client) -> None:
    assert client.post("/reload", json={}).status_code == 403


def test_a_broken_directory_is_not_taken_up_and_a_whole_one_is(mood: Path, several: Path, tmp_path: Path) -> None:
    place = tmp_path / "model"
    shutil.copytree(mood, place)
    with served(f"it={place}", key="secret") as live, httpx.Client(base_url=live.address, headers=KEY) as client:
        before = client.post("/predict", json={"inputs": "a film"}).json()
        (place / "model.safetensors").write_bytes(b"broken")
        response = client.post("/reload", json={"model": "it"})
        assert response.status_code == 422
        assert response.json()["error"].startswith("Nothing was changed: ")
        assert client.post("/predict", json={"inputs": "a film"}).json() == before
        shutil.rmtree(place)
        assert client.post("/reload", json={}).status_code == 422
        assert client.post("/predict", json={"inputs": "a film"}).json() == before
        shutil.copytree(several, place)
        sha = client.get("/info").json()["model_sha"]
        response = client.post("/reload", json={})
        assert response.json()["models"]["it"] == client.get("/info").json()["model_sha"] != sha
        assert client.post("/predict", json={"inputs": "a film"}).json() != before


def test_a_reload_under_load_loses_no_request(mood: Path) -> None:
    with served(mood, key="secret") as live, httpx.Client(base_url=live.address, headers=KEY, timeout=30) as client:
        reloaded = threading.Event()

        def ask() -> list[int]:
            statuses = []
            while not reloaded.is_set():
                statuses.append(client.post("/predict", json={"inputs": "a film"}).status_code)
            return statuses

        with ThreadPoolExecutor(4) as pool:
            asked = [pool.submit(ask) for _ in range(4)]
            for _ in range(3):
                assert client.post("/reload", json={"model": "mood"}).status_code == 200
            reloaded.set()
            assert {status for future in asked for status in future.result()} == {200}


def test_answers_do_not_depend_on_who_else_asks(live: Live) -> None:
    texts = [" ".join(["film", "good", "很", "plot"][i % 4] for i in range(length)) for length in range(1, 41)]
    with httpx.Client(base_url=live.address, timeout=30) as client:
        alone = [client.post("/predict", json={"inputs": text}).json() for text in texts]
    with ThreadPoolExecutor(20) as pool, httpx.Client(base_url=live.address, timeout=30) as client:
        crowded = list(pool.map(lambda text: client.post("/predict", json={"inputs": text}).json(), texts * 3))
    for i, answer in enumerate(crowded):
        scores = {entry["label"]: entry["score"] for entry in alone[i % len(texts)]}
        assert {entry["label"]: entry["score"] for entry in answer} == pytest.approx(scores, abs=1e-5)


def test_a_slow_client_holds_nobody_up_and_is_sent_away(mood: Path) -> None:
    with served(mood, body_timeout=0.3) as live, httpx.Client(base_url=live.address) as client:
        port = int(live.address.rsplit(":", 1)[1])
        with socket.create_connection(("127.0.0.1", port)) as slow:
            head = b"POST /predict HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: 19\r\n\r\n"
            slow.sendall(head + b"{")
            assert client.post("/predict", json={"inputs": "a film"}).status_code == 200
            assert slow.recv(100).startswith(b"HTTP/1.1 408")


def test_more_requests_than_allowed_are_refused_at_once(mood: Path) -> None:
    with served(mood, max_concurrent_requests=1) as live, httpx.Client(base_url=live.address) as client:
        live.application.gate.in_work = 1
        begun = time.monotonic()
        response = client.post("/predict", json={"inputs": "a film"})
        assert time.monotonic() - begun < 1
        assert (response.status_code, response.json()["error_type"]) == (429, "Overloaded")
        assert int(response.headers["retry-after"]) >= 1
        live.application.gate.in_work = 0
        assert client.post("/predict", json={"inputs": "a film"}).status_code == 200


def test_what_a_full_queue_has_no_room_for_is_refused_unread_and_counted(mood: Path) -> None:
    """What does not wait in the queue is answered, and what is nowhere gets its 404 or 405."""
    with served(mood, key="secret") as live, httpx.Client(base_url=live.address, headers=KEY) as client:
        batcher = live.application.service.batcher
        batcher.waiting_tokens = batcher.queue_tokens + 1
        broken = {"content": b"{", "headers": {"content-type": "application/json"}}
        paths = ["/", "/predict", "/embed", "/answers", "/explain", "/v1/embeddings", "/v2/models/mood/infer"]
        for path in paths:
            response = client.post(path, **broken)
            assert (response.status_code, response.json()["error_type"]) == (429, "Overloaded"), path
        assert client.post("/tokenize", json={"inputs": "a film"}).status_code == 200
        assert client.post("/reload", json={}).status_code == 200
        assert client.post("/none", **broken).status_code == 404
        assert client.post("/models", **broken).status_code == 405
        counted = client.get("/metrics").text
        assert f'te_request_count{{method="not_read"}} {len(paths):.1f}' in counted
        assert f'te_request_failure{{err="overloaded"}} {len(paths):.1f}' in counted
        batcher.waiting_tokens = 0
        assert client.post("/predict", **broken).status_code == 422
        assert client.post("/predict", json={"inputs": "a film"}).status_code == 200


def test_a_client_that_leaves_takes_its_texts_out_of_the_queue(mood: Path) -> None:
    with served(mood) as live:
        model = live.application.service.models.get()
        queue, computed, release = live.application.service.batcher, [], threading.Event()
        compute = model.classify

        def slow(encodings: list[Encoding]) -> list[object]:
            computed.append(len(encodings))
            release.wait(10)
            return compute(encodings)

        model.classify = slow  # type: ignore[method-assign]
        with httpx.Client(base_url=live.address, timeout=10) as client, ThreadPoolExecutor(1) as pool:
            first = pool.submit(client.post, "/predict", json={"inputs": "a film"})
            until(lambda: computed == [1])
            with pytest.raises(httpx.ReadTimeout):
                httpx.post(f"{live.address}/predict", json={"inputs": [["a"], ["b"]]}, timeout=0.3)
            until(lambda: queue.waiting_tokens == 0)
            release.set()
            assert first.result().status_code == 200
            assert client.post("/predict", json={"inputs": "a film"}).status_code == 200
        assert computed == [1, 1]


def until(holds: object, seconds: float = 5.0) -> None:
    ends = time.monotonic() + seconds
    while not holds():  # type: ignore[operator]
        assert time.monotonic() < ends
        time.sleep(0.01)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_sigterm_under_load_loses_no_request(mood: Path, workers: int) -> None:
    command = [sys.executable, "-m", "bothways.cli", "serve", str(mood), "--port", "0", "--workers", str(workers)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=os.environ | {"PYTHONUNBUFFERED": "1"})
    assert process.stderr is not None
    try:
        line = process.stderr.readline()
        address = line.split(" on ")[1].split(",")[0].strip()
        until(lambda: answers_health(address), 60)
        clients = [httpx.Client(base_url=address, timeout=30) for _ in range(8)]

        def ask(client: httpx.Client) -> list[int]:
            statuses, fresh = [], True
            while True:
                try:
                    response = client.post("/predict", json={"inputs": [["a film"]] * 8})
                except httpx.ConnectError:  # the end
                    return statuses
                except (httpx.ReadError, httpx.RemoteProtocolError):  # so is a connection that nobody has accepted
                    return statuses if fresh else [*statuses, 0]
                statuses.append(response.status_code)
                fresh = response.headers.get("connection") == "close"

        with ThreadPoolExecutor(8) as pool:
            asked = [pool.submit(ask, client) for client in clients]
            time.sleep(1.0)
            process.send_signal(signal.SIGTERM)
            found = [status for future in asked for status in future.result(60)]
        assert process.wait(60) == 0
        assert len(found) > 8
        assert set(found) == {200}
    finally:
        process.kill()
        process.stderr.close()


def answers_health(address: str) -> bool:
    try:
        return httpx.get(f"{address}/health").status_code == 200
    except httpx.TransportError:
        return False
