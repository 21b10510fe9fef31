"""Fields that a request's body does not take are refused with a hint: of every route with a body, by its description."""

import asyncio

import httpx
import pytest

from tests.gateway.route_table import app_without_store, openapi

TAKES_ANY_FIELD = {
    "/v1/events": "events keep fields that they do not know",
    "/v1/telegram/{bot}": "a webhook: the vendor decides what it sends",
    "/v1/chats/{chat}": "a webhook: the vendor decides what it sends",
    "/v1/crm/{crm}": "a webhook: the vendor decides what it sends",
    "/v1/whatsapp/{number}": "a webhook: the vendor decides what it sends",
    "/api/session/start": "chats of others: an answer of a person is worth more than the hint",
    "/api/answer": "chats of others: an answer of a person is worth more than the hint",
    "/api/behavior": "chats of others: an answer of a person is worth more than the hint",
    "/api/lead/profile": "chats of others: an answer of a person is worth more than the hint",
    "/api/ab-test/variant/{test_name}": "pages of others: they need the variant",
    "/api/ab-test/conversion": "pages of others: a conversion is worth more than the hint",
}
"""Each with the reason. Whatever is not here refuses."""
NEEDS_MORE = {
    "/api/keys": 503,  # tables: test_keys.py
    "/api/users": 503,  # tables: test_users.py
    "/api/links": 409,  # keys: test_links.py
    "/api/lead-qualification/scoring-rules/": 503,  # the text with the rules: test_qualification_api.py
    "/api/lead-qualification/qualification-criteria/": 503,
    "/api/lead-qualification/workflows/": 503,  # the text with the workflows: test_workflows_api.py
}
"""Addresses by their beginnings, and what an application without keys and a store answers before it reads fields."""


def posted(*requests):
    """The answers to (method, path, body)."""

    async def post():
        transport = httpx.ASGITransport(app_without_store(), raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost", timeout=30) as http:
            return [await http.request(method, path, json=body) for method, path, body in requests]

    return asyncio.run(post())


def operations_with_bodies():
    for path, methods in openapi()["paths"].items():
        for method, operation in methods.items():
            content = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
            examples = [content.get("example"), *(e["value"] for e in content.get("examples", {}).values())]
            if (example := next((each for each in examples if isinstance(each, dict)), None)) is not None:
                yield method.upper(), path, example


def test_every_route_refuses_a_field_that_its_body_does_not_take():
    refusing = [each for each in operations_with_bodies() if each[1] not in TAKES_ANY_FIELD]
    requests = [
        (
            method,
            path.replace("key_id", "ab")
            .replace("user_id", "ab")
            .replace("{", "")
            .replace("}", "")
            .replace("number", "1"),
            body | {"zyx_qqq": 1},
        )
        for method, path, body in refusing
    ]
    for (method, path, _), answer in zip(refusing, posted(*requests), strict=True):
        if answer.status_code in [NEEDS_MORE[each] for each in NEEDS_MORE if path.startswith(each)]:
            continue
        assert answer.status_code == 422, (method, path, answer.text)
        assert "zyx_qqq" in answer.text, (method, path)
    assert len(refusing) > 10


def test_an_exception_is_a_route():
    assert {path for _, path, _ in operations_with_bodies()} >= TAKES_ANY_FIELD.keys()


@pytest.mark.parametrize(
    ("path", "body", "hint"),
    [
        (
            "/api/lead-tracking/attribution/1/calculate",
            {"conversion_type": "customer", "model": "linear"},
            "unknown field `model`; did you mean `attribution_model`?",
        ),
        (
            "/api/lead-tracking/engagement/1",
            {"engagement_type": "form_submitted", "engagementValue": 5},
            "did you mean `engagement_value`?",
        ),
        ("/api/lead-tracking/scoring/bulk-calculate", {"leads": [1]}, "did you mean `lead_ids`?"),
        ("/api/lead-tracking/scoring/1/calculate", {"model": "rules"}, "This endpoint takes: no fields"),
        (
            "/api/lead-tracking/lifecycle/1/transition",
            {"stage": "lost", "notes": "x"},
            "takes: by, reason, stage",
        ),
    ],
)
def test_the_refusal_helps(path, body, hint):
    (answer,) = posted(("POST", path, body))
    assert (answer.status_code, hint in answer.json()["error"]["reason"]) == (422, True), answer.text


def test_a_name_without_end_is_shown_cut():
    (answer,) = posted(("POST", "/api/lead-tracking/engagement/1", {"a" * 6000: 1}))
    assert len(answer.text) < 600
