"""A lifecycle's text: what is refused, with line and reason, and what the shipped one says."""

import pytest

from schemas.events import EVENT_TYPES
from scoring.lifecycle.lifecycle import (
    FUNNEL_STAGES,
    SIDE_STAGES,
    STAGES,
    LifecycleError,
    built_in_lifecycle,
    compile_lifecycle,
)

DAY = 86_400_000


def text_of(*transitions):
    """A lifecycle; the first transition begins in line 3."""
    return "\n".join(['lifecycle = "mine"', "", *(f"[[transitions]]\n{each}" for each in transitions)])


CONTACTED = """to = "contacted"
from = ["new"]
when = ["email_sent"]
reason = "we wrote\""""


def transition(**changes):
    """A good transition with other values, as TOML; None leaves a key out."""
    given = {
        "to": '"engaged"',
        "from": '["qualified"]',
        "when": '["form_submitted"]',
        "reason": '"form"',
    } | {name.rstrip("_"): value for name, value in changes.items()}
    return "\n".join(f"{name} = {value}" for name, value in given.items() if value is not None)


def refused(text):
    with pytest.raises(LifecycleError) as refusal:
        compile_lifecycle(text)
    return str(refusal.value)


def test_the_shipped_lifecycle_reads_as_the_ruling():
    """contacted: an e-mail, SMS or call; qualified: rules reaches mql; engaged: a reply or form after that;
    opportunity: a meeting or demo after that; customer: a purchase; churned: a customer idle for 180 days.
    """
    lifecycle = compile_lifecycle(built_in_lifecycle())
    replies = ("email_replied", "sms_replied", "message_received", "form_submitted")
    seen = [(t.to, t.sources, t.signals, t.since, t.inactive) for t in lifecycle.transitions]
    assert seen == [
        ("contacted", ("new",), ("email_sent", "sms_sent", "call_made"), None, None),
        ("qualified", ("new", "contacted"), (), None, None),
        ("engaged", ("qualified",), replies, "qualifying", None),
        (
            "opportunity",
            ("qualified", "engaged"),
            ("meeting_scheduled", "demo_requested"),
            "qualifying",
            None,
        ),
        ("customer", FUNNEL_STAGES[:-1], ("purchase_made",), None, None),
        ("customer", ("recycled", "disqualified", "churned", "lost"), ("purchase_made",), "entering", None),
        ("churned", ("customer",), (), None, 180 * DAY),
    ]
    wanted = [t.qualified_by for t in lifecycle.transitions if t.qualified_by]
    assert wanted == [("rules", "stage", ("hot", "mql", "sql"))]


def test_the_one_that_leads_furthest_is_tried_first_and_stages_off_the_way_last():
    lifecycle = compile_lifecycle(
        text_of(
            transition(to='"lost"', when=None, inactive_days=30),
            transition(),
            transition(to='"customer"', when='["purchase_made"]'),
        )
    )
    assert [t.to for t in lifecycle.onward["qualified"]] == ["customer", "engaged", "lost"]


@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_is_known_to_the_interpreter(stage):
    lifecycle = compile_lifecycle(built_in_lifecycle())
    assert stage in lifecycle.onward
    assert (stage in FUNNEL_STAGES) != (stage in SIDE_STAGES)


@pytest.mark.parametrize(
    "kind", [kind.__struct_config__.tag for kind in EVENT_TYPES if kind.__struct_config__.tag != "custom"]
)
def test_every_event_type_may_be_waited_for(kind):
    compile_lifecycle(text_of(transition(when=f'["{kind}"]')))


def test_derived_signals_and_custom_events_may_be_waited_for():
    compile_lifecycle(text_of(transition(when='["interaction", "high_intent", "custom:trial_ended"]')))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "line 1, lifecycle: missing"),
        ('lifecycle = "x"', "line 1, transitions: missing"),
        ('lifecycle = "X y"\ntransitions = []', "line 1, lifecycle: 'X y' is not a name"),
        ('lifecycle = "x"\ntransitions = 1', "line 2, transitions: wants [[transitions]]"),
        ('lifecycle = "x"\nabout = 1\ntransitions = []', "line 2, about: wants a text"),
        ('lifecycle = "x"\ntransitions = []\nstages = 1', "line 3, stages: unknown"),
        ('lifecycle = "x"\nlifecycle = "x"', "line 2: "),
        ("lifecycle = ", "line 1: "),
        ("x" * 100_001, "at most 100,000 characters"),
        ("a = " + "[" * 5_000, "line 1: "),
    ],
)
def test_a_text_that_is_no_lifecycle_is_refused_with_line_and_reason(text, said):
    assert said in refused(text)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"to": None}, "line 8, transition 2, to: missing"),
        ({"to": '"warm"'}, "line 9, transition to 'warm', to: 'warm' is no stage; those are new, contacted"),
        ({"to": "[1]"}, "to: [1] is no stage"),
        ({"to": '"new"'}, "line 9, transition to 'new', to: 'new' is where leads begin"),
        ({"from_": None}, "line 8, transition to 'engaged', from: wants the stages"),
        ({"from_": "[]"}, "line 10, transition to 'engaged', from: wants the stages"),
        ({"from_": '["qualified", "hot"]'}, "line 10, transition to 'engaged', from: 'hot' is no stage"),
        ({"from_": '["engaged"]'}, "from: 'engaged' is where it leads to"),
        ({"from_": '["customer"]'}, "a lead goes forward only, and 'engaged' comes before 'customer'"),
        ({"when": '["form_sent"]'}, "line 11, transition to 'engaged', when: 'form_sent' is no signal"),
        ({"when": '["custom"]'}, "when: 'custom' is no signal"),
        ({"when": '["custom:"]'}, "when: 'custom:' is no signal"),
        ({"when": '["important_click"]'}, "when: 'important_click' is no signal"),
        ({"when": "[]"}, "when: wants 1 to 32 signals"),
        ({"when": '"form_submitted"'}, "when: wants 1 to 32 signals"),
        ({"when": None}, "line 8, transition to 'engaged': wants a condition"),
        (
            {"since": '"yesterday"'},
            "line 13, transition to 'engaged', since: is move, qualifying or entering",
        ),
        (
            {
                "when": None,
                "qualified_by": '{ model = "m", set = "s", bands = ["b"] }',
                "since": '"entering"',
            },
            "since: belongs to when or inactive_days",
        ),
        ({"inactive_days": 0}, "inactive_days: is 1 to 3,650 days, not 0"),
        ({"inactive_days": 1.5}, "inactive_days: is 1 to 3,650 days, not 1.5"),
        ({"inactive_days": "true"}, "inactive_days: is 1 to 3,650 days, not True"),
        ({"inactive_days": 4_000}, "inactive_days: is 1 to 3,650 days, not 4000"),
        ({"qualified_by": '"rules"'}, "qualified_by: wants { model ="),
        ({"qualified_by": '{ model = "m", set = "s" }'}, "qualified_by: wants { model ="),
        ({"qualified_by": '{ model = "m", set = "s", bands = [] }'}, "wants 1 to 32 names of bands"),
        ({"qualified_by": '{ model = "M", set = "s", bands = ["b"] }'}, "'M' is no name"),
        ({"reason": None}, "reason: wants a text of 1 to 200 characters"),
        ({"reason": '" "'}, "reason: wants a text of 1 to 200 characters"),
        ({"reason": '"a\\nb"'}, "reason: wants one line"),
        ({"by": '"me"'}, "line 13, transition to 'engaged', by: unknown; a transition has to, from, when"),
    ],
)
def test_a_transition_with_a_mistake_is_refused_with_line_and_reason(changes, said):
    assert said in refused(text_of(CONTACTED, transition(**changes)))


def test_a_circle_that_needs_no_new_act_is_refused_and_told():
    there = transition(to='"recycled"', when=None, inactive_days=90, reason='"idle"')
    back = transition(to='"qualified"', from_='["recycled"]', when='["email_replied"]')
    said = refused(text_of(there, back))
    assert said.startswith(
        "line 8, transition to 'qualified': a lead could move in a circle without a new event: "
    )
    assert "recycled -> qualified -> recycled" in said
    assert compile_lifecycle(text_of(there, f'{back}\nsince = "entering"'))


def test_a_circle_of_time_alone_is_refused_too():
    lost = transition(to='"lost"', from_='["recycled"]', when=None, inactive_days=90, since='"entering"')
    back = transition(to='"recycled"', from_='["lost"]', when=None, inactive_days=90, since='"entering"')
    assert "a lead could move in a circle" in refused(text_of(lost, back))


def test_transitions_may_stand_in_one_line_each():
    rows = '{ to = "engaged", from = ["qualified"], when = ["nothing"], reason = "x" }'
    said = refused(f'lifecycle = "x"\ntransitions = [\n  {rows},\n]')
    assert said.startswith("line 2, transition to 'engaged', when: 'nothing' is no signal")


def test_too_many_transitions_are_refused():
    assert "at most 64, not 65" in refused(text_of(*([transition()] * 65)))
