"""Stories of workflows: given published workflows, when something happens to a lead, then these are set off.

Moments and scores are worked out by hand from the built-in models.
"""

import msgspec
import pytest
from stream_simulator import Pipeline, refold
from stream_stories import (
    DAY,
    HOUR,
    MINUTE,
    NOON,
    SHIPPED,
    Publish,
    PublishWorkflows,
    ScheduleComes,
    Settings,
    Time,
    at,
    given,
    happened,
)

from schemas import statements as say
from schemas.decode import encode_source
from schemas.topics import EVENTS
from scoring.workflows.built_in_workflows import built_in_workflows
from streams.score_leads.workflow_triggers import MOST_HOPS

HALF_DAY = 12 * HOUR
FIRED = (say.WorkflowTriggered,)


def numbered(text):
    """With ids in the order of the text, as a publisher gives them."""
    head, *rest = text.split("[[workflow]]\n")
    return head + "".join(f"[[workflow]]\nid = {number}\n{each}" for number, each in enumerate(rest, 1))


def workflow(trigger, extra="", number=1):
    return (
        f'[[workflow]]\nid = {number}\nname = "W{number}"\ntrigger = {{ {trigger} }}\n'
        f'action = {{ type = "create_task", title = "Call" }}\n{extra}\n'
    )


def published(text, *happenings, models=SHIPPED):
    return given(PublishWorkflows(text, 1, 0), *happenings, models=models)


def crm(kind, event_id, when, lead="L", **fields):
    return happened(kind, event_id, when, lead_id=lead, source="crm", **fields)


def profile(event_id, when, lead="L", *, imported=False, recorded=None, hops=0, **fields):
    return happened(
        "profile_updated",
        event_id,
        when,
        lead_id=lead,
        source="crm",
        fields=fields,
        imported=imported,
        recorded=recorded,
        hops=hops,
    )


def demo(event_id, when, lead="L", **fields):
    return happened("demo_requested", event_id, when, lead_id=lead, source="web", **fields)


FIRM = {"industry": "SaaS", "company_size": "51-200"}
"""20 and 15 points; a lead of less than 30 days has 10 more: 45."""
DIRECTOR = {"title": "Sales Director"}
"""15 points: 60. A demo gives 25: 85."""


# What comes with Leadstream


def test_the_progressive_set_fires_at_40_60_75_and_85():
    story = published(numbered(built_in_workflows()["progressive"]))
    story.when(profile("a", MINUTE, **FIRM)).then(
        "L: workflow 1: rules rose from 0 to 45, through 40", kinds=FIRED
    )
    story.when(profile("b", HOUR, **DIRECTOR)).then(
        "L: workflow 2: rules rose from 45 to 60, through 60", kinds=FIRED
    )
    story.when(demo("c", 2 * HOUR)).then(
        "L: workflow 3: rules rose from 60 to 85, through 75",
        "L: workflow 4: rules rose from 60 to 85, through 85",
        kinds=FIRED,
    )


def test_the_four_examples_of_qualification_fire_in_the_order_of_their_priorities():
    story = published(numbered(built_in_workflows()["qualification_examples"]))
    story.when(profile("a", MINUTE, **FIRM, **DIRECTOR)).then(
        "L: workflow 4: rules rose from 0 to 60, through 60", kinds=FIRED
    )
    story.when(demo("c", HOUR))
    told = story.statements(*FIRED)
    assert [(s.workflow, s.action, s.config) for s in told] == [
        ("Assign hot leads to senior rep", "assign_owner", {"owner_id": 5}),
        (
            "Follow up on SQL",
            "create_task",
            {
                "title": "Call qualified lead",
                "description": "Lead reached SQL qualification",
                "due_in_days": 1,
                "priority": "high",
            },
        ),
        ("Notify on hot lead", "send_notification", {"message": "🔥 Hot lead! Score increased to 80+"}),
    ]
    assert {(s.at, s.arm, s.version, s.hops) for s in told} == {(at(HOUR), "event:default/l/L:c", 1, 0)}


def test_the_three_alerts_of_the_chatbot():
    story = published(numbered(built_in_workflows()["chatbot_alerts"]))

    def chat(kind, event_id, when, **fields):
        return happened(kind, event_id, when, visitor_id="chat-1", source="chatbot", **fields)

    # 5 for opening, 5 for the greeting, 15 for a demo, 10 for a contact, 15 for a CTA, 10 for all answers: 60
    story.when(chat("session_started", "1", 0), chat("greeting_replied", "2", 1)).then(kinds=FIRED)
    story.when(chat("demo_requested", "3", 2)).then(
        "anon:chat-1: workflow 2: the event demo_requested came", kinds=FIRED
    )
    story.when(chat("contact_shared", "4", 3, name="Ada")).then(
        "anon:chat-1: workflow 2: the event contact_shared came", kinds=FIRED
    )
    story.when(chat("cta_clicked", "5", 4), chat("questions_completed", "6", 5)).then(
        "anon:chat-1: workflow 1: chatbot rose from 50 to 60, through 60",
        "anon:chat-1: workflow 3: the event questions_completed came",
        kinds=FIRED,
    )


# Scores


def test_a_score_fires_once_and_again_only_after_it_has_fallen_by_the_points_of_rearm():
    story = published(workflow('type = "score_threshold", score = 40'))
    story.when(profile("a", 0, **FIRM)).then(
        "L: workflow 1: rules rose from 0 to 45, through 40", kinds=FIRED
    )
    # Without a size 30, which is below 35: armed again.
    story.when(profile("b", HOUR, company_size=None)).then(kinds=FIRED)
    story.when(profile("c", 2 * HOUR, company_size="500+")).then(
        "L: workflow 1: rules rose from 30 to 45, through 40", kinds=FIRED
    )


@pytest.mark.parametrize(("rearm", "again"), [(15, True), (16, False)])
def test_it_is_armed_again_exactly_where_the_points_of_rearm_end(rearm, again):
    """45 falls to 30: 15 points below 45."""
    story = published(workflow(f'type = "score_threshold", score = 45, rearm = {rearm}'))
    story.when(profile("a", 0, **FIRM), profile("b", HOUR, company_size=None))
    story.when(profile("c", 2 * HOUR, company_size="500+"))
    assert bool(story.said(*FIRED)) is again


def test_a_free_mailbox_takes_five_points_and_that_is_not_enough_to_fire_twice_at_four():
    story = published(workflow('type = "score_threshold", score = 44'))
    story.when(profile("a", 0, **FIRM), profile("b", 1, email="a@gmail.com"))  # 45, 40: the line is 39
    story.when(profile("c", 2, email="a@acme.example")).then(kinds=FIRED)


def test_a_score_falls_at_the_midnight_on_which_a_demo_is_ninety_days_old_whatever_the_timers_do():
    text = workflow('type = "score_falls", score = 40')
    begin = (profile("a", 0, **FIRM), profile("b", HOUR, **DIRECTOR), demo("c", 2 * HOUR))
    # 85, at 30 days 75, after 61 days without an event 60; 25 less when the demo leaves its window.
    expected = "L: workflow 1: rules fell from 60 to 35, below 40"
    late = published(text, *begin).when(Time(200 * DAY)).then(expected, kinds=FIRED)
    early = published(text, *begin).when(*[Time(day * DAY) for day in range(200)]).then(expected, kinds=FIRED)
    for story in (late, early):
        [fired] = story.statements(*FIRED)
        assert fired.at == at(90 * DAY - HALF_DAY)
        assert fired.caused_by == fired.arm == f"due:{NOON + 90 * DAY - HALF_DAY}"
        assert not fired.silent


def test_another_model_is_named():
    story = published(workflow('type = "score_threshold", score = 15, model = "chatbot"'))
    story.when(demo("a", 0)).then(kinds=FIRED)
    story.when(happened("demo_requested", "b", 1, lead_id="L", source="chatbot")).then(
        "L: workflow 1: chatbot rose from 0 to 15, through 15", kinds=FIRED
    )


# Publications


def test_a_publication_fires_nothing_and_what_was_passed_already_has_to_fall_first():
    story = given(profile("a", 0, **FIRM))
    story.when(PublishWorkflows(workflow('type = "score_threshold", score = 40'), 1, HOUR)).then(kinds=FIRED)
    story.when(profile("b", 2 * HOUR, email="a@gmail.com"), profile("c", 3 * HOUR, **DIRECTOR)).then(
        kinds=FIRED
    )
    story.when(profile("d", 4 * HOUR, company_size=None, title=None)).then(kinds=FIRED)  # 25
    story.when(profile("e", 5 * HOUR, **FIRM)).then(
        "L: workflow 1: rules rose from 25 to 40, through 40", kinds=FIRED
    )


def test_a_workflow_keeps_what_it_remembers_unless_its_trigger_changed():
    text = workflow('type = "score_threshold", score = 42')
    story = published(text, profile("a", 0, **FIRM), profile("b", 1, email="a@gmail.com"))  # 45, 40
    story.when(PublishWorkflows(text.replace("Call", "Write"), 2, HOUR)).then(kinds=FIRED)
    story.when(profile("c", 2 * HOUR, email=None), profile("d", 3 * HOUR, email="a@gmail.com")).then(
        kinds=FIRED
    )
    # With another threshold it is another one, and not passed.
    story.when(PublishWorkflows(text.replace("42", "41"), 3, 4 * HOUR)).then(kinds=FIRED)
    story.when(profile("e", 5 * HOUR, email=None)).then(
        "L: workflow 1: rules rose from 40 to 45, through 41", kinds=FIRED
    )
    # An older version comes too late.
    story.when(PublishWorkflows(text.replace("42", "60"), 2, 6 * HOUR))
    story.when(profile("f", 7 * HOUR, **DIRECTOR)).then(kinds=FIRED)


@pytest.mark.parametrize("fire", [False, True])
def test_a_published_model_fires_workflows_only_if_its_publication_says_so(fire):
    story = published(workflow('type = "score_threshold", score = 50'), profile("a", 0, **FIRM))
    higher = dict(SHIPPED)["rules"].replace(
        '"SaaS", "Enterprise Software"], points = 20', '"SaaS"], points = 30'
    )
    silent = "" if fire else ", silent (publication)"
    story.when(Publish("rules", higher, 9, HOUR, fire=fire)).then(
        f"L: workflow 1: rules rose from 45 to 55, through 50{silent}", kinds=FIRED
    )


def test_settings_that_move_a_lead_act_on_nobody():
    story = published(workflow('type = "stage_change"'), crm("email_sent", "a", 0))
    [before] = story.statements(*FIRED)
    assert before.reason == "the stage changed from new to contacted"
    lifecycle = """
lifecycle = "other"
[[transitions]]
to = "engaged"
from = ["contacted"]
when = ["email_sent"]
reason = "was written to"
"""
    story.when(Settings(7, HOUR, lifecycle=lifecycle)).then(
        "L: workflow 1: the stage changed from contacted to engaged, silent (publication)", kinds=FIRED
    )


def test_an_inactive_workflow_and_one_that_was_taken_out_do_nothing():
    text = workflow('type = "score_threshold", score = 40', "active = false")
    published(text).when(profile("a", 0, **FIRM)).then(kinds=FIRED)
    story = published(workflow('type = "score_threshold", score = 40'), PublishWorkflows("", 2, 1))
    story.when(profile("a", HOUR, **FIRM)).then(kinds=FIRED)
    assert story.lead("L").head.workflows is None


# Stages, fields, events


def test_a_stage_of_the_lifecycle_from_and_to():
    text = workflow('type = "stage_change", to = "customer", from = "contacted"') + workflow(
        'type = "stage_change", to = "customer", from = "engaged"', number=2
    )
    story = published(text, crm("email_sent", "a", 0))
    story.when(crm("purchase_made", "b", HOUR, value=10, currency="EUR")).then(
        "L: workflow 1: the stage changed from contacted to customer", kinds=FIRED
    )


def test_a_band_of_the_rules():
    needs = {"email": "a@acme.example", "company": "Acme", "phone": "+49 30 1234567"}
    story = published(workflow('type = "stage_change", set = "stage", to = "mql"'))
    story.when(profile("a", 0, **FIRM, **needs), crm("email_opened", "b", 1)).then(kinds=FIRED)
    story.when(crm("form_submitted", "c", 2)).then(
        "L: workflow 1: stage of rules changed from none to mql", kinds=FIRED
    )
    any_band = published(workflow('type = "stage_change", set = "stage"'))
    any_band.when(profile("a", 0, **FIRM)).then(kinds=FIRED)  # a lead begins in a band: no change


def test_a_field_fires_only_when_its_value_changes_to_one_that_passes():
    story = published(workflow('type = "field_update", field = "budget", greater_than = 1000'))
    story.when(profile("a", 0, budget=500)).then(kinds=FIRED)
    story.when(profile("b", 1, budget=2000)).then(
        "L: workflow 1: budget changed from 500 to 2000", kinds=FIRED
    )
    story.when(profile("c", 2, budget=2000), profile("d", 3, company="Acme")).then(kinds=FIRED)
    # An older value that comes late does not win, so the lead's field did not change.
    story.when(profile("e", -1, recorded=4, budget=9000)).then(kinds=FIRED)
    story.when(profile("f", 5, budget=None)).then(kinds=FIRED)
    story.when(crm("form_submitted", "g", 6, fields={"budget": 3000})).then(
        "L: workflow 1: budget changed from nothing to 3000", kinds=FIRED
    )


def test_any_change_of_a_field_and_its_removal():
    story = published(workflow('type = "field_update", field = "assigned_to"'))
    story.when(crm("lead_assigned", "a", 0, assigned_to="maria")).then(
        "L: workflow 1: assigned_to changed from nothing to maria", kinds=FIRED
    )
    story.when(crm("lead_assigned", "b", 1, assigned_to=None)).then(
        "L: workflow 1: assigned_to changed from maria to nothing", kinds=FIRED
    )


def test_an_event_with_where():
    where = 'where = { field = "text", contains = "price" }'
    story = published(workflow(f'type = "event", event = ["message_received", "demo_requested"], {where}'))
    story.when(crm("message_received", "a", 0, text="Hello")).then(kinds=FIRED)
    story.when(crm("message_received", "b", 1, text="What is the PRICE?")).then(
        "L: workflow 1: the event message_received came", kinds=FIRED
    )
    story.when(crm("message_received", "b", 2, text="What is the PRICE?")).then(kinds=FIRED)  # sent again


def test_events_of_ones_own_and_a_source():
    text = workflow('type = "event", event = "custom:tour_taken", source = "web"')
    story = published(text)
    story.when(crm("custom", "a", 0, name="tour_taken")).then(kinds=FIRED)
    tour = happened("custom", "b", 1, lead_id="L", source="web", name="tour_taken")
    story.when(tour).then("L: workflow 1: the event custom:tour_taken came", kinds=FIRED)


def test_one_order_is_one_event_however_often_it_is_reported():
    story = published(workflow('type = "event", event = "purchase_made"'))
    order = {"value": 10, "currency": "EUR", "order_id": "A-1"}
    story.when(crm("purchase_refunded", "r", 0, value=1, currency="EUR", order_id="A-1", refund_id="1"))
    story.when(crm("purchase_made", "a", 0, **order)).then(
        "L: workflow 1: the event purchase_made came", kinds=FIRED
    )
    again = happened("purchase_made", "b", 1, visitor_id="v", lead_id="L", **(order | {"value": 12}))
    story.when(again).then(kinds=FIRED)
    story.when(crm("purchase_made", "c", 2, **(order | {"order_id": "A-2"}))).then(
        "L: workflow 1: the event purchase_made came", kinds=FIRED
    )


# Conditions


def test_conditions_are_checked_at_the_moment_and_an_unmet_one_leaves_it_armed():
    conditions = 'conditions = [{ value = "profile.country", equals = "DE" }]'
    story = published(workflow('type = "score_threshold", score = 40', conditions))
    story.when(profile("a", 0, **FIRM)).then(kinds=FIRED)
    story.when(profile("b", 1, country="DE")).then(kinds=FIRED)  # no rise
    story.when(profile("c", 2, company_size=None), profile("d", 3, company_size="500+")).then(
        "L: workflow 1: rules rose from 30 to 45, through 40", kinds=FIRED
    )


@pytest.mark.parametrize(
    ("condition", "fires"),
    [
        ('{ value = "score", greater_or_equal = 70 }', True),
        ('{ value = "score", greater_than = 70 }', False),
        ('{ value = "score.temperature", less_than = 70 }', True),
        ('{ value = "score.nobody", is_set = true }', False),
        ('{ value = "band.temperature.temperature", in_list = ["cold", "warm"] }', True),
        ('{ value = "band.rules.stage", equals = "hot" }', False),
        ('{ has = ["phone", "industry"] }', True),
        ('{ once = "email_opened" }', False),
        ('{ value = "profile.stage", equals = "new" }', True),
        ('{ value = "activities_count", equals = 1 }', True),
        ('{ value = "days since interaction", less_than = 1 }', True),
    ],
)
def test_what_conditions_read(condition, fires):
    story = published(workflow('type = "event", event = "demo_requested"', f"conditions = [{condition}]"))
    story.when(profile("a", 0, **FIRM), demo("b", MINUTE))  # 45 and 25
    assert bool(story.said(*FIRED)) is fires


# Time


def test_days_without_an_interaction_come_exactly_then_and_once_for_each_lapse():
    text = workflow('type = "time_based", days_without = 14, of = "interaction"')
    story = published(text, crm("page_viewed", "a", 0))
    story.when(Time(14 * DAY - 1)).then(kinds=FIRED)
    story.when(Time(40 * DAY)).then("L: workflow 1: 14 days passed without interaction", kinds=FIRED)
    [lapse] = story.statements(*FIRED)
    assert (lapse.at, lapse.arm) == (at(14 * DAY), f"due:{NOON + 14 * DAY}")
    story.when(Time(300 * DAY), Time(300 * DAY), crm("note_added", "n", 301 * DAY, text="x")).then(
        kinds=FIRED
    )
    story.when(crm("page_viewed", "b", 400 * DAY), Time(500 * DAY)).then(
        "L: workflow 1: 14 days passed without interaction", kinds=FIRED
    )
    assert [s.at for s in story.statements(*FIRED)] == [at(414 * DAY)]


def test_several_workflows_wait_for_days_each_for_its_own():
    text = workflow('type = "time_based", days_without = 14') + workflow(
        'type = "time_based", days_without = 7', number=2
    )
    story = published(text, crm("page_viewed", "a", 0)).when(Time(100 * DAY))
    assert [(s.workflow_id, s.at) for s in story.statements(*FIRED)] == [(2, at(7 * DAY)), (1, at(14 * DAY))]


def test_a_lead_that_never_did_it_waits_from_its_first_event():
    text = workflow('type = "time_based", days_without = 1, of = "email_opened"')
    story = published(text, profile("a", 0, company="Acme")).when(Time(DAY))
    assert [s.at for s in story.statements(*FIRED)] == [at(DAY)]


def test_idle_leads_wait_from_a_publication_on_and_what_is_over_by_then_has_passed():
    text = workflow('type = "time_based", days_without = 14')
    story = given(crm("page_viewed", "a", 0, lead="over"), crm("page_viewed", "b", 10 * DAY, lead="soon"))
    story.when(PublishWorkflows(text, 1, 20 * DAY)).then(kinds=FIRED)
    story.when(Time(100 * DAY)).then("soon: workflow 1: 14 days passed without interaction", kinds=FIRED)
    assert [s.at for s in story.statements(*FIRED)] == [at(24 * DAY)]


def test_a_timer_that_is_late_at_a_publication_fires_by_what_was_active_then():
    text = workflow('type = "time_based", days_without = 14')
    story = published(text, crm("page_viewed", "a", 0))
    story.when(PublishWorkflows("", 2, 20 * DAY)).then(
        "L: workflow 1: 14 days passed without interaction", kinds=FIRED
    )


def test_a_schedule_visits_every_known_lead_of_the_tenant_once_for_each_moment():
    text = workflow('type = "time_based", cron = "0 9 * * 1"', 'conditions = [{ has = "company" }]')
    story = published(
        text,
        profile("a", 0, company="Acme"),
        profile("b", 0, lead="M", company="Beta"),
        crm("page_viewed", "c", 0, lead="without a company"),
        happened("page_viewed", "d", 0, visitor_id="nobody"),
        happened("profile_updated", "e", 0, lead_id="T", tenant="other", fields={"company": "Acme"}),
    )
    story.when(ScheduleComes(1, 3 * DAY, recorded=3 * DAY + MINUTE))
    told = story.statements(*FIRED)
    assert sorted((s.lead_id, s.reason, s.at, s.arm) for s in told) == [
        (lead, "the schedule 0 9 * * 1 came", at(3 * DAY + MINUTE), f"schedule:{NOON + 3 * DAY}")
        for lead in "LM"
    ]
    story.when(ScheduleComes(1, 3 * DAY, recorded=4 * DAY)).then(kinds=FIRED)  # doubled
    story.when(ScheduleComes(1, 2 * DAY, recorded=4 * DAY)).then(kinds=FIRED)  # before the last one
    story.when(ScheduleComes(2, 5 * DAY)).then(kinds=FIRED)  # no such workflow
    story.when(ScheduleComes(1, 10 * DAY))
    assert len(story.said(*FIRED)) == 2


def test_no_moment_before_the_publication_of_its_schedule_counts():
    text = workflow('type = "time_based", cron = "0 9 * * 1"')
    story = given(profile("a", 0, company="Acme"), PublishWorkflows(text, 1, 5 * DAY))
    story.when(ScheduleComes(1, 5 * DAY - 1, recorded=6 * DAY)).then(kinds=FIRED)
    # The same schedule in a new version goes on; another one begins again.
    story.when(PublishWorkflows(text.replace("Call", "Write"), 2, 8 * DAY))
    story.when(ScheduleComes(1, 7 * DAY, recorded=8 * DAY))
    assert len(story.said(*FIRED)) == 1
    story.when(PublishWorkflows(text.replace("0 9", "0 10"), 3, 9 * DAY))
    story.when(ScheduleComes(1, 9 * DAY - 1, recorded=9 * DAY)).then(kinds=FIRED)


# By hand, and what may not act


def test_a_person_runs_any_active_workflow_if_its_conditions_hold():
    text = workflow('type = "manual"', 'conditions = [{ has = "company" }]') + workflow(
        'type = "score_threshold", score = 90', number=2
    )
    story = published(text)
    story.when(crm("workflow_requested", "a", 0, workflow_id=1, by="maria")).then(kinds=FIRED)
    story.when(
        profile("b", 1, company="Acme"), crm("workflow_requested", "c", 2, workflow_id=1, by="maria")
    ).then("L: workflow 1: maria ran it", kinds=FIRED)
    story.when(crm("workflow_requested", "d", 3, workflow_id=2)).then(
        "L: workflow 2: somebody ran it", kinds=FIRED
    )
    assert [s.trigger for s in story.statements(*FIRED)] == ["manual"]
    story.when(crm("workflow_requested", "e", 4, workflow_id=3)).then(kinds=FIRED)
    assert "interaction" not in story.card("L").counts


SILENT = {
    "import": {"imported": True},
    "late": {"recorded": DAY + 2},
    "hops": {"hops": MOST_HOPS},
}


@pytest.mark.parametrize(("reason", "fields"), SILENT.items())
def test_an_import_a_late_event_and_a_chain_of_workflows_are_concluded_and_act_on_nobody(reason, fields):
    story = published(workflow('type = "event", event = "profile_updated"'))
    story.when(profile("a", 0, **fields, company="Acme")).then(
        f"L: workflow 1: the event profile_updated came, silent ({reason})", kinds=FIRED
    )
    [silent] = story.statements(*FIRED)
    assert (silent.silent, silent.hops) == (True, fields.get("hops", 0))


def test_a_silent_crossing_counts_as_fired():
    story = published(workflow('type = "score_threshold", score = 40'))
    story.when(profile("a", 0, imported=True, **FIRM)).then(
        "L: workflow 1: rules rose from 0 to 45, through 40, silent (import)", kinds=FIRED
    )
    story.when(profile("b", 1, email="a@gmail.com"), profile("c", 2, email=None)).then(kinds=FIRED)


def test_time_after_an_import_fires_no_score_and_yet_days_without():
    text = workflow('type = "score_falls", score = 30') + workflow(
        'type = "time_based", days_without = 20', number=2
    )
    story = published(
        text, crm("page_viewed", "a", 0, imported=True), profile("b", 0, imported=True, industry="SaaS")
    )
    story.when(Time(40 * DAY)).then(
        "L: workflow 2: 20 days passed without interaction",
        "L: workflow 1: rules fell from 30 to 20, below 30, silent (import)",
        kinds=FIRED,
    )


def test_no_workflow_acts_on_a_lead_that_objects_to_profiling():
    story = published(workflow('type = "score_threshold", score = 40'))
    story.when(profile("a", 0, profiling_consent="no", **FIRM)).then(kinds=FIRED)
    story = published(workflow('type = "event", event = "profile_updated"'))
    story.when(profile("a", 0, profiling_consent="no", **FIRM)).then(
        "L: workflow 1: the event profile_updated came, silent (consent)", kinds=FIRED
    )


def test_an_objection_and_its_end_fire_no_workflow_that_waits_for_a_score_a_band_or_a_stage():
    text = (
        workflow('type = "score_threshold", score = 40')
        + workflow('type = "score_falls", score = 30', number=2)
        + workflow('type = "stage_change"', number=3)
    )
    story = published(text, profile("a", 0, **FIRM))
    story.when(profile("b", 1, profiling_consent=False)).then(kinds=FIRED)
    story.when(profile("c", 2, profiling_consent=True)).then(kinds=FIRED)
    assert story.scores("L")["rules"] == 45
    story.when(profile("d", 3, industry=None)).then(
        "L: workflow 2: rules fell from 45 to 25, below 30", kinds=FIRED
    )


def test_anonymous_visitors_are_left_out_unless_asked_for():
    view = happened("demo_requested", "a", 0, visitor_id="v")
    published(workflow('type = "event", event = "demo_requested"')).when(view).then(kinds=FIRED)
    asked = workflow('type = "event", event = "demo_requested"', "anonymous = true")
    published(asked).when(view).then("anon:v: workflow 1: the event demo_requested came", kinds=FIRED)


def test_a_visitor_who_becomes_known_takes_the_lead_through_its_thresholds():
    story = published(workflow('type = "score_threshold", score = 25'))
    story.when(happened("demo_requested", "a", 0, visitor_id="v")).then(kinds=FIRED)
    story.when(happened("lead_identified", "b", 1, visitor_id="v", lead_id="L")).then(
        "L: workflow 1: rules rose from 0 to 35, through 25", kinds=FIRED
    )


def test_merging_and_splitting_fires_once():
    text = workflow('type = "score_threshold", score = 35')
    story = published(text, demo("a", 0, lead="A"), profile("o", 0, lead="B", company="Beta"))
    story.when(crm("leads_merged", "b", 1, lead="A", into="B")).then(
        "B: workflow 1: rules rose from 10 to 35, through 35", kinds=FIRED
    )
    for number in range(3):
        when = 10 * number
        story.when(crm("merge_undone", f"u{number}", when + 2, lead="A")).then(kinds=FIRED)
        story.when(crm("leads_merged", f"m{number}", when + 3, lead="A", into="B")).then(kinds=FIRED)


# The log


def test_what_stage_2_cannot_apply_becomes_a_dead_letter():
    pipeline = Pipeline()
    pipeline.publish_workflows(1, "[[workflow]]\nid = 1", 0)
    pipeline.fold_all()
    assert len(pipeline.dead) == 2 * 3  # of both topics, in three partitions


def test_events_of_a_workflow_carry_its_hops_into_the_log():
    story = published(workflow('type = "event", event = "task_created"'))
    task = crm("task_created", "wf-1", 0, title="Call", hops=1)
    assert msgspec.json.decode(encode_source(task))["hops"] == 1
    [fired] = story.when(task).statements(*FIRED)
    assert (fired.hops, fired.silent) == (1, False)


def test_folding_the_log_again_decides_the_same_with_the_same_ids():
    story = published(numbered(built_in_workflows()["progressive"]), profile("a", 0, **FIRM, **DIRECTOR))
    story.when(demo("b", 1), Time(100 * DAY))
    again = refold(story.pipeline, 1, crash=0.3)
    ids = [[s.statement_id for s in p.statements(*FIRED)] for p in (story.pipeline, again)]
    assert sorted(ids[0]) == sorted(ids[1])
    assert len(set(ids[0])) == 4


def test_a_tenant_without_workflows_remembers_nothing():
    story = given(
        profile("a", 0, **FIRM), PublishWorkflows(workflow('type = "manual"'), 1, 1, tenant="other")
    )
    assert story.lead("L").head.workflows is None
    assert all(topic != EVENTS for topic, _ in story.pipeline.said)


@pytest.mark.parametrize("timer", [[], [Time(2 * HOUR)]])
def test_what_is_dated_before_a_publication_and_comes_after_it_counts_at_the_publication(timer):
    """Whether a timer had brought the lead along or not."""
    text = workflow('type = "score_threshold", score = 40')
    story = published("", crm("page_viewed", "a", 0), *timer, PublishWorkflows(text, 2, 5 * HOUR))
    [fired] = story.when(profile("b", HOUR, **FIRM)).statements(*FIRED)
    assert fired.at == at(5 * HOUR)
