"""The Open Inference Protocol, version 2: texts in, for each output NAME the tensors NAME, NAME.scores, NAME.known."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from importlib.metadata import version
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Depends

from bothways.batch import Predictions
from bothways.serving.answers import Answer, answer_to
from bothways.serving.models import ServedModel
from bothways.serving.refusals import Invalid, Unhealthy
from bothways.serving.routes.shared import service_of
from bothways.serving.schemas import InferInput, InferRequest
from bothways.serving.service import Request, Service
from bothways.tasks.task import Task

router = APIRouter(prefix="/v2", tags=["Open Inference Protocol"])
Served = Annotated[Service, Depends(service_of)]
USUAL = ("text", "text_pair")
"""Names of inputs that every model understands, beside those of its own columns."""


@router.get("")
async def server() -> Answer:
    """What this server is."""
    return Answer({"name": "bothways", "version": version("bothways"), "extensions": []})


@router.get("/health/live")
async def live() -> Answer:
    """Whether the server runs."""
    return Answer({"live": True})


@router.get("/health/ready")
async def ready(service: Served) -> Answer:
    """Whether the server answers."""
    if not service.healthy:
        raise Unhealthy("The server is not ready.")
    return Answer({"ready": True})


@router.get("/models/{name}/ready")
async def model_ready(name: str, service: Served) -> Answer:
    """Whether a model answers."""
    return Answer({"name": service.models.get(name).name, "ready": service.healthy})


@router.get("/models/{name}")
async def model(name: str, service: Served) -> Answer:
    """What a model reads and says."""
    served = service.models.get(name)
    return Answer(
        {
            "name": served.name,
            "versions": [served.fingerprint[:12]],
            "platform": "bothways_bert",
            "inputs": [
                {"name": column, "datatype": "BYTES", "shape": [-1]} for column in served.engine.config.text_columns
            ],
            "outputs": [tensor for task in served.tasks for tensor in described(task)],
        }
    )


@router.post("/models/{name}/infer")
async def infer(name: str, body: InferRequest, service: Served) -> Answer:
    """What a model says of some texts."""
    served = service.models.get(name)
    known = {tensor["name"] for task in served.tasks for tensor in described(task)}
    wanted = known if body.outputs is None else {output.name for output in body.outputs}
    if unknown := sorted(wanted - known):
        raise Invalid(f"There is no output {unknown[0]!r}; there are: {', '.join(sorted(known))}.")
    request = request_of(served, body.inputs)
    predictions = await service.predict(served, request)
    tensors = [tensor for task in served.tasks for tensor in filled(task, predictions) if tensor["name"] in wanted]
    answer = {"model_name": served.name, "model_version": served.fingerprint[:12], "outputs": tensors}
    return answer_to(request, answer if body.id is None else {**answer, "id": body.id})


def request_of(model: ServedModel, inputs: list[InferInput]) -> Request:
    """The texts of tensors. Raises Invalid if one is missing, unknown or not of the shape that it says."""
    columns = model.engine.config.text_columns
    given = {tensor.name: tensor for tensor in inputs}
    texts = []
    for column, usual in zip(columns, USUAL, strict=False):
        tensor = given.pop(column, None) or given.pop(usual, None)
        if tensor is None:
            raise Invalid(f"The input {column!r} is missing.")
        texts.append(texts_of(tensor))
    if given:
        raise Invalid(f"There is no input {next(iter(given))!r}; there are: {', '.join(columns)}.")
    if len({len(column) for column in texts}) > 1:
        raise Invalid("The inputs have different numbers of texts.")
    return Request(texts[0], texts[1] if len(texts) > 1 else None)


def texts_of(tensor: InferInput) -> list[str]:
    """The texts of a tensor of the shape [n] or [n, 1], nested or flat."""
    texts = list(flat(tensor.data))
    if not all(isinstance(text, str) for text in texts):
        raise Invalid(f"The data of input {tensor.name!r} must be texts.")
    if tensor.shape not in ([len(texts)], [len(texts), 1]):
        raise Invalid(f"Input {tensor.name!r} has {len(texts)} texts but the shape {tensor.shape}.")
    return texts


def flat(data: Iterable[Any]) -> Iterable[Any]:
    """Lists within a list, one deep, laid end to end."""
    for entry in data:
        yield from entry if isinstance(entry, list) else (entry,)


def labels_of(task: Task, predictions: Predictions) -> list[str]:
    """The decision about each text, as a cell of a table has it."""
    return [task.written(task.decided(task.decide(p))) for p in task.probabilities(predictions)]


def scores_of(task: Task, predictions: Predictions) -> list[float]:
    return np.asarray(task.probabilities(predictions), np.float64).ravel().tolist()


def known_of(task: Task, predictions: Predictions) -> list[bool]:
    known = task.known(predictions)
    return [] if known is None else known.tolist()


def tensors_of(task: Task) -> Iterable[tuple[str, str, list[int], Callable[[Task, Predictions], list[Any]]]]:
    """Name, type, shape of a text's part and content of the tensors of an output."""
    yield task.name, "BYTES", [], labels_of
    if not task.pretokenized:
        yield f"{task.name}.scores", "FP32", [len(task.output.labels) or 1], scores_of
    if task.detector is not None and task.detector.distance_threshold is not None:
        yield f"{task.name}.known", "BOOL", [], known_of


def described(task: Task) -> list[dict[str, Any]]:
    """The tensors of an output as the description of a model has them."""
    return [
        {"name": name, "datatype": datatype, "shape": [-1, *shape]}
        | ({"parameters": {"labels": list(task.output.labels)}} if shape and task.output.labels else {})
        for name, datatype, shape, _ in tensors_of(task)
    ]


def filled(task: Task, predictions: Predictions) -> list[dict[str, Any]]:
    """The tensors of an output for some texts."""
    texts = len(predictions.encodings)
    return [
        {"name": name, "datatype": datatype, "shape": [texts, *shape], "data": content(task, predictions)}
        for name, datatype, shape, content in tensors_of(task)
    ]
