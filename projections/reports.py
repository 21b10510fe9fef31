"""Views for people who query by SQL (psql, Grafana): the schema `reports`.

They have the names and columns of the systems that Leadstream replaces, beside `tenant` and `lead_id`. They show the
read models of every tenant, in both modes. A rebuild points them to its new tables in the moment of the swap, and what
was granted on them stays. A migration that changes the type of a column that they show has to drop them first.

  leads           identified leads, as they are now
  users           everybody, anonymous visitors too, with the score of their web sessions
  sessions        web sessions, each with its score
  answers         answers to questions of the chat
  user_behaviors  what else people did in the chat
  lead_scores     each lead's current score by the model `rules`, and by `composite` with its components
  lead_score_history  every change of a score, by every model
  lead_attribution    each conversion by each model of attribution, with its weighed touchpoints
  lead_lifecycle  every stage that a lead was in
  engagement_history  every event of a lead
  lead_journeys       each identified lead's journey: counts, trend, churn risk, revenue, milestones
  lead_activity_summary  what each day, ISO week and month of a lead brought
"""

# ruff: noqa: S608 - every query is made of constants

from typing import Final

from psycopg.sql import SQL, Identifier, Literal

from projections.connection import Connection
from projections.lifecycle import ENGAGEMENT_MODEL_AND_GROUP, TOUCHPOINT_TYPES
from scoring.analytics.shares import STABLE_WITHIN_PERCENT
from scoring.attribution.rules import TOUCH_MODELS
from scoring.features.signals import CURRENCIES_WITH_THREE_DECIMALS, CURRENCIES_WITHOUT_DECIMALS
from scoring.journeys.journey import ACTIVE_DAYS, CHURN_DAYS, DORMANT_DAYS, TREND_DAYS

REPORTS: Final = "reports"


def create_reports(connection: Connection, *, replace: bool = False) -> None:
    """Creates the views over the live tables. Replaces those whose query changed, or all: that waits for readers."""
    connection.execute(SQL("create schema if not exists {}").format(Identifier(REPORTS)))
    for name, query in QUERIES.items():
        view = Identifier(REPORTS, name)
        row = connection.execute(
            "select obj_description(to_regclass(%s), 'pg_class')", (f"{REPORTS}.{name}",)
        ).fetchone()
        if replace or row is None or row[0] != query:
            connection.execute(SQL("create or replace view {} as {}").format(view, SQL(query)))
            connection.execute(SQL("comment on view {} is {}").format(view, Literal(query)))


def _number(text: str) -> str:
    """The first 53 bits of the SHA-256 of a text."""
    return f"(('x' || substr(encode(sha256(convert_to({text}, 'UTF8')), 'hex'), 1, 16))::bit(64)::bigint >> 11) & 9007199254740991"


def _score(model: str, column: str = "rounded") -> str:
    return (
        f"(select s.{column} from live.lead_scores s where s.lead_key = l.lead_key and s.model = '{model}')"
    )


def _unless_refused(score: str) -> str:
    """Null for a lead that objects to profiling: it is not cold, nobody scores it."""
    return f"case when l.fields @> '{{\"profiling_consent\": false}}' then null else {score} end"


def _band(model: str, scale: str) -> str:
    return _score(model, f"bands ->> '{scale}'")


_LEAD_NUMBER: Final = (
    "case when l.lead_id ~ '^[1-9][0-9]{0,14}$' then l.lead_id::bigint "
    "else (l.lead_key >> 11) & 9007199254740991 end"
)
"""A lead's id as a number: its own, or the first 53 bits of its key."""

_VISITOR: Final = r"substring(i.identity from '^[^/]+/v/(.*)#[0-9]+$')"

_CHAT_VISITOR: Final = f"""(select {_VISITOR} from live.identities i
    where i.lead_key = l.lead_key and exists (
        select from live.engagement_history e where e.identity_key = i.identity_key and e.source = 'chatbot')
    order by i.attached_at desc, i.identity limit 1)"""

_FIRST_CAMPAIGN: Final = """(select e.campaign_source from live.identities i
    join live.engagement_history e on e.identity_key = i.identity_key
    where i.lead_key = l.lead_key and e.campaign_source is not null
    order by e.occurred_at, e.partition, e.position limit 1)"""

_COUNTS: Final = {
    "qr_scan_count": "qr_scanned",
    "catalog_views": "catalog_viewed",
    "messages_count": "message_received",
}


def _count(signal: str) -> str:
    return f"coalesce((l.counts ->> '{signal}')::int, 0)"


_LEADS: Final = f"""select
    {_LEAD_NUMBER} as id,
    l.tenant,
    l.lead_id,
    {_CHAT_VISITOR} as session_id,
    l.name,
    l.email,
    l.phone,
    l.company,
    l.fields ->> 'title' as title,
    l.fields ->> 'business_type' as business_type,
    l.fields ->> 'location' as location,
    l.fields ->> 'staff_size' as staff_size,
    l.fields ->> 'monthly_sales' as monthly_sales,
    l.fields ->> 'features_interested' as features_interested,
    l.fields ->> 'budget' as budget,
    l.fields ->> 'property_type' as property_type,
    l.fields ->> 'transaction_type' as transaction_type,
    l.fields ->> 'payment_method' as payment_method,
    l.fields as profile,
    {_unless_refused(f"coalesce({_score('temperature')}, 0)")} as lead_score,
    {_unless_refused(f"coalesce({_band('temperature', 'temperature')}, 'cold')::varchar(20)")} as temperature,
    {", ".join(f"{_count(signal)} as {name}" for name, signal in _COUNTS.items())},
    {" + ".join(map(_count, _COUNTS.values()))} as total_interactions,
    {_unless_refused(f"coalesce({_score('chatbot')}, 0)")} as chatbot_score,
    {_band("chatbot", "category")} as lead_classification,
    {_band("chatbot", "category")} as lead_type,
    {_band("rules", "stage")} as qualification_stage,
    l.stage,
    l.assigned_to,
    {_FIRST_CAMPAIGN} as utm_source,
    l.revenue,
    l.created_at,
    l.as_of as updated_at,
    l.last_interaction_at
from live.leads l where l.identities > 0 and l.identified"""

_USERS: Final = f"""select
    {_LEAD_NUMBER} as id,
    l.tenant,
    l.lead_id as user_id,
    l.lead_id,
    l.identified,
    l.name,
    l.email,
    {_unless_refused(f"coalesce({_score('web_session')}, 0)")} as lead_score,
    l.created_at,
    l.last_interaction_at
from live.leads l where l.identities > 0"""

_SESSIONS: Final = f"""select
    {_number("i.identity || ' ' || w.session_id")} as id,
    w.tenant,
    coalesce(w.producer_id, w.session_id) as session_id,
    w.session_id as canonical_id,
    i.lead_id as user_id,
    i.lead_id,
    {_VISITOR} as visitor_id,
    (select {_unless_refused("coalesce(floor(s.score + 0.5)::int, 0)")} from live.leads l where l.lead_key = i.lead_key)
        as lead_score,
    w.opened_at as started_at,
    w.last_at as ended_at,
    floor(extract(epoch from w.last_at - w.opened_at))::int as duration_seconds,
    w.pages as page_views_count,
    w.clicks as regular_clicks,
    w.important_clicks,
    coalesce(s.ended, w.closed) as ended,
    w.campaign
from live.sessions w
join live.identities i on i.identity_key = w.identity_key
left join lateral (
    select score, ended from live.session_scores s
    where s.session_key = w.session_key and s.model = 'web_session'
    order by s.scored_at desc, (s.lead_key = i.lead_key) desc, s.lead_key limit 1) s on true
where not w.retracted"""

_CHANGE_OF_CHAT: Final = """coalesce((select round(sum(h.change))::int from live.score_history h
    where h.lead_key = i.lead_key and h.model = 'chatbot' and h.caused_by = 'event:' || e.event_id
        and (h.at = e.recorded_at or h.at > e.recorded_at and not exists (
            select from live.engagement_history o
            join live.identities oi on oi.identity_key = o.identity_key
            where oi.lead_key = i.lead_key and o.event_id = e.event_id
                and o.recorded_at > e.recorded_at and o.recorded_at <= h.at))), 0)
    + coalesce(before.change, 0)"""
"""The points that an event of the chat gave or took: of the lead, or of the visitor before it was known who that is. Two
chats of one lead have events of the same id: a change is of the last one recorded before it.
"""

_BEFORE: Final = """left join (
    select h.caused_by, h.at, round(sum(h.change))::int as change from live.score_history h
    where h.model = 'chatbot' and not exists (select from live.leads a where a.lead_key = h.lead_key)
    group by 1, 2) before
    on before.caused_by = 'event:' || e.event_id and before.at = e.recorded_at"""
"""The ledgers of visitors who have become leads since: nothing else is left of those, so the moment tells apart events of
the same id.
"""

_EVENT_NUMBER: Final = _number("i.identity || ' ' || e.event_id")

_ANSWERS: Final = f"""select
    {_EVENT_NUMBER} as id,
    e.tenant,
    i.lead_id,
    coalesce({_VISITOR}, i.lead_id) as session_id,
    case when e.details ->> 'question_id' ~ '^[0-9]{{1,9}}$' then (e.details ->> 'question_id')::int end as question_id,
    e.details ->> 'question_id' as question_key,
    e.details ->> 'question' as question_text,
    coalesce(e.details ->> 'text', '') as answer_text,
    round((e.details ->> 'time_taken_s')::numeric)::int as time_taken,
    {_CHANGE_OF_CHAT} as score_earned,
    e.occurred_at as created_at
from live.engagement_history e
join live.identities i on i.identity_key = e.identity_key
{_BEFORE}
where e.type = 'question_answered'"""

_USER_BEHAVIORS: Final = f"""select
    {_EVENT_NUMBER} as id,
    e.tenant,
    i.lead_id,
    coalesce({_VISITOR}, i.lead_id) as session_id,
    coalesce(e.details -> 'extra' ->> 'action', e.type) as behavior_type,
    coalesce(e.details -> 'extra' ->> 'action', e.type) as action,
    e.details::text as behavior_metadata,
    {_CHANGE_OF_CHAT} as score_impact,
    {_CHANGE_OF_CHAT} as score_change,
    e.occurred_at as timestamp,
    e.occurred_at as created_at
from live.engagement_history e
join live.identities i on i.identity_key = e.identity_key
{_BEFORE}
where e.source = 'chatbot' and e.type <> 'question_answered'"""

_WHOLE_POINTS: Final = "floor({} + 0.5)::int"

_BREAKDOWN: Final = """(select coalesce(jsonb_object_agg(g.name, g.points), '{}'::jsonb) from (
        select coalesce(nullif(line ->> 0, ''), line ->> 2) as name, trim_scale(sum((line ->> 3)::numeric)) as points
        from live.score_history h, jsonb_array_elements(h.lines) line
        where h.lead_key = l.lead_key and h.model = 'rules' group by 1) g where g.points <> 0)"""

_MADE_BY: Final = "round(extract(epoch from h.at) * 1000)::bigint || ' ' || h.position"

_COMPOSITE, _ENGAGEMENT = ENGAGEMENT_MODEL_AND_GROUP
_COMPONENTS: Final = ("demographic", "behavioral", "firmographic", "engagement", "intent")


def _weight(group: str, text: str) -> str:
    """What a point of the group counts in the total, by the line `weight` of its table in a model's text; else 1."""
    table = rf"\[groups\.{group}\](?:(?!\n[ \t]*\[).)*?\n[ \t]*weight[ \t]*=[ \t]*([0-9.]+)(?![0-9.])"
    return f"coalesce(nullif(cast(substring({text} from '{table}') as numeric), 0), 1)"


def _component(group: str) -> str:
    """From 0 to 100: the group's points of the total, divided by its weight in the version that made them."""
    return f"""select round(coalesce((
            select sum(cast(line ->> 3 as numeric)) from live.score_history h, jsonb_array_elements(h.lines) line
            where h.lead_key = l.lead_key and h.model = '{_COMPOSITE}' and line ->> 0 = '{group}'), 0)
        / {_weight(group, "p.text")}, 2)
        from live.publications p
        where p.model = '{_COMPOSITE}' and p.version = c.version and p.tenant in (l.tenant, '*')
        order by p.tenant desc limit 1"""


_LEAD_SCORES: Final = f"""select
    {_number(f"l.tenant || '/l/' || l.lead_id || ' rules ' || coalesce({_MADE_BY}, '')")} as id,
    l.tenant,
    l.lead_id,
    {_LEAD_NUMBER} as lead,
    coalesce(nullif(l.name, ''), nullif(l.company, ''), l.lead_id) as lead_name,
    s.rounded as score,
    coalesce({_WHOLE_POINTS.format("h.previous")}, 0) as previous_score,
    s.rounded - coalesce({_WHOLE_POINTS.format("h.previous")}, 0) as score_change,
    {_BREAKDOWN} as score_breakdown,
    s.bands ->> 'stage' as qualification_stage,
    s.as_of as calculated_at,
    c.total as total_score,
    c.bands ->> 'grade' as grade,
    c.bands ->> 'temperature' as temperature,
    {", ".join(f"({_component(name)}) as {name}_score" for name in _COMPONENTS)},
    c.as_of as composite_calculated_at
from live.leads l
join live.lead_scores s on s.lead_key = l.lead_key and s.model = 'rules'
left join lateral (
    select h.at, h.position, h.previous from live.score_history h
    where h.lead_key = l.lead_key and h.model = 'rules' order by h.at desc, h.position desc limit 1) h on true
left join live.lead_scores c on c.lead_key = l.lead_key and c.model = '{_COMPOSITE}'
where l.identities > 0 and l.identified"""

_HISTORY: Final = f"""select
    {_number(f"l.tenant || '/l/' || l.lead_id || ' ' || h.model || ' ' || {_MADE_BY}")} as id,
    l.tenant,
    l.lead_id,
    {_LEAD_NUMBER} as lead,
    h.model,
    {_WHOLE_POINTS.format("h.total")} as score,
    {_WHOLE_POINTS.format("h.previous")} as previous_score,
    {_WHOLE_POINTS.format("h.total")} - {_WHOLE_POINTS.format("h.previous")} as score_change,
    h.bands,
    h.version,
    h.caused_by,
    h.at as calculated_at
from live.score_history h join live.leads l on l.lead_key = h.lead_key"""

_ZERO_DECIMALS: Final = ", ".join(f"'{name}'" for name in sorted(CURRENCIES_WITHOUT_DECIMALS))
_THREE_DECIMALS: Final = ", ".join(f"'{name}'" for name in sorted(CURRENCIES_WITH_THREE_DECIMALS))


def _major_units(minor: str, currency: str) -> str:
    """An amount with the decimals of its currency."""
    return f"""case when {currency} in ({_ZERO_DECIMALS}) then cast({minor} as numeric)
        when {currency} in ({_THREE_DECIMALS}) then {minor} / 1000.000 else {minor} / 100.00 end"""


_IN_MAJOR_UNITS: Final = """(select coalesce(jsonb_object_agg(m.key, trim_scale(m.value::numeric / case
        when m.key = any({zero_decimals}) then 1 when m.key = any({three_decimals}) then 1000 else 100 end)), '{{}}'::jsonb)
    from jsonb_each_text({money}) m)"""


def _in_major_units(money: str) -> str:
    """Money by currency as people write it."""
    return _IN_MAJOR_UNITS.format(
        money=money,
        zero_decimals=f"array{sorted(CURRENCIES_WITHOUT_DECIMALS)}",
        three_decimals=f"array{sorted(CURRENCIES_WITH_THREE_DECIMALS)}",
    )


_CONVERSION_VALUES: Final = """(select coalesce(jsonb_object_agg(a.value ->> 0, a.value -> 1), '{}'::jsonb)
    from jsonb_array_elements(c.amounts) a)"""

_ATTRIBUTION: Final = f"""select
    {_number("c.lead_key || '/' || c.conversion_key || '/' || m.model")} as id,
    c.tenant,
    c.lead_id,
    c.conversion_type,
    c.conversion_id,
    trim_scale({_major_units("v.minor", "v.currency")}) as conversion_value,
    v.currency,
    c.converted_at as conversion_date,
    m.model as attribution_model,
    t.touchpoints,
    c.touchpoints as total_touchpoints,
    t.touchpoints -> 0 as first_touch,
    t.touchpoints -> -1 as last_touch,
    t.main -> 0 as primary_touchpoint,
    t.main -> 1 as secondary_touchpoint,
    round(c.journey_ms / 86400000.0, 2) as journey_duration_days,
    round(c.average_gap_ms / 3600000.0, 2) as avg_time_between_touches_hours,
    c.identified,
    {_in_major_units(_CONVERSION_VALUES)} as conversion_values
from live.lead_conversions c
cross join unnest('{{{",".join(TOUCH_MODELS)}}}'::text[]) with ordinality m(model, number)
left join lateral (
    select a.value ->> 0 as currency, (a.value ->> 1)::bigint as minor
    from jsonb_array_elements(c.amounts) a where jsonb_array_length(c.amounts) = 1) v on true
cross join lateral (
    select coalesce(jsonb_agg(w.item order by w.number), '[]') as touchpoints,
        jsonb_agg(w.item order by w.weight desc, w.number) filter (where w.weight > 0) as main
    from (
        select e.number, (e.item ->> (4 + m.number::int))::bigint as weight, jsonb_build_object(
            'date', to_timestamp((e.item ->> 0)::bigint / 1000.0),
            'engagement_type', e.item -> 1,
            'channel', e.item -> 2,
            'type', e.item -> 3,
            'name', e.item -> 4,
            'weight', trim_scale((e.item ->> (4 + m.number::int))::bigint / 1000000000.0)) as item
        from jsonb_array_elements(c.weighed) with ordinality e(item, number)) w) t"""
"""A conversion with values in several currencies has no single value: `conversion_values` has them all."""

_TYPES: Final = ", ".join(f"'{name}'" for name in TOUCHPOINT_TYPES)

_WITHIN_STAGE: Final = (
    "({at} >= v.entered_at or v.position = -1) and ({at} < v.exited_at or v.exited_at is null)"
)

_LEAD_LIFECYCLE: Final = f"""with every as (
    select lead_key, at, position, stage, previous, reason, caused_by from live.stage_history
    union all
    select l.lead_key, least(l.created_at, f.at), -1, coalesce(f.previous, l.stage), null, '', ''
    from live.leads l left join (
        select distinct on (lead_key) lead_key, at, previous from live.stage_history
        order by lead_key, at, position) f on f.lead_key = l.lead_key),
visits as (
    select lead_key, position, stage, previous, reason, caused_by, at as entered_at,
        lead(at) over (partition by lead_key order by at, position) as exited_at
    from every)
select
    {_number("l.tenant || '/l/' || l.lead_id || ' stage ' || v.position || ' ' || v.stage")} as id,
    l.tenant,
    l.lead_id,
    {_LEAD_NUMBER} as lead,
    v.stage,
    v.previous as previous_stage,
    v.entered_at,
    v.exited_at,
    round(extract(epoch from coalesce(v.exited_at, greatest(now(), v.entered_at)) - v.entered_at) / 86400, 2)
        as duration_days,
    (select count(*) from live.identities i join live.engagement_history e on e.identity_key = i.identity_key
        where i.lead_key = v.lead_key and e.type in ({_TYPES})
        and {_WITHIN_STAGE.format(at="e.recorded_at")})::int as touchpoints_count,
    (select round(coalesce((
            select sum(cast(line ->> 3 as numeric)) from live.score_history h, jsonb_array_elements(h.lines) line
            where h.lead_key = v.lead_key and h.model = '{_COMPOSITE}' and line ->> 0 = '{_ENGAGEMENT}'
            and not starts_with(h.caused_by, 'model:') and {_WITHIN_STAGE.format(at="h.at")}), 0)
        / {_weight(_ENGAGEMENT, "p.text")}, 6)
        from live.publications p
        where p.model = '{_COMPOSITE}' and p.text is not null and p.tenant in (l.tenant, '*')
        order by p.version desc limit 1) as engagement_score,
    coalesce((
        select e.details ->> 'reason' from live.identities i
        join live.engagement_history e on e.identity_key = i.identity_key
        where i.lead_key = v.lead_key and e.type = 'stage_changed' and 'event:' || e.event_id = v.caused_by
        and e.details ->> 'stage' = v.stage limit 1), nullif(v.reason, '')) as transition_reason,
    v.exited_at is null as is_current_stage,
    v.entered_at as created_at
from visits v join live.leads l on l.lead_key = v.lead_key
where l.identities > 0 and l.identified"""

_ENGAGEMENT_HISTORY: Final = f"""select
    {_EVENT_NUMBER} as id,
    e.tenant,
    i.lead_id,
    e.event_id,
    e.type as engagement_type,
    e.channel as engagement_channel,
    e.channel_group,
    e.title,
    e.url,
    e.engagement_value,
    e.source_type,
    e.source_id,
    e.source_name,
    e.campaign_source,
    e.campaign_medium,
    e.campaign_name,
    {_major_units("e.revenue_minor", "e.currency")} as revenue,
    e.currency,
    e.details as engagement_metadata,
    e.device_type,
    e.os,
    e.browser,
    e.location,
    e.ip as ip_address,
    e.session_id,
    e.late,
    e.imported,
    e.recorded_at,
    e.occurred_at as created_at
from live.engagement_history e
join live.identities i on i.identity_key = e.identity_key"""

_ZONE: Final = """coalesce((select s.settings::jsonb ->> 'time_zone' from live.analytics_settings s
    where s.tenant in (j.tenant, '*') order by s.tenant = '*' limit 1), 'UTC')"""
_IDLE_DAYS: Final = (
    "greatest(d.today - coalesce(j.last_interaction_day, (j.created_at at time zone d.zone)::date), 0)"
)
_LEAD_JOURNEYS: Final = f"""select
    case when j.lead_id ~ '^[1-9][0-9]{{0,14}}$' then j.lead_id::bigint
        else (j.lead_key >> 11) & 9007199254740991 end as id,
    j.tenant,
    j.lead_id,
    j.created_at as journey_start_date,
    j.last_interaction_at as last_activity_date,
    round((extract(epoch from greatest(j.last_interaction_at, j.created_at) - j.created_at) / 86400)::numeric, 2) as duration_days,
    j.stage as current_stage,
    j.stage_path,
    j.furthest_stage,
    j.engagements as total_engagements,
    j.touchpoints as total_touchpoints,
    coalesce((j.type_counts ->> 'email_opened')::int, 0) + coalesce((j.type_counts ->> 'email_clicked')::int, 0)
        + coalesce((j.type_counts ->> 'email_replied')::int, 0) as email_engagements,
    coalesce((j.type_counts ->> 'form_submitted')::int, 0) as form_submissions,
    coalesce((j.type_counts ->> 'page_viewed')::int, 0) as page_views,
    j.orders as purchases,
    t.trend as engagement_trend,
    {_IDLE_DAYS} as days_since_last_activity,
    round(least(least({_IDLE_DAYS}::numeric / {CHURN_DAYS}, 1)
        + case t.trend when 'declining' then 0.1 else 0 end, 1), 4) as risk_of_churn,
    {_in_major_units("j.net")} as lifetime_value,
    {_in_major_units("j.gross")} as total_revenue,
    jsonb_build_object('first_contact', j.first_contact_at, 'qualified', j.qualified_at,
        'opportunity', j.opportunity_at, 'customer', j.customer_at) as milestones,
    j.entered as stages_entered,
    j.score
from live.lead_journeys j
cross join lateral (select z.zone, (now() at time zone z.zone)::date as today from (select {_ZONE} as zone) z) d
cross join lateral (
    select coalesce(sum(interactions) filter (where day > d.today - {TREND_DAYS}), 0) as recent,
        coalesce(sum(interactions) filter (where day <= d.today - {TREND_DAYS}), 0) as before
    from live.lead_days w
    where w.lead_key = j.lead_key and w.day > d.today - {2 * TREND_DAYS} and w.day <= d.today) c
cross join lateral (select case
    when abs(c.recent - c.before) * 100 <= {STABLE_WITHIN_PERCENT} * c.before then 'stable'
    when c.recent > c.before then 'increasing' else 'declining' end as trend) t
where j.identified"""

_SUMMED_DAYS: Final = ", ".join(
    f"sum(w.{column})::int as {name}"
    for column, name in {
        "emails_sent": "emails_sent",
        "emails_opened": "emails_opened",
        "emails_clicked": "emails_clicked",
        "emails_replied": "emails_replied",
        "forms_submitted": "forms_submitted",
        "pages_viewed": "pages_viewed",
        "interactions": "total_engagements",
        "touchpoints": "total_touchpoints",
        "orders": "purchases",
    }.items()
)

_SUMMARY_NUMBER: Final = _number(
    "w.tenant || '/l/' || j.lead_id || ' ' || p.period_type || ' ' || p.period_start::text"
)

_NET_OF_PERIOD: Final = """(select coalesce(jsonb_object_agg(s.currency, s.minor), '{}'::jsonb) from (
        select n.key as currency, sum(n.value::numeric) as minor from live.lead_days o, jsonb_each_text(o.net) n
        where o.lead_key = w.lead_key and o.day >= p.period_start and o.day < p.period_end group by n.key) s)"""

_LEAD_ACTIVITY_SUMMARY: Final = f"""select
    {_SUMMARY_NUMBER} as id,
    w.tenant,
    j.lead_id,
    p.period_type,
    p.period_start,
    {_SUMMED_DAYS},
    sum(w.engagement) as engagement_points,
    (array_agg(w.score_start order by w.day))[1] as score_start,
    (array_agg(w.score_end order by w.day desc))[1] as score_end,
    (array_agg(w.score_end order by w.day desc))[1] - (array_agg(w.score_start order by w.day))[1] as score_change,
    (array_agg(w.stage_start order by w.day))[1] as stage_at_start,
    (array_agg(w.stage_end order by w.day desc))[1] as stage_at_end,
    sum(w.stage_changes) > 0 as stage_changed,
    max(w.last_interaction_at) as last_interaction_at,
    case when max(w.last_interaction_at) is null then 'inactive' else (
        select case when idle <= {ACTIVE_DAYS} then 'active' when idle <= {DORMANT_DAYS} then 'dormant' else 'inactive' end
        from (select least(p.period_end - 1, d.today) - (max(w.last_interaction_at) at time zone d.zone)::date as idle) i)
    end as activity_status,
    {_in_major_units(_NET_OF_PERIOD)} as revenue
from live.lead_days w
join live.lead_journeys j on j.lead_key = w.lead_key
cross join lateral (select z.zone, (now() at time zone z.zone)::date as today from (select {_ZONE} as zone) z) d
cross join lateral (values
    ('daily', w.day, w.day + 1),
    ('weekly', date_trunc('week', w.day::timestamp)::date, date_trunc('week', w.day::timestamp)::date + 7),
    ('monthly', date_trunc('month', w.day::timestamp)::date,
        (date_trunc('month', w.day::timestamp) + interval '1 month')::date)) p (period_type, period_start, period_end)
where w.identified
group by w.tenant, w.lead_key, j.lead_id, p.period_type, p.period_start, p.period_end, d.zone, d.today"""

QUERIES: Final = {
    "leads": _LEADS,
    "users": _USERS,
    "sessions": _SESSIONS,
    "answers": _ANSWERS,
    "user_behaviors": _USER_BEHAVIORS,
    "lead_scores": _LEAD_SCORES,
    "lead_score_history": _HISTORY,
    "lead_attribution": _ATTRIBUTION,
    "lead_lifecycle": _LEAD_LIFECYCLE,
    "engagement_history": _ENGAGEMENT_HISTORY,
    "lead_journeys": _LEAD_JOURNEYS,
    "lead_activity_summary": _LEAD_ACTIVITY_SUMMARY,
}
"""The query of each view. Columns are only ever added, at the end: a view is replaced in place."""
