"""Random lifecycles: the texts of valid ones, in which everything happens that the language allows."""

from hypothesis import strategies as st

from scoring.lifecycle.lifecycle import FUNNEL_STAGES, SIDE_STAGES, STAGES, LifecycleError, compile_lifecycle

SIGNALS = ("email_sent", "email_replied", "form_submitted", "purchase_made", "interaction", "custom:trial")
QUALIFICATIONS = (("rules", "stage", ("mql",)), ("rules", "stage", ("none",)), ("fit", "grade", ("a", "b")))


@st.composite
def transitions(draw):
    """One that goes forward, as TOML; in company of others it may still make a circle."""
    to = draw(st.sampled_from([stage for stage in STAGES if stage != "new"]))
    before = FUNNEL_STAGES[: FUNNEL_STAGES.index(to)] if to in FUNNEL_STAGES else FUNNEL_STAGES
    sources = draw(
        st.lists(
            st.sampled_from([*before, *(stage for stage in SIDE_STAGES if stage != to)]),
            min_size=1,
            max_size=4,
            unique=True,
        )
    )
    lines = [f'to = "{to}"', f"from = {sources}", f'reason = "to {to}"']
    what = draw(st.sampled_from(["when", "when", "when", "idle", "idle", "band", "band", "both", "all"]))
    if what in ("when", "both", "all"):
        signals = draw(st.lists(st.sampled_from(SIGNALS), min_size=1, max_size=2, unique=True))
        lines.append(f"when = {signals}")
    if what in ("idle", "both", "all"):
        lines.append(f"inactive_days = {draw(st.integers(1, 4))}")
    if what in ("band", "all"):
        model, scale, bands = draw(st.sampled_from(QUALIFICATIONS))
        lines.append(f'qualified_by = {{ model = "{model}", set = "{scale}", bands = {[*bands]} }}')
    if what != "band":
        since = draw(st.sampled_from([None, "move", "qualifying", "entering", "entering"]))
        lines += [f'since = "{since}"'] if since else []
    return "\n".join(lines)


@st.composite
def lifecycles(draw):
    """A text that compiles: a transition that would make a circle is left out."""
    text = 'lifecycle = "random"\ntransitions = []\n'
    begun = 'lifecycle = "random"\n'
    for transition in draw(st.lists(transitions(), min_size=1, max_size=12)):
        tried = f"{begun}[[transitions]]\n{transition}\n"
        try:
            compile_lifecycle(tried)
        except LifecycleError as refusal:
            if "move in a circle" not in str(refusal):
                raise
        else:
            text = begun = tried
    return text
