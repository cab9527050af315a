"""Every shape that clients already speak, to the letter."""

from __future__ import annotations

import base64
import re
from pathlib import Path

import httpx
import numpy as np
import pytest
from huggingface_hub import InferenceClient

from bothways.inference.engine import Engine, load_classifier
from serving.conftest import Live

TEXTS = ["a quiet film", "这家酒店很干净", "the plot is thin and the jokes are worse"]
LABELS = ["bad", "good", "<b>odd</b>"]


@pytest.fixture(scope="module")
def expected(mood: Path) -> np.ndarray:
    """What the engine says, offline: (texts, labels)."""
    engine = Engine(*load_classifier(mood))
    return engine.tasks[0].probabilities(engine.run(engine.encode(TEXTS)))


def shape(value: object) -> object:
    """The form of JSON: types in place of values, the first entry in place of a list."""
    if isinstance(value, dict):
        return {key: shape(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [shape(value[0])] if value else []
    return type(value).__name__


def test_predict_of_one_text_is_a_list_of_labels_best_first(client: httpx.Client, expected: np.ndarray) -> None:
    response = client.post("/predict", json={"inputs": TEXTS[0]})
    assert response.status_code == 200
    answer = response.json()
    assert shape(answer) == [{"score": "float", "label": "str"}]
    assert [entry["label"] for entry in answer] == [LABELS[i] for i in np.argsort(-expected[0])]
    assert [entry["score"] for entry in answer] == pytest.approx(sorted(expected[0], reverse=True), abs=1e-5)


def test_predict_of_a_batch_is_a_list_of_those(client: httpx.Client, expected: np.ndarray) -> None:
    answer = client.post("/predict", json={"inputs": [[text] for text in TEXTS], "truncate": None}).json()
    assert shape(answer) == [[{"score": "float", "label": "str"}]]
    for row, probabilities in zip(answer, expected, strict=True):
        assert {entry["label"]: entry["score"] for entry in row} == pytest.approx(
            dict(zip(LABELS, probabilities, strict=True)), abs=1e-5
        )


def test_two_texts_in_a_list_are_one_pair(client: httpx.Client) -> None:
    response = client.post("/predict", json={"inputs": TEXTS[:2]})
    assert response.status_code == 422
    assert response.json()["error"].startswith("This model reads single texts, not pairs")


def test_raw_scores_are_logits(client: httpx.Client, expected: np.ndarray) -> None:
    answer = client.post("/predict", json={"inputs": TEXTS[0], "raw_scores": True}).json()
    logits = np.array([entry["score"] for entry in answer])
    assert np.exp(logits) / np.exp(logits).sum() == pytest.approx(sorted(expected[0], reverse=True), abs=1e-5)


def test_the_headers_say_what_an_answer_has_cost(client: httpx.Client) -> None:
    headers = client.post("/predict", json={"inputs": "a film"}).headers
    assert headers["x-compute-type"] == "cpu+optimized"
    assert headers["x-compute-characters"] == "6"
    assert headers["x-compute-tokens"] == "4"
    assert headers["x-truncated"] == "0"
    for part in ("compute", "total", "tokenization", "queue", "inference"):
        assert headers[f"x-{part}-time"].isdigit()


def test_embed_gives_vectors_of_length_one(client: httpx.Client, mood: Path) -> None:
    answer = client.post("/embed", json={"inputs": TEXTS}).json()
    features = Engine(*load_classifier(mood)).features(TEXTS)
    assert np.array(answer) == pytest.approx(features / np.linalg.norm(features, axis=1, keepdims=True), abs=1e-5)
    raw = client.post("/embed", json={"inputs": TEXTS[0], "normalize": False, "dimensions": 8}).json()
    assert np.array(raw) == pytest.approx(features[:1, :8], abs=1e-5)


def test_openai_embeddings_as_numbers_and_as_base64(client: httpx.Client) -> None:
    asked = {"input": TEXTS, "model": "mood"}
    answer = client.post("/v1/embeddings", json=asked).json()
    assert shape(answer) == {
        "object": "str",
        "data": [{"object": "str", "index": "int", "embedding": ["float"]}],
        "model": "str",
        "usage": {"prompt_tokens": "int", "total_tokens": "int"},
    }
    assert (answer["object"], answer["data"][1]["object"], answer["data"][1]["index"]) == ("list", "embedding", 1)
    coded = client.post("/v1/embeddings", json={**asked, "encoding_format": "base64"}).json()
    found = np.frombuffer(base64.b64decode(coded["data"][1]["embedding"]), "<f4")
    assert found == pytest.approx(np.array(answer["data"][1]["embedding"]), abs=1e-5)


def test_tokenize_names_the_characters_of_each_token(client: httpx.Client) -> None:
    answer = client.post("/tokenize", json={"inputs": "A film"}).json()
    assert shape(answer) == [[{"id": "int", "text": "str", "special": "bool", "start": "NoneType", "stop": "NoneType"}]]
    assert [(token["text"], token["start"], token["stop"]) for token in answer[0]] == [
        ("[CLS]", None, None),
        ("A", 0, 1),
        ("film", 2, 6),
        ("[SEP]", None, None),
    ]
    bare = client.post("/tokenize", json={"inputs": ["A film"], "add_special_tokens": False}).json()
    assert bare == [answer[0][1:-1]]


def test_info_describes_the_model_and_its_limits(client: httpx.Client) -> None:
    answer = client.get("/info").json()
    assert answer["model_type"] == {
        "classifier": {
            "id2label": {"0": "bad", "1": "good", "2": "<b>odd</b>"},
            "label2id": {"bad": 0, "good": 1, "<b>odd</b>": 2},
        }
    }
    assert re.fullmatch("[0-9a-f]{40}", answer["model_sha"])
    limits = {key: answer[key] for key in answer if key.startswith("max_")}
    assert limits == {
        "max_concurrent_requests": 512,
        "max_input_length": 64,
        "max_batch_tokens": 16_384,
        "max_batch_requests": None,
        "max_client_batch_size": 32,
    }
    assert answer["auto_truncate"] is True
    assert {"model_id", "model_dtype", "tokenization_workers", "version"} < set(answer)


@pytest.mark.parametrize("path", ["/health", "/ping"])
def test_health_is_an_empty_200(client: httpx.Client, path: str) -> None:
    response = client.get(path)
    assert (response.status_code, response.content) == (200, b"")


@pytest.mark.parametrize("path", ["/classify", "/v1/classify"])
def test_vllm_classify(client: httpx.Client, expected: np.ndarray, path: str) -> None:
    answer = client.post(path, json={"model": "mood", "input": TEXTS}).json()
    assert re.fullmatch("classify-[0-9a-f]{32}", answer["id"])
    assert (answer["object"], answer["model"]) == ("list", "mood")
    assert isinstance(answer["created"], int)
    for i, entry in enumerate(answer["data"]):
        assert entry["probs"] == pytest.approx(expected[i], abs=1e-5)
        assert (entry["index"], entry["num_classes"]) == (i, 3)
        assert entry["label"] == LABELS[expected[i].argmax()]
    assert answer["usage"]["prompt_tokens"] == answer["usage"]["total_tokens"] > 0


def test_open_inference_protocol(client: httpx.Client, expected: np.ndarray) -> None:
    assert client.get("/v2").json()["name"] == "bothways"
    assert client.get("/v2/health/live").json() == {"live": True}
    assert client.get("/v2/health/ready").json() == {"ready": True}
    assert client.get("/v2/models/mood/ready").json() == {"name": "mood", "ready": True}
    described = client.get("/v2/models/mood").json()
    assert described["inputs"] == [{"name": "text", "datatype": "BYTES", "shape": [-1]}]
    assert [tensor["name"] for tensor in described["outputs"]] == ["mood", "mood.scores"]
    tensor = {"name": "text", "shape": [3], "datatype": "BYTES", "data": TEXTS}
    answer = client.post("/v2/models/mood/infer", json={"id": "7", "inputs": [tensor]}).json()
    assert (answer["model_name"], answer["id"]) == ("mood", "7")
    labels, scores = answer["outputs"]
    assert labels == {
        "name": "mood",
        "datatype": "BYTES",
        "shape": [3],
        "data": [LABELS[i] for i in expected.argmax(-1)],
    }
    assert (scores["datatype"], scores["shape"]) == ("FP32", [3, 3])
    assert scores["data"] == pytest.approx(expected.ravel(), abs=1e-5)


def test_open_inference_mistakes_are_400(client: httpx.Client) -> None:
    tensor = {"name": "text", "shape": [5], "datatype": "BYTES", "data": TEXTS}
    for body in ({"inputs": [tensor]}, {"inputs": [{**tensor, "name": "other"}]}, {"inputs": []}, {}):
        response = client.post("/v2/models/mood/infer", json=body)
        assert response.status_code == 400
        assert isinstance(response.json()["error"], str)
    assert client.get("/v2/models/none").status_code == 404


def test_answers_are_those_of_classify(client: httpx.Client, several: Path) -> None:
    from bothways.inference.classify import answers

    response = client.post("/answers", json={"inputs": [[text] for text in TEXTS], "model": "several"})
    engine = Engine(*load_classifier(several))
    expected = list(answers(engine.tasks, TEXTS, engine.run(engine.encode(TEXTS))))
    assert response.json()["model"] == "several"
    for answer, offline in zip(response.json()["answers"], expected, strict=True):
        assert answer["text"] == offline["text"]
        assert answer["outputs"]["topics"]["scores"] == pytest.approx(offline["outputs"]["topics"]["scores"], abs=1e-5)
        assert answer["outputs"]["stars"]["value"] == pytest.approx(offline["outputs"]["stars"]["value"], abs=1e-5)


def test_huggingface_hub_classifies_and_embeds(
    live: Live, expected: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)  # loopback is no network
    client = InferenceClient(live.address)
    found = client.text_classification(TEXTS[0])
    assert {each.label: each.score for each in found} == pytest.approx(
        dict(zip(LABELS, expected[0], strict=True)), abs=1e-5
    )
    assert len(client.text_classification(TEXTS[0], top_k=1)) == 1
    vectors = InferenceClient(f"{live.address}/embed").feature_extraction(TEXTS[0], truncate=True)
    assert vectors.shape == (1, 32)


def test_metrics_have_the_names_that_dashboards_know(client: httpx.Client) -> None:
    before = float(re.search(r'te_request_success\{method="single"\} (\S+)', client.get("/metrics").text)[1])
    client.post("/predict", json={"inputs": TEXTS[0]})
    text = client.get("/metrics").text
    assert f'te_request_success{{method="single"}} {before + 1}' in text
    assert "# TYPE te_request_count counter" in text
    for name in (
        'te_request_count{method="single"}',
        "te_queue_size",
        *(f"te_request_{part}duration_bucket" for part in ("", "tokenization_", "queue_", "inference_")),
        "te_request_input_length_sum",
        "te_batch_next_size_sum",
        "te_batch_next_tokens_sum",
    ):
        assert re.search(rf"^{re.escape(name)}", text, re.MULTILINE), name


def test_the_pages_ask_nothing_of_the_network(client: httpx.Client) -> None:
    for path in ("/", "/docs"):
        response = client.get(path)
        assert response.headers["content-type"].startswith("text/html")
        assert "default-src 'none'" in response.headers["content-security-policy"]
        assert not re.search(r'https?://|<script(?! type="module" src="/page/)', response.text)
