"""/api/flows without a database: the form's side of a text, and the preview."""

import asyncio
import copy

import httpx
import pytest

from scoring.editing.flow_edits import flow_json
from scoring.models.model import built_in_models, compile_model
from tests.gateway.route_table import app_without_store

TEXT = built_in_models()["chatbot"]
FLOW = flow_json(compile_model(TEXT).flow)


def posted(path, body):
    async def post():
        transport = httpx.ASGITransport(app_without_store(), raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost", timeout=30) as http:
            return await http.post(f"/api/flows/chatbot/{path}", json=body)

    return asyncio.run(post())


def test_the_form_gets_the_flow_and_gives_a_text():
    read = posted("check", {"text": TEXT}).json()
    assert (read["text"], read["problem"], read["flow"]) == (TEXT, None, FLOW)
    assert read["points"]["1"] == [5, 10, 10, 5, 5], "5 for an answer, 5 more above ten characters"
    flow = copy.deepcopy(FLOW)
    flow["thanks"]["en"] = "Bye!"
    written = posted("check", {"text": TEXT, "flow": flow}).json()
    assert (written["flow"], written["problem"]) == (flow, None)
    assert 'thanks = "Bye!"' in written["text"]


def test_a_mistake_of_the_form_has_its_field_and_one_of_the_text_its_line():
    flow = copy.deepcopy(FLOW)
    flow["questions"][1]["text"]["en"] = ""
    wrong = posted("check", {"text": TEXT, "flow": flow}).json()
    assert wrong["problem"]["field"] == "questions.1.text"
    assert wrong["flow"] is None
    line = TEXT.split("\n").index('text = "Where is your business?"') + 1
    assert wrong["problem"]["line"] == line
    elsewhere = posted("check", {"text": TEXT.replace("points = 5", "points = many", 1), "flow": FLOW})
    assert (elsewhere.status_code, elsewhere.json()["error"]["field"]) == (409, "text")
    refused = posted("check", {"text": TEXT, "flow": FLOW | {"thanks": "Bye!"}})
    assert (refused.status_code, refused.json()["error"]["field"]) == (422, "flow.thanks")
    other = posted("check", {"text": built_in_models()["rules"]}).json()
    assert "chatbot" in other["problem"]["reason"]


def test_a_preview_says_what_the_chat_would_say():
    begun = posted("preview", {"text": TEXT}).json()
    assert (begun["flow"]["asks"], begun["flow"]["next_question"]["id"]) == ("question", 1)
    assert begun["option_points"] == [5, 10, 10, 5, 5]
    steps = [{"question_id": n, "answer_text": "Other", "time_taken": 200} for n in range(1, 6)]
    asked = posted("preview", {"text": TEXT, "steps": steps}).json()
    assert (asked["flow"]["asks"], asked["flow"]["completed"]) == ("contact", True)
    steps += [{"profile_data": {"phone": "+971501234567"}}, {"action": "cta_clicked", "metadata": {"cta_id": "start-trial"}}]  # fmt: skip
    done = posted("preview", {"text": TEXT, "steps": steps}).json()
    assert (done["flow"]["asks"], done["flow"]["reply"]) == (None, FLOW["thanks"]["en"])
    # 5 opened, 5 x 5 answers, 10 all of them, 10 contact, 15 call to action
    assert (done["score"]["total"], done["score"]["bands"]) == (65, {"category": "SQL"})
    assert [each["type"] for each in done["events"]][-2:] == ["contact_shared", "cta_clicked"]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"steps": [{"question_id": 99, "answer_text": "x"}]}, "steps.0.question_id"),
        ({"steps": [{"question_id": 1, "answer_text": " "}]}, "steps.0.answer_text"),
        ({"steps": [{"question_id": 1}]}, "steps.0.answer_text"),
        ({"steps": [{}]}, "steps.0"),
        ({"steps": [{"profile_data": {}}]}, "steps.0.profile_data"),
        ({"language": "fa"}, "language"),
        ({"text": "model ="}, "text"),
        ({"text": built_in_models()["rules"]}, "text"),
    ],
)
def test_a_wrong_preview_names_its_field(body, field):
    refused = posted("preview", {"text": TEXT} | body)
    assert (refused.status_code, refused.json()["error"]["field"]) == (422, field)


def test_a_model_without_a_flow_asks_the_built_in_one():
    read = posted("check", {"text": TEXT[: TEXT.index("[flow]")]}).json()
    assert read["flow"] == FLOW
