"""What a lead lacks for its next stage: the built-in lifecycle and the model `rules`, calculated by hand."""

from scoring.features.calendar import DAY_MS, calendar
from scoring.features.features import Features, Signal
from scoring.features.qualification_override import QualificationOverride
from scoring.features.view import Subject
from scoring.features.words import any_of_words, words_of
from scoring.lifecycle.lifecycle import built_in_lifecycle, compile_lifecycle
from scoring.lifecycle.next_stage import NextStage, StageContext, next_stage
from scoring.models.model import ONE_POINT, built_in_models, compile_model

NOW = 1_900_000_000_000
CONTEXT = StageContext(
    compile_lifecycle(built_in_lifecycle()),
    {"rules": compile_model(built_in_models()["rules"])},
    calendar("UTC"),
    30 * 60_000,
)


def features(*, fields: dict[str, str], signals: dict[str, int]) -> Features:
    made = Features()
    made.fields.update({name: (NOW - DAY_MS, "e", value) for name, value in fields.items()})
    made.signals.update(
        {
            name: Signal(1, NOW - days * DAY_MS, NOW - days * DAY_MS, (NOW - days * DAY_MS) // DAY_MS, b"\1")
            for name, days in signals.items()
        }
    )
    return made


def following(stage: str, lead: Features, override: QualificationOverride | None = None) -> NextStage | None:
    return next_stage(CONTEXT, Subject(lead, stage), NOW, override)


def test_a_new_lead_lacks_a_message_or_call() -> None:
    ahead = following("new", Features())
    assert ahead is not None
    assert ahead.stage == "contacted"
    assert [(each.kind, each.any_of, each.text) for each in ahead.missing] == [
        ("event", ("email_sent", "sms_sent", "call_made"), "e-mail sent, SMS sent or call made")
    ]


def test_a_contacted_lead_lacks_points_fields_and_actions_of_the_lowest_band() -> None:
    """A director of a new lead: 15 for the title, 10 for being new. An MQL needs 40, e-mail, company, phone, an opened
    e-mail and a form within 90 days; the form is 91 days old.
    """
    lead = features(
        fields={"title": "Sales director", "email": "a@firm.example"},
        signals={"form_submitted": 91, "email_opened": 3},
    )
    ahead = following("contacted", lead)
    assert ahead is not None
    assert ahead.stage == "qualified"
    # First seen 91 days ago: not new any more, so 15 points.
    assert [(each.kind, each.text, each.points, each.days) for each in ahead.missing] == [
        ("points", "25 more points by rules for mql", 25 * ONE_POINT, None),
        ("field", "company", None, None),
        ("field", "phone", None, None),
        ("event", "form submitted within 90 days", None, 90),
    ]


def test_a_band_set_by_hand_counts_and_one_that_was_there_at_a_move_has_to_be_reached_again() -> None:
    ahead = following("contacted", Features(), QualificationOverride("sql", NOW))
    assert ahead is not None
    assert [each.kind for each in ahead.missing] == ["band"]


def test_what_is_not_active_is_named() -> None:
    ahead = next_stage(CONTEXT._replace(models={}), Subject(Features(), "contacted"), NOW)
    assert ahead is not None
    assert [each.text for each in ahead.missing] == ["hot, mql or sql by rules, which is not active"]


def test_the_nearest_stage_counts_and_a_customer_has_none_ahead() -> None:
    assert [
        each and each.stage for each in (following(s, Features()) for s in ("qualified", "lost", "customer"))
    ] == [
        "engaged",
        "customer",
        None,
    ]


def test_names_are_words() -> None:
    assert words_of("profile.company_size") == "company size"
    assert any_of_words(("qr_scanned",)) == "QR scanned"
    assert any_of_words(("cta_clicked", "custom:trial_begun")) == "call to action clicked or trial begun"
