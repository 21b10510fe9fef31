"""What the producer sent of a recorded event: the event without what a door has decided about it.

Doors of all versions wrote their decisions into the same fields, so some are recognised by their form. What cannot be
told apart from what a producer sent stays as recorded: times, addresses whose typing nobody kept, the context.
Pure.
"""

from typing import Any, Final

import phonenumbers
from msgspec import structs
from phonenumbers import PhoneNumberType

from gateway.door.addresses import EMAIL, PHONE, STATED_FIELD_OF_ADDRESS
from gateway.door.crawlers import crawler_of, mail_crawler_of
from gateway.door.phones import WRITER_OF_SOURCE, certain_phone
from gateway.door.resolving import RESOLVED_BY_FIELD
from schemas.envelope import Event
from schemas.events import ContactShared, FormSubmitted, ProfileUpdated, QuestionAnswered

_UNNAMED_CRAWLER: Final = "crawler"
"""What doors called a crawler whose name they could not cut out of its user agent."""
_MOBILE: Final = frozenset({PhoneNumberType.MOBILE, PhoneNumberType.FIXED_LINE_OR_MOBILE})


def undecided(event: Event, region: str | None) -> Event:
    """The event without bot, device, resolved lead and one form of addresses. An imported event keeps its lead: the door
    resolves no imports, so another store has. `region` is that of the door's setting.
    """
    extra = event.extra or {}
    removed = (
        {*STATED_FIELD_OF_ADDRESS.values()}
        if event.imported
        else {*STATED_FIELD_OF_ADDRESS.values(), RESOLVED_BY_FIELD}
    )
    resolved = not event.imported and RESOLVED_BY_FIELD in extra and event.visitor_id is not None
    agent = event.context.user_agent if event.context else None
    typed = {kind: extra[field] for kind, field in STATED_FIELD_OF_ADDRESS.items() if field in extra}
    return structs.replace(
        event,
        lead_id=None if resolved else event.lead_id,
        bot=None if agent and _by_a_door(event.bot, agent) else event.bot,
        device=None if agent else event.device,
        extra={name: value for name, value in extra.items() if name not in removed} or None,
        **_as_typed(event, typed, region),
    )


def _by_a_door(bot: str | None, agent: str) -> bool:
    """Doors name a crawler as today's lists do, or by the part of its user agent that gives it away; any other name is
    the producer's.
    """
    if bot is None or bot == _UNNAMED_CRAWLER or _plain(bot) in _plain(agent):
        return True
    return bot in {
        crawler_of(agent),
        mail_crawler_of(agent, opened=True),
        mail_crawler_of(agent, opened=False),
    }


def _plain(text: str) -> str:
    return "".join(filter(str.isalnum, text.casefold()))


def _as_typed(event: Event, typed: dict[str, Any], region: str | None) -> dict[str, Any]:
    """The fields of the event that have addresses, as the producer wrote them."""
    match event:
        case ContactShared():
            return _fields_as_typed({EMAIL: event.email, PHONE: event.phone}, typed, event, region)
        case FormSubmitted() | ProfileUpdated() if event.fields:
            return {"fields": _fields_as_typed(event.fields, typed, event, region)}
        case QuestionAnswered(profile_field=str(kind)) if kind in typed:
            return {"text": typed[kind]}
    return {}


def _fields_as_typed(
    fields: dict[str, Any], typed: dict[str, Any], event: Event, region: str | None
) -> dict[str, Any]:
    as_typed = {**fields, **{kind: value for kind, value in typed.items() if kind in fields}}
    phone = fields.get(PHONE)
    if isinstance(phone, str) and PHONE not in typed:
        as_typed[PHONE] = without_second_code(phone, region, event.source)
    return as_typed


def without_second_code(number: str, region: str | None, source: str) -> str:
    """The digits that a number had before an older door took its country code for a part of the number and put the
    region's before it: 4915112345678 of +494915112345678.

    Only where the number as recorded is no mobile's and the one with its own country code is: of messengers for
    every country, and else for the region's.
    """
    code = f"+{phonenumbers.country_code_for_region(region)}" if region else ""
    if not code or not number.startswith(code):
        return number
    digits = number.removeprefix(code)
    if not (WRITER_OF_SOURCE.get(source) == "messenger" or digits.startswith(code[1:])):
        return number
    doubted = certain_phone(digits, region, source) == f"+{digits}" and _is_mobile(f"+{digits}")
    return digits if doubted and not _is_mobile(number) else number


def _is_mobile(number: str) -> bool:
    try:
        return phonenumbers.number_type(phonenumbers.parse(number)) in _MOBILE
    except phonenumbers.NumberParseException:
        return False
