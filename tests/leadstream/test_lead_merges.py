"""What was merged and separated again leaves its trace, however quickly; a circle is reported once."""

import itertools
import json

import pytest

from tests.leadstream.command_line import leadstream, serving


def event(kind, number, **fields):
    return {
        "type": kind,
        "event_id": f"e{number}",
        "occurred_at": f"2026-03-02T08:{number:02}:00Z",
        "source": "crm",
        **fields,
    }


HISTORY = [
    event("profile_updated", 1, lead_id="a", fields={"email": "a@acme.io"}),
    event("profile_updated", 2, lead_id="b", fields={"email": "b@acme.io"}),
    event("profile_updated", 3, lead_id="c", fields={"email": "c@acme.io"}),
    event("leads_merged", 4, lead_id="a", into="b"),
    event("merge_undone", 5, lead_id="a"),
    event("leads_merged", 6, lead_id="c", into="a"),
    event("leads_merged", 7, lead_id="c", into="b"),
]


@pytest.mark.postgres
def test_a_merge_and_its_undoing_in_one_import_are_both_on_the_pages_of_both_leads(tmp_path, database_url):
    file = tmp_path / "events.ndjson"
    file.write_text("".join(json.dumps(each) + "\n" for each in HISTORY))
    where = {"LEADSTREAM_DATABASE_URL": database_url}
    assert leadstream("import", "events", file, **where).returncode == 0
    with serving(tmp_path, **where) as server:
        merges = {lead: server.client.get(f"/api/leads/{lead}").json() for lead in "abc"}
    shown = {
        lead: [
            (each["lead_id"], each["into"], each["event_id"], each["until_event_id"])
            for each in found["merges"]
        ]
        for lead, found in merges.items()
    }
    undone, moved, current = ("a", "b", "e4", "e5"), ("c", "a", "e6", "e7"), ("c", "b", "e7", None)
    assert {lead: set(them) for lead, them in shown.items()} == {
        "a": {undone, moved},
        "b": {undone, current},
        "c": {moved, current},
    }
    assert {lead: found["merged_into"] for lead, found in merges.items()} == {"a": None, "b": None, "c": "b"}
    assert [found["merged_in_circle"] for found in merges.values()] == [[], [], []]
    assert {each["event_id"] for each in merges["a"]["engagements"]} >= {"e4", "e5"}
    assert any(each["caused_by"] == "redirect:e4" for each in merges["a"]["ledger"])
    told = leadstream("explain", "b", **where).stdout.decode()
    assert "a was merged into it on " in told
    assert ", until " in told
    assert "c was merged into it on " in told


@pytest.mark.postgres
@pytest.mark.parametrize("order", [*itertools.permutations(range(3))])
def test_a_circle_of_merges_settles_on_one_lead_in_any_order_and_that_one_alone_reports_it(
    tmp_path, database_url, order
):
    circle = [("a", "b"), ("b", "c"), ("c", "a")]
    where = {"LEADSTREAM_DATABASE_URL": database_url}
    with serving(tmp_path, **where) as server:

        def send(*events):
            sent = server.client.post("/v1/events?wait=5", json=list(events))
            assert sent.status_code == 200, sent.text

        send(*HISTORY[:3])
        for number, step in enumerate(order):
            lead, into = circle[step]
            send(event("leads_merged", 10 + number, lead_id=lead, into=into))
        for number, lead in enumerate("abc"):
            send(event("email_opened", 20 + number, lead_id=lead))
        board = server.client.get("/api/leads").json()["leads"]
        pages = {lead: server.client.get(f"/api/leads/{lead}").json() for lead in "abc"}
        moved = server.client.post("/api/lead-tracking/lifecycle/a/transition", json={"stage": "qualified"})
        assert moved.status_code in {200, 201, 202}, moved.text
        found = server.client.get("/api/leads", params={"q": "c@acme.io"}).json()["leads"]
    assert [each["lead_id"] for each in board] == ["a"] == [each["lead_id"] for each in found]
    assert pages["a"]["counts"]["email_opened"] == 3
    assert {lead: page["merged_in_circle"] for lead, page in pages.items()} == {
        "a": ["a", "b", "c"],
        "b": [],
        "c": [],
    }
    assert {lead: page["merged_into"] for lead, page in pages.items()} == {"a": None, "b": "a", "c": "a"}
    told = leadstream("explain", "a", **where).stdout.decode()
    assert told.count("Merged in a circle with b and c: this lead stays") == 1
    assert "which scores for it" not in told
