"""Ours: /answers, all that a model says of texts, as `bothways classify` writes it; /reload; /docs, a plain page."""

from __future__ import annotations

from html import escape
from typing import Annotated

from fastapi import APIRouter, Depends, FastAPI
from fastapi import Request as HttpRequest
from starlette.responses import HTMLResponse

from bothways.errors import InputError
from bothways.inference.classify import answers as answers_of
from bothways.serving.answers import Answer, answer_to
from bothways.serving.refusals import Invalid
from bothways.serving.routes.shared import service_of
from bothways.serving.routes.tei import request_of
from bothways.serving.schemas import AnswersRequest, ReloadRequest
from bothways.serving.service import Service, as_read

router = APIRouter(tags=["bothways"])
Served = Annotated[Service, Depends(service_of)]


@router.post("/answers")
async def answers(body: AnswersRequest, service: Served) -> Answer:
    """All that the output layers say of each text, and whether it is of any of the classes at all (`known`)."""
    model, request = service.models.get(body.model), request_of(body)
    predictions = await service.predict(model, request)
    given = zip(request.texts, answers_of(model.tasks, as_read(model, request.texts), predictions), strict=True)
    return answer_to(request, {"model": model.name, "answers": [answer | {"text": text} for text, answer in given]})


@router.post("/reload")
async def reload(body: ReloadRequest, service: Served) -> Answer:
    """Read a model, or all of them, again; if that fails, what was goes on."""
    try:
        models = await service.models.reload(body.model)
    except InputError as error:
        raise Invalid(f"Nothing was changed: {error}") from None
    return Answer({"models": {model.name: model.fingerprint for model in models}})


@router.get("/docs", response_class=HTMLResponse)
async def docs(request: HttpRequest) -> HTMLResponse:
    """All routes, as a page that needs nothing from elsewhere."""
    return page("Routes", routes_of(request.app))


def routes_of(app: FastAPI) -> str:
    """The routes of an application as HTML."""
    parts = ['<p>As OpenAPI: <a href="/openapi.json">/openapi.json</a>']
    for path, methods in app.openapi()["paths"].items():
        for method, told in methods.items():
            parts.append(f"<h2>{method.upper()} {escape(path)}</h2><p>{escape(told.get('description', ''))}")
    return "".join(parts)


def page(title: str, content: str) -> HTMLResponse:
    """A plain page."""
    style = "body{font:16px/1.5 system-ui,sans-serif;max-width:45em;margin:2em auto;padding:0 1em}h2{font-size:1em}"
    return HTMLResponse(
        f'<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f'<meta name="color-scheme" content="light dark"><title>{title}</title><style>{style}</style>'
        f"<h1>{title}</h1>{content}</html>"
    )
