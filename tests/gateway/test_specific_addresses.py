"""An id may contain slashes; a request that changes something never means another address than it names."""

import asyncio

import httpx
from route_table import app_without_store, operations

CHANGING = ("DELETE", "PATCH", "POST", "PUT")
PATHS = sorted({each.address(lead_id="7", session_id="s") for each in operations()})
METHODS = {
    path: {each.method for each in operations() if each.address(lead_id="7", session_id="s") == path}
    for path in PATHS
}
SENT = [
    (method, path)
    for path in PATHS
    for method in CHANGING
    if method not in METHODS[path] | METHODS.get(path.rstrip("/"), set()) | METHODS.get(f"{path}/", set())
]


def answers(sent):
    async def ask():
        transport = httpx.ASGITransport(app_without_store(), raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://leadstream.test") as client:
            return [await client.request(method, path) for method, path in sent]

    return asyncio.run(ask())


def test_a_method_that_an_address_does_not_have_changes_nothing():
    assert len(SENT) > 300
    for (method, path), answer in zip(SENT, answers(SENT), strict=True):
        assert (answer.status_code, path) == (405, path)
        assert method not in answer.headers["allow"].split(", ")


def test_a_lead_whose_id_has_a_slash_is_still_changed():
    [answer] = answers([("DELETE", "/api/leads/7/ledgers")])
    assert answer.status_code != 405
