"""Sign-in by OpenID Connect, at a real provider over HTTP."""

import re
import time
from base64 import urlsafe_b64encode
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx
import msgspec
import oidc_provider_mock
import pytest

from gateway.accounts import users
from gateway.accounts.account_settings import OidcSettings, checked_issuer
from gateway.accounts.oidc import UnderWay, _under_way
from gateway.answers import RequestProblem
from tests.gateway.accounts_server import HOST, accounts_server, sign_in, who

pytestmark = pytest.mark.anyio
CLIENT = "leadstream-client"


@pytest.fixture(scope="module")
def issuer():
    with oidc_provider_mock.run_server_in_thread() as server:
        yield f"http://localhost:{server.server_port}"


def enter(issuer, subject, **claims):
    httpx.put(f"{issuer}/users/{subject}", json=claims).raise_for_status()


def settings(issuer, client_id=CLIENT):
    return {"oidc": OidcSettings(issuer, client_id, "client-secret", "Acme login"), "public_url": HOST}


def at_provider(address, subject):
    """What the browser brings back from the provider's own page."""
    answer = httpx.post(address, data={"sub": subject})
    assert answer.status_code in {302, 303}, answer.text
    return answer.headers["location"]


async def begun(browser, then="/"):
    answer = await browser.get("/sign-in/oidc", params={"next": then})
    assert answer.status_code == 303, answer.text
    return answer.headers["location"]


def alert(answer):
    return re.search(r'role="alert">([^<]*)', answer.text)[1]


async def test_a_person_signs_in_at_the_provider_and_is_the_same_later_under_another_address(
    database_url, issuer
):
    enter(issuer, "sub-1", email="sara@acme.example", email_verified=True)
    async with accounts_server(database_url, **settings(issuer)) as server, server.browser() as browser:
        await server.person(password_hash=None)
        assert "Sign in with Acme login" in (await browser.get("/sign-in")).text
        address = await begun(browser, "/docs")
        query = parse_qs(urlsplit(address).query)
        assert query["code_challenge_method"] == ["S256"]
        assert {"state", "nonce", "code_challenge"} <= query.keys()
        answer = await browser.get(at_provider(address, "sub-1"))
        assert (answer.status_code, answer.headers["location"]) == (303, "/docs")
        assert (await who(browser))["email"] == "sara@acme.example"
        [row] = server.rows("select oidc_issuer, oidc_subject from users")
        assert row == {"oidc_issuer": issuer, "oidc_subject": "sub-1"}
        enter(issuer, "sub-1", email="sara.new@acme.example", email_verified=True)
        async with server.browser() as later:
            await later.get(at_provider(await begun(later), "sub-1"))
            assert (await who(later))["email"] == "sara@acme.example"
        enter(issuer, "sub-2", email="sara@acme.example", email_verified=True)
        async with server.browser() as another:
            refused = await another.get(at_provider(await begun(another), "sub-2"))
            assert refused.status_code == 403
            assert await who(another) is None


async def test_who_is_not_entered_not_verified_or_disabled_does_not_get_in(database_url, issuer):
    enter(issuer, "stranger", email="stranger@acme.example", email_verified=True)
    enter(issuer, "unverified", email="sara@acme.example", email_verified=False)
    enter(issuer, "disabled", email="dora@acme.example", email_verified=True)
    async with accounts_server(database_url, **settings(issuer)) as server:
        await server.person()
        await server.person(email="dora@acme.example")
        await server.run(
            lambda connection, author: users.disable_user(
                connection, author, "dora@acme.example", disabled=True
            )
        )
        for subject in ("stranger", "unverified", "disabled"):
            async with server.browser() as browser:
                answer = await browser.get(at_provider(await begun(browser), subject))
                assert answer.status_code == 403, subject
                assert "ask an administrator" in alert(answer)
                assert await who(browser) is None


async def test_an_answer_of_another_browser_or_used_twice_is_refused(database_url, issuer):
    enter(issuer, "sub-3", email="mara@acme.example", email_verified=True)
    async with (
        accounts_server(database_url, **settings(issuer)) as server,
        server.browser() as browser,
        server.browser() as victim,
    ):
        await server.person(email="mara@acme.example")
        answer = at_provider(await begun(browser), "sub-3")
        assert (await victim.get(answer)).status_code == 403  # it has begun nothing
        await begun(victim)
        assert (await victim.get(answer)).status_code == 403  # it has begun another one
        cookies = dict(browser.cookies)
        assert (await browser.get(answer)).status_code == 303
        browser.cookies.clear()
        for name, value in cookies.items():
            browser.cookies.set(name, value, domain="leads.example", path="/")
        assert (await browser.get(answer)).status_code == 403  # the code is spent
        refused = f"/sign-in/oidc/callback?{urlencode({'error': 'access_denied', 'state': 'x'})}"
        assert (await victim.get(refused)).status_code == 403


@pytest.mark.parametrize(
    ("begun_ago", "reason"),
    [(601, "has taken too long"), (-60, "has taken too long"), (None, "has begun no sign-in")],
)
def test_an_answer_that_comes_too_late_or_to_nobody_is_refused(begun_ago, reason):
    cookie = "bm9uc2Vuc2U="
    if begun_ago is not None:
        under_way = UnderWay("state", "nonce", "verifier", "/", int(time.time()) - begun_ago)
        cookie = urlsafe_b64encode(msgspec.json.encode(under_way)).decode()
    with pytest.raises(RequestProblem, match=reason):
        _under_way(cookie)


async def test_a_provider_that_does_not_answer_leaves_the_password(database_url):
    async with (
        accounts_server(database_url, **settings("http://localhost:9")) as server,
        server.browser() as browser,
    ):
        await server.person()
        answer = await browser.get("/sign-in/oidc")
        assert (answer.status_code, alert(answer)) == (502, "Acme login does not answer")
        assert (await sign_in(browser)).status_code == 303


async def test_without_a_provider_its_addresses_say_so(database_url):
    async with accounts_server(database_url) as server, server.browser() as browser:
        await server.person()
        for path in ("/sign-in/oidc", "/sign-in/oidc/callback?code=1&state=2"):
            assert (await browser.get(path)).status_code == 404


@pytest.mark.parametrize("issuer", ["http://login.example", "login.example", "ftp://x", "https://", ""])
def test_a_provider_that_others_could_listen_to_is_refused(issuer):
    with pytest.raises(ValueError, match="https://"):
        checked_issuer(issuer)
