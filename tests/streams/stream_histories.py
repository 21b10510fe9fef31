"""Random histories for the simulator: small worlds in which everything collides."""

from hypothesis import strategies as st

from schemas import events as e
from schemas.envelope import Campaign, Context
from schemas.moment import moment
from schemas.topics import lead_key

MINUTE, DAY = 60_000, 86_400_000
START = 20_000 * DAY

KINDS = ["page"] * 5 + ["click"] * 3 + ["important", "form", "qr", "end", "beat", "profile"]
GAPS = [0, 1, 3, 10, 29, 30, 45, 200, 700, 1500, 4000]
LATE = [0, 0, 0, 0, 5, 20, 40, 120, 700, 1430, 1439, 2000]
item = st.tuples(
    st.integers(0, 22),
    st.integers(0, 3),
    st.integers(0, 3),
    st.sampled_from(GAPS),
    st.sampled_from(LATE),
    st.integers(0, 3),
    st.integers(0, 3),
)


# Two visitors claim, merge and split three leads in quick succession: moves overlap.
crowded = st.tuples(
    st.sampled_from([0, 0, 14, 14, 18, 18, 21]),
    st.integers(0, 1),
    st.integers(0, 2),
    st.sampled_from([0, 1]),
    st.just(0),
    st.just(0),
    st.sampled_from([0, 1]),
)


def specs(low=1, high=40):
    return st.one_of(
        st.lists(item, min_size=low, max_size=high), st.lists(crowded, min_size=low, max_size=high)
    )


def act(kind, envelope, number, lead):
    match kind:
        case "page":
            return e.PageViewed(**envelope)
        case "click":
            return e.ElementClicked(**envelope, text="Read more")
        case "important":
            return e.ElementClicked(**envelope, text=" get a DEMO ")
        case "form":
            return e.FormSubmitted(**envelope, submission_id=f"s{number % 3}" if lead % 2 else None)
        case "qr":
            return e.QrScanned(**(envelope | {"source": "telegram"}))
        case "end":
            return e.SessionEnded(**envelope)
        case "beat":
            return e.SessionHeartbeat(**envelope)
        case "profile":
            if lead == 2 and number % 3 < 2:  # an objection to profiling, or an agreement
                return e.ProfileUpdated(**envelope, fields={"profiling_consent": number % 3 == 1})
            fields = {("phone", "email", "company", "title")[lead % 4]: f"value {number}"}
            return e.ProfileUpdated(**envelope, fields=fields)
    raise AssertionError(kind)


def history(spec, *, merges=True, shared=True, cycles=False, stages=True):
    """Specs to events in production order; `shared`: one visitor may claim several leads."""
    out, recorded, claimed = [], START, {}
    for number, (k, v, l, gap, late, camp, mode) in enumerate(spec):  # noqa: E741  # lead, next to v for visitor
        recorded += gap * MINUTE
        visitor, lead = f"v{v}", f"L{l}"
        own = lead if shared else claimed.setdefault(visitor, lead)
        envelope = {
            "event_id": f"e{number:03d}",
            "occurred_at": moment(recorded - late * MINUTE),
            "recorded_at": moment(recorded + camp * 7 % 5 * MINUTE),
        }
        web = envelope | {"visitor_id": visitor}
        if camp > 1:
            web["context"] = Context(campaign=Campaign(source="xy"[camp - 2], medium=(None, "cpc")[camp - 2]))
        if mode == 3:
            web["session_id"] = f"s{l % 2}"
        if k < 14:
            if mode == 1:
                web["lead_id"] = own
            if mode == 2:
                kind = "qr" if KINDS[k] in ("page", "click", "important", "end", "beat") else KINDS[k]
                out.append(act(kind, envelope | {"lead_id": lead}, number, l))
            else:
                out.append(act(KINDS[k], web, number, l))
        elif k < 16:
            out.append(e.LeadIdentified(**envelope, visitor_id=visitor, lead_id=own))
        elif k == 16:
            message_id = f"m{v % 2}" if mode else None
            out.append(e.EmailSent(**envelope, lead_id=lead, source="email", message_id=message_id))
        elif k == 17 and out:
            again = out[-1 - (v + l) % min(len(out), 6)]
            if isinstance(again, e.LeadsMerged | e.MergeUndone):
                continue
            changed = {"recorded_at": envelope["recorded_at"]}
            if mode == 1 and again.visitor_id:
                changed["lead_id"] = lead if shared else claimed.setdefault(again.visitor_id, lead)
            out.append(replace(again, **changed))
        elif k in (18, 19, 20) and merges:
            into = f"L{v}"
            if into != lead and (cycles or into < lead):
                out.append(e.LeadsMerged(**envelope, lead_id=lead, into=into, source="crm"))
        elif k == 21 and merges:
            out.append(e.MergeUndone(**envelope, lead_id=lead, source="crm"))
        elif k == 22 and stages:
            stage = ("contacted", "qualified", "engaged", "opportunity")[v]
            out.append(e.StageChanged(**envelope, lead_id=lead, stage=stage, source="crm"))
    return out


def replace(event, **changes):
    fields = {name: getattr(event, name) for name in event.__struct_fields__}
    return type(event)(**(fields | changes))


def key_of_lead(lead):
    return lead_key("default", lead)
