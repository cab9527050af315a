"""What a route is given."""

from __future__ import annotations

from typing import cast

from fastapi import Request as HttpRequest

from bothways.serving.service import Service


async def service_of(request: HttpRequest) -> Service:
    """The service of the application that was asked."""
    return cast(Service, request.app.state.service)
