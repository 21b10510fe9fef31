"""What people with the role viewer see of persons, if the operator masks it for them."""

import httpx
import pytest
from fastapi import Depends, FastAPI, Request
from hypothesis import given
from hypothesis import strategies as st

from gateway.access import Caller
from gateway.answers import JsonAnswer
from gateway.masked_answers import MaskedAnswers, masked_answer, masked_lines
from gateway.scopes import ROLE_SCOPES

LEAD = {
    "lead_id": "ada", "name": "Ada Lovelace", "email": "ada@acme.example", "phone": "+4930123456789", "stage": "new",
    "profile": {"email": "ada@acme.example", "first_name": "Ada", "company_size": "51-200"},
    "engagements": [{"title": "Write to ada@acme.example or +4930123456789", "occurred_at": "2026-11-30T22:14:15Z"}],
}  # fmt: skip
SECRETS = ("Lovelace", "ada@acme.example", "4930123456789", '"Ada')


def test_what_says_who_somebody_is_goes_and_the_rest_stays():
    assert masked_answer({"leads": [LEAD], "model": {"name": "temperature", "rules": [{"name": "Phone"}]}}) == {
        "leads": [
            {
                "lead_id": "ada", "name": "***", "email": "***", "phone": "***", "stage": "new",
                "profile": {"email": "***", "first_name": "***", "company_size": "51-200"},
                "engagements": [
                    {"title": "Write to a***@acme.example or ***89", "occurred_at": "2026-11-30T22:14:15Z"}
                ],
            }
        ],
        "model": {"name": "temperature", "rules": [{"name": "Phone"}]},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("answer", "masked"),
    [
        ({"profile": {"name": "Ada", "plan": "pro"}}, {"profile": {"name": "***", "plan": "pro"}}),
        ({"fields": {"full_name": "Ada Lovelace"}}, {"fields": {"full_name": "***"}}),
        ({"lead_id": "x", "phone": 442079460000}, {"lead_id": "x", "phone": "***"}),
        (
            {"recipient": "vera", "title": "Hot: Ada Lovelace", "message": "Call her"},
            {"recipient": "vera", "title": "***", "message": "***"},
        ),
        (
            {"lead": "Ada Lovelace", "lead_id": "ada", "points": 5},
            {"lead": "***", "lead_id": "ada", "points": 5},
        ),
        ({"lead": "ada", "lead_name": "Ada"}, {"lead": "ada", "lead_name": "***"}),
        ({"profile_field": "name", "text": "Ada"}, {"profile_field": "name", "text": "***"}),
    ],
)
def test_a_name_goes_wherever_it_stands(answer, masked):
    assert masked_answer(answer) == masked


def test_each_line_of_a_stream_is_masked():
    events = b'retry: 1000\n\nid: 1\nevent: changes\ndata: {"notifications":[{"text":"call ada@acme.example"}]}\n\n'
    assert masked_lines(events) == events.replace(b"ada@acme", b"a***@acme")
    assert masked_lines(b'{"lead_id":"x","name":"Ada"}\n{"done":true}\n') == (
        b'{"lead_id":"x","name":"***"}\n{"done":true}\n'
    )


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=12,
)


@given(values)
def test_masking_keeps_the_shape_of_every_answer(value):
    def shape(each):
        match each:
            case dict():
                return {key: shape(inner) for key, inner in each.items()}
            case list():
                return list(map(shape, each))
            case _:
                return type(each)

    assert shape(masked_answer(value)) == shape(value)


def app_for(actor, scopes):
    async def authorize(request: Request):
        request.state.caller = Caller("default", scopes, "key", actor=actor)

    app = FastAPI(dependencies=[Depends(authorize)])

    @app.get("/lead")
    async def lead():
        return JsonAnswer(LEAD)

    app.add_middleware(MaskedAnswers)
    return app


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("actor", "role", "masked"),
    [("user:vera", "viewer", True), ("user:sam", "sales", False), ("key:k1", "viewer", False)],
)
async def test_only_people_with_the_role_viewer_get_masked_answers(actor, role, masked):
    transport = httpx.ASGITransport(app_for(actor, ROLE_SCOPES[role]))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
        answer = await http.get("/lead")
    assert len(answer.content) == int(answer.headers["content-length"])
    assert any(secret in answer.text for secret in SECRETS) is not masked
    assert answer.json()["lead_id"] == "ada"
