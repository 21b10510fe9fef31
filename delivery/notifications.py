"""Messages to people inside the application, with who has read them. A repetition under the same execution adds nothing."""

from datetime import datetime
from typing import Final, LiteralString

from msgspec import json

from delivery import built_in_texts
from delivery.message import Message
from delivery.outcomes import DeliveryRejectedError
from delivery.templates import TemplateRefusedError, render_published, render_text
from projections.connection import Connection
from projections.worker import CHANGES_CHANNEL

_ADD: Final[LiteralString] = """
  insert into public.notifications (tenant, execution_id, lead_id, workflow_id, recipient, title, message, created_at)
  values (%(tenant)s, %(execution_id)s, %(lead_id)s, %(workflow_id)s, %(recipient)s, %(title)s, %(message)s, %(at)s)
  on conflict (tenant, execution_id) do nothing
"""
_NOTIFY: Final[LiteralString] = "select pg_notify(%s, %s)"
_MARK_READ: Final[LiteralString] = """
  update public.notifications set read_at = %(at)s, read_by = %(by)s
  where tenant = %(tenant)s and execution_id = any(%(execution_ids)s) and read_at is null
"""
_MARK_ALL_READ: Final[LiteralString] = """
  update public.notifications set read_at = %(at)s, read_by = %(by)s
  where tenant = %(tenant)s and read_at is null and created_at <= %(until)s
    and (%(recipient)s::text is null or recipient is null or recipient = %(recipient)s)
"""
_MARK_UNREAD: Final[LiteralString] = """
  update public.notifications set read_at = null, read_by = null
  where tenant = %(tenant)s and execution_id = any(%(execution_ids)s)
"""


def notification_texts(message: Message) -> tuple[str, str]:
    """(title, message). Raises DeliveryRejectedError."""
    own_title, own = message.config.get("title"), message.config.get("message")
    try:
        title = (
            render_published(str(own_title), message)
            if own_title
            else render_text(built_in_texts.TITLE, message)
        )
        text = render_published(str(own), message) if own else message.reason
    except TemplateRefusedError as cause:
        raise DeliveryRejectedError(f"the text cannot be made: {cause}") from cause
    return title, text


def add_notification(connection: Connection, message: Message, title: str, text: str, now: datetime) -> None:
    recipient = message.config.get("owner_id")
    if message.config.get("to") == "owner" and message.owner is not None:
        recipient = message.owner.owner_id
    with connection.transaction():
        added = connection.execute(
            _ADD,
            {
                "tenant": message.tenant,
                "execution_id": message.execution_id,
                "lead_id": message.lead.lead_id,
                "workflow_id": message.workflow_id,
                "recipient": None if recipient is None else str(recipient),
                "title": title,
                "message": text,
                "at": now,
            },
        )
        if added.rowcount:
            payload = json.encode({"notification": (message.tenant, message.execution_id)}).decode()
            connection.execute(_NOTIFY, (CHANGES_CHANNEL, payload))


def mark_read(
    connection: Connection, tenant: str, execution_ids: list[int], *, by: str | None, at: datetime
) -> int:
    """Returns how many were unread."""
    with connection.transaction():
        return connection.execute(
            _MARK_READ, {"tenant": tenant, "execution_ids": execution_ids, "by": by, "at": at}
        ).rowcount


def mark_all_read(
    connection: Connection,
    tenant: str,
    *,
    recipient: str | None,
    by: str | None,
    at: datetime,
    until: datetime,
) -> int:
    """Marks the messages up to a moment: all, or those for `recipient` and for everybody. Returns how many were unread."""
    with connection.transaction():
        return connection.execute(
            _MARK_ALL_READ,
            {"tenant": tenant, "recipient": recipient, "by": by, "at": at, "until": until},
        ).rowcount


def mark_unread(connection: Connection, tenant: str, execution_ids: list[int]) -> int:
    with connection.transaction():
        return connection.execute(_MARK_UNREAD, {"tenant": tenant, "execution_ids": execution_ids}).rowcount
