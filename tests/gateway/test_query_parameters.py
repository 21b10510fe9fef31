"""Query parameters that a route does not declare are refused with a hint: of every route, by the route table."""

import asyncio
from typing import Annotated

import httpx
import pytest
from fastapi import APIRouter, Query

from gateway.query_parameters import ANY_QUERY, query_names_of, takes_any_query
from tests.gateway.route_table import app_without_store, openapi, operations

REFUSING = [each for each in operations() if not takes_any_query(each.path, each.method)]
FREE = [each for each in operations() if takes_any_query(each.path, each.method) and each.method != "OPTIONS"]
TO_DO = (
    "every route refuses unknown parameters by itself; if this one must take any, add it to ANY_QUERY of "
    "gateway/query_parameters.py, with the reason"
)


def asked(*requests, headers=None):
    """The answers to (method, address) of an application without a store."""

    async def ask():
        transport = httpx.ASGITransport(app_without_store(), raise_app_exceptions=False)
        async with httpx.AsyncClient(
            transport=transport, base_url="http://localhost", headers=headers, timeout=30
        ) as http:
            return [await http.request(method, address) for method, address in requests]

    return asyncio.run(ask())


def reason(address, method="GET"):
    (answer,) = asked((method, address))
    assert answer.status_code == 422, answer.text
    return answer.json()["error"]["reason"]


def test_every_route_refuses_a_parameter_that_it_does_not_declare():
    answers = asked(*[(each.method, f"{each.address()}?zyx_qqq=1") for each in REFUSING])
    for operation, answer in zip(REFUSING, answers, strict=True):
        assert answer.status_code == 422, f"{operation}: {TO_DO}"
        if operation.method != "HEAD":
            error = answer.json()["error"]
            assert error["field"] == "zyx_qqq", f"{operation}: {TO_DO}"
            assert error["reason"].startswith("unknown parameter `zyx_qqq`. This endpoint takes: ")
    assert len(REFUSING) > 80


@pytest.mark.slow
def test_every_parameter_that_the_documents_name_is_taken_and_the_refusal_lists_them():
    documented = openapi()["paths"]
    for operation in REFUSING:
        shown = documented.get(operation.documented_path, {}).get(operation.method.lower())
        if shown is None:
            continue
        names = {each["name"] for each in shown.get("parameters", ()) if each["in"] == "query"}
        (answer,) = asked((operation.method, f"{operation.address()}?zyx_qqq=1"))
        listed = answer.json()["error"]["reason"].partition("takes: ")[2]
        assert listed == (", ".join(sorted(names)) or "no parameters"), operation


def test_a_route_and_its_form_with_a_slash_take_the_same_parameters():
    app = app_without_store()
    by_form = {}
    for (path, method), names in app.state.query_names.items():
        by_form.setdefault((path.rstrip("/"), method), set()).add(names)
    assert not [form for form, names in by_form.items() if len(names) > 1]


def test_every_exception_is_a_route_and_takes_any_query():
    paths = {each.path.rstrip("/") or "/" for each in operations()}
    assert set(ANY_QUERY) <= paths, "ANY_QUERY names an address that is no longer there"
    for operation, answer in zip(
        FREE, asked(*[(each.method, f"{each.address()}?v=2&v=3&utm_source=x") for each in FREE]), strict=True
    ):
        assert answer.status_code != 422, operation


@pytest.mark.parametrize(
    ("address", "hint"),
    [
        (
            "/api/leads?limt=5",
            "unknown parameter `limt`; did you mean `limit`? This endpoint takes: after, ",
        ),
        ("/api/leads?Include-Anonymous=true", "did you mean `include_anonymous`?"),
        ("/api/lead-qualification/lead-scores?minScore=5", "did you mean `min_score`?"),
        ("/api/lead-qualification/lead-scores/?stage=sql", "did you mean `qualification_stage`?"),
        ("/api/tenants/acme/leads/?temprature=hot", "did you mean `temperature`?"),
        ("/api/models?name=x", "This endpoint takes: no parameters"),
        ("/api/leads?=5", "unknown parameter ``"),
        ("/api/leads?limit=5&limit=6", "the parameter `limit` is there twice: give it once"),
    ],
)
def test_the_refusal_helps(address, hint):
    assert hint in reason(address)


def test_a_name_without_end_is_shown_cut():
    assert len(reason(f"/api/leads?{'a' * 6000}=1")) < 300


def test_a_page_of_another_site_can_read_why():
    (answer,) = asked(("POST", "/v1/events?writekey=x"), headers={"Origin": "https://shop.example"})
    assert answer.status_code == 422
    assert "did you mean `write_key`?" in answer.json()["error"]["reason"]
    assert answer.headers["access-control-allow-origin"] == "https://shop.example"


def test_a_parameter_that_takes_a_list_may_be_given_several_times():
    router = APIRouter()

    @router.get("/listed")
    def listed(
        ids: Annotated[list[int], Query()], names: Annotated[set[str] | None, Query()] = None, one: int = 0
    ): ...

    ((names, several),) = query_names_of(router.routes).values()
    assert names == {"ids", "names", "one"}
    assert several == {"ids", "names"}
