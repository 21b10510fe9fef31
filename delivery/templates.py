"""Texts with places for values, by Jinja: `{{ lead.name }}`. Sandboxed; HTML is escaped; a misspelt name is refused.

The configuration may use all of Jinja. Texts of published workflows have places for values only (no loops, no calls), so
that none costs more than its length.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from jinja2 import StrictUndefined, TemplateError
from jinja2.exceptions import SecurityError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from delivery.message import LeadCard, Message, OwnerCard
from scoring.workflows.message_texts import MessageTextError, refuse_logic

MOST_RENDERED_CHARACTERS: Final = 500_000


class TemplateRefusedError(ValueError):
    """A text cannot be rendered; the message says why."""


class _Blanks(dict[str, Any]):
    """A mapping in which a missing value is blank: not every lead has every field."""

    def __missing__(self, _name: str) -> str:
        return ""


_TEXT: Final = ImmutableSandboxedEnvironment(
    undefined=StrictUndefined, autoescape=False, keep_trailing_newline=True
)
_HTML: Final = ImmutableSandboxedEnvironment(
    undefined=StrictUndefined, autoescape=True, keep_trailing_newline=True
)


def values_of(message: Message) -> dict[str, Any]:
    """The names that a text may use."""
    lead, owner = message.lead, message.owner or OwnerCard("")
    return {
        "lead": {
            "id": lead.lead_id,
            "name": lead.name or "",
            "email": lead.email or "",
            "phone": lead.phone or "",
            "company": lead.company or "",
            "stage": lead.stage or "",
            "assigned_to": lead.assigned_to or "",
            "fields": _Blanks(lead.fields),
            "scores": _Blanks(lead.scores),
        },
        "owner": {"id": owner.owner_id, "name": owner.name, "email": owner.email or ""},
        "workflow": {"id": message.workflow_id, "name": message.workflow, "trigger": message.trigger},
        "reason": message.reason,
        "at": message.at.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "execution_id": message.execution_id,
        "tenant": message.tenant,
    }


def render_text(template: str, message: Message) -> str:
    """Raises TemplateRefusedError."""
    return _render(_TEXT, template, values_of(message))


def render_html(template: str, message: Message) -> str:
    """Values are escaped. Raises TemplateRefusedError."""
    return _render(_HTML, template, values_of(message))


def render_published(template: str, message: Message) -> str:
    """As `render_text`, for a text of a published workflow."""
    try:
        refuse_logic(template)
    except MessageTextError as mistake:
        raise TemplateRefusedError(str(mistake)) from mistake
    return _render(_TEXT, template, values_of(message))


def check_template(template: str, *, html: bool = False) -> None:
    """Renders it once with an invented lead. Raises TemplateRefusedError."""
    (render_html if html else render_text)(template, SAMPLE)


def _render(environment: ImmutableSandboxedEnvironment, template: str, values: Mapping[str, Any]) -> str:
    parts, length = list[str](), 0
    try:
        for part in environment.from_string(template).generate(values):
            length += len(part)
            if length > MOST_RENDERED_CHARACTERS:
                raise TemplateRefusedError(f"the text is longer than {MOST_RENDERED_CHARACTERS:,} characters")
            parts.append(part)
    except (TemplateError, SecurityError) as cause:
        raise TemplateRefusedError(str(cause)) from cause
    except RecursionError:
        raise TemplateRefusedError("it is nested too deeply") from None
    except (ArithmeticError, LookupError, TypeError, ValueError) as cause:
        if isinstance(cause, TemplateRefusedError):
            raise
        raise TemplateRefusedError(f"{type(cause).__name__}: {cause}") from cause
    return "".join(parts)


SAMPLE: Final = Message(
    tenant="default",
    execution_id=4_503_599_627_370_495,
    workflow_id=1,
    workflow="Notify on hot lead",
    version=1,
    trigger="score_threshold",
    reason="rules rose from 71 to 82, through 80",
    action="send_notification",
    config={},
    hops=0,
    at=datetime(2026, 1, 1, 9, 30, tzinfo=UTC),
    channel="sample",
    attempt=1,
    lead=LeadCard(
        "lead-123",
        "Ada Lovelace",
        "ada@example.com",
        "+442079460000",
        "Analytical Engines",
        "qualified",
        "5",
        {"industry": "SaaS", "country": "GB"},
        {"rules": 82, "composite": 74},
    ),
    owner=OwnerCard("5", "Grace Hopper", "grace@example.com"),
)
"""An invented lead, for checks and previews."""
