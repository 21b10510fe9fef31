"""The actions of workflows: which configuration each takes, and what is wrong with one. Pure.

A configuration names people, channels and texts. It never has a secret or the address of a service: a channel is a name
that the settings of delivery define.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, Final, Literal, NamedTuple, get_args

from schemas.envelope import MAX_FLOAT, MAX_INTEGER
from scoring.features.profile_fields import MANUAL_STAGE_FIELD
from scoring.models.text_refusals import is_whole_number, shorten_value

ActionType = Literal[
    "assign_owner",
    "change_status",
    "send_email",
    "create_task",
    "send_notification",
    "move_to_stage",
    "update_field",
    "add_to_campaign",
    "send_webhook",
]
ACTION_TYPES: Final[tuple[ActionType, ...]] = get_args(ActionType)
LEAD_ACTIONS: Final[frozenset[ActionType]] = frozenset(
    {"assign_owner", "change_status", "create_task", "move_to_stage", "update_field", "add_to_campaign"}
)
"""They change the lead: each becomes an event in the log."""

LONGEST_LINE = 512
LONGEST_MESSAGE = 8_192
LONGEST_FIELD_VALUE = 1_024
MOST_OWNERS = 100
MOST_CHANNELS = 10
MOST_ITEMS = 64
LONGEST_DUE_DAYS = 3_650
TASK_PRIORITIES = ("low", "medium", "high", "urgent")
OWNER_CHOICES = ("round_robin", "capacity")

_CHANNEL = re.compile(r"[a-z][a-z0-9_-]{0,63}", re.ASCII)
_FIELD = re.compile(r"[a-z][a-z0-9_]{0,63}", re.ASCII)


class ActionError(ValueError):
    """What is wrong with a key of the configuration; key "": with all of it."""

    def __init__(self, key: str, reason: str) -> None:
        super().__init__(reason)
        self.key = key


class ActionKey(NamedTuple):
    """A key of a configuration."""

    check: Callable[[Any], str | None]
    """What is wrong with a value; None: nothing."""
    about: str
    required: bool = False


def check_action(action: Any, config: Mapping[str, Any]) -> ActionType:
    """The type, if the configuration fits it. Raises ActionError."""
    if action not in ACTION_TYPES:
        problem = "missing" if action is None else f"{shorten_value(action)} is no action"
        raise ActionError("type", f"{problem}; those are {', '.join(ACTION_TYPES)}")
    kind: ActionType = action
    keys = ACTIONS[kind]
    for key, value in config.items():
        if key not in keys:
            raise ActionError(key, f"unknown; {kind} has {', '.join(keys)}")
        if (wrong := keys[key].check(value)) is not None:
            raise ActionError(key, wrong)
    for key, declared in keys.items():
        if declared.required and key not in config:
            raise ActionError(key, f"missing: {declared.about}")
    if (check := _CHECKS_TOGETHER.get(kind)) is not None:
        check(config)
    return kind


# Values


def _one_line(longest: int = LONGEST_LINE) -> Callable[[Any], str | None]:
    def check(value: Any) -> str | None:
        if not isinstance(value, str) or not value.strip() or len(value) > longest or not value.isprintable():
            return f"wants one line of 1 to {longest:,} characters, not {shorten_value(value)}"
        return None

    return check


def _message(value: Any) -> str | None:
    if not isinstance(value, str) or not value.strip() or len(value) > LONGEST_MESSAGE:
        return f"wants a text of 1 to {LONGEST_MESSAGE:,} characters, not {shorten_value(value)}"
    if any(not character.isprintable() and character not in "\n\t" for character in value):
        return "wants plain text, without control characters"
    return None


def _whole(lowest: int, highest: int) -> Callable[[Any], str | None]:
    def check(value: Any) -> str | None:
        if is_whole_number(value, lowest, highest):
            return None
        return f"is a whole number from {lowest} to {highest:,}, not {shorten_value(value)}"

    return check


def _flag(value: Any) -> str | None:
    return None if isinstance(value, bool) else f"is true or false, not {shorten_value(value)}"


def _one_of(*words: str) -> Callable[[Any], str | None]:
    def check(value: Any) -> str | None:
        return None if value in words else f"is {' or '.join(words)}, not {shorten_value(value)}"

    return check


def _id(value: Any) -> str | None:
    """A number or a short text."""
    if is_whole_number(value, 0, MAX_INTEGER):
        return None
    if isinstance(value, str) and value.strip() and len(value) <= 128 and value.isprintable():
        return None
    return f"is a whole number or a text of 1 to 128 characters, not {shorten_value(value)}"


def _channel(value: Any) -> str | None:
    if isinstance(value, str) and _CHANNEL.fullmatch(value):
        return None
    return (
        f"{shorten_value(value)} is no name of a channel: small letters, digits, _ and -. Its address and its secrets stand in "
        "the settings of delivery"
    )


def _channels(value: Any) -> str | None:
    if not isinstance(value, list) or not 1 <= len(value) <= MOST_CHANNELS:
        return f"wants a list of 1 to {MOST_CHANNELS} names of channels"
    return next((wrong for each in value if (wrong := _channel(each)) is not None), None)


def _owners(value: Any) -> str | None:
    if not isinstance(value, list) or not 1 <= len(value) <= MOST_OWNERS:
        return f"wants a list of 1 to {MOST_OWNERS} owners: [5, 7]"
    if (wrong := next((wrong for each in value if (wrong := _id(each)) is not None), None)) is not None:
        return f"an owner {wrong}"
    return None if len(set(map(str, value))) == len(value) else "names an owner twice"


def _field_name(value: Any) -> str | None:
    if not isinstance(value, str) or not _FIELD.fullmatch(value):
        return f"{shorten_value(value)} is no profile field: small letters, digits and _"
    if value in {"stage", MANUAL_STAGE_FIELD}:
        return "the stage is no profile field: the action move_to_stage changes it"
    return None


def _field_value(value: Any) -> str | None:
    match value:
        case bool():
            return None
        case str() if len(value) <= LONGEST_FIELD_VALUE and value.strip():
            return None
        case int() if abs(value) <= MAX_INTEGER:
            return None
        case float() if abs(value) <= MAX_FLOAT:
            return None
        case list() if 1 <= len(value) <= MOST_ITEMS and all(
            isinstance(item, str) and item.strip() and len(item) <= 256 for item in value
        ):
            return None
    return (
        f"is a text of 1 to {LONGEST_FIELD_VALUE:,} characters, a number, true, false or a list of texts, not "
        f"{shorten_value(value)}"
    )


# Actions

_TO = ActionKey(
    _one_of("lead", "owner", "channel"),
    "who gets it: lead, owner (of the lead), or channel (the recipients that its settings name)",
)
_TEMPLATE = ActionKey(_channel, "the name of a template in the settings of delivery")

ACTIONS: Final[Mapping[ActionType, Mapping[str, ActionKey]]] = {
    "assign_owner": {
        "owner_id": ActionKey(_id, "the one owner"),
        "owners": ActionKey(_owners, "several owners, of whom `by` chooses one"),
        "by": ActionKey(
            _one_of(*OWNER_CHOICES),
            "how one of the owners is chosen: in turn, or by the capacity that they have left",
        ),
        "working_hours": ActionKey(_flag, "true: only owners who are at work, if any of them is"),
        "keep": ActionKey(_flag, "true: a lead that has an owner keeps it"),
    },
    "change_status": {
        "status": ActionKey(
            _one_line(256), "the new status; a stage of the lifecycle moves the lead there", required=True
        ),
    },
    "send_email": {
        "channel": ActionKey(_channel, "the channel; without it, email"),
        "to": _TO,
        "template": _TEMPLATE,
        "subject": ActionKey(_one_line(), "the subject, without a template"),
        "text": ActionKey(_message, "the text, without a template"),
    },
    "create_task": {
        "title": ActionKey(_one_line(), "what is to be done", required=True),
        "description": ActionKey(_message, "more about it"),
        "due_in_days": ActionKey(_whole(0, LONGEST_DUE_DAYS), "in how many days it is due"),
        "priority": ActionKey(_one_of(*TASK_PRIORITIES), "how urgent it is"),
    },
    "send_notification": {
        "message": ActionKey(_message, "the message", required=True),
        "title": ActionKey(_one_line(), "its title"),
        "to": ActionKey(
            _one_of("owner", "everybody"), "whose inbox gets it: of the lead's owner, or everybody's"
        ),
        "owner_id": ActionKey(_id, "the one whose inbox gets it"),
        "channels": ActionKey(_channels, "channels that get it, too: Slack, Teams and others"),
    },
    "move_to_stage": {
        "stage": ActionKey(
            _one_line(64), "a stage of the lifecycle, or a band such as mql, sql or hot", required=True
        ),
        "days": ActionKey(_whole(1, LONGEST_DUE_DAYS), "how long a band is kept"),
        "reason": ActionKey(_one_line(), "what the history shows"),
    },
    "update_field": {
        "field": ActionKey(_field_name, "the profile field", required=True),
        "value": ActionKey(_field_value, "its new value", required=True),
    },
    "add_to_campaign": {
        "campaign_id": ActionKey(_id, "the campaign", required=True),
        "campaign_name": ActionKey(_one_line(), "its name"),
    },
    "send_webhook": {
        "channel": ActionKey(_channel, "the channel: a webhook or a CRM", required=True),
    },
}
"""The keys of each action, in the order in which they are documented."""


def _check_owner(config: Mapping[str, Any]) -> None:
    if ("owner_id" in config) == ("owners" in config):
        raise ActionError("owner_id", "wants owner_id = 5, or several owners = [5, 7], and not both")
    for key in ("by", "working_hours"):
        if key in config and "owners" not in config:
            raise ActionError(key, "chooses among owners, and there is only one")


def _check_email(config: Mapping[str, Any]) -> None:
    if "template" not in config and not {"subject", "text"} <= config.keys():
        raise ActionError("template", "wants a template, or a subject and a text")


def _check_notification(config: Mapping[str, Any]) -> None:
    if "to" in config and "owner_id" in config:
        raise ActionError("owner_id", "to says already who gets it")


_CHECKS_TOGETHER: Final[Mapping[ActionType, Callable[[Mapping[str, Any]], None]]] = {
    "assign_owner": _check_owner,
    "send_email": _check_email,
    "send_notification": _check_notification,
}
