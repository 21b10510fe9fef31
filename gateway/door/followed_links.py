"""GET /l/{token} and GET /o/{token}.gif: links that record and go on, and the picture by which a mail is known to be
opened (docs/links.md).

Following needs no key: the address is signed. A person is never stranded: whatever becomes of the event, the answer
comes within about a second. It knows no database.
"""

import asyncio
import re
import time
import uuid
from typing import Annotated, Any, Final
from urllib.parse import urlsplit

import structlog
from fastapi import APIRouter, Path, Request
from starlette.responses import Response

from gateway import metrics
from gateway.access import AccessDenied, client_address
from gateway.answers import RequestProblem
from gateway.documented import Responses
from gateway.door.link_definitions import FOLLOW_PATH, OPEN_PATH
from gateway.door.link_events import (
    FollowingRequest,
    RecordedLink,
    admit_link_event,
    digest_of_request,
    event_of_link,
    identifying_event,
    kind_of_link,
)
from gateway.door.page_address import host_of, site_of
from gateway.door.recording import append_admitted
from gateway.door.services import DoorServices, door_of
from gateway.door.signed_links import (
    AnyLink,
    FollowedLink,
    MailOpenLink,
    TelegramLink,
    open_link,
)
from gateway.ports import Ports
from schemas.decode import Refusal
from schemas.envelope import Event
from schemas.moment import millis

LONGEST_WAIT_SECONDS: Final = 1.0
"""So long a person waits for the log."""
MOST_RECORDINGS: Final = 1_000
"""Events that may wait for the log behind people who have gone on. Beyond it none is recorded."""
VISITOR_COOKIE: Final = "leadstream-visitor"
"""That of track.js, which makes ids of the same form."""
CONSENT_COOKIE: Final = "leadstream-consent"
COOKIE_SECONDS: Final = 31_536_000
PIXEL: Final = bytes.fromhex(
    "47494638396101000100800000000000ffffff21f90401000000002c00000000010001000002024401003b"
)
"""A transparent GIF."""
NOT_A_LINK: Final = (
    "this is no link of this server, or not all of it: open it again as it was printed or sent"
)

_VISITOR_ID: Final = re.compile(r"[A-Za-z0-9_-]{8,64}")
_AHEAD: Final = ("sec-purpose", "purpose", "x-moz", "x-purpose")
"""Headers by which browsers say that nobody has followed the link yet."""
_WHEREVER_IT_LEADS: Final = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "strict-origin-when-cross-origin",
    "X-Robots-Tag": "noindex, nofollow",
}
Token = Annotated[str, Path(description="The signed link, as POST /api/links gives it.")]
FOLLOW_DOCS: Responses = {
    302: {"description": "Recorded, or as well as can be: the person goes on to the link's target."},
    404: {"description": "No link of this server, or a changed one."},
    425: {"description": "A browser loads the page ahead. It asks again when the person follows the link."},
}
OPEN_DOCS: Responses = {
    200: {
        "description": "A transparent picture of one pixel.",
        "content": {"image/gif": {"schema": {"type": "string", "format": "binary"}}},
    },
    404: FOLLOW_DOCS[404],
}

log = structlog.get_logger("gateway")
router = APIRouter(tags=["links"])


@router.get(f"{FOLLOW_PATH}{{token}}/", include_in_schema=False)
@router.get(
    f"{FOLLOW_PATH}{{token}}",
    summary="Follow a link: it is recorded, and leads on",
    responses=FOLLOW_DOCS,
    status_code=302,
    response_class=Response,
)
async def follow_link(request: Request, token: Token) -> Response:
    door = door_of(request)
    link, answer = _link_with_target(door.ports, token)
    if isinstance(link, TelegramLink):
        return answer
    if _is_ahead(request):
        metrics.LINKS_FOLLOWED.labels(kind_of_link(link), "ahead").inc()
        return Response(status_code=425)  # too early: browsers drop what they loaded, and ask again
    current = None if _refuses_cookies(request) else _visitor_of_cookie(request)
    following = _following_request(request, door, token, link, current or uuid.uuid4().hex)
    event = _admitted(link, event_of_link(link, following), door.ports)
    of_person = event is not None and event.bot is None
    sets_cookie = of_person and current is None and door.ports.link_cookie and not _refuses_cookies(request)
    identified = None
    if link.lead_id is not None and of_person and (current or sets_cookie):
        identified = _admitted(link, identifying_event(link, following), door.ports)
    await _record_or_go_on(door, link, event, identified)
    if sets_cookie:
        _set_visitor(answer, following.visitor_id, door.ports.public_url, link.target)
    return answer


@router.head(f"{FOLLOW_PATH}{{token}}/", include_in_schema=False)
@router.head(f"{FOLLOW_PATH}{{token}}", include_in_schema=False)
async def look_at_link(request: Request, token: Token) -> Response:
    """To look is not to follow: nothing is recorded."""
    _, answer = _link_with_target(door_of(request).ports, token)
    return answer


@router.get(
    f"{OPEN_PATH}{{token}}.gif",
    summary="The picture by which a mail is known to be opened",
    responses=OPEN_DOCS,
    response_class=Response,
)
async def show_pixel(request: Request, token: Token) -> Response:
    door = door_of(request)
    link, answer = _link_with_pixel(door.ports, token)
    following = _following_request(request, door, token, link, "")
    await _record_or_go_on(door, link, _admitted(link, event_of_link(link, following), door.ports))
    return answer


@router.head(f"{OPEN_PATH}{{token}}.gif", include_in_schema=False)
async def look_at_pixel(request: Request, token: Token) -> Response:
    _, answer = _link_with_pixel(door_of(request).ports, token)
    return answer


# Answers


def _link_with_target(ports: Ports, token: str) -> tuple[FollowedLink, Response]:
    link = _opened(ports, token)
    if isinstance(link, MailOpenLink):
        raise RequestProblem(404, NOT_A_LINK, field="token")
    return link, Response(status_code=302, headers={"Location": link.target, **_WHEREVER_IT_LEADS})


def _link_with_pixel(ports: Ports, token: str) -> tuple[MailOpenLink, Response]:
    link = _opened(ports, token)
    if not isinstance(link, MailOpenLink):
        raise RequestProblem(404, NOT_A_LINK, field="token")
    headers = {**_WHEREVER_IT_LEADS, "Cross-Origin-Resource-Policy": "cross-origin"}
    return link, Response(PIXEL, media_type="image/gif", headers=headers)


def _opened(ports: Ports, token: str) -> AnyLink:
    link = open_link(token, ports.link_keys)
    if link is None:
        raise RequestProblem(404, NOT_A_LINK, field="token")
    return link


# The visitor


def _following_request(
    request: Request, door: DoorServices, token: str, link: RecordedLink, visitor_id: str
) -> FollowingRequest:
    now_ms = millis(door.ports.now())
    following = FollowingRequest(
        token=token,
        since_ms=now_ms,
        visitor_id=visitor_id,
        user_agent=request.headers.get("user-agent", "").strip(),
        ip=client_address(request, door.ports.access),
        referrer=request.headers.get("referer", ""),
    )
    since_ms = door.recent_requests.first_at(digest_of_request(link, following), now_ms)
    return following._replace(since_ms=since_ms)


def _is_ahead(request: Request) -> bool:
    """Does a browser load the page before anybody has followed the link?"""
    stated = " ".join(request.headers.get(name, "") for name in _AHEAD).lower()
    return "prefetch" in stated or "preview" in stated


def _refuses_cookies(request: Request) -> bool:
    headers = request.headers
    return (
        headers.get("sec-gpc") == "1"
        or headers.get("dnt") == "1"
        or request.cookies.get(CONSENT_COOKIE) == "no"
    )


def _visitor_of_cookie(request: Request) -> str | None:
    stated = request.cookies.get(VISITOR_COOKIE, "")
    return stated if _VISITOR_ID.fullmatch(stated) else None


def _set_visitor(answer: Response, visitor_id: str, public_url: str, target: str) -> None:
    """Scripts read it: track.js goes on with the same visitor, where the target is of the same site."""
    answer.set_cookie(
        VISITOR_COOKIE,
        visitor_id,
        max_age=COOKIE_SECONDS,
        domain=cookie_domain(public_url, target),
        secure=public_url.startswith("https://"),
        samesite="lax",
    )


def cookie_domain(public_url: str, target: str) -> str | None:
    """The site that the server and the target belong to; None: only the server's own host gets the cookie."""
    own, aim = (host_of(urlsplit(address).hostname or "") for address in (public_url, target))
    if own is None or aim is None or own == aim or site_of(own) != site_of(aim):
        return None
    return site_of(own)


# Recording


def _admitted(link: RecordedLink, raw: dict[str, Any], ports: Ports) -> Event | None:
    """The event as the door takes it; None, if it refuses it. It took it when the link was made, but a newer version may
    be stricter, and a code hangs for years.
    """
    try:
        return admit_link_event(raw, link.tenant, ports.now(), ports.own_sites)
    except Refusal as refusal:
        _report_unrecorded(kind_of_link(link), link.tenant, str(refusal))
        return None


async def _record_or_go_on(door: DoorServices, link: RecordedLink, *admitted: Event | None) -> None:
    """Returns once the log has the events, or after `LONGEST_WAIT_SECONDS`; then they may still get in."""
    kind = kind_of_link(link)
    events = [each for each in admitted if each is not None]
    if not events:
        return
    try:
        door.event_buckets.take(f"links of {link.tenant}", len(events), time.monotonic())
    except AccessDenied:
        metrics.LINKS_FOLLOWED.labels(kind, "limited").inc()
        return
    if len(door.recordings) >= MOST_RECORDINGS:
        _report_unrecorded(kind, link.tenant, "too many wait for the log")
        return
    recording = asyncio.create_task(_record(kind, events, door.ports), name="record a followed link")
    door.recordings.add(recording)
    recording.add_done_callback(door.recordings.discard)
    await asyncio.wait({recording}, timeout=LONGEST_WAIT_SECONDS)


async def _record(kind: str, events: list[Event], ports: Ports) -> None:
    try:
        await append_admitted(events, ports)
    except RequestProblem as problem:
        _report_unrecorded(kind, events[0].tenant, problem.reason)
    except Exception:
        _report_unrecorded(kind, events[0].tenant, "see the trace")
        log.exception("a followed link was not recorded", type=kind)
    else:
        metrics.LINKS_FOLLOWED.labels(kind, "person" if events[0].bot is None else "bot").inc()


def _report_unrecorded(kind: str, tenant: str, reason: str) -> None:
    metrics.LINKS_FOLLOWED.labels(kind, "unrecorded").inc()
    log.warning("a followed link was not recorded", type=kind, tenant=tenant, reason=reason)
