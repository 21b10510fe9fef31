"""Every route by a key of each scope: the table of scopes holds for all of them, however an address is written."""

import asyncio
from functools import cache

import httpx
import pytest

from gateway.access import Access, RateLimit, TokenGrant, digest_of_secret
from gateway.app import create_app
from gateway.ports import Ports
from gateway.query_parameters import ANY_QUERY
from gateway.scopes import (
    ADMIN_SCOPE,
    ANY_CALLER,
    AUTHOR_SCOPE,
    COLLECT_OR_READ,
    COLLECT_SCOPE,
    METRICS_OR_READ,
    METRICS_SCOPE,
    NO_KEY,
    READ_SCOPE,
    ROLE_SCOPES,
    ROUTE_SCOPES,
    SCOPES,
    WRITE_SCOPE,
    scope_of_route,
    with_included,
)
from tests.gateway.route_table import no_log, operations

pytestmark = pytest.mark.slow

KEYS = {scope: f"key-of-the-scope-{scope}" for scope in sorted(SCOPES)}
ALLOWED_BY = {
    ANY_CALLER: SCOPES,
    COLLECT_SCOPE: {COLLECT_SCOPE, WRITE_SCOPE, ADMIN_SCOPE},
    READ_SCOPE: {READ_SCOPE, ADMIN_SCOPE},
    WRITE_SCOPE: {WRITE_SCOPE, ADMIN_SCOPE},
    AUTHOR_SCOPE: {AUTHOR_SCOPE, ADMIN_SCOPE},
    ADMIN_SCOPE: {ADMIN_SCOPE},
    COLLECT_OR_READ: {COLLECT_SCOPE, READ_SCOPE, WRITE_SCOPE, ADMIN_SCOPE},
    METRICS_OR_READ: {METRICS_SCOPE},
}
"""What docs/access.md says, written down a second time. With two tenants, only `metrics` opens /metrics."""
GUARDED = [
    each
    for each in operations()
    if each.method not in {"OPTIONS", "HEAD"} and scope_of_route(each.method, each.path) != NO_KEY
]


@cache
def app_with_keys():
    tokens = {
        digest_of_secret(key): TokenGrant("acme", with_included({scope})) for scope, key in KEYS.items()
    }
    access = Access({digest_of_secret("public-key-of-globex"): "globex"}, tokens)
    plenty = RateLimit(1e9, 1e9)
    return create_app(
        Ports(append=no_log, database_url="", access=access, request_rate=plenty, refusal_rate=plenty)
    )


def answers(requests):
    """To (method, address, headers), of an application without a database."""

    async def ask():
        transport = httpx.ASGITransport(app_with_keys(), raise_app_exceptions=False)
        async with httpx.AsyncClient(
            transport=transport, base_url="http://leads.example", timeout=60
        ) as http:
            return [await http.request(*each[:2], headers=each[2]) for each in requests]

    return asyncio.run(ask())


def test_every_route_is_in_the_table_and_the_table_has_nothing_else():
    routes = {
        f"{each.method} {each.path.rstrip('/') or '/'}"
        for each in operations()
        if each.method not in {"OPTIONS", "HEAD"}
    }
    missing = routes - ROUTE_SCOPES.keys()
    assert not missing, f"say in ROUTE_SCOPES of gateway/scopes.py which scope these need: {missing}"
    assert not ROUTE_SCOPES.keys() - routes


def test_every_route_refuses_a_caller_without_a_key():
    for each, answer in zip(GUARDED, answers([(e.method, e.address(), {}) for e in GUARDED]), strict=True):
        assert answer.status_code == 401, each
        assert answer.json()["error"]["reason"], each
    assert len(GUARDED) > 100


@pytest.mark.parametrize("scope", sorted(SCOPES))
def test_every_route_by_a_key_of_one_scope(scope):
    refused = [each for each in GUARDED if scope not in ALLOWED_BY[scope_of_route(each.method, each.path)]]
    headers = {"Authorization": f"Bearer {KEYS[scope]}"}
    for each, answer in zip(
        refused, answers([(e.method, e.address(), headers) for e in refused]), strict=True
    ):
        assert answer.status_code == 403, f"{each} by {scope}"
        assert "lacks the scope" in answer.json()["error"]["reason"], each
    allowed = [each for each in GUARDED if each not in refused and each.path != "/metrics"]
    for each, answer in zip(
        allowed, answers([(e.method, e.address(), headers) for e in allowed]), strict=True
    ):
        assert answer.status_code not in {401, 403}, f"{each} by {scope}: {answer.text}"


def test_what_takes_no_key_is_known_to_the_description_of_the_api():
    from gateway.openapi import KEYLESS

    free = {route.partition(" ")[2] for route, scope in ROUTE_SCOPES.items() if scope == NO_KEY}
    assert free <= KEYLESS.keys() | ANY_QUERY.keys()


ADDRESSES = [
    "/api/keys",
    "/api/keys/",
    "/api//keys",
    "/api/Keys",
    "/API/KEYS",
    "/api/keys//",
    "/api/./keys",
    "/api/leads/../keys",
    "/api/leads/%2e%2e/keys",
    "/api%2fkeys",
    "/static/../api/keys",
    "/sign-in/../api/keys",
    "/api/keys;x=1",
    "/api/keys?x=/sign-in",
    "//api/keys",
    "/api/keys%00",
    "/api/keys%20",
]


def test_no_form_of_an_address_gets_round_the_table():
    headers = [{}, {"Authorization": f"Bearer {KEYS['read']}"}, {"X-HTTP-Method-Override": "GET"}]
    requests = [
        (method, address, each)
        for address in ADDRESSES
        for method in ("GET", "POST", "HEAD", "get", "DELETE")
        for each in headers
    ]
    for request, answer in zip(requests, answers(requests), strict=True):
        # The route of one lead takes any id, needs `read`, and finds no store here.
        of_a_lead = {503} if request[1].startswith("/api/leads/") else set()
        assert answer.status_code in {401, 403, 404, 405, 422, 429} | of_a_lead, request


def test_a_route_that_is_not_in_the_table_needs_admin():
    assert scope_of_route("GET", "/api/of-tomorrow") == ADMIN_SCOPE
    assert scope_of_route("HEAD", "/api/leads") == READ_SCOPE
    assert scope_of_route("PATCH", "/api/leads") == ADMIN_SCOPE


def test_roles_go_up_from_viewer_to_admin():
    viewer, sales, marketer, admin = (with_included(scopes) for scopes in ROLE_SCOPES.values())
    assert viewer == {"read"}
    assert sales == {"read", "write", "collect"}
    assert marketer == {"read", "write", "collect", "author"}
    assert admin == {"read", "write", "collect", "author", "admin"}
