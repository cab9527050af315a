"""Text Embeddings Inference: /predict, /embed, /tokenize, /info, /health, /metrics; / as huggingface_hub asks it."""

from __future__ import annotations

from importlib.metadata import version
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Depends
from starlette.responses import PlainTextResponse, Response

from bothways.batch import Predictions
from bothways.serving.answers import Answer, answer_to
from bothways.serving.models import ServedModel
from bothways.serving.refusals import Invalid, Unhealthy
from bothways.serving.routes.shared import service_of
from bothways.serving.schemas import EmbedRequest, HubRequest, PredictRequest, TokenizeRequest, WithPairs, of_texts
from bothways.serving.service import Request, Service
from bothways.tasks.task import Task

DTYPES = {"fp32": "float32", "bf16": "bfloat16", "int16": "int16", "int8": "int8"}
router = APIRouter(tags=["Text Embeddings Inference"])
Served = Annotated[Service, Depends(service_of)]


@router.post("/predict")
@router.post("/invocations", include_in_schema=False)
async def predict(body: PredictRequest, service: Served) -> Answer:
    """The label of each text, best first: `[{"score", "label"}]`; of a batch a list of those."""
    model = service.models.get(body.model)
    task, request = model.labelled(), request_of(body)
    predictions = await service.predict(model, request)
    rows = ranked(model, task, scores(task, predictions, raw=body.raw_scores))
    return answer_to(request, rows[0] if body.single else rows)


@router.post("/")
async def hub(body: HubRequest, service: Served) -> Answer:
    """As `huggingface_hub.InferenceClient(address)` asks: `text_classification` of a classifier, each answer a list
    within a list; `feature_extraction` of an encoder."""
    model, request = service.models.get(body.model), request_of(body)
    if not model.tasks:
        if request.pairs is not None:  # a list of two texts, not a pair
            request.texts, request.pairs = [*request.texts, *request.pairs], None
        return answer_to(request, await vectors(service, model, request, bool(body.normalize), body.dimensions))
    task, asked = model.labelled(), body.parameters
    found = scores(task, await service.predict(model, request), raw=asked.function_to_apply is not None)
    if asked.function_to_apply == "sigmoid":
        found = 1 / (1 + np.exp(-found))
    elif asked.function_to_apply == "softmax":
        found = np.exp(found - found.max(-1, keepdims=True))
        found /= found.sum(-1, keepdims=True)
    return answer_to(request, [row[: asked.top_k] for row in ranked(model, task, found)])


@router.post("/embed")
async def embed(body: EmbedRequest, service: Served) -> Answer:
    """A vector for each text: the mean of its tokens in the last layer, of length 1 unless told otherwise."""
    model, request = service.models.get(body.model), body.request()
    return answer_to(request, await vectors(service, model, request, body.normalize, body.dimensions))


@router.post("/tokenize")
async def tokenize(body: TokenizeRequest, service: Served) -> Answer:
    """The tokens of each text, all of them: `[[{"id", "text", "special", "start", "stop"}]]`; places in characters."""
    request = of_texts(body.inputs)
    tokens = await service.tokenize(service.models.get(body.model), request, special=body.add_special_tokens)
    return Answer(tokens)


@router.get("/info")
async def info(service: Served, model: str | None = None) -> Answer:
    """What is served, and within which limits."""
    served, config = service.models.get(model), service.config
    return Answer(
        {
            "model_id": served.source,
            "model_sha": served.fingerprint,
            "model_dtype": DTYPES[served.engine.backend.precision],
            "served_model_name": served.name,
            "model_type": model_type(served),
            "max_concurrent_requests": config.max_concurrent_requests,
            "max_input_length": served.engine.config.longest_text,
            "max_batch_tokens": config.max_batch_tokens,
            "max_batch_requests": None,
            "max_client_batch_size": config.max_client_batch_size,
            "auto_truncate": config.auto_truncate,
            "tokenization_workers": config.tokenization_workers,
            "version": version("bothways"),
            "models": service.models.names,
        }
    )


@router.get("/health", response_class=Response)
@router.get("/ping", response_class=Response)
async def health(service: Served) -> Response:
    """200 with nothing in it, or 503."""
    if not service.healthy:
        raise Unhealthy("The server is not ready.")
    return Response()


@router.get("/metrics", response_class=PlainTextResponse)
async def metrics(service: Served) -> PlainTextResponse:
    """For Prometheus."""
    return PlainTextResponse(service.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


def request_of(body: WithPairs) -> Request:
    """The texts of a request. Raises Invalid if some are pairs and some are not."""
    try:
        return body.request()
    except ValueError as error:
        raise Invalid(str(error)) from None


def scores(task: Task, predictions: Predictions, *, raw: bool) -> np.ndarray:
    """(texts, labels) float64: probabilities, or logits; of a regression the number."""
    found = predictions.logits[task.name] if raw else task.probabilities(predictions)
    return np.asarray(found, np.float64)


def ranked(model: ServedModel, task: Task, scores: np.ndarray) -> list[list[dict[str, Any]]]:
    """(texts, labels) → for each text its labels, best first; of equal ones the first first."""
    labels = model.labels(task)
    orders = np.argsort(-scores, axis=-1, kind="stable")
    return [
        [{"score": float(row[i]), "label": labels[i]} for i in order] for row, order in zip(scores, orders, strict=True)
    ]


async def vectors(
    service: Service, model: ServedModel, request: Request, normalize: bool, size: int | None
) -> list[list[float]]:
    """The vectors of texts as JSON."""
    return (await service.embed(model, request, normalize=normalize, size=size)).tolist()


def model_type(model: ServedModel) -> dict[str, Any]:
    """What a model is, as /info says it."""
    task = next((task for task in model.tasks if not task.pretokenized), None)
    if task is None:
        return {"embedding": {"pooling": "mean"}}
    labels = model.labels(task)
    return {
        "classifier": {
            "id2label": {str(i): label for i, label in enumerate(labels)},
            "label2id": {label: i for i, label in enumerate(labels)},
        }
    }
