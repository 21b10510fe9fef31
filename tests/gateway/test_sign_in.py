"""People sign in by password: the page, sessions, roles, and what attackers try."""

import asyncio
import re
from datetime import timedelta

import pytest

from gateway.access import read_access
from gateway.accounts import passwords, users
from gateway.accounts.account_settings import SessionTimes
from gateway.accounts.lock_out import address_subject
from gateway.api.sign_in import _own_address
from tests.gateway.accounts_server import PASSWORD, accounts_server, form_token, sign_in, who

pytestmark = pytest.mark.anyio
COOKIE = "leadstream-session"


async def csrf(browser):
    return {"X-CSRF-Token": (await who(browser))["csrf_token"]}


async def test_a_person_signs_in_works_by_the_role_and_signs_out(database_url):
    async with accounts_server(database_url) as server, server.browser() as browser:
        await server.person(role="sales")
        assert (await browser.get("/api/leads")).status_code == 401
        answer = await sign_in(browser, email=" Sara@ACME.example ", next="/docs?x=1")
        assert (answer.status_code, answer.headers["location"]) == (303, "/docs?x=1")
        cookie = answer.headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=lax" in cookie
        assert (await who(browser))["role"] == "sales"
        assert (await browser.get("/api/leads")).status_code == 200
        publish = await browser.post("/api/models/rules/publish", json={}, headers=await csrf(browser))
        assert publish.status_code == 403
        assert "your role lacks the scope author" in publish.text
        page = (await browser.get("/sign-in")).text
        assert "Sara (sara@acme.example), sales of acme" in page
        token = re.search(r'csrf_token" value="(\w+)"', page)[1]
        assert (await browser.post("/sign-out", data={"csrf_token": token})).status_code == 303
        assert await who(browser) is None
        actions = [row["action"] for row in server.rows("select action from audit_log order by entry_id")]
        assert [each for each in actions if each.startswith("sign")] == ["sign-in", "sign-out"]


async def test_a_change_needs_the_token_of_the_session(database_url):
    async with accounts_server(database_url) as server, server.browser() as browser:
        await server.person(role="admin")
        await sign_in(browser)
        body = {"name": "x", "scopes": ["read"]}
        right = await csrf(browser)
        for headers in (
            {},
            {"X-CSRF-Token": ""},
            {"X-CSRF-Token": "0" * 64},
            {"Authorization": "Basic eDp5"},
        ):
            refused = await browser.post("/api/keys", json=body, headers=headers)
            assert refused.status_code == 403, headers
            assert "X-CSRF-Token" in refused.text
        assert (await browser.post("/api/keys", json=body, headers=right)).status_code == 201
        assert (await browser.post("/sign-out", data={"csrf_token": "0" * 64})).status_code == 403
        assert await who(browser)


async def test_the_door_knows_no_session(database_url):
    """Pages of all sites may send events, so a cookie must not make anybody's browser do it as staff."""
    async with accounts_server(database_url) as server, server.browser() as browser:
        await server.person(role="admin")
        await sign_in(browser)
        event = {"type": "note_added", "lead_id": "lead-1", "text": "x"}
        for headers in ({}, await csrf(browser)):
            assert (await browser.post("/v1/events", json=event, headers=headers)).status_code == 401


async def test_a_planted_cookie_is_worth_nothing_and_each_sign_in_makes_a_new_session(database_url):
    async with accounts_server(database_url) as server, server.browser() as browser:
        await server.person()
        planted = "planted-by-somebody-else-0123456789"
        browser.cookies.set(COOKIE, planted, domain="leads.example", path="/")
        await sign_in(browser)
        first = browser.cookies[COOKIE]
        assert first != planted
        await browser.get("/sign-in")
        await sign_in_again(browser, server)
        second = browser.cookies[COOKIE]
        assert second != first
        async with server.browser() as thief:
            for stolen in (planted, first):
                thief.cookies.set(COOKIE, stolen, domain="leads.example", path="/")
                assert await who(thief) is None


async def sign_in_again(browser, server):
    """From the form that was open before, beside the session."""
    async with server.browser() as fresh:
        token = await form_token(fresh)
        browser.cookies.set(
            "leadstream-form", fresh.cookies["leadstream-form"], domain="leads.example", path="/"
        )
    fields = {"email": "sara@acme.example", "password": PASSWORD, "csrf_token": token}
    assert (await browser.post("/sign-in", data=fields)).status_code == 303


async def test_no_other_site_can_sign_anybody_in(database_url):
    async with accounts_server(database_url) as server, server.browser() as browser:
        await server.person()
        fields = {"email": "sara@acme.example", "password": PASSWORD}
        token = await form_token(browser)
        async with server.browser() as other:
            foreign = await form_token(other)
        for presented in ("", foreign, token[:-1]):
            assert (
                await browser.post("/sign-in", data=fields | {"csrf_token": presented})
            ).status_code == 403
        browser.cookies.clear()
        assert (await browser.post("/sign-in", data=fields | {"csrf_token": token})).status_code == 403


async def test_a_session_ends_when_idle_and_in_any_case(database_url):
    times = SessionTimes(timedelta(hours=1), timedelta(hours=10))
    async with accounts_server(database_url, session_times=times) as server, server.browser() as browser:
        await server.person()
        await sign_in(browser)
        for _ in range(12):
            assert await who(browser)
            server.clock.advance(minutes=54)
        assert await who(browser) is None
        await sign_in(browser)
        server.clock.advance(minutes=61)
        assert await who(browser) is None


async def test_disabling_a_new_role_and_a_new_password_count_at_once(database_url):
    async with accounts_server(database_url) as server, server.browser() as browser:
        await server.person(role="viewer")
        email = "sara@acme.example"
        await sign_in(browser)
        await server.run(lambda connection, author: users.set_role(connection, author, email, "admin"))
        assert (await browser.get("/api/keys")).status_code == 200
        await server.run(
            lambda connection, author: users.set_password(
                connection, author, email, passwords.hash_password("another long password")
            )
        )
        assert await who(browser) is None
        assert (await sign_in(browser)).status_code == 403
        assert (await sign_in(browser, password="another long password")).status_code == 303
        await server.run(
            lambda connection, author: users.disable_user(connection, author, email, disabled=True)
        )
        assert await who(browser) is None
        assert (await sign_in(browser, password="another long password")).status_code == 403


async def test_signing_out_everywhere_ends_every_browser(database_url):
    async with (
        accounts_server(database_url) as server,
        server.browser() as here,
        server.browser() as there,
    ):
        await server.person()
        await sign_in(here)
        await sign_in(there)
        token = (await who(here))["csrf_token"]
        await here.post("/sign-out", data={"csrf_token": token, "everywhere": "1"})
        assert await who(there) is None


async def test_an_account_locks_out_whether_or_not_it_exists_and_forgives_in_time(database_url):
    async with accounts_server(database_url) as server, server.browser() as browser:
        await server.person()
        told = {}
        for email in ("sara@acme.example", "nobody@acme.example"):
            answers = [await sign_in(browser, email=email, password="wrong wrong wrong") for _ in range(6)]
            told[email] = [
                (each.status_code, re.search(r'role="alert">([^<]*)', each.text)[1]) for each in answers
            ]
        assert told["sara@acme.example"] == told["nobody@acme.example"]
        assert [status for status, _ in told["sara@acme.example"]] == [403] * 5 + [429]
        assert (await sign_in(browser)).status_code == 429
        server.clock.advance(seconds=31)
        assert (await sign_in(browser, password="wrong wrong wrong")).status_code == 403
        locked = await sign_in(browser)
        assert locked.status_code == 429
        assert 31 <= int(locked.headers["retry-after"]) <= 60
        server.clock.advance(seconds=61)
        assert (await sign_in(browser)).status_code == 303
        assert not server.rows(
            "select 1 from sign_in_attempts where subject like 'account:%%' and attempts > 6"
        )


async def test_attempts_at_the_same_time_do_not_pass_the_lock_together(database_url):
    async with accounts_server(database_url) as server:
        await server.person()
        browsers = [server.browser(f"198.51.100.{number}") for number in range(12)]
        answers = await asyncio.gather(*(sign_in(each, password="wrong wrong wrong") for each in browsers))
        statuses = [each.status_code for each in answers]
        assert statuses.count(403) <= 5
        assert statuses.count(429) >= 7


async def test_an_address_that_tries_many_accounts_is_locked_out_and_others_are_not(database_url):
    async with (
        accounts_server(database_url) as server,
        server.browser("2001:db8:1:2::1") as attacker,
        server.browser("2001:db8:9::1") as other,
    ):
        await server.person()
        statuses = [
            (await sign_in(attacker, email=f"person{number}@acme.example", password="x")).status_code
            for number in range(22)
        ]
        assert statuses[:20] == [403] * 20
        assert statuses[20:] == [429] * 2
        async with server.browser("2001:db8:1:2:ffff::7") as neighbour:
            assert (await sign_in(neighbour)).status_code == 429
        assert (await sign_in(other)).status_code == 303


async def test_an_unknown_person_costs_as_much_as_a_wrong_password(database_url, monkeypatch):
    checked = []
    real = passwords._hasher

    class Hasher:
        hash = real.hash

        def verify(self, password_hash, password):
            checked.append(password_hash[:30])
            return real.verify(password_hash, password)

    passwords._hash_of_nothing.cache_clear()
    async with accounts_server(database_url) as server, server.browser() as browser:
        await server.person(password_hash=real.hash(PASSWORD))
        await server.person(email="only@oidc.example", password_hash=None)
        with monkeypatch.context() as patched:
            patched.setattr(passwords, "_hasher", Hasher())
            for email in ("sara@acme.example", "nobody@acme.example", "only@oidc.example"):
                assert (await sign_in(browser, email=email, password="wrong wrong wrong")).status_code == 403
    assert len(checked) == 3
    assert len(set(checked)) == 1  # the same algorithm, memory and passes


async def test_no_header_makes_another_address_or_person(database_url):
    spoofed = {
        "X-Forwarded-For": "198.51.100.7",
        "X-Real-IP": "198.51.100.7",
        "Forwarded": "for=198.51.100.7",
        "X-Forwarded-Proto": "https",
        "X-Tenant": "globex",
        "X-User": "admin",
        "X-Original-URL": "/sign-in",
    }
    async with accounts_server(database_url) as server, server.browser() as browser:
        await server.person()
        browser.headers.update(spoofed)
        answer = await sign_in(browser, password="wrong wrong wrong")
        assert "Secure" not in answer.headers["set-cookie"]  # nobody trusted says that it came by https
        await sign_in(browser)
        shown = (await browser.get("/api/session")).json()
        assert (shown["tenant"], shown["person"]["role"]) == ("acme", "sales")
        addresses = {row["address"] for row in server.rows("select address from audit_log")} - {None}
        assert addresses == {"203.0.113.9"}


async def test_behind_https_the_cookies_are_secure_and_of_this_host_only(database_url):
    access = read_access(trusted_proxies=["203.0.113.0/24"])
    async with accounts_server(database_url, access=access) as server, server.browser() as browser:
        await server.person()
        browser.headers["X-Forwarded-Proto"] = "https"
        page = await browser.get("/sign-in")
        assert page.headers["set-cookie"].startswith("__Host-leadstream-form=")
        assert "Secure" in page.headers["set-cookie"]
        token = re.search(r'csrf_token" value="(\w+)"', page.text)[1]
        form = page.headers["set-cookie"].partition(";")[0]
        fields = {"email": "sara@acme.example", "password": PASSWORD, "csrf_token": token}
        answer = await browser.post("/sign-in", data=fields, headers={"Cookie": form})
        session = next(
            each
            for each in answer.headers.get_list("set-cookie")
            if each.startswith("__Host-leadstream-session")
        )
        assert {"Secure", "HttpOnly", "Path=/", "SameSite=lax"} <= set(session.split("; "))
        plain = session.partition(";")[0].removeprefix("__Host-")
        assert (await browser.get("/api/session", headers={"Cookie": plain})).status_code == 401


async def test_huge_and_strange_forms_are_refused_cheaply(database_url):
    async with accounts_server(database_url) as server, server.browser() as browser:
        await server.person()
        assert (await sign_in(browser, password="x" * 100_000)).status_code == 413
        assert (await sign_in(browser, password="x" * 5_000)).status_code == 403
        for body in (b"\xff\xfe=1", b"&".join(b"a=1" for _ in range(100)), b""):
            assert (await browser.post("/sign-in", content=body)).status_code in {403, 422}
        assert (await sign_in(browser, email="x" * 4_000 + "@acme.example")).status_code == 403
        assert (await sign_in(browser, email="sara\0@acme.example")).status_code == 403


async def test_the_page_shows_no_markup_of_others_and_works_without_a_script(database_url):
    async with accounts_server(database_url) as server, server.browser() as browser:
        await server.person()
        page = await browser.get("/sign-in", params={"next": '/"><script>alert(1)</script>'})
        assert "<script" not in page.text
        assert "default-src 'none'" in page.headers["content-security-policy"]
        assert "form-action 'self'" in page.headers["content-security-policy"]


@pytest.mark.parametrize(
    "target",
    [
        "//evil.example",
        "/\\evil.example",
        "https://evil.example",
        "javascript:alert(1)",
        "/\t/evil",
        "",
        "x",
        "/é",
    ],
)
def test_a_sign_in_leads_nowhere_else(target):
    assert _own_address(target) == "/"


def test_a_sign_in_leads_on_within_this_server():
    assert _own_address("/?band=hot") == "/?band=hot"


def test_addresses_of_one_household_are_one():
    assert address_subject("2001:db8:1:2::1") == address_subject("2001:db8:1:2:ffff::9")
    assert address_subject("::ffff:203.0.113.9") == address_subject("203.0.113.9")
    assert address_subject("nonsense") == "address:unknown"
