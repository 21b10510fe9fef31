"""Mappings of chats: where a provider's webhook has what, how it proves itself, and what it wants answered.

A mapping is a TOML text, and its places are expressions of JMESPath (https://jmespath.org). docs/chats.md describes
every key. An error names the file, the line, the key and the remedy.
"""

import re
import tomllib
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any, Final, NamedTuple

import jmespath
from jmespath.exceptions import JMESPathError
from jmespath.parser import ParsedResult

from scoring.models.text_refusals import shorten_value

BUILT_IN_MAPPINGS: Final = ("messenger", "twilio", "viber")
LARGEST_MAPPING: Final = 100_000
"""Bytes."""
METHODS: Final[Mapping[str, frozenset[str]]] = {
    "hmac": frozenset({"header", "algorithm", "encoding", "prefix", "signed"}),
    "header": frozenset({"header"}),
    "field": frozenset({"field"}),
    "bearer": frozenset(),
}
"""How a request proves itself, and the keys that belong to it."""
ALGORITHMS: Final = ("sha256", "sha1", "sha512")
ENCODINGS: Final = ("hex", "base64")
MESSAGE_KEYS: Final = frozenset(
    {"id", "time", "text", "voice", "duration", "button", "label", "link", "kind", "opened"}
)
CONTACT_KEYS: Final = frozenset({"name", "first_name", "last_name", "email", "phone"})
_TABLES: Final = frozenset(
    {
        "about", "source", "body", "authentication", "challenge", "answer", "messages", "sender",
        "message", "contact",
    }
)  # fmt: skip
_SOURCE = re.compile(r"[a-z][a-z0-9_-]{0,31}", re.ASCII)
_FIELD = re.compile(r"[a-z][a-z0-9_]{0,63}", re.ASCII)
_HEADER = re.compile(r"[A-Za-z0-9-]{1,64}", re.ASCII)
_MEDIA_TYPE = re.compile(r"[a-z]+/[a-z0-9.+-]+(; ?charset=[a-z0-9-]+)?", re.ASCII)
_SIGNED_PART = re.compile(r"\{([^{}]*)\}")
_TABLE_LINE = re.compile(r"^[ \t]*\[", re.MULTILINE)

Expression = ParsedResult
Expressions = Mapping[str, Expression]


class MappingError(ValueError):
    """A mapping that cannot be used. The message names the file, the line, the key and the remedy."""


class _MappingKeyError(Exception):
    """What is wrong with a key of a table, until its line is found."""

    def __init__(self, table: str, key: str, reason: str) -> None:
        self.table, self.key, self.reason = table, key, reason
        super().__init__(reason)


class ChatAuthentication(NamedTuple):
    """How a request proves that it comes from the provider."""

    method: str
    """hmac, header, field or bearer."""
    header: str = ""
    algorithm: str = "sha256"
    encoding: str = "hex"
    prefix: str = ""
    signed: str = "{body}"
    """What the signature is of: {body}, {url}, {parameters} (of a form, sorted), {Name-Of-A-Header}."""
    field: Expression | None = None


class ChatChallenge(NamedTuple):
    """How the provider verifies the address before it sends anything."""

    token: str | None = None
    """The parameter of a GET that has the verify token; `answer` is the one that is returned."""
    answer: str | None = None
    field: Expression | None = None
    """What of a POST is returned."""


class WebhookAnswer(NamedTuple):
    text: str
    media_type: str


class ChatMapping(NamedTuple):
    source: str
    form: bool
    """The body is a form, else JSON."""
    authentication: ChatAuthentication
    challenge: ChatChallenge
    answer: WebhookAnswer | None
    each: Expression | None
    """The messages in a body; None: the body is one, or a list of them."""
    ignore: tuple[Expression, ...]
    sender: Expressions
    """`id`, and the profile fields that the provider vouches for."""
    message: Expressions
    contact: Expressions
    """What a person shares to be reached."""


def load_mapping(name: str, folder: Path | None) -> ChatMapping:
    """The mapping `name` of the folder, or else the built-in one. Raises MappingError."""
    return read_mapping(mapping_text(name, folder), f"{name}.toml")


def mapping_text(name: str, folder: Path | None) -> str:
    """Raises MappingError."""
    path = None if folder is None else folder / f"{name}.toml"
    if path is not None and path.is_file():
        return mapping_file_text(path)
    if name in BUILT_IN_MAPPINGS:
        return (files("gateway.door.chat_mappings") / f"{name}.toml").read_text("utf-8")
    where = "set LEADSTREAM_CHAT_MAPPINGS to a folder with it" if folder is None else f"{folder} has none"
    raise MappingError(
        f"there is no mapping {shorten_value(name)}: built in are {', '.join(BUILT_IN_MAPPINGS)}; {where}"
    )


def mapping_file_text(path: Path) -> str:
    """Raises MappingError."""
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST_MAPPING + 1)
        if len(content) > LARGEST_MAPPING:
            raise MappingError(f"{path.name}: it is longer than {LARGEST_MAPPING:,} bytes")
        return content.decode("utf-8-sig")
    except OSError as cause:
        raise MappingError(f"{path.name}: it cannot be read ({cause.strerror})") from None
    except UnicodeDecodeError:
        raise MappingError(f"{path.name}: it is not UTF-8 text: save it as that") from None


def read_mapping(text: str, name: str) -> ChatMapping:
    """`name` of the file. Raises MappingError."""
    try:
        content = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise MappingError(f"{name} is no TOML: {error}") from None
    try:
        return _mapping(content)
    except _MappingKeyError as wrong:
        where = f"{wrong.table}.{wrong.key}" if wrong.table else wrong.key
        line = _line_of(text, wrong.table, wrong.key)
        raise MappingError(f"{name}, line {line}, {where}: {wrong.reason}") from None


def _mapping(content: Mapping[str, Any]) -> ChatMapping:
    _only("", content, _TABLES)
    messages = _table(content, "messages")
    _only("messages", messages, frozenset({"each", "ignore"}))
    sender, message, contact = (_table(content, key) for key in ("sender", "message", "contact"))
    for key in sender:
        if _FIELD.fullmatch(key) is None:
            raise _MappingKeyError(
                "sender", key, "name a profile field: a-z, 0-9 and _, beginning with a letter"
            )
    _only("message", message, MESSAGE_KEYS)
    _only("contact", contact, CONTACT_KEYS)
    if "id" not in sender:
        raise _MappingKeyError(
            "sender", "id", "missing: say where the id of the person is, such as id = 'sender.id'"
        )
    if not message.keys() - {"id", "time", "label", "duration"}:
        raise _MappingKeyError(
            "message", "text", "missing: say where the text is, such as text = 'message.text'"
        )
    body = _one_of("", content, "body", ("json", "form"))
    authentication = _authentication(_table(content, "authentication"))
    if "{parameters}" in authentication.signed and body != "form":
        raise _MappingKeyError(
            "authentication", "signed", 'only a form has {parameters}: write body = "form"'
        )
    return ChatMapping(
        source=_text("", content, "source", _SOURCE, "a-z, 0-9, _ and -, beginning with a letter") or "chat",
        form=body == "form",
        authentication=authentication,
        challenge=_challenge(_table(content, "challenge")),
        answer=_answer(_table(content, "answer")),
        each=_expression("messages", messages, "each") if "each" in messages else None,
        ignore=_ignored(messages),
        sender={key: _expression("sender", sender, key) for key in sender},
        message={key: _expression("message", message, key) for key in message},
        contact={key: _expression("contact", contact, key) for key in contact},
    )


def _authentication(table: Mapping[str, Any]) -> ChatAuthentication:
    where = "authentication"
    if "method" not in table:
        raise _MappingKeyError(where, "method", f"missing: one of {', '.join(METHODS)}")
    method = _one_of(where, table, "method", tuple(METHODS))
    _only(where, table, METHODS[method] | {"method"})
    header = _text(where, table, "header", _HEADER, "the name of a header: letters, digits and -") or ""
    if "header" in METHODS[method] and not header:
        raise _MappingKeyError(
            where, "header", "missing: name the header that has the secret or the signature"
        )
    if method == "field" and "field" not in table:
        raise _MappingKeyError(where, "field", "missing: say where in the body the secret is")
    signed = _text(where, table, "signed") or "{body}"
    for part in _SIGNED_PART.findall(signed):
        if part not in {"body", "url", "parameters"} and _HEADER.fullmatch(part) is None:
            raise _MappingKeyError(where, "signed", "use {body}, {url}, {parameters} and {Name-Of-A-Header}")
    if not {"body", "parameters"} & set(_SIGNED_PART.findall(signed)):
        raise _MappingKeyError(
            where, "signed", "must have {body} or {parameters}: else nobody signs the content"
        )
    return ChatAuthentication(
        method,
        header,
        _one_of(where, table, "algorithm", ALGORITHMS),
        _one_of(where, table, "encoding", ENCODINGS),
        _text(where, table, "prefix") or "",
        signed,
        _expression(where, table, "field") if "field" in table else None,
    )


def _challenge(table: Mapping[str, Any]) -> ChatChallenge:
    _only("challenge", table, frozenset({"token", "answer", "field"}))
    for key, other in (("token", "answer"), ("answer", "token")):
        if other in table and key not in table:
            raise _MappingKeyError("challenge", key, f"missing: {other} needs it")
    return ChatChallenge(
        _text("challenge", table, "token"),
        _text("challenge", table, "answer"),
        _expression("challenge", table, "field") if "field" in table else None,
    )


def _answer(table: Mapping[str, Any]) -> WebhookAnswer | None:
    _only("answer", table, frozenset({"text", "media_type"}))
    if not table:
        return None
    form = "a media type such as text/xml"
    return WebhookAnswer(
        _text("answer", table, "text") or "",
        _text("answer", table, "media_type", _MEDIA_TYPE, form) or "text/plain",
    )


def _ignored(messages: Mapping[str, Any]) -> tuple[Expression, ...]:
    listed = messages.get("ignore", [])
    if not isinstance(listed, list):
        raise _MappingKeyError("messages", "ignore", "must be a list of expressions, each in quotes")
    return tuple(_compiled("messages", "ignore", each) for each in listed)


def _expression(where: str, table: Mapping[str, Any], key: str) -> Expression:
    return _compiled(where, key, table[key])


def _compiled(where: str, key: str, value: object) -> Expression:
    if not isinstance(value, str) or not value.strip():
        raise _MappingKeyError(where, key, f"must be an expression in quotes, not {shorten_value(value)}")
    try:
        return jmespath.compile(value)
    except (JMESPathError, RecursionError) as error:
        reason = " ".join(str(error).split())[:200]
        raise _MappingKeyError(
            where, key, f"is no expression of JMESPath (see jmespath.org): {reason}"
        ) from None


def _table(content: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    table = content.get(key, {})
    if not isinstance(table, dict):
        raise _MappingKeyError("", key, f"must be a table: write [{key}] above its keys")
    return table


def _only(where: str, table: Mapping[str, Any], keys: frozenset[str]) -> None:
    for key in table:
        if key not in keys:
            raise _MappingKeyError(where, key, f"unknown; possible are {', '.join(sorted(keys))}")


def _one_of(where: str, table: Mapping[str, Any], key: str, choices: tuple[str, ...]) -> str:
    """The first one by default."""
    value = table.get(key, choices[0])
    if value not in choices:
        raise _MappingKeyError(where, key, f"is one of {', '.join(choices)}, not {shorten_value(value)}")
    return str(value)


def _text(
    where: str,
    table: Mapping[str, Any],
    key: str,
    form: re.Pattern[str] | None = None,
    kind: str = "a text",
) -> str | None:
    if key not in table:
        return None
    value = table[key]
    if not isinstance(value, str) or (form is not None and form.fullmatch(value) is None):
        raise _MappingKeyError(where, key, f"must be {kind}, not {shorten_value(value)}")
    return value


def _line_of(text: str, table: str, key: str) -> int:
    """The line of the key in its table; that of the table, or the first one, if there is no such key."""
    header = re.search(rf"^[ \t]*\[[ \t]*{re.escape(table)}[ \t]*\]", text, re.MULTILINE) if table else None
    start = header.end() if header else 0
    following = _TABLE_LINE.search(text, start) if table else None
    name = re.escape(key)
    own = re.compile(rf"^[ \t]*(?:\[[ \t]*)?[\"']?{name}\b", re.MULTILINE).search(
        text, start, following.start() if following else len(text)
    )
    at = own.end() if own else (header.start() if header else 0)
    return text.count("\n", 0, at) + 1
