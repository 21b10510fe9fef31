"""What is decided before the first attempt: whether the channel exists, quiet hours, the cap, and who gets a lead.

It runs in the transaction that claims the row, so a decision is on record before anything is sent, and every attempt does the
same.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, LiteralString
from zoneinfo import ZoneInfo

from delivery.channels.apprise_services import AppriseChannel
from delivery.channels.smtp_email import EmailChannel
from delivery.configuration import Channel, DeliveryConfiguration
from delivery.hours import end_of_hours, start_of_day
from delivery.message import LeadCard, Message, OwnerCard
from delivery.outbox import Plan, Postpone, Prepare, Proceed, Refuse, Row, Skip
from delivery.owners import choose_owner
from projections.connection import Connection
from projections.outbox import LEAD_CHANNEL, NOTIFICATIONS_CHANNEL
from scoring.features.profile_fields import PROFILING_CONSENT_FIELD
from scoring.workflows.actions import LEAD_ACTIONS

ZoneOfTenant = Callable[[str], ZoneInfo]

LEAD_PATIENCE: Final = timedelta(minutes=10)
"""How long a message waits for the read models to have its lead."""
_LEAD_WAIT: Final = timedelta(seconds=2)

_LOCK: Final[LiteralString] = "select pg_advisory_xact_lock(hashtextextended(%s, 0))"
_SENT_TODAY: Final[LiteralString] = """
  select count(*) from public.outbox
  where lead_key = %(lead_key)s and last_attempt_at >= %(since)s and channel = any(%(channels)s)
    and status in ('delivering', 'delivered', 'failed') and (execution_id, channel) <> (%(execution_id)s, %(channel)s)
"""
_LAST_OWNER: Final[LiteralString] = """
  select decision ->> 'owner_id' from public.outbox
  where tenant = %s and workflow_id = %s and decision ? 'owner_id'
  order by last_attempt_at desc, execution_id desc limit 1
"""
_OPEN_LEADS: Final[LiteralString] = """
  select assigned_to, count(*) from live.leads
  where tenant = %s and assigned_to = any(%s) and identities > 0
    and stage not in ('customer', 'disqualified', 'churned', 'lost')
  group by assigned_to
"""


def preparation(configuration: DeliveryConfiguration, zone_of: ZoneOfTenant, now: datetime) -> Prepare:
    """Decides by this configuration, at this moment."""

    def prepare(connection: Connection, row: Row, lead: LeadCard | None) -> Plan:
        tenant, zone = row["tenant"], zone_of(row["tenant"])
        if row["attempts"] >= configuration.limits.attempts:
            return Refuse(row["last_error"] or "its worker was killed at every attempt")
        is_event = row["action"] in LEAD_ACTIONS
        channel = configuration.channel(row["channel"], tenant)
        refused = _refused_channel(row, channel)
        if refused is not None:
            return Refuse(refused)
        if lead is None:
            if now - row["created_at"] < LEAD_PATIENCE:
                return Postpone(now + _LEAD_WAIT, "the read models do not have the lead yet")
            if not is_event:
                return Skip("the lead no longer exists")
            lead = LeadCard(row["lead_id"])
        if lead.fields.get(PROFILING_CONSENT_FIELD) is False:
            return Skip("the lead objects to profiling, so no workflow acts on it")
        if is_event:  # it names the lead of the trigger; the folds follow a merge
            lead = lead._replace(lead_id=row["lead_id"])
        if isinstance(channel, EmailChannel | AppriseChannel) and not channel.always:
            until = end_of_hours(now, configuration.limits.quiet(), zone)
            if until is not None:
                return Postpone(until, "quiet hours")
            if _is_over_cap(connection, row, configuration, start_of_day(now, zone)):
                return Skip("the lead has had its messages of this day")
        if row["action"] != "assign_owner":
            return Proceed(_message(row, lead, _owner_card(configuration, tenant, lead.assigned_to)))
        return _with_owner(connection, row, lead, configuration, zone, now)

    return prepare


def _refused_channel(row: Row, channel: Channel | None) -> str | None:
    """Why the channel cannot do this action; None: it can."""
    name, action = row["channel"], row["action"]
    if action in LEAD_ACTIONS:
        return None
    if action not in {"send_email", "send_notification", "send_webhook"}:
        return f"this version knows no action {action[:40]!r}"
    if action == "send_notification" and name == NOTIFICATIONS_CHANNEL:
        return None
    if channel is None or name == LEAD_CHANNEL:
        return f"there is no channel {name[:64]!r} for this tenant: LEADSTREAM_DELIVERY names the file that defines channels"
    if action == "send_email" and not isinstance(channel, EmailChannel):
        return f"the channel {name!r} does not send e-mails"
    return None


def _is_over_cap(
    connection: Connection, row: Row, configuration: DeliveryConfiguration, since: datetime
) -> bool:
    most = configuration.limits.messages_per_lead_and_day
    if most is None:
        return False
    capped = [
        name
        for name, channel in configuration.channels.items()
        if isinstance(channel, EmailChannel | AppriseChannel) and not channel.always
    ]
    connection.execute(_LOCK, (f"leadstream cap {row['lead_key']}",))
    counted = connection.execute(
        _SENT_TODAY,
        {
            "lead_key": row["lead_key"],
            "since": since,
            "channels": capped,
            "execution_id": row["execution_id"],
            "channel": row["channel"],
        },
    ).fetchone()
    return counted is not None and counted[0] >= most


def _with_owner(
    connection: Connection,
    row: Row,
    lead: LeadCard,
    configuration: DeliveryConfiguration,
    zone: ZoneInfo,
    now: datetime,
) -> Plan:
    """The owner of an earlier attempt, or one that is chosen now."""
    tenant, config = row["tenant"], row["config"]
    if row["decision"] is not None:
        owner_id = str(row["decision"]["owner_id"])
    else:
        candidates = owner_ids(config)
        if not candidates:
            return Refuse("the action names no owner: owner_id, or owners")
        if config.get("keep") and lead.assigned_to:
            return Skip("the lead has an owner already")
        owner_id = candidates[0]
        if len(candidates) > 1:
            connection.execute(_LOCK, (f"leadstream owners {tenant} {row['workflow_id']}",))
            last = connection.execute(_LAST_OWNER, (tenant, row["workflow_id"])).fetchone()
            owner_id = choose_owner(
                candidates,
                by_capacity=config.get("by") == "capacity",
                working_hours=bool(config.get("working_hours")),
                owners=configuration.owners_of(tenant),
                open_leads=dict(connection.execute(_OPEN_LEADS, (tenant, list(candidates))).fetchall()),
                last=last[0] if last else None,
                now=now,
                zone=zone,
            )
    owner = _owner_card(configuration, tenant, owner_id)
    return Proceed(_message(row, lead, owner), {"owner_id": owner_id})


def owner_ids(config: Mapping[str, Any]) -> Sequence[str]:
    """The owners among whom assign_owner chooses."""
    several = config.get("owners")
    if isinstance(several, list):
        return list(dict.fromkeys(str(each) for each in several))
    return [] if config.get("owner_id") is None else [str(config["owner_id"])]


def _owner_card(configuration: DeliveryConfiguration, tenant: str, owner_id: str | None) -> OwnerCard | None:
    if owner_id is None:
        return None
    owner = configuration.owners_of(tenant).get(owner_id)
    return OwnerCard(owner_id) if owner is None else OwnerCard(owner_id, owner.name, owner.email)


def _message(row: Row, lead: LeadCard, owner: OwnerCard | None) -> Message:
    return Message(
        tenant=row["tenant"],
        execution_id=row["execution_id"],
        workflow_id=row["workflow_id"],
        workflow=row["workflow"],
        version=row["version"],
        trigger=row["trigger"],
        reason=row["reason"],
        action=row["action"],
        config=row["config"],
        hops=row["hops"],
        at=row["at"],
        channel=row["channel"],
        attempt=row["attempts"] + 1,
        lead=lead,
        owner=owner,
    )
