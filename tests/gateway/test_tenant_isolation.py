"""Two tenants on one server, by the route table: what one of them sees, asks for or writes shows and changes nothing of
the other.

For every route: the answer to B about something of A is that about something that does not exist; a list for B has no
word of A's; what B writes to A's ids leaves every answer to A as it was. A new route fails until its parameters are in
the tables below.
"""

import asyncio
import json
import re
from collections.abc import Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, NamedTuple

import httpx
import psycopg
import pytest
from jsonschema import Draft202012Validator

from gateway.app import create_app
from gateway.openapi import KEYLESS, examples_of
from gateway.query_parameters import ANY_QUERY
from leadstream.delivering import delivery_beside
from leadstream.settings import Settings
from leadstream.wiring import open_system, ports_open
from projections import erasures
from projections.erasures import Erasure
from tests.gateway.route_table import Operation, openapi, operations

pytestmark = [pytest.mark.postgres, pytest.mark.anyio]

HERE = "tests/gateway/test_tenant_isolation.py"
A, B = "acme", "bravo"
MARK = "zephyrine"
"""In every id, name and text of A, and in nothing else."""
NAME, PHONE = f"{MARK.title()} Person", "+971501239876"
TOKENS = {
    "A": "token-of-a-that-reads-and-writes",
    "B": "token-of-b-that-reads-and-writes",
    "A writes": "token-of-a-that-only-writes",
    "A reads": "token-of-a-that-only-reads",
}
TARGET = f"https://{MARK}.example/expo"
WRITE_KEY = "public-write-key-of-a"
SETTINGS = {
    "api_tokens": f"{A}:read+write+admin:{TOKENS['A']},{B}:read+write+admin:{TOKENS['B']},"
    f"{A}:write:{TOKENS['A writes']},{A}:read:{TOKENS['A reads']}",
    "write_keys": f"{A}:{WRITE_KEY}",
    "telegram_bots": f"{A}:{MARK}-bot:0123456789abcdef-secret:123:{'t' * 30}",
    "telegram_api": "http://127.0.0.1:9",
    "link_keys": "0123456789abcdef0123456789abcdef",
}


class Ids(NamedTuple):
    """A's id, and one of the same form that nobody has."""

    of_a: str
    absent: str

    def __getitem__(self, place: Any) -> Any:
        return tuple(self)[place] if isinstance(place, int) else getattr(self, place)


LEAD = Ids(f"{MARK}-lead", "nobody--0-lead")
VISITOR = Ids(f"{MARK}-browser", "nobody--0-browser")
CHAT = Ids(f"{MARK}-chat", "nobody--0-chat")
VISIT = Ids(f"{MARK}-visit", "nobody--0-visit")
MODEL = Ids(f"{MARK}_model", "nobody_00_model")
ERASURE = Ids("5d41402abc4b2a76", "0" * 16)
BESIDE = ("/api/erasures", "/api/person-exports")
"""These work beside their answer, so that two calls one after the other may differ: test_erasures_api.py has them."""
SHARED = Ids("greeting_message", "greeting_message")
"""An experiment: the operator defines them for all tenants, and a tenant sees its own leads in the results."""
NEUTRAL = frozenset(
    [
        "limit",
        "offset",
        "cursor",
        "before",
        "source",
        "type",
        "known",
        "after",
        "sort",
        "silent_days",
        "snoozed",
        "stage",
        "band",
        "min_score",
        "include_anonymous",
        "qualification_stage",
        "temperature",
        "days",
        "language",
        "as_of",
        "diff",
        "before",
        "by",
        "note",
        "force",
        "since",
        "until",
        "lift",
        "model",
        "wait",
        "write_key",
        "from",
        "to",
        "period",
        "interval",
        "intervals",
        "cohort_type",
        "conversion_type",
        "markov_order",
        "engagement_type",
        "engagement_channel",
        "source_type",
        "with_revenue",
        "error",
        "size",
        "status",
        "trigger",
        "unread",
        "ended",
        "outcome",
        "actor",
        "after",
        "action",
    ]
)
"""Query parameters that name nothing of a tenant. A cursor is a place in the order of time."""


def path_values(operation: Operation, made: "Made") -> dict[str, Ids]:
    """Whose ids the address has."""
    path = operation.path
    values = {
        "lead_id": LEAD,
        "session_id": VISIT if path.startswith("/api/lead-score/") else CHAT,
        "event_id": Ids(f"{MARK}-event", "nobody--0-event"),
        "recalculation_id": Ids(made.recalculation, "0" * 32),
        "tenant": Ids(A, "charl"),
        "token": Ids(made.link, made.link[::-1]),
        "test_name": SHARED,
        "crm": Ids(f"{MARK}-crm", "nobody--0-crm"),
        "bot": Ids(f"{MARK}-bot", "nobody--0-bot"),
        "key_id": Ids(made.key, "0" * 12),
        "user_id": Ids(made.user, "0" * 12),
        "erasure_id": ERASURE,
        "file_id": Ids(f"{MARK}-file", f"{MARK}-file"),
        "name": SHARED if path.startswith("/api/experiments/") else MODEL,
        "number": Ids(number_in(path, made), "999999999"),
    }
    missing = [name for name in operation.parameters if name not in values]
    assert not missing, f"{operation}: say in path_values of {HERE} which id of A stands for {missing}"
    return {name: values[name] for name in operation.parameters}


def number_in(path: str, made: "Made") -> str:
    """Which number of A the address has."""
    numbers = {
        "/api/workflows/drafts/": made.workflows_draft,
        "/drafts/": made.draft,
        "-criteria/": made.criterion,
        "-rules/": made.rule,
        "/workflows/": made.workflow,
        "/workflow-executions/": made.execution,
        "/notifications/": made.execution,
    }
    return next((number for part, number in numbers.items() if part in path), made.rule)


QUERY_VALUES = {
    "lead_id": LEAD,
    "id": LEAD,
    "visitor_id": VISITOR,
    "session_id": CHAT,
    "q": Ids(MARK, "nobody--0"),
    "target": Ids(f"name={MARK}_model", "name=nobody_00_model"),
    "source_id": Ids(f"{MARK}-form", "nobody--0-form"),
    "workflow_id": Ids("1", "999999999"),
    "recipient": Ids(MARK, "nobody--0"),
    "assigned_to": Ids(MARK, "nobody--0"),
    "variant": Ids("A", "A"),
    "goal": Ids("demo_request", "demo_request"),
}
BODY_VALUES = {
    "lead_id": LEAD,
    "lead_ids": LEAD,
    "visitor_id": VISITOR,
    "session_id": CHAT,
    "sessionId": VISIT,
    "userId": LEAD,
}


WORKFLOW = {
    "name": MARK,
    "trigger_type": "manual",
    "action_type": "send_notification",
    "action_config": {"message": NAME},
}


class Made(NamedTuple):
    """What A has that got its id from the server."""

    draft: str
    rule: str
    criterion: str
    recalculation: str
    link: str
    workflow: str
    execution: str
    workflows_draft: str
    key: str
    user: str


class Call(NamedTuple):
    operation: Operation
    address: str
    query: dict[str, str]
    body: Any


def model_text(name: str) -> str:
    return f'model = "{name}"\nabout = "{NAME} and friends."\n[groups.g]\nrules = [{{ name = "{MARK}", each = "qr_scanned", points = 3 }}]\n'


def examples() -> dict[tuple[str, str], Any]:
    """The first example body of each operation."""
    found = {}
    for path, methods in openapi()["paths"].items():
        for method, shown in methods.items():
            for content in shown.get("requestBody", {}).get("content", {}).values():
                found.setdefault((method.upper(), path), examples_of(content)[0])
    return found


EXAMPLES = examples()
SHOWN = {(method.upper(), path) for path, methods in openapi()["paths"].items() for method in methods}
CHECKED = [
    each
    for each in operations()
    if each.method not in {"OPTIONS", "HEAD"}
    and (each.path.rstrip("/") or "/") not in ANY_QUERY
    and each.documented_path.rstrip("/") not in KEYLESS
    and each.path != "/metrics"  # counts over all tenants, for operators (test_access.py)
]

DOCUMENTED = [each for each in CHECKED if (each.method, each.documented_path) in SHOWN]
"""Each operation once: without the other form of its address, with or without a slash."""


def query_names(app: Any, operation: Operation) -> Iterator[str]:
    for name in sorted(app.state.query_names[operation.path, operation.method].names - NEUTRAL):
        assert name in QUERY_VALUES, (
            f"{operation}: add the query parameter {name} to QUERY_VALUES of {HERE}, or to NEUTRAL if it names nothing "
            "of a tenant"
        )
        yield name


def body_of(value: Any, place: int, name: str = "") -> Any:
    """The example with ids of A (0), or with absent ones (1)."""
    if isinstance(value, dict):
        return {key: body_of(each, place, key) for key, each in value.items()}
    if isinstance(value, list):
        return [body_of(each, place, name) for each in value]
    if name in BODY_VALUES:
        return BODY_VALUES[name][place]
    return model_text(MODEL[place]) if name == "text" and "model =" in str(value) else value


def call_of(app: Any, operation: Operation, made: Made, place: int, *, ids_in_query: bool) -> Call:
    values = {name: ids[place] for name, ids in path_values(operation, made).items()}
    queried = list(query_names(app, operation))
    query = {name: QUERY_VALUES[name][place] for name in queried} if ids_in_query else {}
    if {"history", "reasons"} & set(operation.path.split("/")) and "lead_id" in queried:
        query["lead_id"] = LEAD[place]  # it is required
    shown = next(
        (
            example
            for (method, path), example in EXAMPLES.items()
            if method == operation.method and path.rstrip("/") == operation.documented_path.rstrip("/")
        ),
        None,
    )
    return Call(operation, operation.address(**values), query, body_of(shown, place))


@asynccontextmanager
async def serving(url: str) -> Any:
    settings = Settings(database_url=url, partitions=2, **SETTINGS)
    with open_system(settings) as system, delivery_beside(system, settings):
        with psycopg.connect(url) as connection:
            erasures.insert(
                connection, Erasure(ERASURE.of_a, A, "00" * 16, [], datetime.now(UTC), MARK, erasures.DONE)
            )
        async with ports_open(system, settings) as ports:
            app = create_app(ports)
            transport = httpx.ASGITransport(app, raise_app_exceptions=False)
            async with (
                app.router.lifespan_context(app),
                httpx.AsyncClient(transport=transport, base_url="http://localhost", timeout=60) as http,
            ):
                yield app, http


async def asked(http: httpx.AsyncClient, who: str, call: Call) -> httpx.Response:
    return await http.request(
        call.operation.method,
        call.address,
        params=call.query,
        json=call.body,
        headers={"Authorization": f"Bearer {TOKENS[who]}"} if who in TOKENS else {"X-Write-Key": WRITE_KEY},
    )


async def post(http: httpx.AsyncClient, who: str, address: str, body: Any) -> dict[str, Any]:
    answer = await http.post(address, json=body, headers={"Authorization": f"Bearer {TOKENS[who]}"})
    assert answer.status_code < 300, (address, answer.text)
    return answer.json()


async def make_data(http: httpx.AsyncClient) -> Made:
    """A's leads, sessions, chat, models and the rest, through the door; and a lead of B."""
    browser = {"visitor_id": VISITOR.of_a, "session_id": VISIT.of_a}
    events = [
        {"type": "session_started", **browser},
        {"type": "page_viewed", "event_id": f"{MARK}-event", "context": {"title": NAME}, **browser},
        {"type": "lead_identified", "lead_id": LEAD.of_a, "email": f"{MARK}@example.com", **browser},
        {"type": "qr_scanned", "lead_id": LEAD.of_a},
        {"type": "profile_updated", "lead_id": LEAD.of_a, "fields": {"name": NAME, "phone": PHONE}},
        {"type": "message_received", "lead_id": LEAD.of_a, "text": NAME},
        {"type": "purchase_made", "lead_id": LEAD.of_a, "order_id": MARK, "value": 7, "currency": "AED"},
    ]
    await post(http, "A", "/v1/events?wait=10", events)
    await post(http, "B", "/v1/events?wait=10", [{"type": "qr_scanned", "lead_id": "own-lead"}])
    await post(http, "A", "/api/session/start", {"session_id": CHAT.of_a, "utm_source": MARK})
    await post(http, "A", "/api/answer", {"session_id": CHAT.of_a, "question_id": 1, "answer_text": NAME})
    await post(http, "A", "/api/ab-test/variant/greeting_message", {"session_id": VISITOR.of_a})
    name = MODEL.of_a
    await post(http, "A", f"/api/models/{name}/publish", {"text": model_text(name), "by": MARK, "note": MARK})
    draft = await post(http, "A", f"/api/models/{name}/drafts", {"text": model_text(name), "note": MARK})
    rule = EXAMPLES["POST", "/api/lead-qualification/scoring-rules/"] | {"name": MARK}
    criterion = EXAMPLES["POST", "/api/lead-qualification/qualification-criteria/"] | {
        "name": MARK,
        "minimum_score": 41,
    }
    rules = "/api/lead-qualification"
    made_rule = await post(http, "A", f"{rules}/scoring-rules/", rule)
    made_criterion = await post(http, "A", f"{rules}/qualification-criteria/", criterion)
    calculation = await post(http, "A", f"{rules}/lead-scores/bulk_calculate/", {"lead_ids": [LEAD.of_a]})
    key = await post(http, "A", "/api/keys", {"name": MARK, "scopes": ["read"]})
    user = await post(http, "A", "/api/users", {"email": f"{MARK}@people.example", "name": MARK})
    link = await post(http, "A", "/api/links", {"kind": "qr", "qr_id": MARK, "place": NAME, "target": TARGET})
    workflow = await post(http, "A", f"{rules}/workflows/", WORKFLOW)
    ran = await post(
        http, "A", f"{rules}/workflows/{workflow['id']}/run/", {"lead_id": LEAD.of_a, "by": MARK}
    )
    text = (await asked_by_a(http, "/api/workflows"))["text"]
    workflows_draft = await post(http, "A", "/api/workflows/drafts", {"text": text, "note": MARK})
    number = str(ran["execution"]["id"])
    for _ in range(300):
        if str(number) in json.dumps(await asked_by_a(http, "/api/notifications")):
            break
        await asyncio.sleep(0.1)
    return Made(
        str(draft["id"]),
        str(made_rule["id"]),
        str(made_criterion["id"]),
        calculation["id"],
        link["token"],
        str(workflow["id"]),
        number,
        str(workflows_draft["id"]),
        key["key"]["id"],
        user["user"]["id"],
    )


async def asked_by_a(http: httpx.AsyncClient, address: str) -> Any:
    answer = await http.get(address, headers={"Authorization": f"Bearer {TOKENS['A']}"})
    assert answer.status_code == 200, (address, answer.text)
    return answer.json()


MOVING = re.compile(
    r'"(as_of|timestamp|duration_days|calculated_at|seconds|leads_per_second|cursor|position|calculated)":[^,}]*'
)
"""What differs between two answers because time goes on."""


def without_ids(answer: httpx.Response, call: Call) -> str:
    """The answer, without the ids that the call has."""
    text = re.sub(r'"(published_at|created_at|changed_at|id)":[^,}]*', "", MOVING.sub("", answer.text))
    text = re.sub(r"\d{4}-\d\d-\d\dT[\d:.]+Z", "MOMENT", text)  # each call has its own
    text = re.sub(r'(?<="erasure_id":")[0-9a-f]{16}|(?<=/erasures/)[0-9a-f]{16}', "ERASURE", text)
    text = re.sub(r"/(l|o)/[\w-]+", "LINK", text)  # a sealed link has the ids of the call, as nobody can read
    ids = {*call.address.split("/"), *call.query.values(), *_texts(call.body)} - {""}
    for each in sorted(ids, key=len, reverse=True):
        text = re.sub(rf"(?<!\w){re.escape(each)}(?!\w)" if len(each) < 8 else re.escape(each), "ID", text)
    return re.sub(
        r"(\w+[_-])?[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|(sess_|stage-)?[0-9a-f]{32}", "ID", text
    )


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for each in value.values():
            yield from _texts(each)
    elif isinstance(value, list):
        for each in value:
            yield from _texts(each)
    elif isinstance(value, str):
        yield value


async def snapshot(app: Any, http: httpx.AsyncClient, made: Made) -> dict[str, str]:
    """Everything that A can read."""
    answers = {}
    for operation in DOCUMENTED:
        if operation.method == "GET":
            call = call_of(app, operation, made, 0, ids_in_query=False)
            answers[str(operation)] = MOVING.sub("", (await asked(http, "A", call)).text)
    return answers


async def settled(app: Any, http: httpx.AsyncClient, made: Made) -> dict[str, str]:
    """The snapshot, once two in a row are the same: publications are swept in the background."""
    before = await snapshot(app, http, made)
    for _ in range(50):
        await asyncio.sleep(0.2)
        after = await snapshot(app, http, made)
        if after == before:
            return after
        before = after
    raise AssertionError("the answers to A do not settle")


async def test_one_tenant_sees_and_changes_nothing_of_another(database_url):
    async with serving(database_url) as (app, http):
        made = await make_data(http)
        before = await settled(app, http, made)

        # A's data is there, so that not seeing it means something, and is as documented.
        silent = {
            "GET /api/models", "GET /api/events/{event_id:path}", "GET /v1/telegram/{bot}/files/{file_id}",
        }  # fmt: skip
        for name, text in before.items():
            assert '"error"' not in text[:12] or name in silent, f"{name}: A has none of it: {text[:300]}"

        reading = [each for each in CHECKED if each.method == "GET"]
        # What creates comes last: B's own first rule has the number that A's first one has.
        writing = sorted(
            (each for each in CHECKED if each.method != "GET"), key=lambda each: not each.parameters
        )
        for operation in (*reading, *writing):
            for ids_in_query in (False, True):
                of_a = call_of(app, operation, made, 0, ids_in_query=ids_in_query)
                absent = call_of(app, operation, made, 1, ids_in_query=ids_in_query)
                if ids_in_query and not of_a.query:
                    continue
                answers = [await asked(http, "B", of_a), await asked(http, "B", absent)]
                assert (
                    max(each.status_code for each in answers) < 500
                    or "telegram" in operation.path
                    or operation.path.startswith(BESIDE)
                    or str(operation).startswith("DELETE /api/leads/")
                ), answers[0].text
                if of_a != absent:
                    shown = [without_ids(answers[0], of_a), without_ids(answers[1], absent)]
                    assert answers[0].status_code == answers[1].status_code, (operation, *shown)
                    assert shown[0] == shown[1], operation
                if operation.method == "GET":
                    assert MARK not in without_ids(answers[0], of_a).lower(), operation
                    assert PHONE not in answers[0].text, operation
        assert await settled(app, http, made) == before


async def test_every_operation_needs_a_key_and_a_token_that_may_only_write_reads_nothing(database_url):
    read_by_post = {"test_rule", "check", "what-if", "session", "user", "test", "try", "preview", "backtest"}
    async with serving(database_url) as (app, http):
        made = await make_data(http)
        for operation in DOCUMENTED:
            call = call_of(app, operation, made, 0, ids_in_query=False)
            bare = await http.request(operation.method, call.address, params=call.query, json=call.body)
            assert bare.status_code == 401, f"{operation}: without a key {bare.status_code}"
            for who in ("A writes", "write key"):
                answer = await asked(http, who, call)
                assert NAME not in answer.text, f"{operation} shows a profile to {who}"
                assert PHONE not in answer.text, f"{operation} shows a profile to {who}"
                assert '"lead_score"' not in answer.text, f"{operation} shows a score to {who}"
            if (
                operation.method != "GET"
                and operation.path.rstrip("/").rpartition("/")[2] not in read_by_post
            ):
                refused = await asked(http, "A reads", call)
                assert refused.status_code in {401, 403}, f"{operation}: a token that only reads may write"


async def test_every_answer_has_only_what_its_schema_describes(database_url):
    """Real answers, against the schemas of /openapi.json without the freedom that JSON Schema leaves by itself."""
    documented = openapi()["paths"]
    async with serving(database_url) as (app, http):
        made = await make_data(http)
        compared = 0
        for operation in DOCUMENTED:
            shown = documented[operation.documented_path][operation.method.lower()]
            if operation.method == "DELETE":
                continue
            call = call_of(app, operation, made, 0, ids_in_query=False)
            answer = await asked(http, "A", call)
            content = (
                shown["responses"].get(str(answer.status_code), {}).get("content", {}).get("application/json")
            )
            if answer.status_code >= 300 or content is None:
                continue
            problems = Draft202012Validator(closed(content["schema"])).iter_errors(json.loads(answer.content))
            found = [f"{each.json_path}: {each.message[:300]}" for each in problems]
            assert not found, (
                f"{operation}: add it to the example in gateway/examples, and describe it: {found}"
            )
            compared += 1
    assert compared > 45


def closed(schema: Any) -> Any:
    """The schema without fields that it does not name."""
    if isinstance(schema, list):
        return [closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    inner = {name: closed(each) for name, each in schema.items()}
    if (
        isinstance(schema.get("properties"), dict)
        and "additionalProperties" not in schema
        and "type" in schema
    ):
        inner["additionalProperties"] = False
    return inner
