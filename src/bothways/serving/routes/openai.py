"""vLLM's /classify and OpenAI's /v1/embeddings."""

from __future__ import annotations

import base64
import time
import uuid
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Depends

from bothways.serving.answers import Answer, answer_to, usage
from bothways.serving.routes.shared import service_of
from bothways.serving.routes.tei import scores
from bothways.serving.schemas import ClassifyRequest, EmbeddingsRequest, of_texts
from bothways.serving.service import Service

router = APIRouter(tags=["vLLM and OpenAI"])
Served = Annotated[Service, Depends(service_of)]


@router.post("/classify")
@router.post("/v1/classify")
async def classify(body: ClassifyRequest, service: Served) -> Answer:
    """The label of each text and the probabilities of all, in the order of their ids."""
    model, request = service.models.get(body.model), of_texts(body.input)
    task = model.labelled()
    labels = model.labels(task)
    found = scores(task, await service.predict(model, request), raw=False)
    return answer_to(
        request,
        {
            "id": f"classify-{uuid.uuid4().hex}",
            "object": "list",
            "created": int(time.time()),
            "model": model.name,
            "data": [
                {"index": i, "label": labels[int(row.argmax())], "probs": row.tolist(), "num_classes": len(labels)}
                for i, row in enumerate(found)
            ],
            "usage": usage(request, completion_tokens=0, prompt_tokens_details=None),
        },
    )


@router.post("/v1/embeddings")
@router.post("/embeddings", include_in_schema=False)
async def embeddings(body: EmbeddingsRequest, service: Served) -> Answer:
    """A vector of length 1 for each text, as numbers or as base64 of little-endian float32."""
    model, request = service.models.get(body.model), of_texts(body.input)
    found = await service.embed(model, request, normalize=True, size=body.dimensions)
    return answer_to(
        request,
        {
            "object": "list",
            "data": [
                {"object": "embedding", "index": i, "embedding": written(row, body.encoding_format)}
                for i, row in enumerate(found)
            ],
            "model": model.name,
            "usage": usage(request),
        },
    )


def written(vector: np.ndarray, encoding: str) -> Any:
    """A vector as clients want it: float or base64."""
    if encoding == "base64":
        return base64.b64encode(vector.astype("<f4").tobytes()).decode()
    return vector.tolist()
