"""People over the API: entered, changed, disabled and given passwords by an administrator, on a real database."""

import json

import pytest

from tests.gateway.accounts_server import PASSWORD, accounts_server, bearer, sign_in, who

pytestmark = pytest.mark.anyio

NEW = {"email": "Ben@Acme.example", "name": "Ben", "role": "sales", "password": PASSWORD}


async def test_an_administrator_enters_changes_and_disables_people_and_all_of_it_is_audited(database_url):
    async with accounts_server(database_url) as server, server.browser() as http, server.browser() as browser:
        admin = bearer((await server.key("admin")).secret)
        made = await http.post("/api/users", json=NEW, headers=admin)
        ben = made.json()["user"]
        assert (made.status_code, ben["email"], ben["role"]) == (201, "ben@acme.example", "sales")
        assert made.json()["password"] is None
        assert (await http.post("/api/users", json=NEW, headers=admin)).status_code == 409
        await sign_in(browser, "ben@acme.example")
        assert (await who(browser))["role"] == "sales"

        address = f"/api/users/{ben['id']}"
        await http.patch(address, json={"role": "marketer"}, headers=admin)
        assert (await who(browser))["role"] == "marketer", "it counts from the next request on"
        gone = await http.patch(f"{address}/", json={"disabled": True}, headers=admin)
        assert gone.json()["user"]["disabled_at"]
        assert await who(browser) is None
        await http.patch(address, json={"disabled": False}, headers=admin)
        await sign_in(browser, "ben@acme.example")
        assert await who(browser)

        reset = await http.post(f"{address}/password", headers=admin)
        password = reset.json()["password"]
        assert await who(browser) is None, "all sessions end"
        await sign_in(browser, "ben@acme.example", password)
        assert await who(browser)
        own = await http.post(f"{address}/password", json={"password": PASSWORD}, headers=admin)
        assert own.json()["password"] is None

        invited = await http.post(
            "/api/users", json={"email": "eve@acme.example", "generate_password": True}, headers=admin
        )
        by_provider = await http.post("/api/users", json={"email": "oidc@acme.example"}, headers=admin)
        assert by_provider.json()["user"]["signs_in_by"] == ["openid_connect"]
        listed = (await http.get("/api/users/", headers=admin)).json()["users"]
        assert [each["email"] for each in listed] == [
            "ben@acme.example", "eve@acme.example", "oidc@acme.example"
        ]  # fmt: skip
        entries = (await http.get("/api/audit?action=user.", headers=admin)).json()["entries"]
        assert [each["action"] for each in reversed(entries)] == [
            "user.create", "user.set-role", "user.disable", "user.enable", "user.set-password",
            "user.set-password", "user.create", "user.create",
        ]  # fmt: skip
        assert all(each["actor"].startswith("key:") for each in entries)
        stored = json.dumps(
            server.rows("select * from users") + server.rows("select * from audit_log"), default=str
        )
        for secret in (password, invited.json()["password"], PASSWORD):
            assert len(secret) >= 12
            assert secret not in stored + json.dumps(listed)


WRONG = [
    ({"email": "nobody"}, "email"),
    ({"email": "a@acme.example\r\nBcc: b@acme.example"}, "email"),
    (NEW | {"role": "root"}, "role"),
    (NEW | {"name": "x\u202e"}, "name"),
    (NEW | {"password": "short"}, "password"),
    (NEW | {"password": "ben " * 5}, "password"),
    (NEW | {"generate_password": True}, "generate_password"),
    (NEW | {"tenant": "globex"}, "tenant"),
]


async def test_what_is_wrong_is_refused_with_its_field_and_enters_nobody(database_url):
    async with accounts_server(database_url) as server, server.browser() as http:
        admin = bearer((await server.key("admin")).secret)
        for body, field in WRONG:
            answer = await http.post("/api/users", json=body, headers=admin)
            assert (answer.status_code, answer.json()["error"]["field"]) == (422, field), body
        assert (await http.get("/api/users", headers=admin)).json() == {"users": []}


async def test_a_password_is_in_no_row_of_the_audit_log_also_if_it_could_not_be_set(database_url):
    async with accounts_server(database_url) as server, server.browser() as http:
        admin = bearer((await server.key("admin")).secret)
        server.app.state.accounts.passwords._running = 1_000  # as if a thousand people signed in
        assert (await http.post("/api/users", json=NEW, headers=admin)).status_code == 503
        entries = (await http.get("/api/audit?outcome=failed", headers=admin)).json()["entries"]
        assert [each["action"] for each in entries] == ["POST /api/users"]
        assert PASSWORD not in json.dumps(server.rows("select * from audit_log"), default=str)


async def test_people_of_another_tenant_are_absent_and_others_may_not_look(database_url):
    async with accounts_server(database_url) as server, server.browser() as http:
        ours, theirs = await server.key("admin"), await server.person("eve@globex.example", tenant="globex")
        author = await server.key("author")
        assert (await http.get("/api/users", headers=bearer(author.secret))).status_code == 403
        assert (await http.get("/api/users", headers=bearer(ours.secret))).json() == {"users": []}
        for method, end, body in (("PATCH", "", {"role": "admin"}), ("POST", "/password", {})):
            answers = [
                await http.request(method, f"/api/users/{each}{end}", json=body, headers=bearer(ours.secret))
                for each in (theirs["user_id"], "0" * 12)
            ]
            assert [each.status_code for each in answers] == [404, 404]
            assert answers[0].text == answers[1].text


async def test_an_administrator_does_not_shut_out_the_own_account_by_a_slip(database_url):
    async with accounts_server(database_url) as server, server.browser() as browser:
        me = await server.person("sara@acme.example", role="admin")
        await sign_in(browser)
        token = {"X-CSRF-Token": (await browser.get("/api/session")).json()["person"]["csrf_token"]}
        address = f"/api/users/{me['user_id']}"
        for body in ({"disabled": True}, {"role": "viewer"}):
            assert (await browser.patch(address, json=body, headers=token)).status_code == 409
        assert (await browser.patch(address, json={"role": "admin"}, headers=token)).status_code == 200
        assert (await browser.patch(address, json={"role": "viewer"})).status_code == 403, "without the token"
