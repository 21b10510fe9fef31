"""Which query parameters an address takes, and the refusal of all others.

A misspelled parameter would answer another question than the caller asked: `?limt=5` has no effect, and
nobody is told. So every address refuses names that its route does not declare, and a parameter that is given twice
where one is expected. `ANY_QUERY` lists the exceptions.
"""

from collections.abc import Iterable, Iterator, Mapping
from types import UnionType
from typing import Annotated, Any, NamedTuple, Union, get_args, get_origin

from fastapi import Query, Request
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from starlette.routing import BaseRoute

from gateway.answers import RequestProblem
from gateway.unknown_names import LONGEST_NAME_SHOWN, unknown_name

ANY_QUERY: Mapping[str, str] = {
    "/": "a page: links to it have utm tags and click ids",
    "/leads/{lead_id:path}": "a page: its own state is in its address",
    "/workflows": "a page: its own state is in its address",
    "/workflows/{number}": "a page: its own state is in its address",
    "/experiments": "a page: its own state is in its address",
    "/experiments/{name}": "a page: its own state is in its address",
    "/operations": "a page: its own state is in its address",
    "/inspector": "a page: its own state is in its address",
    "/flows": "a page: its own state is in its address",
    "/flows/{name}": "a page: its own state is in its address",
    "/demo": "a page: its own state is in its address",
    "/demo/{page}": "a page: its own state is in its address",
    "/lead-analytics": "a page: its own state is in its address",
    "/inbox": "a page: its own state is in its address",
    "/models": "a page: its own state is in its address",
    "/models/{name:path}": "a page: its own state is in its address",
    "/admin": "a page: it leads to the models",
    "/admin/{path:path}": "a page: it leads to the rules",
    "/docs": "a page: links to it have utm tags and click ids",
    "/static/{name:path}": "a file of a page: a cache-buster may follow it (?v=2)",
    "/track.js": "a file of other people's pages: they add cache-busters (?v=2)",
    "/chat.js": "a file of other people's pages: they add cache-busters (?v=2)",
    "/l/{token}": "a link that people follow: mail programs and networks add tags to it",
    "/o/{token}.gif": "a picture in a mail: mail programs add tags to its address",
    "/sign-in/oidc/callback": "the provider decides what it sends",
    "/v1/telegram/{bot}": "a webhook: the vendor decides what it sends",
    "/v1/chats/{chat}": "a webhook: the vendor decides what it sends",
    "/v1/crm/{crm}": "a webhook: the vendor decides what it sends",
    "/v1/whatsapp/{number}": "a webhook: the vendor decides what it sends",
    "/health": "monitors of uptime add cache-busters, and a refusal would look like an outage",
    "/ready": "monitors of uptime add cache-busters, and a refusal would look like an outage",
}
"""Addresses that take any query, each with the reason. A slash at the end makes no difference."""


class QueryNames(NamedTuple):
    """The parameters of a route. `several`: those that may be given more than once."""

    names: frozenset[str]
    several: frozenset[str]


class QueryRefused(RequestProblem):
    """The query has a parameter that the address does not take, or one too often. It depends on no data, so pages
    of all sites may read it.
    """


async def write_key_parameter(
    write_key: Annotated[
        str | None,
        Query(
            max_length=512,
            description="The write key, where a header cannot be sent (`navigator.sendBeacon`). "
            "Prefer X-Write-Key: addresses get into logs.",
        ),
    ] = None,
) -> None:
    """Declares the parameter that `gateway.access` reads."""


def query_names_of(routes: Iterable[BaseRoute]) -> dict[tuple[str, str], QueryNames]:
    """By path and method."""
    return {
        (route.path, method): _declared(route)
        for route in routes
        if isinstance(route, APIRoute)
        for method in route.methods or ()
    }


def takes_any_query(path: str, method: str) -> bool:
    return method == "OPTIONS" or (path.rstrip("/") or "/") in ANY_QUERY


async def refuse_unknown_parameters(request: Request) -> None:
    """A dependency of every route. Raises QueryRefused."""
    if not request.url.query:
        return
    path, method = request.scope["route"].path, request.method
    if takes_any_query(path, method):
        return
    declared: QueryNames = request.app.state.query_names[path, method]
    seen = set()
    for name, _ in request.query_params.multi_items():
        if name not in declared.names:
            reason = unknown_name("parameter", name, declared.names)
            raise QueryRefused(422, reason, field=name[:LONGEST_NAME_SHOWN])
        if name in seen and name not in declared.several:
            raise QueryRefused(422, f"the parameter `{name}` is there twice: give it once", field=name)
        seen.add(name)


def _declared(route: APIRoute) -> QueryNames:
    fields = [(each.alias, each.field_info.annotation) for each in _query_fields(route.dependant)]
    documented = (route.openapi_extra or {}).get("parameters", ())
    extra = [each["name"] for each in documented if each["in"] == "query"]
    return QueryNames(
        frozenset([name for name, _ in fields] + extra),
        frozenset(name for name, kind in fields if _is_list(kind)),
    )


def _query_fields(dependant: Dependant) -> Iterator[Any]:
    yield from dependant.query_params
    for each in dependant.dependencies:
        yield from _query_fields(each)


def _is_list(kind: Any) -> bool:
    """Whether the annotation, or one of its alternatives, takes several values."""
    origin = get_origin(kind)
    if origin in {Union, UnionType, Annotated}:
        return any(_is_list(each) for each in get_args(kind))
    return (origin or kind) in {list, set, frozenset, tuple}
