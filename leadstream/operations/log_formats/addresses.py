"""Which address in a line is the visitor's: logs of servers behind proxies have several, with ports and brackets."""

import re
from functools import lru_cache
from ipaddress import ip_address, ip_network

_LONGEST_IP = 64
_PORT_SUFFIX = re.compile(r":\d{1,5}")
_PRIVATE_NETWORKS = tuple(
    map(
        ip_network,
        [
            "0.0.0.0/8",
            "10.0.0.0/8",
            "100.64.0.0/10",
            "127.0.0.0/8",
            "169.254.0.0/16",
            "172.16.0.0/12",
            "192.168.0.0/16",
            "::/127",
            "fc00::/7",
            "fe80::/10",
        ],
    )
)
"""Networks of which everybody has their own. Ranges for documentation are not among them."""


def client_address(*lists: str | None) -> str:
    """The visitor's address in lists like `client, proxy, proxy`: the first public IP address, else the first IP
    address, else the first name. Empty if there is none.
    """
    entries = [bare_address(entry) for text in lists if text is not None for entry in text.split(",")]
    addresses = [entry for entry in entries if is_ip_address(entry)]
    for candidates in ([entry for entry in addresses if is_public_address(entry)], addresses, entries):
        for entry in candidates:
            if entry not in {"", "-", "unknown", "unix"}:
                return entry
    return ""


def bare_address(text: str) -> str:
    """The address without port, brackets and zone: `[2001:db8::1%eth0]:443` is 2001:db8::1."""
    text = text.strip(' "')
    if text.startswith("["):
        inner, closing, rest = text[1:].partition("]")
        if closing and (not rest or _PORT_SUFFIX.fullmatch(rest)):
            return inner.partition("%")[0]
        return text
    if text.count(":") in {1, 8}:  # an IPv4 address or a name with a port; a whole IPv6 address with one
        address, _, port = text.rpartition(":")
        return address if port.isdigit() or not port or address == "unix" else text
    return text.partition("%")[0] if ":" in text else text


@lru_cache(maxsize=16_384)
def is_ip_address(text: str) -> bool:
    """Whether it is an IP address."""
    if len(text) > _LONGEST_IP:
        return False
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


@lru_cache(maxsize=16_384)
def is_public_address(text: str) -> bool:
    """Whether an IP address belongs to one place in the world."""
    address = ip_address(text)
    mapped = getattr(address, "ipv4_mapped", None) or address
    return not any(mapped in network for network in _PRIVATE_NETWORKS)
