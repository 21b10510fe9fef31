"""The links of a mail's HTML replaced, and nothing else: every other character stays as it is, also in broken HTML and
in the comments that Outlook reads. Pure, and linear in the mail.
"""

import re
from collections.abc import Callable
from html import escape, unescape
from typing import Final

import re2

_LINK_TAG: Final = re2.compile(rb"""(?is)<(?:a|area)\s(?:[^>"']|"[^"]*"|'[^']*')*>""")
"""A start tag, with its quoted values as wholes. In bytes: positions in other texts cost RE2 a walk from the start."""
_ATTRIBUTE: Final = re2.compile(rb"""(?is)([^\s"'>/=]+)(?:\s*=\s*("[^"]*"|'[^']*'|[^\s"'>]+))?""")
_WEB_ADDRESS: Final = re.compile(r"\s*https?://", re.IGNORECASE)
_PLACEHOLDER: Final = re.compile(r"\{\{|\{%|%%|\*\||\[\[")
"""Of Handlebars, Jinja, Salesforce, Mailchimp, Mautic: filled in later, so no address yet."""
_END: Final = re.compile(r"</(?:body|html)\s*>", re.IGNORECASE)
_IGNORED: Final = b"data-ls-ignore"


def with_links_replaced(html: str, replace: Callable[[str], str]) -> str:
    """The mail with `replace(target)` for the target of each link on the web."""
    encoded = html.encode(errors="replace")
    parts: list[bytes] = []
    end = 0
    for tag in _LINK_TAG.finditer(encoded):
        span = _target_span(tag[0])
        if span is None:
            continue
        start, stop = tag.start() + span[0], tag.start() + span[1]
        target = replace(_target_of(encoded[start:stop]))
        parts += [encoded[end:start], f'"{escape(target, quote=True)}"'.encode()]
        end = stop
    return b"".join([*parts, encoded[end:]]).decode()


def with_picture_at_end(html: str, address: str) -> str:
    """Before the end of the body, where there is one."""
    picture = f'<img src="{escape(address, quote=True)}" width="1" height="1" alt="" style="border:0">'
    ends = list(_END.finditer(html))
    at = ends[-2].start() if len(ends) > 1 else ends[-1].start() if ends else len(html)
    return html[:at] + picture + html[at:]


def _target_span(tag: bytes) -> tuple[int, int] | None:
    """Where the value of the tag's `href` stands, with its quotes; None: it has none that may be replaced."""
    span: tuple[int, int] | None = None
    for attribute in _ATTRIBUTE.finditer(tag, 1):
        name = attribute[1].lower()
        if name == _IGNORED:
            return None
        if name == b"href" and span is None and attribute[2] is not None:
            span = attribute.span(2)
    if span is None:
        return None
    target = _target_of(tag[span[0] : span[1]])
    return span if _WEB_ADDRESS.match(target) and not _PLACEHOLDER.search(target) else None


def _target_of(value: bytes) -> str:
    text = value.decode(errors="replace")
    return unescape(text[1:-1] if text[:1] in {'"', "'"} else text).strip()
