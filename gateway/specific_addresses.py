"""Ids may contain slashes, so that `/api/leads/{lead_id:path}` also matches `/api/leads/7/ledger`. The most specific address
decides: a method that changes something, and that it does not have, gets 405. Without this, `DELETE /api/leads/7/ledger`
would erase a lead. Reading changes nothing: an id such as `x/calculate` stays readable.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from fastapi import HTTPException, Request
from fastapi.routing import APIRoute
from starlette.routing import BaseRoute, compile_path

READING = frozenset({"GET", "HEAD", "OPTIONS"})
_PARAMETER = re.compile(r"\{[^}]*\}")


class SpecificAddress(NamedTuple):
    """An address that another one with an id covers."""

    pattern: re.Pattern[str]
    methods: frozenset[str]


def specific_addresses_of(routes: Iterable[BaseRoute]) -> Mapping[str, Sequence[SpecificAddress]]:
    """By the path of the route that covers them."""
    methods: dict[str, set[str]] = defaultdict(set)
    for route in routes:
        if isinstance(route, APIRoute):
            methods[route.path.rstrip("/")].update(route.methods or ())
    patterns = {path: compile_path(path)[0] for path in methods}
    return {
        wide: [
            SpecificAddress(patterns[path], frozenset(methods[path]))
            for path in patterns
            if _covers(patterns[wide], path) and not _covers(patterns[path], wide)
        ]
        for wide in patterns
        if ":path}" in wide
    }


def _covers(pattern: re.Pattern[str], path: str) -> bool:
    return pattern.match(_PARAMETER.sub("x", path)) is not None


async def refuse_method_of_another_address(request: Request) -> None:
    """A dependency of every route. Raises HTTPException 405."""
    if request.method in READING:
        return
    wide = request.scope["route"].path.rstrip("/")
    for address in request.app.state.specific_addresses.get(wide, ()):
        if request.method not in address.methods and address.pattern.match(request.url.path.rstrip("/")):
            raise HTTPException(405, headers={"Allow": ", ".join(sorted(address.methods))})
