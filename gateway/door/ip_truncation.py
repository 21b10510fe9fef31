"""Shortens IP addresses before anything stores them. Pure."""

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Final, Literal

from msgspec import structs

from schemas.envelope import Event

IpTruncation = Literal["none", "last_octet", "two_octets", "all"]
_BITS_KEPT: Final = {"last_octet": (24, 48), "two_octets": (16, 32)}
"""Of IPv4 and of IPv6."""


def with_truncated_ip(event: Event, truncation: IpTruncation) -> Event:
    """The event with what may be kept of the address in its context."""
    context = event.context
    if truncation == "none" or context is None or context.ip is None:
        return event
    return structs.replace(event, context=structs.replace(context, ip=truncated_ip(context.ip, truncation)))


def truncated_ip(text: str, truncation: IpTruncation) -> str | None:
    """203.0.113.77 becomes 203.0.113.0. None for what is no address, since nobody knows what to keep of it."""
    if truncation == "none":
        return text
    address = _address_of(text)
    if truncation == "all" or address is None:
        return None
    bits = _BITS_KEPT[truncation][isinstance(address, IPv6Address)]
    return str(ip_network((address, bits), strict=False).network_address)


def _address_of(text: str) -> IPv4Address | IPv6Address | None:
    """An IPv4 address inside of an IPv6 one counts as IPv4; a zone (%eth0) goes."""
    try:
        address = ip_address(text.strip().partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or getattr(address, "sixtofour", None) or address
