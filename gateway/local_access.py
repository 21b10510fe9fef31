"""A server without keys serves only people on this machine, and the pages that it serves itself.

Refused are other machines, every sign of a proxy, other names of this server (DNS rebinding) and pages of any other
origin, be it another port of this machine. A proxy that hides all its signs is recognized by its account, where the kernel
says whose a connection is: a service account (www-data, caddy, nobody) that is not ours speaks for others.
docs/proxies.md says what cannot be recognized.
"""

import ipaddress
import os
import re
import time
from functools import lru_cache
from pathlib import Path

from starlette.requests import HTTPConnection

PROXY_HEADERS = frozenset(
    {
        "cdn-loop",
        "cf-ray",
        "cf-connecting-ip",
        "client-ip",
        "fastly-client-ip",
        "fly-client-ip",
        "fly-region",
        "forwarded",
        "forwarded-for",
        "front-end-https",
        "max-forwards",
        "proxy-authorization",
        "proxy-connection",
        "surrogate-capability",
        "true-client-ip",
        "via",
        "x-client-ip",
        "x-cloud-trace-context",
        "x-cluster-client-ip",
        "x-real-ip",
        "x-real-port",
        "x-remote-addr",
        "x-scheme",
        "x-varnish",
    }
)
PROXY_PREFIXES = (
    "x-forwarded",
    "x-original-",
    "x-envoy-",
    "tailscale-",
    "x-akamai-",
    "x-amz-cf-",
    "x-amzn-",
    "x-appengine-",
    "x-arr-",
    "x-azure-",
    "x-proxy",
    "x-vercel-",
)
LOCAL_HOST = re.compile(r"(?:localhost|127(?:\.[0-9]{1,3}){3}|\[::1\])(?::[0-9]{1,5})?", re.IGNORECASE)
READING_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
OWN_FETCH_SITES = frozenset({"same-origin", "none"})
"""Of Sec-Fetch-Site; none: a person typed the address."""

ACCOUNT_CACHE_SECONDS = 5
"""Far shorter than a port takes to be used again."""

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def sign_of_other_machine(request: HTTPConnection) -> str | None:
    """What shows that the request is of nobody on this machine; None: nothing does."""
    headers, scope = request.headers, request.scope
    hosts = headers.getlist("host")
    for name in headers:
        if name in PROXY_HEADERS or name.startswith(PROXY_PREFIXES):
            return f"{name} says that a proxy has passed it on"
    if (version := scope.get("http_version", "1.1")) != "1.1":
        return f"it came in HTTP/{version}, as from a proxy"
    if len(hosts) > 1 or not all(LOCAL_HOST.fullmatch(host) for host in hosts):
        return "its Host is none of this machine"
    if any(
        origin.lower() != f"http://{hosts[0] if hosts else ''}".lower()
        for origin in headers.getlist("origin")
    ):
        return "its Origin is a page of another server or port"
    if (
        scope.get("method") not in READING_METHODS
        and headers.get("sec-fetch-site", "none") not in OWN_FETCH_SITES
    ):
        return "Sec-Fetch-Site says that a page of another server or port sent it"
    if not _is_loopback(request.client.host if request.client else ""):
        return "it came from another machine"
    account = _account_of_client(
        scope.get("client"), scope.get("server"), int(time.monotonic() / ACCOUNT_CACHE_SECONDS)
    )
    if account is not None and _serves_others(account):
        return f"it came from the service account {account} of this machine, as from a proxy"
    return None


def _is_loopback(host: str) -> bool:
    address = ip_address_of(host)
    return address is not None and address.is_loopback


def ip_address_of(host: str) -> Address | None:
    """An IPv4 address that came by a socket of IPv6 is what it is."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def _serves_others(account: int) -> bool:
    """People have accounts from 1000 on; root may do everything anyway."""
    return (0 < account < 1_000 or 61_184 <= account <= 65_534) and account != os.geteuid()


@lru_cache(maxsize=1_000)
def _account_of_client(
    client: tuple[str, int] | None, server: tuple[str, int] | None, _period: int = 0
) -> int | None:
    """Whose the client's end of a connection within this machine is; None where the kernel does not say. Kept for a
    period, since the kernel takes milliseconds to list its connections, and a connection has many requests.
    """
    if client is None or server is None:
        return None
    ends = [
        (f"{local}:{client[1]:04X}", f"{remote}:{server[1]:04X}")
        for local, remote in zip(
            _addresses_as_kernel_lists(client[0]), _addresses_as_kernel_lists(server[0]), strict=False
        )
    ]
    for name in ("tcp", "tcp6"):
        try:
            lines = Path(f"/proc/net/{name}").read_text(encoding="ascii").splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            if (fields[1], fields[2]) in ends:
                return int(fields[7])
    return None


def _addresses_as_kernel_lists(host: str) -> list[str]:
    """The address as the kernel lists it: words of 32 bits, each backwards; IPv4 also as a socket of IPv6 has it."""
    address = ip_address_of(host)
    if address is None:
        return []
    packed = [address.packed]
    if address.version == 4:
        packed.append(b"\0" * 10 + b"\xff\xff" + address.packed)
    return ["".join(each[i : i + 4][::-1].hex().upper() for i in range(0, len(each), 4)) for each in packed]
