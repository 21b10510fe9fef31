"""Chat sessions to mix into the load of tests that kill processes meanwhile.

What each session comes to is added up by hand from the point table of the chat: opened 5, greeting 5, each question 5, all
of them 10, contact 10, product 5, demo 15, call to action 15, a quick reply (below two minutes) 5 for each question.
"""

from typing import NamedTuple

import psycopg
from entangled import moments
from msgspec import json, structs

from schemas.decode import read_event
from schemas.envelope import DEFAULT_TENANT
from scoring.chat import conversation as chats
from scoring.chat.conversation import ChatEvent, Conversation
from scoring.models.model import built_in_models, compile_model

FLOW = compile_model(built_in_models()["chatbot"]).flow


class Script(NamedTuple):
    answers: tuple[tuple[int, str, float | None], ...]
    """Question, text, seconds: in the order in which they come."""
    behaviors: tuple[str, ...]
    score: int
    category: str
    business_type: str | None
    location: str | None


SCRIPTS = (
    # 5 + 25 + 10 + 10 + 15, and three quick replies 15; the location is changed
    Script(
        (
            (1, "Retail", 5.0),
            (2, "Pune", 30.0),
            (2, "Mumbai", 300.0),
            (3, "2–5", 119.0),
            (4, "₹50K–₹2L", 120.0),
            (5, "Billing", None),
        ),
        ("answered_all_questions", "shared_contact", "clicked_demo"),
        80,
        "SQL",
        "Retail",
        "Mumbai",
    ),
    # 5 + 5 + 2 * 5 + 5 + 15; an answer is changed and changed back
    Script(
        ((1, "Retail", None), (1, "Restaurant", None), (1, "Retail", None), (2, "Mumbai", None)),
        ("replied_to_greeting", "clicked_product", "cta_clicked"),
        40,
        "MQL",
        "Retail",
        "Mumbai",
    ),
    # 5 + 5
    Script((), ("replied_to_greeting", "watched_video"), 10, "Unqualified", None, None),
)


def chat_sessions(rng, count, begin, end):
    """The events of so many sessions between two moments, in the order in which they are recorded."""
    told = (event for number in range(count) for event in _session(rng, number, begin, end))
    return sorted(told, key=lambda event: (event.recorded_at, event.event_id))


def assert_chat_sessions(url, count):
    """Sessions, answers, scores and profiles are what was added up, and nothing counted twice or got lost."""
    with psycopg.connect(url) as connection:
        rows = connection.execute(
            """select i.identity, s.rounded, s.bands ->> 'category', l.fields, array(
                   select e.type from live.engagement_history e where e.identity_key = i.identity_key)
               from live.identities i join live.leads l using (lead_key)
               join live.lead_scores s on s.lead_key = l.lead_key and s.model = 'chatbot'
               where i.tenant = %s and i.identity like %s""",
            (DEFAULT_TENANT, f"{DEFAULT_TENANT}/v/talk-%"),
        ).fetchall()
    found = {identity.rpartition("-")[2]: row for identity, *row in rows}
    assert len(found) == len(rows) == count
    for number in range(count):
        script = SCRIPTS[number % len(SCRIPTS)]
        score, category, fields, types = found[f"{number}#0"]
        assert (score, category) == (script.score, script.category), number
        assert (fields.get("business_type"), fields.get("location")) == (
            script.business_type,
            script.location,
        )
        assert types.count("session_started") == 1
        assert types.count("question_answered") == len(script.answers)
        assert len(types) == 1 + len(script.answers) + len(script.behaviors)


def _session(rng, number, begin, end):
    """As the chat's API records it."""
    script, before = SCRIPTS[number % len(SCRIPTS)], Conversation()
    steps = [lambda _: [chats.started({"source": "google"})]]
    steps += [
        lambda before, answer=answer: chats.answered(
            before, FLOW, FLOW.questions[answer[0] - 1], answer[1], answer[2]
        )
        for answer in script.answers
    ]
    steps += [
        lambda before, action=action: [
            chats.behaved(
                before, action, {"email": f"chat{number}@acme.io"} if action == "shared_contact" else {}
            )
        ]
        for action in script.behaviors
    ]
    for at, step in zip(moments(rng, len(steps), begin, end), steps, strict=True):
        for fields in step(before):
            about = fields.get("question_id") or fields.get("name")
            known = ChatEvent(fields["event_id"], fields["type"], about)
            before = Conversation((*before.events, known))
            event = read_event(json.encode({**fields, "visitor_id": f"talk-{number}", "occurred_at": at}))
            yield structs.replace(event, recorded_at=at)
