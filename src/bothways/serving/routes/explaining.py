"""Ours: /explain, /masked and /inside, what the page asks of one text besides its answers."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends

from bothways.serving import explaining
from bothways.serving.answers import Answer, answer_to
from bothways.serving.routes.shared import service_of
from bothways.serving.routes.tei import request_of
from bothways.serving.schemas import AnswersRequest, ExplainRequest, MaskedRequest
from bothways.serving.service import Service

router = APIRouter(tags=["bothways"])
Served = Annotated[Service, Depends(service_of)]


@router.post("/explain")
async def explain(body: ExplainRequest, service: Served) -> Answer:
    """What each word of one text, or pair, contributes to an output, found by leaving out each in turn."""
    model, request = service.models.get(body.model), request_of(body)
    found = await explaining.contributions(service, model, request, body.output, body.label)
    return answer_to(request, {"model": model.name, **found})


@router.post("/masked")
async def masked(body: MaskedRequest, service: Served) -> Answer:
    """What may stand in the place of each [MASK] in one text, as the encoder was pre-trained to guess."""
    model, request = service.models.get(body.model), body.request()
    guesses = await explaining.masked_words(service, model, request, body.top)
    return answer_to(request, {"model": model.name, "guesses": guesses})


@router.post("/inside")
async def inside(body: AnswersRequest, service: Served) -> Answer:
    """What happens to one text, or pair, inside the encoder: the parts of each embedding, attention of each head."""
    model, request = service.models.get(body.model), request_of(body)
    return answer_to(request, {"model": model.name, **await explaining.inside(service, model, request)})
