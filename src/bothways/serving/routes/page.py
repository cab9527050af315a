"""The page at /, its files, and what it asks of the models that are served."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Annotated, Any

from fastapi import APIRouter, Depends
from pydantic import ValidationError
from starlette.responses import HTMLResponse, PlainTextResponse, Response

from bothways.evaluation.stored import EVALUATION
from bothways.serving.answers import Answer
from bothways.serving.models import ServedModel
from bothways.serving.refusals import BackendFailed, UnknownModel
from bothways.serving.routes.shared import service_of
from bothways.serving.schemas import Evaluation
from bothways.serving.service import Service
from bothways.tasks.task import Task

router = APIRouter(tags=["bothways"])
Served = Annotated[Service, Depends(service_of)]
TYPES = {"html": "text/html", "css": "text/css", "js": "text/javascript", "json": "application/json"}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""Nothing but the page's own files runs, and it asks this server alone."""
REPORT_POLICY = (
    "sandbox allow-scripts; default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""A report is one file with its own script; whoever wrote it, it has no origin and reaches nothing."""
CARD, REPORT = "README.md", "report.html"
MOST_EVALUATION = 4_000_000
"""Bytes; twice what is ever written."""


@router.get("/", response_class=HTMLResponse)
async def index() -> Response:
    """The page: type a text, see what the models say of it and why."""
    return page_file("index.html")


@router.get("/page/{name:path}", include_in_schema=False)
async def page_file_of(name: str) -> Response:
    """A file of the page."""
    return page_file(name)


@router.get("/models")
async def models(service: Served) -> Answer:
    """The models served, with what each reads and what its outputs decide."""
    found = [service.models.get(name) for name in service.models.names]
    return Answer({"models": [described(model) for model in found], "most_texts": service.config.max_client_batch_size})


@router.get("/models/{name}/card", responses={200: {"content": {"text/plain": {}}}})
async def card(name: str, service: Served) -> Response:
    """The model card, as it was written."""
    return PlainTextResponse(beside(service.models.get(name), CARD), media_type="text/plain")


@router.get("/models/{name}/report", responses={200: {"content": {"text/html": {}}}})
async def report(name: str, service: Served) -> Response:
    """The report of the model's evaluation."""
    content = beside(service.models.get(name), REPORT)
    return HTMLResponse(content, headers={"content-security-policy": REPORT_POLICY})


@router.get("/models/{name}/evaluation", responses={200: {"model": Evaluation}})
def evaluation(name: str, service: Served) -> Response:
    """What was seen while the model was evaluated: confusion matrices with the texts of their cells."""
    found = evaluation_of(service.models.get(name))
    return Response(found.model_dump_json(), media_type="application/json")


@cache
def contents() -> dict[str, bytes]:
    """The files of the page by name."""
    folder = files("bothways.serving") / "page"
    found = {file.name: file for file in folder.iterdir() if file.is_file()}
    found |= {f"vendor/{file.name}": file for file in (folder / "vendor").iterdir()}
    return {name: file.read_bytes() for name, file in found.items() if "." in name}


def page_file(name: str) -> Response:
    """A file of the page, and what it may do. Raises UnknownModel's 404 if there is none."""
    content = contents().get(name)
    if content is None:
        raise UnknownModel("The page has no file of that name.")
    kind = TYPES.get(name.rpartition(".")[2], "text/plain")
    headers = {"content-security-policy": POLICY, "cache-control": "no-cache"}
    return Response(content, media_type=kind, headers=headers)


def described(model: ServedModel) -> dict[str, Any]:
    """A model as the page needs to know it."""
    config = model.engine.config
    return {
        "name": model.name,
        "reads": list(config.text_columns),
        "outputs": [output_of(task) for task in model.tasks],
        "masked": model.guesses_words,
        "layers": config.encoder.layers,
        "heads": config.encoder.heads,
        "hidden": config.encoder.hidden_size,
        "longest": config.longest_text,
        "card": has(model, CARD),
        "report": has(model, REPORT),
        "evaluation": has(model, EVALUATION),
    }


def output_of(task: Task) -> dict[str, Any]:
    """An output as the page needs to know it."""
    layer = task.output
    return {
        "name": task.name,
        "kind": layer.kind,
        "reads": layer.reads,
        "labels": list(layer.labels),
        "thresholds": list(layer.thresholds),
        "tells_known": task.tells_known,
    }


def has(model: ServedModel, name: str) -> bool:
    """Whether such a file lies in the model's directory."""
    return (model.directory / name).is_file()


def beside(model: ServedModel, name: str) -> str:
    """A file of the model's directory. Raises UnknownModel's 404 if there is none."""
    try:
        return (model.directory / name).read_text("utf-8", "replace")
    except OSError:
        raise UnknownModel(f"The model {model.name!r} has no {name}.") from None


def evaluation_of(model: ServedModel) -> Evaluation:
    """What lies in the model's directory of its evaluation. Raises UnknownModel's 404 if nothing does, BackendFailed if
    it cannot be read."""
    try:
        with (model.directory / EVALUATION).open("rb") as stream:
            content = stream.read(MOST_EVALUATION + 1)
    except OSError:
        raise UnknownModel(f"The model {model.name!r} has no {EVALUATION}.") from None
    if len(content) > MOST_EVALUATION:
        raise BackendFailed(f"The {EVALUATION} of {model.name!r} is larger than {MOST_EVALUATION:,} bytes.")
    try:
        return Evaluation.model_validate_json(content)
    except ValidationError:
        raise BackendFailed(f"The {EVALUATION} of {model.name!r} is not as finetune writes it; train again.") from None
