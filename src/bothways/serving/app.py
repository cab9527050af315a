"""The application: routes behind a gate, and one form for every refusal."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
from collections.abc import AsyncIterator
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI
from fastapi import Request as HttpRequest
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.routing import Match

from bothways.serving.answers import Answer
from bothways.serving.config import ServingConfig
from bothways.serving.gate import Gate
from bothways.serving.metrics import Metrics
from bothways.serving.models import Models
from bothways.serving.refusals import BackendFailed, Empty, Invalid, Refused
from bothways.serving.routes import explaining, open_inference, openai, own, page, tei
from bothways.serving.schemas import Error
from bothways.serving.service import Service

ROOMS = (tei, openai, open_inference, own, explaining, page)
AT_ONCE = frozenset({"/reload", "/tokenize"})
"""Where nothing waits in the queue of texts, of all that is posted."""
REFUSALS = {400, 401, 403, 404, 408, 413, 422, 424, 429, 503}
TOO_SHORT = {"string_too_short", "too_short"}
OPEN_INFERENCE = "/v2"
log = logging.getLogger("bothways.serving")


class Application:
    """What uvicorn runs: `gate` around `api`, which has the routes of a service."""

    def __init__(self, models: Models, config: ServingConfig, *, key: str | None = None) -> None:
        """`key`: what clients give as a bearer; None: all may ask."""
        metrics = Metrics()
        self.service = Service(models, config, metrics)
        self.api = api(self.service)
        self.gate = Gate(self.api, config, metrics, key, queues, self.service.refuse_if_full)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self.gate(scope, receive, send)


def queues(scope: Any) -> bool:
    """Whether a request is for a route whose texts wait in the queue."""
    if scope["path"] in AT_ONCE:
        return False
    return any(route.matches(scope)[0] is Match.FULL for room in ROOMS for route in room.router.routes)


def api(service: Service) -> FastAPI:
    """The routes of a service."""

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await service.start()
        gc.collect()
        gc.freeze()  # models and modules stay: looking through them for what may go took a fifth of a second each time
        following = asyncio.ensure_future(service.models.follow())
        yield
        following.cancel()
        await service.stop()

    app = FastAPI(
        title="bothways",
        version=version("bothways"),
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
        responses={status: {"model": Error} for status in sorted(REFUSALS)},
    )
    app.state.service = service
    for room in ROOMS:
        app.include_router(room.router)
    app.add_exception_handler(Refused, refused)
    app.add_exception_handler(RequestValidationError, misshapen)
    app.add_exception_handler(HTTPException, unknown)
    app.add_exception_handler(Exception, unexpected)
    return app


async def refused(request: HttpRequest, error: Exception) -> Answer:
    """A refusal as clients know it; in the Open Inference Protocol what is wrong in a request is 400."""
    assert isinstance(error, Refused)
    request.app.state.service.metrics.failures.labels(error.error_type.lower()).inc()
    status = 400 if error.status == 422 and request.url.path.startswith(OPEN_INFERENCE) else error.status
    return Answer(error.body, status, headers=error.headers)


async def misshapen(request: HttpRequest, error: Exception) -> Answer:
    """A request of another shape than the route's, in a sentence that has none of its texts."""
    assert isinstance(error, RequestValidationError)
    found = error.errors()
    if any(each["type"] in TOO_SHORT for each in found):
        field = ".".join(str(part) for part in found[0]["loc"][1:2]) or "body"
        return await refused(request, Empty(f"`{field}` cannot be empty."))
    return await refused(request, Invalid(sentence_of(found)))


def sentence_of(found: Any) -> str:
    """What is wrong with the shape of a request."""
    first = found[0]
    place = ".".join(str(part) for part in first["loc"][1:] if isinstance(part, (str, int)))
    if first["type"] == "json_invalid":
        return "The body is not JSON."
    if not place:
        return "The body must be a JSON object, sent with the content-type application/json."
    reasons = "; or ".join(dict.fromkeys(each["msg"] for each in found if each["loc"][1:2] == first["loc"][1:2]))
    name = str(first["loc"][1])
    return f"`{name}` cannot be read: {reasons}."


async def unknown(request: HttpRequest, error: Exception) -> Answer:
    """A route or a method that does not exist, or a body that cannot be decoded."""
    assert isinstance(error, HTTPException)
    return Answer({"error": str(error.detail), "error_type": "Validation"}, error.status_code, headers=error.headers)


async def unexpected(request: HttpRequest, error: Exception) -> Answer:
    """A mistake of ours. The log has where, and none of the texts."""
    trace, last = error.__traceback__, None
    while trace is not None:
        trace, last = trace.tb_next, trace
    where = f"{last.tb_frame.f_code.co_filename}, line {last.tb_lineno}" if last else "nowhere"
    log.error("%s in %s", type(error).__name__, where)
    return await refused(request, BackendFailed("The server could not answer this."))
