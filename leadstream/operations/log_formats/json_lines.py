"""A JSON object a line: nginx with a `log_format` of JSON, Caddy, Traefik, Cloudflare, and what is like them.

Sources: https://nginx.org/en/docs/http/ngx_http_log_module.html and ngx_http_core_module.html#variables (names that
people use as keys), https://caddyserver.com/docs/logging, https://doc.traefik.io/traefik/observability/access-logs/,
https://developers.cloudflare.com/logs/reference/log-fields/zone/http_requests/.
"""

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from msgspec import DecodeError, json

from leadstream.operations.log_formats.addresses import client_address
from leadstream.operations.log_formats.logged_request import (
    LoggedRequest,
    agent_of,
    present,
    request_line,
    status_of,
)
from leadstream.operations.log_formats.moments import epoch_moment, moment_of

Fields = Mapping[str, Any]

# Of several keys, the first one that is there counts. Keys are compared in small letters, with _ for -.
_ADDRESS = [
    "client_ip",
    "remote_ip",
    "remote_addr",
    "remote_address",
    "clienthost",
    "clientaddr",
    "clientip",
    "client",
    "remoteip",
    "remoteaddr",
    "remote_host",
    "remote",
    "client_addr",
    "source_ip",
    "src_ip",
    "ip",
]
_FORWARDED = [
    "http_x_forwarded_for",
    "x_forwarded_for",
    "xff",
    "http_x_real_ip",
    "x_real_ip",
    "request_x_forwarded_for",
]
_TIME = [
    "time_iso8601",
    "time_local",
    "startutc",
    "startlocal",
    "edgestarttimestamp",
    "@timestamp",
    "timestamp",
    "msec",
    "ts",
    "time",
    "datetime",
    "date",
]
_REQUEST = ["request", "request_line"]
_METHOD = ["request_method", "method", "requestmethod", "clientrequestmethod", "verb"]
_TARGET = ["request_uri", "uri", "requestpath", "clientrequesturi", "url", "path"]
_QUERY = ["args", "query_string", "query"]
_STATUS = [
    "status",
    "downstreamstatus",
    "originstatus",
    "edgeresponsestatus",
    "status_code",
    "statuscode",
    "response_code",
    "code",
    "response",
]
_REFERRER = [
    "http_referer",
    "http_referrer",
    "referer",
    "referrer",
    "request_referer",
    "clientrequestreferer",
]
_AGENT = [
    "http_user_agent",
    "user_agent",
    "useragent",
    "request_user_agent",
    "clientrequestuseragent",
    "agent",
]
_HOST = ["http_host", "host", "requesthost", "clientrequesthost", "vhost", "virtual_host", "server_name"]
_SCHEME = ["scheme", "request_scheme", "requestscheme", "clientrequestscheme", "x_forwarded_proto"]
_KEPT_TEXT = (str, int, float)
_LATEST = 10**19
_ESCAPED_BYTE = re.compile(r"\\x([0-9A-Fa-f]{2})")
_decode = json.Decoder(dict[str, Any]).decode


def read_json(text: str) -> LoggedRequest | None:
    if not text.startswith("{") or (fields := decoded(text)) is None:
        return None
    return _caddy(fields) if isinstance(fields.get("request"), dict) else _flat(_normal(fields))


def decoded(text: str) -> dict[str, Any] | None:
    r"""The object; None if it is none. nginx without `escape=json` writes `\x22` for a quote, which JSON has not."""
    for attempt in (text, _ESCAPED_BYTE.sub(r"\\u00\1", text)):
        try:
            return _decode(attempt)
        except (DecodeError, UnicodeDecodeError, RecursionError):
            continue
    return None


def _normal(fields: Fields) -> dict[str, Any]:
    return {key.lower().replace("-", "_"): value for key, value in fields.items()}


def _caddy(fields: Fields) -> LoggedRequest | None:
    request = fields["request"]
    headers = request.get("headers")
    named = {} if not isinstance(headers, dict) else _normal(headers)
    lists = {key: value[0] for key, value in named.items() if isinstance(value, list) and value}
    return _flat(
        {
            "referer": None,
            "user_agent": "",
            **{name: lists[name] for name in ("referer", "user_agent", "x_forwarded_for") if name in lists},
            **_normal({key: value for key, value in request.items() if key != "headers"}),
            **_normal({key: value for key, value in fields.items() if key in {"ts", "status"}}),
            "scheme": "https" if request.get("tls") else None,
        }
    )


def _flat(fields: Fields) -> LoggedRequest | None:
    at, address = _moment(fields), client_address(_text(fields, _FORWARDED), _text(fields, _ADDRESS))
    request = _text(fields, _REQUEST) or ""
    method, target = request_line(request)
    if not target:
        method, target = _text(fields, _METHOD) or "GET", _text(fields, _TARGET) or request
    query = present(_text(fields, _QUERY))
    if query and "?" not in target:
        target = f"{target}?{query.removeprefix('?')}"
    status = _text(fields, _STATUS)
    if at is None or not address or status is None or not (target or request):
        return None
    scheme = _text(fields, _SCHEME)
    return LoggedRequest(
        at=at,
        address=address,
        method=method if present(target) else "",
        target=target,
        status=status_of(status),
        agent=agent_of(_text(fields, _AGENT) or "") if any(key in fields for key in _AGENT) else None,
        referrer=present(_text(fields, _REFERRER)),
        host=present(_text(fields, _HOST)),
        scheme=scheme if scheme in {"http", "https"} else None,
    )


def _text(fields: Fields, keys: list[str]) -> str | None:
    for key in keys:
        value = fields.get(key)
        if isinstance(value, _KEPT_TEXT) and not isinstance(value, bool):
            return str(value)
    return None


def _moment(fields: Fields) -> datetime | None:
    for key in _TIME:
        value = fields.get(key)
        if isinstance(value, str) and (at := moment_of(value.strip("[]"))) is not None:
            return at
        if isinstance(value, int | float) and not isinstance(value, bool):
            return None if value > _LATEST else epoch_moment(float(value))
    return None
