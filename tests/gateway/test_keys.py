"""Keys that somebody makes: from the first to its end, on a real database."""

import asyncio
import json
from datetime import timedelta

import psycopg
import pytest

from gateway.access import COPY_SECONDS, AccessDenied, StoredKeys, read_access
from gateway.accounts import keys
from gateway.accounts.passwords import LONGEST_PASSWORD, checked_password, hash_password, verify_password
from gateway.answers import RequestProblem
from tests.gateway.accounts_server import accounts_server, bearer

pytestmark = pytest.mark.anyio

EVENT = {"type": "page_viewed", "visitor_id": "browser-1"}


async def test_the_first_key_closes_the_open_server_and_the_last_revocation_does_not_open_it(database_url):
    async with (
        accounts_server(database_url) as server,
        server.browser("127.0.0.1", "http://localhost") as http,
    ):
        assert (await http.get("/api/keys")).json() == {"keys": []}
        made = (await http.post("/api/keys", json={"name": "Ops", "scopes": ["admin"]})).json()
        assert (await http.get("/api/keys")).status_code == 401
        assert (await http.post("/v1/events", json=EVENT)).status_code == 401
        admin = bearer(made["secret"])
        listed = (await http.get("/api/keys", headers=admin)).json()["keys"]
        assert [each["created_by"] for each in listed] == ["local"]
        gone = await http.delete(f"/api/keys/{made['key']['id']}", headers=admin)
        assert gone.json()["key"]["revoked_at"]
        assert (await http.get("/api/keys", headers=admin)).status_code == 401
        assert (await http.get("/api/keys")).status_code == 401


async def test_a_secret_is_shown_once_and_kept_as_its_digest(database_url):
    async with accounts_server(database_url) as server, server.browser() as http:
        admin = await server.key("admin")
        answer = await http.post(
            "/api/keys", json={"name": "web", "scopes": ["read", "write"]}, headers=bearer(admin.secret)
        )
        secret = answer.json()["secret"]
        assert len(secret) > 40
        everything = json.dumps(
            [server.rows(f"select * from {table}") for table in ("api_keys", "audit_log")], default=str
        )
        listed = (await http.get("/api/keys?ended=true", headers=bearer(admin.secret))).text
        assert secret not in everything + listed
        assert secret.split("_", 3)[3] not in everything + listed


WRONG_KEYS = [
    ({"name": "", "scopes": ["read"]}, "name"),
    ({"name": "x" * 101, "scopes": ["read"]}, "name"),
    ({"name": "x\u202e", "scopes": ["read"]}, "name"),
    ({"name": "x", "scopes": []}, "scopes"),
    ({"name": "x", "scopes": ["everything"]}, "scopes"),
    ({"name": "x", "scopes": ["metrics"]}, "scopes"),
    ({"name": "x", "scopes": ["read"], "expires_at": "2001-01-01T00:00:00Z"}, "expires_at"),
    ({"name": "x", "scopes": ["read"], "tenant": "globex"}, "tenant"),
]


async def test_a_wrong_key_is_refused_with_its_field(database_url):
    async with accounts_server(database_url) as server, server.browser() as http:
        admin = await server.key("admin")
        for body, field in WRONG_KEYS:
            answer = await http.post("/api/keys", json=body, headers=bearer(admin.secret))
            assert (answer.status_code, answer.json()["error"]["field"]) == (422, field), body


async def test_an_administrator_sees_and_ends_only_keys_of_the_own_tenant(database_url):
    async with accounts_server(database_url) as server, server.browser() as http:
        ours, theirs = await server.key("admin"), await server.key("admin", tenant="globex")
        headers, foreign = bearer(ours.secret), theirs.row["key_id"]
        listed = (await http.get("/api/keys", headers=headers)).json()["keys"]
        assert [each["id"] for each in listed] == [ours.row["key_id"]]
        for method, address in (("DELETE", f"/api/keys/{foreign}"), ("POST", f"/api/keys/{foreign}/rotate")):
            absent = address.replace(foreign, "0" * 12)
            answers = [await http.request(method, each, headers=headers) for each in (address, absent)]
            assert [each.status_code for each in answers] == [404, 404]
            assert answers[0].text == answers[1].text
        assert (await http.get("/api/keys", headers=bearer(theirs.secret))).status_code == 200


async def test_a_key_ends_by_expiry_and_by_rotation_after_the_overlap(database_url):
    async with accounts_server(database_url) as server, server.browser() as http:
        admin = await server.key("admin")
        old = await server.key("read", expires_at=server.clock() + timedelta(days=10))
        answer = await http.post(
            f"/api/keys/{old.row['key_id']}/rotate", json={"overlap_hours": 1}, headers=bearer(admin.secret)
        )
        new = answer.json()
        assert new["key"]["replaces"] == old.row["key_id"]
        assert new["key"]["scopes"] == ["read"]
        for secret in (old.secret, new["secret"]):
            assert (await http.get("/api/session", headers=bearer(secret))).status_code == 200
        server.clock.advance(minutes=61)
        await server.refresh()
        assert (await http.get("/api/session", headers=bearer(old.secret))).status_code == 401
        assert (await http.get("/api/session", headers=bearer(new["secret"]))).status_code == 200
        again = await http.post(f"/api/keys/{old.row['key_id']}/rotate", headers=bearer(admin.secret))
        assert again.status_code == 409
        server.clock.advance(days=10)
        await server.refresh()
        assert (await http.get("/api/session", headers=bearer(new["secret"]))).status_code == 401


async def test_a_key_that_another_process_revokes_is_refused_after_the_next_refresh(database_url):
    async with accounts_server(database_url) as server, server.browser() as http:
        key = await server.key("collect")
        await server.run(
            lambda connection, author: keys.revoke_key(connection, author, None, key.row["key_id"])
        )
        await server.refresh()
        assert (
            await http.post("/v1/events", json=EVENT, headers={"X-Write-Key": key.secret})
        ).status_code == 401


async def test_the_last_use_is_written_lazily(database_url):
    async with accounts_server(database_url) as server, server.browser() as http:
        key = await server.key("read")
        for _ in range(20):
            await http.get("/api/session", headers=bearer(key.secret))
        assert [row["last_used_at"] for row in server.rows("select last_used_at from api_keys")] == [None]
        await server.app.state.accounts.keys.write_uses()
        [row] = server.rows("select last_used_at from api_keys")
        assert row["last_used_at"] is not None
        assert not server.app.state.accounts.ports.access.stored.uses


async def test_the_door_takes_made_keys_while_the_database_is_away(database_url):
    async with accounts_server(database_url) as server, server.browser() as http:
        public, secret = await server.key("collect"), await server.key("write", "read")
        await server.app.state.accounts.database.close()
        for headers in ({"X-Write-Key": public.secret}, bearer(public.secret), bearer(secret.secret)):
            assert (await http.post("/v1/events", json=EVENT, headers=headers)).status_code == 200
        refused = await http.post("/v1/events", json=EVENT, headers={"X-Write-Key": "of-nobody-at-all"})
        assert refused.status_code == 401
        assert len(server.appended) == 3


async def test_a_secret_key_is_no_write_key_and_a_public_key_reads_nothing(database_url):
    async with accounts_server(database_url) as server, server.browser() as http:
        public, secret = await server.key("collect"), await server.key("write", "collect")
        answer = await http.post(f"/v1/events?write_key={secret.secret}", json=EVENT)
        assert answer.status_code == 403
        assert "it is secret" in answer.json()["error"]["reason"]
        assert (await http.get("/api/leads", headers=bearer(public.secret))).status_code == 403
        staff = {"type": "note_added", "lead_id": "lead-1", "text": "x"}
        answer = await http.post("/v1/events", json=staff, headers=bearer(public.secret))
        assert answer.status_code == 422


def test_keys_are_not_taken_before_they_were_read_nor_for_ever_without_the_database():
    stored = StoredKeys()
    now = keys.datetime(2030, 1, 1)
    with pytest.raises(AccessDenied) as denied:
        stored.grant_of("digest", now, 0.0)
    assert (denied.value.status, denied.value.retry_after_s) == (503, 2)
    stored.snapshot = keys.KeySnapshot(
        {"digest": keys.TokenGrant("acme", frozenset({"read"}))}, frozenset(), 0.0
    )
    assert stored.grant_of("digest", now, COPY_SECONDS - 1).tenant == "acme"
    with pytest.raises(AccessDenied):
        stored.grant_of("digest", now, COPY_SECONDS + 1)


def test_scopes_of_settings_go_on_as_before():
    access = read_access(["acme:a-write-key"], ["acme:write:token-that-writes", "acme:read:token-that-reads"])
    assert access.grant_of("token-that-writes").scopes == {"write", "author", "collect"}
    assert access.grant_of("token-that-reads").scopes == {"read"}
    assert access.grant_of("a-write-key").scopes == {"collect"}
    assert access.grant_of("x" * 1_000_000) is None


async def test_another_caller_goes_on_while_one_makes_too_many_requests(database_url):
    from gateway.access import RateLimit

    async with (
        accounts_server(database_url, request_rate=RateLimit(1, 3)) as server,
        server.browser() as http,
    ):
        busy, calm = await server.key("read"), await server.key("read")
        statuses = [
            (await http.get("/api/session", headers=bearer(busy.secret))).status_code for _ in range(5)
        ]
        assert statuses[:3] == [200] * 3
        assert statuses[4] == 429
        refused = await http.get("/api/session", headers=bearer(busy.secret))
        assert refused.headers["retry-after"] == "1"
        assert "requests a second" in refused.json()["error"]["reason"]
        assert (await http.get("/api/session", headers=bearer(calm.secret))).status_code == 200


async def test_guessing_keys_is_slowed_by_address(database_url):
    from gateway.access import RateLimit

    async with (
        accounts_server(database_url, refusal_rate=RateLimit(0.1, 5)) as server,
        server.browser("203.0.113.9") as guesser,
        server.browser("203.0.113.10") as other,
    ):
        key = await server.key("read")
        statuses = [
            (await guesser.get("/api/leads", headers=bearer(f"guess-{n}"))).status_code for n in range(7)
        ]
        assert statuses == [401] * 5 + [429] * 2
        assert (await other.get("/api/leads", headers=bearer("guess"))).status_code == 401
        assert (await guesser.get("/api/session", headers=bearer(key.secret))).status_code == 200


async def test_the_audit_log_is_append_only(database_url):
    async with accounts_server(database_url) as server:
        await server.key("read")
        for sql in (
            "update audit_log set actor = 'somebody else'",
            "delete from audit_log",
            "truncate audit_log",
        ):
            with pytest.raises(psycopg.errors.RestrictViolation):
                server.rows(f"{sql} returning 1" if sql[:2] != "tr" else sql)
        with psycopg.connect(database_url) as connection:
            connection.execute("set local leadstream.audit_retention = 'on'")
            assert connection.execute("delete from audit_log").rowcount == 1


async def test_refusals_are_listed_up_to_a_rate_and_then_counted(database_url):
    async with accounts_server(database_url) as server, server.browser() as http:
        admin = await server.key("admin")
        for _ in range(40):
            await http.get("/api/leads", headers=bearer("a-key-of-nobody"))
        assert (await http.get("/api/experiments")).status_code == 401
        await asyncio.sleep(0)
        await server.app.state.accounts.audit.write_waiting()
        rows = (await http.get("/api/audit?outcome=refused&limit=1000", headers=bearer(admin.secret))).json()
        assert len(rows["entries"]) == 20
        assert {(each["action"], each["actor"], each["address"]) for each in rows["entries"]} == {
            ("GET /api/leads", "nobody", "203.0.113.9")
        }


async def test_the_audit_log_has_changes_masked_in_pages_with_filters(database_url):
    async with accounts_server(database_url) as server, server.browser() as http:
        admin, other = await server.key("admin"), await server.key("admin", tenant="globex")
        headers = bearer(admin.secret)
        lead = "/api/lead-tracking/engagement/lead-77"
        body = {"engagement_type": "call_made", "notes": "Ada, ada@example.com, +971501234567"}
        await http.post(lead, json=body, headers=headers)
        for number in range(4):
            await http.post("/api/keys", json={"name": f"key {number}", "scopes": ["read"]}, headers=headers)
        page, seen = "", []
        while True:
            answer = (await http.get(f"/api/audit?limit=2{page}", headers=headers)).json()
            seen += answer["entries"]
            if answer["cursor"] is None:
                break
            page = f"&cursor={answer['cursor']}"
        ids = [each["id"] for each in seen]
        assert ids == sorted(set(ids), reverse=True)
        actions = [each["action"] for each in seen]
        assert actions.count("key.create") == 5
        by_lead = (await http.get("/api/audit?lead_id=lead-77", headers=headers)).json()["entries"]
        assert [each["action"] for each in by_lead] in (
            [],
            ["POST /api/lead-tracking/engagement/{lead_id:path}"],
        )
        stored = json.dumps(server.rows("select * from audit_log"), default=str)
        for personal in ("ada@example.com", "971501234567", "lead-77"):
            assert personal not in stored
        foreign = (await http.get("/api/audit", headers=bearer(other.secret))).json()["entries"]
        assert [each["target"] for each in foreign] == [f"key:{other.row['key_id']}"]
        wrong = await http.get("/api/audit?outcome=nice", headers=headers)
        assert wrong.status_code == 422


@pytest.mark.parametrize("password", ["short", "x" * (LONGEST_PASSWORD + 1), "a" * 20, "sara-is-my-name"])
def test_a_password_that_is_short_huge_or_easy_is_refused(password):
    with pytest.raises(RequestProblem):
        checked_password(password, "sara@acme.example")


def test_a_password_is_right_however_its_letters_are_composed():
    stored = hash_password("cafe\u0301 au lait, deux fois")
    assert stored.startswith("$argon2id$")
    assert verify_password(stored, "caf\u00e9 au lait, deux fois")
    assert not verify_password(stored, "cafe au lait, deux fois")
    assert not verify_password(None, "cafe au lait, deux fois")
    assert not verify_password("no hash", "cafe au lait, deux fois")
    assert not verify_password(stored, "x" * 10_000_000)
