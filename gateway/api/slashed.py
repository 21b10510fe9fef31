"""Addresses that requirement 4 writes with a slash at their end, and that answer without one, too."""

from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import APIRouter
from starlette.responses import Response

Endpoint = Callable[..., Awaitable[Response]]


def add_slashed_route(
    router: APIRouter,
    method: str,
    path: str,
    summary: str,
    endpoint: Endpoint,
    name: str | None = None,
    **documented: Any,
) -> None:
    """Under the address with a slash at its end, which the API's description shows, and without."""
    for address, shown in ((f"{path}/", True), (path, False)):
        router.add_api_route(
            address,
            endpoint,
            methods=[method],
            name=name,
            summary=summary,
            include_in_schema=shown,
            **documented,
        )
