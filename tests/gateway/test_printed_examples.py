"""Every JSON that requirements 1, 2 and 4 print, against the schema of the operation that takes or answers it: keys,
nesting and types as printed. (Requirement 3 prints three fields of a list, in `FIELDS_OF_REQUIREMENT_3`.)

With `test_every_answer_has_only_what_its_schema_describes`, which compares real answers with the same schemas, the printed
shape is the served one; the tests in the last column of PRINTED compare values that are counted by hand.
"""

import json
import re
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from jsonschema import Draft202012Validator

from tests.gateway.route_table import openapi, operations
from tests.gateway.test_tenant_isolation import closed

pytestmark = pytest.mark.slow

REQUIREMENTS = Path(__file__).parents[3] / "shared" / "requirements"
DOCUMENTS = {
    1: "1-web-session-scoring.md",
    2: "2-lead-capture-chatbot.md",
    4: "4-rule-based-qualification.md",
    5: "5-lead-tracking-analytics.md",
}
ROOT = Path(__file__).parents[2]
SCORES = "/api/lead-qualification/lead-scores"
RULES = "/api/lead-qualification/scoring-rules"
CRITERIA = "/api/lead-qualification/qualification-criteria"
WORKFLOWS = "/api/lead-qualification/workflows"
TRACKING = "/api/lead-tracking"


class Printed(NamedTuple):
    """A shape that a document prints: some of its keys, where it belongs, and the test of its values."""

    document: int
    keys: str
    sent: tuple[str, ...]
    """The operations that take it; empty: it is an answer."""
    answered: str
    """The operation that answers it."""
    values: str


PRINTED = (
    Printed(1, "sessionId", ("POST /api/lead-score/session", "POST /api/lead-score/session/update"), "", "test_api.py"),
    Printed(1, "userId", ("POST /api/lead-score/user", "POST /api/lead-score/user/update"), "", "test_api.py"),
    Printed(1, "analytics", (), "GET /api/lead-score/session/{session_id}", "test_api.py"),
    Printed(2, "utm_source", ("POST /api/session/start",), "", "test_capture_bot.py"),
    Printed(2, "session_id question_id", ("POST /api/answer",), "", "test_capture_bot.py"),
    Printed(2, "session_id message", (), "POST /api/session/start", "test_capture_bot.py"),
    Printed(2, "session_id lead_data", (), "GET /api/lead/summary/{session_id}", "test_capture_bot.py"),
    Printed(2, "name lead_type", (), "GET /api/lead/export/{session_id}", "test_capture_bot.py"),
    Printed(4, "name rule_type", (f"POST {RULES}/",), "", "test_qualification_api.py"),
    Printed(4, "name minimum_score", (f"POST {CRITERIA}/",), "", "test_qualification_api.py"),
    Printed(4, "lead_id", (f"POST {SCORES}/calculate/", f"POST {RULES}/{{number}}/test_rule/"), "", "test_lead_scores_api.py"),
    Printed(4, "id lead", (), f"POST {SCORES}/calculate/", "test_lead_scores_api.py"),
    Printed(4, "rule points_awarded", (), f"POST {RULES}/{{number}}/test_rule/", "test_qualification_api.py"),
    Printed(4, "lead_ids", (f"POST {SCORES}/bulk_calculate/",), "", "test_lead_scores_api.py"),
    Printed(4, "recalculate_all", (f"POST {SCORES}/bulk_calculate/",), "", "test_lead_scores_api.py"),
    Printed(4, "score_0_20", (), f"GET {SCORES}/distribution/", "test_lead_scores_api.py"),
    Printed(4, "name trigger_type", (f"POST {WORKFLOWS}/",), "", "test_workflows_api.py"),
    Printed(4, "total_workflows", (), f"GET {WORKFLOWS}/statistics/", "test_workflows_api.py"),
    Printed(5, "lead_id score", (), f"POST {TRACKING}/scoring/{{lead_id}}/calculate", "test_journeys_api.py"),
    Printed(5, "engagement_type", (f"POST {TRACKING}/engagement/{{lead_id}}",), "", "test_journeys_api.py"),
    Printed(5, "conversion_type", (f"POST {TRACKING}/attribution/{{lead_id}}/calculate",), "", "test_attribution_api.py"),
)  # fmt: skip
FIELDS_OF_REQUIREMENT_3 = {
    "name": "Ahmad",
    "lead_score": 25,
    "temperature": "warm",
    "qr_scan_count": 0,
    "catalog_views": 0,
    "messages_count": 0,
    "total_interactions": 0,
}


def printed_objects(number: int) -> list[dict[str, Any]]:
    """Every JSON object that the document prints as a body: on lines of its own, or as curl sends it."""
    text = (REQUIREMENTS / DOCUMENTS[number]).read_text(encoding="utf-8")
    found = re.findall(r"^\{\n.*?^\}", text, re.MULTILINE | re.DOTALL)
    found += re.findall(r"-d '(\{.*?\})'", text, re.DOTALL)
    objects = []
    for each in found:
        try:
            objects.append(json.loads(each))
        except ValueError:
            continue  # a line of code in braces
    return objects


def shape_of(number: int, printed: dict[str, Any]) -> Printed:
    fitting = [
        each for each in PRINTED if each.document == number and set(each.keys.split()) <= printed.keys()
    ]
    assert fitting, f"requirement {number} prints {printed}: add it to PRINTED"
    return max(fitting, key=lambda each: len(each.keys.split()))


def schema_of(operation: str, side: str) -> dict[str, Any]:
    method, path = operation.split(" ")
    shown = openapi()["paths"][path][method.lower()]
    if side == "request":
        return shown["requestBody"]["content"]["application/json"]["schema"]
    status = next(each for each in shown["responses"] if each in {"200", "201"})
    return without_required(shown["responses"][status]["content"]["application/json"]["schema"])


def without_required(schema: Any) -> Any:
    """An answer may have more than the document prints."""
    if isinstance(schema, list):
        return [without_required(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        name: without_required(each)
        for name, each in schema.items()
        if not (name == "required" and isinstance(each, list))
    }


def misfits(schema: dict[str, Any], printed: object) -> list[str]:
    return [
        f"{each.json_path}: {each.message}"
        for each in Draft202012Validator(closed(schema)).iter_errors(printed)
    ]


@pytest.mark.parametrize("number", DOCUMENTS)
def test_every_printed_body_fits_the_operation_that_takes_or_answers_it(number):
    shapes = set()
    for printed in printed_objects(number):
        shape = shape_of(number, printed)
        shapes.add(shape)
        for operation in shape.sent:
            assert not misfits(schema_of(operation, "request"), printed), operation
        if shape.answered:
            assert not misfits(schema_of(shape.answered, "answer"), printed), shape.answered
    assert shapes == {each for each in PRINTED if each.document == number}, "the document no longer prints it"


def test_a_lead_of_a_tenant_has_the_fields_of_requirement_3():
    schema = schema_of("GET /api/tenants/{tenant}/leads", "answer")
    assert schema["type"] == "array"
    assert not misfits(schema["items"], FIELDS_OF_REQUIREMENT_3)


@pytest.mark.parametrize("name", sorted({each.values for each in PRINTED}))
def test_the_values_of_printed_bodies_have_a_test(name):
    assert (ROOT / "tests" / "gateway" / name).is_file()


def addresses_of(number: int) -> set[tuple[str, str]]:
    """Method and path of every address that the document names; X for what varies."""
    text = (REQUIREMENTS / DOCUMENTS[number]).read_text(encoding="utf-8")
    named = re.findall(r"\b(GET|POST|PUT|DELETE|PATCH)\b[ *|`]+(/api/[\w/<>{}-]+)", text)
    return {
        (method, re.sub(r"<\w+>|\{\w+\}|(?<=/)\d+(?=/)", "X", address).rstrip("/"))
        for method, address in named
    }


@pytest.mark.parametrize(("number", "count"), [(1, 5), (2, 13), (4, 9), (5, 17)])
def test_every_address_of_the_documents_has_a_form_with_and_without_a_slash(number, count):
    served = {(each.method, re.sub(r"\{[^}]+\}", "X", each.path)) for each in operations()}
    # An id at the end may have slashes of its own, so one route takes both forms.
    served |= {
        (each.method, re.sub(r"\{[^}]+\}", "X", each.path) + "/")
        for each in operations()
        if each.path.endswith(":path}")
    }
    addresses = addresses_of(number)
    forms = {(method, path + slash) for method, path in addresses for slash in ("", "/")}
    assert not forms - served
    assert len(addresses) == count
