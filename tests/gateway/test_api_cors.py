"""Pages of other origins and the API: only those that a setting names."""

import asyncio

import httpx
import pytest

from gateway.access import read_access
from gateway.accounts.account_settings import read_origins
from gateway.app import create_app
from gateway.ports import Ports
from leadstream.settings import SettingError, read_settings
from tests.gateway.route_table import no_log

OURS, FOREIGN = "https://app.example", "https://evil.example"
TOKEN = "token-that-reads"


def answers(*requests, origins=(OURS,), credentials=False):
    ports = Ports(
        append=no_log,
        database_url="",
        access=read_access(["acme:a-write-key"], [f"acme:read:{TOKEN}"]),
        cors_origins=origins,
        cors_credentials=credentials,
    )

    async def ask():
        transport = httpx.ASGITransport(create_app(ports), raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="https://leads.example") as http:
            return [
                await http.request(method, path, headers={"Origin": origin, **more})
                for method, path, origin, more in requests
            ]

    return asyncio.run(ask())


def preflight(path, origin, method="GET"):
    wanted = {"Access-Control-Request-Method": method, "Access-Control-Request-Headers": "authorization"}
    return ("OPTIONS", path, origin, wanted)


def allowed_origin(answer):
    return answer.headers.get("access-control-allow-origin")


def test_a_page_of_a_named_origin_may_call_the_api_and_read_refusals():
    token = {"Authorization": f"Bearer {TOKEN}"}
    ask, good, bare = answers(
        preflight("/api/inspector/events", OURS),
        ("GET", "/api/inspector/events", OURS, token),
        ("GET", "/api/inspector/events", OURS, {}),
    )
    assert ask.status_code == 200
    assert "authorization" in ask.headers["access-control-allow-headers"].lower()
    assert (good.status_code, bare.status_code) == (200, 401)
    assert {allowed_origin(each) for each in (ask, good, bare)} == {OURS}
    assert not any("access-control-allow-credentials" in each.headers for each in (ask, good, bare))


@pytest.mark.parametrize("origin", [FOREIGN, "null", f"{OURS}.evil.example", "http://app.example"])
def test_a_page_of_another_origin_reads_nothing(origin):
    for answer in answers(
        preflight("/api/leads", origin), ("GET", "/api/leads", origin, {"Authorization": f"Bearer {TOKEN}"})
    ):
        assert allowed_origin(answer) is None


def test_without_the_setting_the_api_answers_no_other_origin():
    for answer in answers(preflight("/api/leads", OURS), ("GET", "/api/leads", OURS, {}), origins=()):
        assert allowed_origin(answer) is None


def test_the_door_answers_pages_of_all_sites_as_before():
    refused, ask = answers(
        ("POST", "/v1/events", FOREIGN, {}), preflight("/api/session/start", FOREIGN, "POST")
    )
    assert allowed_origin(refused) == FOREIGN
    assert allowed_origin(ask) == FOREIGN


def test_every_origin_is_answered_without_credentials():
    [answer] = answers(
        ("GET", "/api/experiments", FOREIGN, {"Authorization": f"Bearer {TOKEN}"}), origins=("*",)
    )
    assert allowed_origin(answer) == "*"
    assert "access-control-allow-credentials" not in answer.headers


def test_credentials_are_allowed_to_named_origins_only():
    ours, foreign = answers(
        ("GET", "/api/leads", OURS, {}), ("GET", "/api/leads", FOREIGN, {}), credentials=True
    )
    assert ours.headers["access-control-allow-credentials"] == "true"
    assert allowed_origin(foreign) is None


@pytest.mark.parametrize("origins", ["*", ""])
def test_every_origin_with_credentials_is_refused_at_the_start(origins):
    with pytest.raises(SettingError, match="LEADSTREAM_CORS_CREDENTIALS: on needs the origins by name"):
        read_settings(cors_origins=origins, cors_credentials="on")


@pytest.mark.parametrize(
    "text",
    [
        "app.example",
        "https://app.example/path",
        "https://*.example",
        "ftp://x",
        "https://u:p@x",
        "https://x:port",
        "null",
    ],
)
def test_what_is_no_origin_is_refused(text):
    with pytest.raises(ValueError, match="is no origin"):
        read_origins([text])


def test_origins_are_written_as_browsers_send_them():
    assert read_origins(["https://APP.example:443/", "http://localhost:3000", "https://[::1]:8443"]) == (
        "https://app.example",
        "http://localhost:3000",
        "https://[::1]:8443",
    )


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"oidc_issuer": "https://login.example"}, "LEADSTREAM_OIDC_CLIENT_ID"),
        ({"oidc_client_id": "x"}, "LEADSTREAM_OIDC_ISSUER"),
        ({"oidc_issuer": "http://login.example", "oidc_client_id": "x"}, "https://"),
        ({"identity_secrets": "acme:short"}, "LEADSTREAM_IDENTITY_SECRETS: identity secret 1"),
    ],
)
def test_a_wrong_setting_of_access_names_itself(settings, reason):
    with pytest.raises(SettingError, match=reason):
        read_settings(**settings)


def test_with_required_keys_a_server_may_listen_to_others_and_is_never_open():
    settings = read_settings(host="0.0.0.0", keys_required="on")
    assert not settings.served_access.is_open
    assert read_settings().served_access.is_open
