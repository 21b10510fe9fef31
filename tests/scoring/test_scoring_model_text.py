"""A model that is not fully understood is refused, with line, group, rule and reason."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from leads_given import T0, UTC, happened, lines, scored

from scoring.features.features import FeatureDelta
from scoring.models.model import (
    ModelError,
    Subject,
    built_in_models,
    compile_model,
    explain_score,
    may_change_score,
)

HEAD = 'model = "m"\n'


def one_rule(rule, head="", signals=""):
    return f'{HEAD}{head}\n{signals}\n[groups.fit]\nrules = [\n  {{ name = "R", {rule} }},\n]\n'


def twenty_rules(group):
    rules = ", ".join(f'{{ name = "r{number}", base = 1 }}' for number in range(20))
    return f"[groups.g{group}]\nrules = [{rules}]\n"


def refusal(text):
    with pytest.raises(ModelError) as refused:
        compile_model(text)
    return str(refused.value)


@pytest.mark.parametrize(
    ("rule", "reason"),
    [
        ('value = "email_opened", greater_than = "x", points = 1', "greater_than 'x' is not a number"),
        (
            'value = "email_opened", contains = "x", points = 1',
            "contains asks of a text, and 'email_opened' is a number",
        ),
        (
            'value = "email_opened", equals = true, points = 1',
            "equals: True is not a number, and 'email_opened' is",
        ),
        ('value = "email_opened", in_list = [1, "x"], points = 1', "in_list: 'x' is not a number"),
        (
            'value = "trend of interaction over 14 days", less_than = 1, points = 1',
            "less_than asks of a number",
        ),
        ('value = "profile.title", points = 1', "value wants one operator, not none"),
        ('value = "profile.title", contains = "a", equals = "b", points = 1', "not equals and contains"),
        ('value = "profile.title", in_list = "SaaS", points = 1', "in_list wants a list, not 'SaaS'"),
        ('value = "profile.title", in_list = [], points = 1', "in_list wants a list, not []"),
        ('value = "profile.title", in_list = [[1]], points = 1', "[1] is neither a text nor a number"),
        (
            'value = "profile.title", between = [5, 2], points = 1',
            "between wants [lowest, highest], not [5, 2]",
        ),
        ('value = "profile.title", between = 5, points = 1', "between wants [lowest, highest], not 5"),
        ('value = "profile.title", is_set = false, points = 1', "is_set wants true, not False"),
        (
            'value = "profile.title", matches = "(", points = 1',
            "is no regular expression that RE2 knows: missing )",
        ),
        ("value = 'profile.title', matches = '(a)\\1', points = 1", "invalid escape sequence"),
        ('value = "profile.title", contains = " ", points = 1', "contains wants a text, not ' '"),
        ('value = "profile.title", contains = "a"', "points is missing"),
        ('value = "profile.title", contains = "a", points = 0.0001', "0.0001 has more than three decimals"),
        ('value = "profile.title", contains = "a", points = 1000001', "1000001 is beyond 1,000,000"),
        ('value = "profile.title", contains = "a", points = nan', "NaN is not a number"),
        ('value = "profile.title", contains = "a", points = "5"', "'5' is not a number"),
        ('value = "profile.title", contains = "a", points = 1, pionts = 2', "unknown: pionts"),
        (
            'each = "email_opend", points = 1',
            "'email_opend' is no signal: neither an event type nor defined in [signals]",
        ),
        ('each = "email opened", points = 1', "cannot read 'email opened'"),
        ('each = "email_opened in 91 days", points = 1', "the window is 1 to 90 days, not 91"),
        ('each = "email_opened in 0 days", points = 1', "the window is 1 to 90 days, not 0"),
        (
            'value = "trend of interaction over 46 days", equals = "stable", points = 1',
            "the window is 1 to 45 days",
        ),
        ('each = "hours since interaction", points = 1', "is no count; use steps, value or choose"),
        ('each = "profile.size", points = 1', "is no count"),
        ('each = ["email_opened", 3], points = 1', "3 is not a phrase"),
        ("each = [], points = 1", "wants 1 to 64 things, not 0"),
        ('each = "distinct pages", points = 1', "only questions and signals with distinct"),
        ('each = "session.pages", points = 1', 'wants a model that reads = "session"'),
        ('has = "e-mail", points = 1', "cannot read 'profile.e-mail'"),
        ("has = 3, points = 1", "has wants names of profile fields, not 3"),
        ('steps = "hours since interaction", below = [[6, 1], [1, 2]]', "the limits in below must rise"),
        ('steps = "hours since interaction", below = [[0.5, 1]]', "below wants [limit, points]"),
        ('steps = "hours since interaction", below = [[1]]', "below wants [limit, points], not [1]"),
        ('steps = "hours since interaction"', "below wants a list"),
        ('steps = "trend of interaction over 7 days", below = [[1, 1]]', "steps wants a number"),
        ('choose = "profile.stage"', "choose wants"),
        ('choose = "profile.stage", points = { A = 1, a = 2 }', "two values in points are the same"),
        ('choose = "days since created", points = { a = 2 }', "choose wants"),
        ("points = 1", "wants one of each, once, sequence, has, steps, choose, value, base, not none"),
        ('each = "email_opened", once = "email_opened", points = 1', "not each and once"),
        ('each = "email_opened", points = 1, max = -1', "max is below 0: it limits what points add"),
        ('each = "email_opened", points = 1, min = 1', "min is above 0: it limits what negative points take"),
        ('each = "email_opened", points = 1, min = "x"', "'x' is not a number"),
        ('each = "email_opened", points = 1, min = 0.0001', "0.0001 has more than three decimals"),
        (
            'each = "email_opened", points = 1, times = 0',
            "times is a whole number from 1 to 1,000,000, not 0",
        ),
        ('each = "email_opened", points = 1, times = 1000001', "from 1 to 1,000,000, not 1000001"),
        ('each = "email_opened", points = 1, times = true', "times is a whole number from 1 to 1,000,000"),
        ('each = "email_opened", points = 1, times = 1.5', "times is a whole number from 1 to 1,000,000"),
        ('once = "email_opened", points = 1, times = 1', "times is for each rules, and this one is once"),
        ("base = 1, half_life_days = 14", "half_life_days is for each rules, and this one is base"),
        (
            'each = "email_opened in 3 days", points = 1, times_a_day = 256',
            "times_a_day is a whole number from 1 to 255, not 256",
        ),
        (
            'each = "email_opened in 3 days", points = 1, times_a_day = "1"',
            "times_a_day is a whole number from 1 to 255, not '1'",
        ),
        (
            'each = "email_opened", points = 1, times = 1, times_a_day = 1',
            "times_a_day wants a window, x in N days, and 'email_opened' is none",
        ),
        (
            'each = ["email_opened in 3 days", "distinct questions"], points = 1, half_life_days = 3',
            "half_life_days wants a window, x in N days, and 'distinct questions' is none",
        ),
        (
            'each = "sum of purchase:EUR", points = 1, fades = "linear"',
            "fades wants a window, x in N days, and 'sum of purchase:EUR' is none",
        ),
        (
            'each = "email_opened in 3 days", points = 1, fades = "slowly"',
            "fades = \"linear\" is all there is, not 'slowly'",
        ),
        (
            'each = ["email_opened in 4 days", "active days in 3 days"], points = 1, fades = "linear"',
            'fades = "linear" wants windows of one length, not 3 and 4 days',
        ),
        (
            'each = "email_opened in 3 days", points = 1, fades = "linear", half_life_days = 3',
            "half_life_days or fades, not both",
        ),
        (
            'each = "email_opened in 3 days", points = 1, half_life_days = 0.09',
            "half_life_days is 0.1 to 36500, not 0.09",
        ),
        (
            'each = "email_opened in 3 days", points = 1, half_life_days = "3"',
            "half_life_days is 0.1 to 36500, not '3'",
        ),
        ("base = 1, id = 0", "id is a whole number from 1 to 9007199254740991, not 0"),
        ('base = 1, id = "7"', "id is a whole number from 1 to 9007199254740991, not '7'"),
        ("base = 1, id = true", "id is a whole number"),
        ("base = 1, id = 9007199254740992", "id is a whole number"),
        ("base = 1, priority = 1.5", "priority is a whole number, not 1.5"),
        ("base = 1, priority = true", "priority is a whole number, not True"),
        ('each = "email_opened", points = 1, active = "no"', "active is true or false, not 'no'"),
        ('each = "email_opened", points = 1, active = false, max = "x"', "'x' is not a number"),
    ],
)
def test_a_bad_rule_is_refused_by_line_group_name_and_reason(rule, reason):
    said = refusal(one_rule(rule))
    assert said.startswith("line 6, group 'fit', rule 'R': ")
    assert reason in said


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("model = ", "line 1: Invalid value"),
        (HEAD + "x = 1\n[groups.g]\nrules = []", "line 2, x: unknown; a model has about, band_on"),
        ("[groups.g]\nrules = []", "model: missing: give the model a name"),
        ('model = "My model"\n[groups.g]\nrules = []', "line 1, model: 'My model' is not a name"),
        (HEAD, "groups: missing"),
        (HEAD + "groups = 3", "line 2, groups: wants a table, not 3"),
        (HEAD + "[groups.g]\nwieght = 2\nrules = []", "line 2, group 'g': unknown: wieght"),
        (HEAD + "[groups.g]\nweight = -1\nrules = []", "line 2, group 'g': weight is 0 to 100, not -1"),
        (HEAD + "[groups.g]\nmax = 0.00001\nrules = []", "line 2, group 'g': 0.00001 has more than three"),
        (HEAD + "[groups.g]\nmax = -5\nrules = []", "line 2, group 'g': max is below 0"),
        (HEAD + "[groups.g]\nmin = 5\nrules = []", "line 2, group 'g': min is above 0"),
        (HEAD + "[groups.g]\nmin = true\nrules = []", "line 2, group 'g': True is not a number"),
        (HEAD + "highest_rule_id = -1\n[groups.g]\nrules = []", "line 2, highest_rule_id: wants a whole"),
        (HEAD + "highest_rule_id = '9'\n[groups.g]\nrules = []", "line 2, highest_rule_id: wants a whole"),
        (
            HEAD
            + """[groups.g]
rules = [{ name = "a", base = 1, id = 7, active = false }]
[groups.h]
rules = [
  { name = "b", base = 2, id = 7 },
]""",
            "line 6, group 'h', rule 'b': two rules of the model have the id 7",
        ),
        (HEAD + "[groups.g]\nrules = [3]", "line 2, group 'g': rules wants a list"),
        (HEAD + "[groups.g]\nrules = [{ base = 1 }]", "group 'g', rule None: name = None is not a text"),
        (
            HEAD + '[groups.g]\nrules = [\n{ name = "a", base = 1 },\n{ name = "a", base = 2 },\n]',
            "group 'g', rule 'a': two rules of the group have this name",
        ),
        (HEAD + "min = 5\nmax = 3\n[groups.g]\nrules = []", "line 2, min: above max"),
        (HEAD + "bands = { t = { a = 1, b = 1 } }\n[groups.g]\nrules = []", "two bands at one threshold"),
        (
            HEAD + "bands = { t = { a = 'x' } }\n[groups.g]\nrules = []",
            "line 2, bands: 't': 'x' is not a number",
        ),
        (HEAD + "bands = { t = 3 }\n[groups.g]\nrules = []", "'t' wants 1 to 32 bands"),
        (HEAD + "decay = { points = 0 }\n[groups.g]\nrules = []", "line 2, decay: points is above 0"),
        (
            HEAD + "decay = { half_life_days = 0 }\n[groups.g]\nrules = []",
            "half_life_days is 0.1 to 36500, not 0",
        ),
        (
            HEAD + "decay = { points = 1, half_life_days = 3 }\n[groups.g]\nrules = []",
            "wants points = ... or",
        ),
        (HEAD + "decay = { points = 1, per = 'week' }\n[groups.g]\nrules = []", "inactive day"),
        (HEAD + 'round = "up"\n[groups.g]\nrules = []', "line 2, round: wants half up, not 'up'"),
        (
            HEAD + "lead = { latest = 3 }\n[groups.g]\nrules = []",
            'only a model that reads = "session" has it',
        ),
        (HEAD + 'reads = "session"\nlead = { mean_of = "all" }\n[groups.g]\nrules = []', "mean_of"),
        (
            HEAD
            + 'reads = "session"\nlead = { mean_of = "ended sessions", latest = 201 }\n[groups.g]\nrules = []',
            "latest is 1 to 200, not 201",
        ),
        (HEAD + 'reads = "session"\ndecay = { points = 1 }\n[groups.g]\nrules = []', "has none"),
        (
            HEAD
            + 'reads = "session"\n[groups.g]\nrules = [{ name = "a", each = "page_viewed", points = 1 }]',
            "the model reads one session at a time",
        ),
        (
            HEAD + "[needs.mql]\nfields = []\n[groups.g]\nrules = []",
            "line 2, needs.mql: there is no band of this name",
        ),
        (
            HEAD + "bands = { s = { mql = 1 } }\n[needs.mql]\nactions = ['clicked']\n[groups.g]\nrules = []",
            "line 3, needs.mql: 'clicked' is no signal",
        ),
        (
            HEAD + "bands = { s = { mql = 1 } }\n[needs.mql]\nwithin_days = 0\n[groups.g]\nrules = []",
            "within_days is 1 to 3650, not 0",
        ),
        (
            HEAD + "bands = { s = { mql = 1 } }\n[needs.mql]\nscore = 4\n[groups.g]\nrules = []",
            "needs.mql: unknown: score",
        ),
        (
            HEAD
            + '[signals]\nok = { event = "page_viewed" }\nbad = { event = "nothing" }\n[groups.g]\nrules = []',
            "line 4, signal 'bad': event = 'nothing' is no event type",
        ),
        (HEAD + "[signals]\nbad = 3\n[groups.g]\nrules = []", "line 3, signal 'bad': wants"),
    ],
)
def test_a_bad_model_is_refused_with_the_place_and_the_reason(text, reason):
    assert reason in refusal(text)


def test_the_line_of_a_rule_is_that_of_its_own_group():
    text = (
        HEAD
        + """
[groups.one]
rules = [
  { name = "Same", base = 1 },
]
[groups.two]
rules = [
  { name = "Other", base = 1 },
  { name = "Same", base = "x" },
]
"""
    )
    assert refusal(text).startswith("line 10, group 'two', rule 'Same': ")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (HEAD + "#" * 200_000, "at most 200,000 characters"),
        (HEAD + "x = " + "[" * 5_000, "nested too deeply"),
        (HEAD + "min = " + "9" * 5_000, "line "),
        (HEAD + "".join(twenty_rules(group) for group in range(11)), "at most 200 rules, not 220"),
        (HEAD + "".join(f"[groups.g{g}]\nrules = []\n" for g in range(33)), "1 to 32 groups, not 33"),
        (HEAD + "[signals]\n" + "".join(f's{n} = {{ event = "page_viewed" }}\n' for n in range(65)) + "[groups.g]\nrules = []", "at most 64"),
        (one_rule(f'value = "profile.x", in_list = [{", ".join(["1"] * 1001)}], points = 1'), "at most 1000 items"),
        (one_rule(f'value = "profile.x", matches = "{"a" * 1001}", points = 1'), "at most 1000 characters"),
        (one_rule('value = "profile.x", matches = "((a{100}){100}){100}", points = 1'), "RE2"),
        (HEAD + "\n" * 190_000 + "min = 1\nx = 1", "line 190003, x: unknown"),
        (HEAD + "min" + ".a" * 90_000 + " = 1", "line 2: nested too deeply"),
        (HEAD + "[" + '"a" . ' * 30_000 + "b]", "line 2: nested too deeply"),
        (one_rule('steps = "profile.x", below = [[1e999999999, 1]]'), "1e999999999 has more than 100 digits"),
        (one_rule('value = "profile.x", greater_than = 1e999999999, points = 1'), "1e999999999 has more than 100"),
        (one_rule('value = "days since created", less_than = 1e-999999999, points = 1'), "1e-999999999 has more"),
        (one_rule("base = 1e999999999"), "1e999999999 has more than 100 digits before its point or behind it"),
        (one_rule("base = 1e-999999999"), "1e-999999999 has more than 100 digits"),
        (one_rule("base = 0e-999999999"), "0e-999999999 has more than 100 digits"),
        (one_rule('each = "page_viewed in 9 days", points = 1, half_life_days = 1e999999'), "more than 100 digits"),
        (HEAD + "min = 1e999999999\nmax = -1e999999999", "line 2: 1e999999999 has more than 100 digits"),
        (one_rule(f"base = 0x{'f' * 5_000}"), "an integer has more than 100 digits"),
        (one_rule(f"base = 1.{'1' * 5_000}"), "has more than 100 digits"),
    ],
    ids=[
        "text", "nesting", "digits", "rules", "groups", "signals", "list", "pattern", "regex bomb", "blank lines",
        "dots", "dots in a header", "large limit", "large operand", "small operand", "large points", "small points",
        "small zero", "large half-life", "large bounds", "hex digits", "decimals",
    ],
)  # fmt: skip
def test_a_text_that_would_cost_too_much_is_refused(text, reason):
    assert reason in refusal(text)


@given(st.text(max_size=200) | st.sampled_from(sorted(built_in_models().values())).flatmap(
    lambda text: st.tuples(st.integers(0, len(text)), st.integers(0, 40), st.text(max_size=10)).map(
        lambda cut: text[: cut[0]] + cut[2] + text[cut[0] + cut[1] :]
    )
))  # fmt: skip
def test_any_text_compiles_or_is_refused(text):
    try:
        compile_model(text)
    except ModelError:
        return


def test_a_refusal_repeats_no_more_than_a_little_of_the_text():
    assert len(refusal(f'{HEAD}[groups.g]\nrules = [{{ name = "{"n" * 150_000}", base = 1 }}]')) < 1_100


@pytest.mark.parametrize("criteria", [1, 2])
def test_a_band_whose_criteria_are_all_switched_off_is_reached_by_nobody(criteria):
    """Switching a criterion off never qualifies anybody."""
    off = "[[needs.mql]]\nactive = false\n" * criteria
    text = f"{HEAD}bands = {{ stage = {{ mql = 5, none = 0 }} }}\n{off}[groups.g]\nrules = [{{ name = 'a', base = 5 }}]"
    assert scored(compile_model(text), []).bands == {"stage": "none"}
    on_again = text.replace("active = false", "active = true", 1)
    assert scored(compile_model(on_again), []).bands == {"stage": "mql"}


def test_a_rule_that_is_switched_off_has_no_line():
    model = compile_model(
        one_rule('each = "email_opened", points = 1, active = false, id = 7, priority = 10')
    )
    assert model.line_labels == ()


def test_the_keys_of_the_rules_api_change_no_points():
    text = one_rule('each = "email_opened", points = 1, id = 7, priority = -10', head="highest_rule_id = 9")
    model = compile_model(text)
    assert lines(model, scored(model, [happened("email_opened")])) == {"R": 1_000_000}
    (rule,) = model.groups[0].rules
    assert (rule.id, rule.priority) == (7, -10)
    (bare,) = compile_model(one_rule("base = 1")).groups[0].rules
    assert (bare.id, bare.priority) == (None, 0)


def test_a_model_says_what_it_reads():
    reads = compile_model(built_in_models()["temperature"]).reads
    (voice,) = [name for name in reads.signals if name.startswith("voice_message@")]
    contacts = {"call_made", "sms_sent", "email_sent", "meeting_scheduled"}
    for_flags = {"contact_shared", *contacts}
    assert (
        reads.signals
        == {"qr_scanned", "catalog_viewed", "message_received", "interaction", voice} | for_flags
    )
    assert "phone" in reads.fields
    assert not any([reads.sessions, reads.stage, reads.first_touch, reads.created])
    web = compile_model(built_in_models()["web_session"])
    assert web.scores_sessions
    assert web.reads.sessions


def test_a_model_needs_another_look_only_when_what_it_reads_changed():
    models = {name: compile_model(text) for name, text in built_in_models().items()}

    def looks(lift, *, sessions=False, stage=False):
        return {name for name, model in models.items() if may_change_score(model, lift, sessions, stage)}

    assert looks(None) == set()
    assert looks(None, sessions=True) == {"web_session"}
    assert looks(None, stage=True) == {"composite"}
    assert looks(FeatureDelta(T0, 0, "e", ["session_heartbeat"])) == {
        "rules"
    }  # which reads when the lead was created
    assert looks(FeatureDelta(T0, 0, "e", ["qr_scanned", "interaction"])) == {
        "temperature",
        "rules",
        "composite",
    }
    assert looks(FeatureDelta(T0, 0, "e", ["lead_assigned"], {"assigned_to": "ann"})) == {
        "temperature",
        "rules",
        "composite",
    }
    assert looks(FeatureDelta(T0, 0, "e", touchpoint="ads")) >= {"composite"}
    (answers,) = [name for name in models["chatbot"].reads.sets if name.startswith("answer@")]
    assert looks(FeatureDelta(T0, 0, "e", items=[(answers, "1")])) == {"chatbot", "rules"}


def test_a_custom_signal_that_may_displace_another_is_a_reason_to_look():
    model = compile_model(one_rule('each = "custom:trial", points = 1'))
    assert may_change_score(model, FeatureDelta(T0, 0, "e", ["custom:other", "interaction"]), False, False)
    assert not may_change_score(model, FeatureDelta(T0, 0, "e", ["page_viewed", "interaction"]), False, False)


def test_signals_and_built_in_names_are_resolved_to_what_is_stored():
    signals = '[signals]\nbig = { event = "custom:order", field = "size", greater_than = 10 }'
    model = compile_model(one_rule('each = "big in 7 days", points = 2.5', signals=signals))
    events = [happened("custom", name="order", properties={"size": size}) for size in (9, 11, "12")]
    assert lines(model, scored(model, events)) == {"R": 5_000_000}


def test_an_explanation_reads_like_a_sentence():
    model = compile_model(built_in_models()["temperature"])
    events = [happened("qr_scanned") for _ in range(7)]
    events += [happened("profile_updated", fields={"budget_max": 5})]
    from leads_given import features_of

    said = {
        line.text
        for line in explain_score(model, Subject(features_of(events, [model])), T0 + 3 * 3_600_000, UTC, 0)
    }
    assert said >= {
        "QR scans: 7 x 3 points, capped at 15",
        "at most 15 points for QR scans",
        "Messages: 0 x 1 point",
        "Budget: has budget max",
        "Phone: no phone",
        "Last interaction: 3 hours since the last interaction",
        "Voice message: not yet",
    }
    moments = {0: "less than 1 hour", 1: "1 hour", 2: "2 hours"}
    for hours, words in moments.items():
        at = T0 + hours * 3_600_000
        texts = {
            line.text for line in explain_score(model, Subject(features_of(events, [model])), at, UTC, 0)
        }
        assert f"Last interaction: {words} since the last interaction" in texts
    composite = compile_model(built_in_models()["composite"])
    agreed = [happened("consent_changed", email=True)]
    texts = {line.text for line in explain_score(composite, Subject(features_of(agreed)), T0, UTC, 0)}
    assert "Email consent: e-mail consent is yes, 30 points, weighted 0.25" in texts
    rules = compile_model(built_in_models()["rules"])
    events = [happened("profile_updated", fields={"industry": "SaaS", "title": "Chef"})]
    said = {line.text for line in explain_score(rules, Subject(features_of(events)), T0, UTC, 0)}
    assert said >= {
        "Target industry: industry is SaaS (needed: one of SaaS, Enterprise Software)",
        "Decision maker: title is Chef (needed: with director)",
        "Free mailbox: no e-mail (needed: matching @(gmail|yahoo|hotmail|outlook)\\.)",
    }
