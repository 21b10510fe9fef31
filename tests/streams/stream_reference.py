"""An independent, sequential reading of the rules: no epochs, no owners, no deltas.

It sees each key's events in order, decides who each event belongs to, and only then counts. What it
says of a lead must equal what the two folds say, whatever the interleaving.
"""

from collections import defaultdict

from schemas import events as e
from schemas.decode import key_of
from schemas.moment import millis

MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000
SKEW = 5 * MINUTE
NOT_ACTS = ("email_sent", "sms_sent", "profile_updated", "lead_identified", "leads_merged", "merge_undone",
            "stage_changed", "session_ended", "session_heartbeat", "consent_changed")  # fmt: skip


def kind_of(event):
    return type(event).__struct_config__.tag


def segments_of(key, events):
    """[(home, name, counted events, events that may cut sessions)] of one key."""
    _, kind, who = key.split("/", 2)
    found = [["anon:" + who if kind == "v" else who, [], []]]
    here, stamp, seen, clock = 0, None, set(), 0
    for event in events:
        recorded = millis(event.recorded_at)
        occurred = min(millis(event.occurred_at), recorded + SKEW)
        clock = max(clock, recorded)
        at = here
        if event.visitor_id and event.lead_id:
            mine = (occurred, event.event_id, event.lead_id)
            if found[here][0] != event.lead_id:
                if found[here][0].startswith("anon:"):
                    found[here][0] = event.lead_id
                else:
                    homes = [home for home, _, _ in found]
                    if event.lead_id not in homes:
                        found.append([event.lead_id, [], []])
                        homes.append(event.lead_id)
                    at = homes.index(event.lead_id)
                    if stamp is None or mine > stamp:
                        here = at
            if stamp is None or mine > stamp:
                stamp = mine
        if event.event_id in seen:
            continue
        seen.add(event.event_id)
        found[at][1].append((occurred, event))
        if occurred >= clock - DAY and event.visitor_id and event.source == "web":
            found[at][2].append((occurred, event))
    return [(home, f"{key}#{i}", all_, web) for i, (home, all_, web) in enumerate(found)]


def root_of(lead, redirects):
    walk = [lead]
    while redirects.get(walk[-1]):
        onward = redirects[walk[-1]]
        if onward in walk:
            return min(walk[walk.index(onward) :])
        walk.append(onward)
    return walk[-1]


def sessions_of(events):
    """Rows (opened, last, closed, pages, clicks, important) by the id of the opening event."""
    out, now = [], None
    for t, event in sorted(events, key=lambda pair: (pair[0], pair[1].event_id)):
        kind = kind_of(event)
        gap_ok = (
            now is not None and not now["ended"] and t - now["last"] < 30 * MINUTE and t - now["open"] < DAY
        )
        pid_ok = now is not None and not (event.session_id and now["pid"] and event.session_id != now["pid"])
        if kind in ("session_ended", "session_heartbeat"):
            if gap_ok and pid_ok:
                now["last"] = max(now["last"], t)
                now["pid"] = now["pid"] or event.session_id
                now["ended"] = now["closed"] = kind == "session_ended"
            continue
        if kind in NOT_ACTS:
            continue
        campaign = event.context.campaign.source if event.context and event.context.campaign else ""
        if not (gap_ok and pid_ok and (not campaign or campaign == now["campaign"])):
            if now is not None and not now["ended"]:
                now["closed"] = t - now["last"] < 30 * MINUTE
            now = {"id": event.event_id, "open": t, "last": t, "ended": False, "closed": False, "campaign": campaign,
                   "pid": event.session_id, "pages": 0, "clicks": 0, "important": 0}  # fmt: skip
            out.append(now)
        now["last"] = max(now["last"], t)
        now["pid"] = now["pid"] or event.session_id
        if kind == "page_viewed":
            now["pages"] += 1
        elif kind == "element_clicked":
            key = (
                "important"
                if (event.text or "").strip().lower() in ("get a demo", "be an early bird")
                else "clicks"
            )
            now[key] += 1
    return {
        s["id"]: (s["open"], s["last"], s["closed"], s["pages"], s["clicks"], s["important"]) for s in out
    }


def parts_and_redirects(events):
    """(the segments of every key, lead -> the lead that it was merged into)."""
    keys, redirects = defaultdict(list), {}
    for event in events:
        keys[key_of(event)].append(event)
    parts = []
    for key, mine in keys.items():
        parts += segments_of(key, mine)
    for _, name, counted, _ in parts:
        if "/l/" in name:
            for _, event in counted:
                if isinstance(event, e.LeadsMerged):
                    redirects[event.lead_id] = event.into
                elif isinstance(event, e.MergeUndone):
                    redirects[event.lead_id] = None
    return parts, redirects


def addresses(events):
    """Lead -> every e-mail and phone that is the last one of somebody behind a key whose lead it is, or was merged into it."""
    parts, redirects = parts_and_redirects(events)
    found = defaultdict(set)
    for home, _, counted, _ in parts:
        last = {}
        for t, event in counted:
            for name in ("email", "phone"):
                if isinstance(event, e.ProfileUpdated) and name in event.fields:
                    last[name] = max(last.get(name, (-1, "", "")), (t, event.event_id, event.fields[name]))
        found[root_of(home, redirects)] |= {value for _, _, value in last.values()}
    return {lead: values for lead, values in found.items() if values}


def first_touches(events):
    """Lead -> (when, event, source) of the first event that tells whence the person came."""
    parts, redirects = parts_and_redirects(events)
    found = defaultdict(list)
    for home, _, counted, _ in parts:
        for t, event in counted:
            if kind_of(event) in NOT_ACTS:
                continue
            medium = event.context.campaign.medium if event.context and event.context.campaign else None
            source = "ads" if medium == "cpc" else "form" if kind_of(event) == "form_submitted" else None
            if source is not None:
                found[root_of(home, redirects)].append((t, event.event_id, source))
    return {lead: min(touches) for lead, touches in found.items()}


def reference(events, *, merges=True):
    """Lead -> (signals, fields, sessions); signals: name -> (count, first, last, {day: count})."""
    parts, redirects = parts_and_redirects(events)
    leads, once = {}, {}
    for home, _, counted, web in parts:
        if not counted:
            continue
        root = root_of(home, redirects) if merges else home
        signals, fields, sessions = leads.setdefault(root, (defaultdict(list), {}, {}))
        for t, event in counted:
            kind = kind_of(event)
            names = [kind] if kind in NOT_ACTS else [kind, "interaction"]
            key = getattr(
                event, {"email_sent": "message_id", "form_submitted": "submission_id"}.get(kind, ""), None
            )
            if key is not None:
                earliest = min(t, once.get((root, kind, key), (t,))[0])
                once[root, kind, key] = earliest, names
                continue
            for name in names:
                signals[name].append(t)
            if isinstance(event, e.ProfileUpdated):
                for name, value in event.fields.items():
                    own = home == root or name == "profiling_consent"  # a merge takes back no objection
                    mine = (own, t, event.event_id, value)
                    if name not in fields or mine > fields[name]:
                        fields[name] = mine
        sessions.update(sessions_of(web))
    for (root, _, _), (t, names) in once.items():
        for name in names:
            leads[root][0][name].append(t)
    return {
        lead: (
            {n: (len(ts), min(ts), max(ts), days(ts)) for n, ts in signals.items()},
            {n: value[1:] for n, value in fields.items()},
            sessions,
        )
        for lead, (signals, fields, sessions) in leads.items()
    }


def days(times):
    counts = defaultdict(int)
    for t in times:
        counts[t // DAY] += 1
    return dict(counts)
