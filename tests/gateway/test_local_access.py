"""Whom a server without keys takes for somebody on this machine."""

import os
import pwd
import socket

import pytest
from starlette.requests import HTTPConnection

from gateway import local_access
from gateway.local_access import sign_of_other_machine


def request(peer="127.0.0.1", method="POST", http_version="1.1", client_port=1, server=None, **headers):
    named = {"host": "127.0.0.1:8000"} | {name.replace("_", "-"): value for name, value in headers.items()}
    return HTTPConnection(
        {
            "type": "http",
            "method": method,
            "http_version": http_version,
            "client": (peer, client_port),
            "server": server,
            "headers": [(name.encode(), value.encode()) for name, value in named.items()],
        }
    )


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"host": "localhost:8000"},
        {"host": "LOCALHOST"},
        {"host": "[::1]:8000", "peer": "::1"},
        {"peer": "::ffff:127.0.0.1"},
        {"peer": "127.4.5.6"},
        {"origin": "http://127.0.0.1:8000"},
        {"origin": "http://127.0.0.1:8000", "sec_fetch_site": "same-origin"},
        {"sec_fetch_site": "none", "sec_fetch_mode": "navigate"},
        {"method": "GET", "sec_fetch_site": "cross-site", "sec_fetch_mode": "navigate"},
        {"user_agent": "curl/8.0", "accept": "*/*"},
    ],
)
def test_people_and_pages_of_this_machine_are_welcome(given):
    assert sign_of_other_machine(request(**given)) is None


@pytest.mark.parametrize(
    "name",
    [
        "X-Forwarded-For",
        "X-Forwarded-Proto",
        "X-Forwarded-Host",
        "X-Forwarded",
        "Forwarded",
        "X-Real-IP",
        "Via",
        "CF-Connecting-IP",
        "True-Client-IP",
        "X-Client-IP",
        "X-Original-Host",
        "X-Amzn-Trace-Id",
        "X-Envoy-External-Address",
        "X-Varnish",
        "Cf-Ray",
        "Forwarded-For",
        "Tailscale-User-Login",
        "X-Vercel-Id",
    ],
)
@pytest.mark.parametrize("value", ["203.0.113.9", "127.0.0.1", ""])
def test_any_sign_of_a_proxy_is_refused_whatever_it_says(name, value):
    assert name.lower() in sign_of_other_machine(request(**{name.lower(): value}))


@pytest.mark.parametrize(
    ("given", "sign"),
    [
        ({"peer": "203.0.113.9"}, "another machine"),
        ({"peer": "::ffff:203.0.113.9"}, "another machine"),
        ({"peer": ""}, "another machine"),
        ({"http_version": "1.0"}, "HTTP/1.0"),
        ({"http_version": "0.9"}, "HTTP/0.9"),
        ({"http_version": "2.0"}, "HTTP/2.0"),
        ({"host": "rebound.example:8000"}, "Host"),
        ({"host": "127.0.0.1.rebound.example"}, "Host"),
        ({"host": "localhost.rebound.example:8000"}, "Host"),
        ({"host": "127.0.0.1:8000@rebound.example"}, "Host"),
        ({"host": ""}, "Host"),
        ({"host": "["}, "Host"),
        ({"origin": "http://127.0.0.1:3000"}, "Origin"),
        ({"origin": "http://localhost:8000"}, "Origin"),
        ({"origin": "https://127.0.0.1:8000"}, "Origin"),
        ({"origin": "http://[::1"}, "Origin"),
        ({"origin": "null"}, "Origin"),
        ({"origin": ""}, "Origin"),
        ({"method": "GET", "origin": "http://127.0.0.1:3000"}, "Origin"),
        ({"sec_fetch_site": "same-site"}, "Sec-Fetch-Site"),
        ({"sec_fetch_site": "cross-site", "sec_fetch_mode": "no-cors"}, "Sec-Fetch-Site"),
        ({"method": "DELETE", "sec_fetch_site": "same-site"}, "Sec-Fetch-Site"),
    ],
)
def test_other_machines_names_and_pages_are_refused_with_what_shows_them(given, sign):
    assert sign in sign_of_other_machine(request(**given))


FAMILIES = {"127.0.0.1": socket.AF_INET, "::1": socket.AF_INET6, "::ffff:127.0.0.1": socket.AF_INET6}


def asked_as(account, host="127.0.0.1"):
    """What is said of a connection whose other end belongs to that account."""
    here = host.removeprefix("::ffff:")
    with (
        socket.create_server((here, 0), family=FAMILIES[here]) as port,
        socket.socket(FAMILIES[host]) as client,
    ):
        os.fchown(client.fileno(), account, -1)
        client.connect((host, port.getsockname()[1]))
        accepted, peer = port.accept()
        with accepted:
            return sign_of_other_machine(
                request(peer=peer[0], client_port=peer[1], server=accepted.getsockname()[:2])
            )


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give a socket away")
@pytest.mark.parametrize("host", FAMILIES)
def test_a_service_account_is_taken_for_a_proxy_and_a_persons_is_not(host):
    nobody = pwd.getpwnam("nobody").pw_uid
    assert f"service account {nobody}" in asked_as(nobody, host)
    assert "service account 33" in asked_as(33, host)
    assert asked_as(1000, host) is None
    assert asked_as(0, host) is None


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give a socket away")
def test_ones_own_service_account_is_no_stranger(monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 33)
    assert asked_as(33) is None


def test_where_the_kernel_does_not_say_nobody_is_taken_for_a_service(monkeypatch):
    assert local_access._account_of_client(("127.0.0.1", 1), ("127.0.0.1", 1)) is None
    assert local_access._account_of_client(("testclient", 1), ("127.0.0.1", 1)) is None
