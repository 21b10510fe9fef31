"""One HTTP request to an address of the configuration. Redirects are not followed, and answers are read up to a bound."""

import logging
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

import httpx
import msgspec

from delivery.outcomes import DeliveryFailedError, DeliveryRejectedError, retry_after_of, unreachable
from schemas.broken_text import repair_broken_text

MOST_ANSWER_BYTES: Final = 1_000_000
PASSING_STATUSES: Final = frozenset({408, 409, 421, 423, 425, 429})
"""Refusals that a repetition may turn into success, besides 5xx."""


class HttpAnswer(NamedTuple):
    status: int
    body: bytes

    def json(self) -> Any:
        """Raises DeliveryFailedError."""
        try:
            return msgspec.json.decode(repair_broken_text(self.body))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise DeliveryFailedError(f"the answer (status {self.status}) is not JSON") from None


def http_client(seconds: float) -> httpx.AsyncClient:
    for library in ("httpx", "httpcore"):
        logging.getLogger(library).setLevel(
            logging.WARNING
        )  # below, they log addresses, which may contain secrets
    return httpx.AsyncClient(
        follow_redirects=False,
        timeout=seconds,
        headers={"user-agent": "Leadstream", "accept-encoding": "identity"},
        limits=httpx.Limits(max_connections=50, max_keepalive_connections=10),
    )


def check_address(url: str) -> None:
    """Raises ValueError, which does not repeat the address: it may contain a secret."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
    except ValueError:
        usable = False
    else:
        if parts.username is not None or parts.password is not None:
            raise ValueError("a user name or password in an address is not supported")
    if not usable or not url.isascii() or any(character <= " " for character in url):
        raise ValueError("it is not an address (https://HOST/PATH)")


async def request(
    http: httpx.AsyncClient,
    method: str,
    url: str,
    now: datetime,
    *,
    what: str,
    headers: Mapping[str, str],
    body: bytes | None = None,
    parameters: Mapping[str, str] | None = None,
) -> HttpAnswer:
    """The answer, if its status is 2xx. Raises DeliveryError: `what` names the receiver in its reason."""
    try:
        async with http.stream(
            method, url, headers=dict(headers), content=body, params=dict(parameters) if parameters else None
        ) as response:
            received = bytearray()
            async for part in response.aiter_raw():  # a packed answer could be of any size
                received += part
                if len(received) > MOST_ANSWER_BYTES:
                    break
    except httpx.TimeoutException:
        raise DeliveryFailedError(f"{what} did not answer in time") from None
    except (httpx.HTTPError, httpx.StreamError, OSError, ValueError) as cause:
        raise unreachable(what, cause) from None
    status = response.status_code
    if 200 <= status < 300:
        return HttpAnswer(status, bytes(received))
    if status in PASSING_STATUSES or status >= 500:
        raise DeliveryFailedError(
            f"{what} answers with status {status}", retry_after=retry_after_of(response.headers, now)
        )
    redirected = "; redirects are not followed" if 300 <= status < 400 else ""
    raise DeliveryRejectedError(f"{what} answers with status {status}{redirected}", status=status)
