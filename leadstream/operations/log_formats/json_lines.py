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
    http_status_of,
    method_and_target,
    present_value,
    user_agent_of,
)
from leadstream.operations.log_formats.moments import moment_of_epoch_number, read_moment

Fields = Mapping[str, Any]

# Of several keys, the first one that is there counts. Keys are compared in small letters, with _ for -.
_ADDRESS_KEYS = [
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
_FORWARDED_KEYS = [
    "http_x_forwarded_for",
    "x_forwarded_for",
    "xff",
    "http_x_real_ip",
    "x_real_ip",
    "request_x_forwarded_for",
]
_TIME_KEYS = [
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
_REQUEST_KEYS = ["request", "request_line"]
_METHOD_KEYS = ["request_method", "method", "requestmethod", "clientrequestmethod", "verb"]
_TARGET_KEYS = ["request_uri", "uri", "requestpath", "clientrequesturi", "url", "path"]
_QUERY_KEYS = ["args", "query_string", "query"]
_STATUS_KEYS = [
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
_REFERRER_KEYS = [
    "http_referer",
    "http_referrer",
    "referer",
    "referrer",
    "request_referer",
    "clientrequestreferer",
]
_USER_AGENT_KEYS = [
    "http_user_agent",
    "user_agent",
    "useragent",
    "request_user_agent",
    "clientrequestuseragent",
    "agent",
]
_HOST_KEYS = ["http_host", "host", "requesthost", "clientrequesthost", "vhost", "virtual_host", "server_name"]
_SCHEME_KEYS = ["scheme", "request_scheme", "requestscheme", "clientrequestscheme", "x_forwarded_proto"]
_TEXT_TYPES = (str, int, float)
_LATEST_NUMBER = 10**19
_ESCAPED_BYTE = re.compile(r"\\x([0-9A-Fa-f]{2})")
_decode = json.Decoder(dict[str, Any]).decode


def read_json(text: str) -> LoggedRequest | None:
    if not text.startswith("{") or (fields := decoded_object(text)) is None:
        return None
    return (
        _caddy_request(fields)
        if isinstance(fields.get("request"), dict)
        else _flat_request(_with_normal_keys(fields))
    )


def decoded_object(text: str) -> dict[str, Any] | None:
    r"""The object; None if it is none. nginx without `escape=json` writes `\x22` for a quote, which JSON has not."""
    for attempt in (text, _ESCAPED_BYTE.sub(r"\\u00\1", text)):
        try:
            return _decode(attempt)
        except (DecodeError, UnicodeDecodeError, RecursionError):
            continue
    return None


def _with_normal_keys(fields: Fields) -> dict[str, Any]:
    return {key.lower().replace("-", "_"): value for key, value in fields.items()}


def _caddy_request(fields: Fields) -> LoggedRequest | None:
    request = fields["request"]
    headers = request.get("headers")
    named = {} if not isinstance(headers, dict) else _with_normal_keys(headers)
    lists = {key: value[0] for key, value in named.items() if isinstance(value, list) and value}
    return _flat_request(
        {
            "referer": None,
            "user_agent": "",
            **{name: lists[name] for name in ("referer", "user_agent", "x_forwarded_for") if name in lists},
            **_with_normal_keys({key: value for key, value in request.items() if key != "headers"}),
            **_with_normal_keys({key: value for key, value in fields.items() if key in {"ts", "status"}}),
            "scheme": "https" if request.get("tls") else None,
        }
    )


def _flat_request(fields: Fields) -> LoggedRequest | None:
    at, address = (
        _first_moment(fields),
        client_address(_first_text(fields, _FORWARDED_KEYS), _first_text(fields, _ADDRESS_KEYS)),
    )
    request = _first_text(fields, _REQUEST_KEYS) or ""
    method, target = method_and_target(request)
    if not target:
        method, target = (
            _first_text(fields, _METHOD_KEYS) or "GET",
            _first_text(fields, _TARGET_KEYS) or request,
        )
    query = present_value(_first_text(fields, _QUERY_KEYS))
    if query and "?" not in target:
        target = f"{target}?{query.removeprefix('?')}"
    status = _first_text(fields, _STATUS_KEYS)
    if at is None or not address or status is None or not (target or request):
        return None
    scheme = _first_text(fields, _SCHEME_KEYS)
    return LoggedRequest(
        at=at,
        address=address,
        method=method if present_value(target) else "",
        target=target,
        status=http_status_of(status),
        agent=user_agent_of(_first_text(fields, _USER_AGENT_KEYS) or "")
        if any(key in fields for key in _USER_AGENT_KEYS)
        else None,
        referrer=present_value(_first_text(fields, _REFERRER_KEYS)),
        host=present_value(_first_text(fields, _HOST_KEYS)),
        scheme=scheme if scheme in {"http", "https"} else None,
    )


def _first_text(fields: Fields, keys: list[str]) -> str | None:
    for key in keys:
        value = fields.get(key)
        if isinstance(value, _TEXT_TYPES) and not isinstance(value, bool):
            return str(value)
    return None


def _first_moment(fields: Fields) -> datetime | None:
    for key in _TIME_KEYS:
        value = fields.get(key)
        if isinstance(value, str) and (at := read_moment(value.strip("[]"))) is not None:
            return at
        if isinstance(value, int | float) and not isinstance(value, bool):
            return None if value > _LATEST_NUMBER else moment_of_epoch_number(float(value))
    return None
