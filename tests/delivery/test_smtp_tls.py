"""E-mail over encrypted connections, with a password: the certificate must be trusted, and a wrong password is said so."""

import asyncio
import ssl
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import NamedTuple

import pytest
from aiosmtpd.smtp import AuthResult
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from outboxes import configured
from receivers import MailServer

from delivery.outcomes import DeliveryFailedError
from delivery.sending import send_sample

NOW = datetime(2026, 1, 1, tzinfo=UTC)


class Certificate(NamedTuple):
    file: Path
    context: ssl.SSLContext


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    """Of 127.0.0.1, signed by itself."""
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=True)
        .sign(key, hashes.SHA256())
    )
    folder = tmp_path_factory.mktemp("certificate")
    file = folder / "certificate.pem"
    file.write_bytes(made.public_bytes(Encoding.PEM))
    private = folder / "key.pem"
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(file, private)
    return Certificate(file, context)


def authenticator(_server, _session, _envelope, _mechanism, data):
    return AuthResult(success=(data.login, data.password) == (b"leads", b"hunter2"), handled=False)


def send(server: MailServer, security: str, ca_file: Path | None, password: str = "hunter2") -> None:
    text = f"""
    [channels.email]
    type = "email"
    server = "127.0.0.1"
    port = {server.port}
    security = "{security}"
    sender = "leads@example.com"
    recipients = ["sales@example.com"]
    username = "leads"
    password = "env:PASSWORD"
    """
    if ca_file is not None:
        text += f'ca_file = "{ca_file}"\n'
    asyncio.run(send_sample(configured(text, PASSWORD=password), "email", NOW))


@pytest.fixture
def starttls_server(certificate):
    with MailServer(
        tls_context=certificate.context, require_starttls=True, authenticator=authenticator
    ) as server:
        yield server


def test_starttls_and_then_the_password(starttls_server, certificate):
    send(starttls_server, "starttls", certificate.file)
    assert len(starttls_server.messages) == 1


def test_a_certificate_that_nobody_trusts_gets_no_password(starttls_server):
    with pytest.raises(DeliveryFailedError, match="cannot be reached"):
        send(starttls_server, "starttls", None)
    assert starttls_server.messages == []


def test_a_wrong_password_is_said_so_and_never_repeated(starttls_server, certificate):
    with pytest.raises(DeliveryFailedError, match=r"refuses the password \(535\)") as failure:
        send(starttls_server, "starttls", certificate.file, "swordfish")
    assert "swordfish" not in failure.value.reason


def test_ssl_from_the_first_byte(certificate):
    with MailServer(
        ssl_context=certificate.context, authenticator=authenticator, auth_require_tls=False
    ) as server:
        send(server, "ssl", certificate.file)
        assert len(server.messages) == 1


def test_a_server_without_starttls_gets_nothing(certificate):
    with MailServer() as server, pytest.raises(DeliveryFailedError, match="STARTTLS"):
        send(server, "starttls", certificate.file)
