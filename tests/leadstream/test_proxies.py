"""A real nginx and a real Caddy with the configurations of deploy/, before a real server; and a plain nginx before
one without keys.
"""

import json
import os
import re
import shutil
import socket
import ssl
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
from command_line import Server, leadstream, serving_once

from tests.ports import free_port

ROOT = Path(__file__).parents[2]
NAME = "leads.example.com"
WRITE_KEY = {"X-Write-Key": "a-public-key"}
TOKEN = {"Authorization": "Bearer a-secret-token"}
CLIENT = "127.0.0.5"
"""Another address than the proxy's own."""
STARTING_SECONDS = 60

pytestmark = [
    pytest.mark.postgres,
    pytest.mark.slow,
    pytest.mark.skipif(
        not all(map(shutil.which, ("nginx", "caddy", "openssl"))), reason="needs nginx, Caddy and openssl"
    ),
]


class Certificate(NamedTuple):
    file: Path
    key: Path


@pytest.fixture(scope="module")
def directory() -> Iterator[Path]:
    """Workers of nginx have an account of their own, which must get in."""
    made = Path(tempfile.mkdtemp(prefix="leadstream-proxies-"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


@pytest.fixture(scope="module")
def certificate(directory: Path) -> Certificate:
    made = Certificate(directory / "certificate.pem", directory / "key.pem")
    subprocess.run(
        [
            *(
                "openssl",
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:prime256v1",
                "-nodes",
            ),
            *("-days", "2", "-subj", f"/CN={NAME}", "-addext", f"subjectAltName=DNS:{NAME}"),
            *("-keyout", made.key, "-out", made.file),
        ],
        check=True,
        capture_output=True,
    )
    return made


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving_once(
        tmp_path_factory,
        LEADSTREAM_WRITE_KEYS="default:a-public-key",
        LEADSTREAM_API_TOKENS="default:read+write:a-secret-token",
        LEADSTREAM_TRUSTED_PROXIES="127.0.0.1",
        LEADSTREAM_PUBLIC_URL=f"https://{NAME}",
    ) as running:
        yield running


@pytest.fixture(scope="module")
def open_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving_once(tmp_path_factory) as running:
        yield running


def adapted(text: str, changes: dict[str, str]) -> str:
    """The committed configuration with the ports and files of the test, and nothing else changed."""
    for old, new in changes.items():
        assert old in text, f"{old!r} is not in the configuration"
        text = text.replace(old, new)
    return text


@contextmanager
def running(command: Sequence[str | Path], port: int, log: Path, **environment: str) -> Iterator[None]:
    with log.open("ab") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, env=os.environ | environment)
    try:
        deadline = time.monotonic() + STARTING_SECONDS
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                said = log.read_text(encoding="utf-8")
                assert process.poll() is None, said
                assert time.monotonic() < deadline, said
                time.sleep(0.05)
        yield
    finally:
        process.terminate()
        process.wait(STARTING_SECONDS)


@contextmanager
def nginx(directory: Path, http: str, port: int) -> Iterator[Path]:
    """With `http` in its block of that name; its directory, where its logs are."""
    own = Path(tempfile.mkdtemp(dir=directory))
    own.chmod(0o755)
    temporary = "".join(
        f"{kind}_temp_path {own}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (own / "nginx.conf").write_text(
        f"daemon off;\npid {own}/pid;\nworker_processes 1;\nevents {{ worker_connections 512; }}\n"
        f"http {{\naccess_log off;\n{temporary}{http}\n}}\n",
        encoding="utf-8",
    )
    command = ["nginx", "-p", own, "-e", own / "log", "-c", own / "nginx.conf"]
    with running(command, port, own / "log"):
        yield own


@contextmanager
def caddy(directory: Path, configuration: str, port: int) -> Iterator[Path]:
    own = Path(tempfile.mkdtemp(dir=directory))
    (own / "Caddyfile").write_text(configuration, encoding="utf-8")
    command = ["caddy", "run", "--adapter", "caddyfile", "--config", own / "Caddyfile"]
    with running(command, port, own / "log", HOME=str(own), XDG_DATA_HOME=str(own), XDG_CONFIG_HOME=str(own)):
        yield own


@pytest.fixture(scope="module", params=["nginx", "caddy"])
def proxied(
    request: pytest.FixtureRequest, directory: Path, certificate: Certificate, server: Server
) -> Iterator[httpx.Client]:
    """A client of the proxy, over TLS that it checks, from an address of its own."""
    port, plain, upstream = free_port(), free_port(), server.client.base_url.port
    if request.param == "nginx":
        text = (ROOT / "deploy/nginx/leadstream.conf").read_text(encoding="utf-8")
        text = adapted(
            text,
            {
                "server 127.0.0.1:8000;": f"server 127.0.0.1:{upstream};",
                "listen 80;": f"listen 127.0.0.1:{plain};",
                "listen 443 ssl;": f"listen 127.0.0.1:{port} ssl;",
                f"/etc/ssl/{NAME}.pem": str(certificate.file),
                f"/etc/ssl/{NAME}.key": str(certificate.key),
                "/var/log/nginx/leadstream.log": f"{directory}/nginx.log",
            },
        )
        started = nginx(directory, text, port)
    else:
        text = (ROOT / "deploy/caddy/Caddyfile").read_text(encoding="utf-8")
        text = adapted(
            text,
            {
                "127.0.0.1:8000": f"127.0.0.1:{upstream}",
                "\n{\n": f"\n{{\n\tadmin off\n\thttp_port {plain}\n\thttps_port {port}\n",
                f"\n{NAME} {{\n": f"\n{NAME} {{\n\ttls {certificate.file} {certificate.key}\n",
            },
        )
        started = caddy(directory, text, port)
    trusted = ssl.create_default_context(cafile=str(certificate.file))
    with (
        started,
        httpx.Client(
            base_url=f"https://{NAME}:{port}",
            transport=ToLoopback(verify=trusted, local_address=CLIENT),
            timeout=60,
        ) as client,
    ):
        yield client


class ToLoopback(httpx.HTTPTransport):
    """Names lead to this machine, and TLS is still checked for them."""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        request.extensions["sni_hostname"] = request.url.host
        request.url = request.url.copy_with(host="127.0.0.1")
        return super().handle_request(request)


def event(event_id: str, **given: Any) -> dict[str, Any]:
    return {"type": "page_viewed", "visitor_id": "browser-1", "event_id": event_id, **given}


def address_of(server: Server, event_id: str) -> str | None:
    done = leadstream("export", "-", "--data-dir", server.data_dir)
    assert done.returncode == 0, done.stderr.decode()
    (found,) = (each for each in map(json.loads, done.stdout.splitlines()) if each["event_id"] == event_id)
    return found["context"]["ip"]


def test_keys_are_asked_for(proxied: httpx.Client):
    assert proxied.post("/v1/events", json=event("k1")).status_code == 401
    assert proxied.get("/api/leads").status_code == 401
    assert proxied.post("/v1/events", json=event("k2"), headers=WRITE_KEY).status_code == 200
    assert proxied.get("/api/leads", headers=TOKEN).status_code == 200
    assert proxied.get("/health").status_code == 200


def test_the_clients_address_is_its_own_whatever_it_says_of_itself(proxied: httpx.Client, server: Server):
    spoofed = {
        "User-Agent": "Mozilla/5.0 (X11; Linux x86_64; rv:130.0) Gecko/20100101 Firefox/130.0",
        "X-Forwarded-For": "198.51.100.7, 127.0.0.1",
        "X-Real-IP": "198.51.100.7",
        "Forwarded": "for=198.51.100.7",
        "X-Forwarded-Proto": "gopher",
    }
    name = f"a-{proxied.base_url.port}"
    assert proxied.post("/v1/events", json=event(name), headers=WRITE_KEY | spoofed).status_code == 200
    assert address_of(server, name) == CLIENT
    direct = httpx.Client(
        base_url=server.client.base_url, transport=httpx.HTTPTransport(local_address=CLIENT)
    )
    with direct:
        sent = direct.post("/v1/events", json=event(f"{name}-direct"), headers=WRITE_KEY | spoofed)
    assert sent.status_code == 200
    assert address_of(server, f"{name}-direct") == CLIENT


def test_a_body_within_the_limit_passes_and_a_larger_one_is_refused(proxied: httpx.Client):
    filling = [event(f"b-{number}", extra={"text": "x" * 9_000}) for number in range(105)]
    assert len(json.dumps(filling)) < 1_000_000
    assert proxied.post("/v1/events", json=filling, headers=WRITE_KEY).status_code == 200
    refused = proxied.post("/v1/events", content=b"x" * 1_200_000, headers=WRITE_KEY)
    assert refused.status_code == 413


def test_a_what_if_comes_line_by_line(proxied: httpx.Client):
    draft = {"text": (ROOT / "scoring/models/rules.toml").read_text(encoding="utf-8")}
    headers = TOKEN | {"Accept": "application/x-ndjson"}
    with proxied.stream("POST", "/api/models/rules/what-if", json=draft, headers=headers) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("application/x-ndjson")
        lines = [json.loads(line) for line in answer.iter_lines()]
    assert len(lines) >= 2


def test_a_large_head_is_refused_before_the_gateway(proxied: httpx.Client):
    assert proxied.get("/health", headers={"X-Long": "a" * 60_000}).status_code in {400, 431}
    assert proxied.get("/health").status_code == 200


def test_the_inlet_for_commands_is_shut_and_plain_http_leads_to_https(proxied: httpx.Client, server: Server):
    note = json.loads((server.data_dir / "server.json").read_text(encoding="utf-8"))
    secret = {"Authorization": f"Bearer {note['secret']}"}
    assert server.client.post("/internal/append", headers=secret, content=b"\x90").status_code == 200
    assert proxied.post("/internal/append", headers=secret, content=b"\x90").status_code == 404
    assert "max-age" in proxied.get("/health").headers["strict-transport-security"]


def test_no_key_is_logged(proxied: httpx.Client, directory: Path):
    assert proxied.post("/v1/events?write_key=a-public-key", json=event("logged")).status_code == 200
    assert proxied.post("/v1/events", json=event("logged"), headers=WRITE_KEY).status_code == 200
    assert proxied.get("/api/leads", headers=TOKEN).status_code == 200
    logs = [path for path in directory.rglob("*") if path.is_file() and "log" in path.name]
    assert logs
    secrets = ("a-public-key", "a-secret-token")
    assert not [path for path in logs if any(each in path.read_text(errors="replace") for each in secrets)]


def test_caddy_logs_no_write_key_when_the_gateway_is_away(directory: Path):
    plain, port = free_port(), free_port()
    text = (ROOT / "deploy/caddy/Caddyfile").read_text(encoding="utf-8")
    changes = {
        "127.0.0.1:8000": f"127.0.0.1:{free_port()}",
        "\n{\n": f"\n{{\n\tadmin off\n\thttp_port {plain}\n\thttps_port {port}\n",
        f"\n{NAME} {{\n": f"\nhttp://{NAME}:{plain} {{\n",
    }
    with caddy(directory, adapted(text, changes), plain) as own, httpx.Client() as client:
        address = f"http://127.0.0.1:{plain}/v1/events?write_key=a-public-key"
        sent = client.post(address, json=event("lost"), headers=WRITE_KEY | {"Host": NAME})
        assert sent.status_code == 502
    log = (own / "log").read_text(encoding="utf-8")
    assert "/v1/events" in log
    assert "a-public-key" not in log


PLAIN = (
    "server {{ listen 127.0.0.1:{port}; location / {{ {inside} proxy_pass http://127.0.0.1:{upstream}; }} }}"
)
VARIANTS = {
    "plain": "",
    "with its host": "proxy_set_header Host $host:$server_port;",
    "real ip": "proxy_http_version 1.1; proxy_set_header X-Real-IP $remote_addr;",
    "hidden": 'proxy_http_version 1.1; proxy_set_header Connection "";',
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_without_keys_nobody_is_served_through_nginx(open_server: Server, directory: Path, variant: str):
    if variant == "hidden" and os.geteuid() != 0:
        pytest.skip("nginx's workers have an account of their own only where root starts it")
    port, upstream = free_port(), open_server.client.base_url.port
    inside = PLAIN.format(port=port, upstream=upstream, inside=VARIANTS[variant])
    with nginx(directory, inside, port), httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
        for method, path in (("GET", "/api/leads"), ("GET", "/metrics"), ("POST", "/v1/events")):
            answer = client.request(method, path, json=event("through") if method == "POST" else None)
            assert answer.status_code == 403
            assert "LEADSTREAM_WRITE_KEYS" in answer.json()["error"]["reason"]
    assert open_server.client.get("/api/leads").json()["leads"] == []


def test_without_keys_nobody_is_served_through_caddy(open_server: Server, directory: Path):
    port, upstream = free_port(), open_server.client.base_url.port
    text = (
        f"{{\n\tadmin off\n}}\nhttp://127.0.0.1:{port} {{\n\treverse_proxy 127.0.0.1:{upstream} {{\n"
        "\t\theader_up Host {upstream_hostport}\n\t}\n}\n"
    )
    with caddy(directory, text, port), httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
        assert client.get("/api/leads").status_code == 403
        assert client.post("/v1/events", json=event("through")).status_code == 403
    assert open_server.client.get("/api/leads").status_code == 200


def test_the_documents_say_what_the_configurations_rely_on():
    page = (ROOT / "docs/proxies.md").read_text(encoding="utf-8")
    for path in ("deploy/nginx/leadstream.conf", "deploy/caddy/Caddyfile"):
        assert path in page
    assert re.search(r"LEADSTREAM_TRUSTED_PROXIES=127\.0\.0\.1", page)
