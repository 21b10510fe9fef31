"""What a publication with `fire` would set off is what it sets off: predicted from the stored leads, then published."""

import pytest
from stream_stories import DAY, HOUR, NOON, SHIPPED, Publish, PublishWorkflows, Time, given
from test_qualification_override import override
from test_workflow_stories import FIRED, FIRM, demo, profile, workflow

from leadstream.evaluation.fire_preview import by_workflow, workflows_set_off
from scoring.features.comparison import NEWEST_COMPARISON
from scoring.models.model import compile_model
from streams.published import ModelVersion, TenantSettings, WorkflowsVersion
from streams.score_leads.lead_rules import LeadRules

RULES = dict(SHIPPED)["rules"]
GENEROUS = RULES.replace("hot = 80, sql = 65, mql = 40", "hot = 40, sql = 30, mql = 20").replace(
    "points = 25", "points = 45"
)
WITHOUT_NEEDS = GENEROUS.split("[needs.mql]")[0] + "[groups" + GENEROUS.split("[groups", 1)[1]
WORKFLOWS = (
    workflow('type = "score_threshold", score = 75')
    + workflow('type = "stage_change", set = "stage", to = "hot"', number=2)
    + workflow('type = "stage_change", to = "qualified"', 'conditions = [{ has = "industry" }]', number=3)
    + workflow('type = "score_threshold", score = 75, model = "temperature"', number=4)
    + workflow('type = "event", event = "demo_requested"', number=5)
    + workflow('type = "score_threshold", score = 30', "anonymous = true", number=6)
)


def rules_with(text, version):
    models = {name: ModelVersion(number, own) for number, (name, own) in enumerate(SHIPPED, 1)}
    models["rules"] = ModelVersion(version, text, NEWEST_COMPARISON.folding)
    return LeadRules(TenantSettings(), models, WorkflowsVersion(1, WORKFLOWS, NEWEST_COMPARISON.folding))


@pytest.mark.parametrize("fire", [True, False])
@pytest.mark.parametrize("text", [WITHOUT_NEEDS, RULES], ids=["generous", "the same"])
def test_a_preview_names_exactly_what_the_publication_sets_off(text, fire):
    compile_model(text)
    story = given(
        PublishWorkflows(WORKFLOWS, 1, 0),
        profile("a", HOUR, "A", **FIRM),
        demo("b", HOUR, "B"),
        profile("c", HOUR, "C", industry="SaaS", profiling_consent=False),
        override("d", HOUR, "hot", lead="D"),
        profile("e", HOUR, "E", imported=True, **FIRM),
        demo("m", HOUR, "E"),
        Time(2 * HOUR),
    )
    number = next(number for number, (name, _) in enumerate(SHIPPED, 1) if name == "rules")
    before, after = rules_with(RULES, number), rules_with(text, 20)
    predicted = [
        each
        for lead in story.pipeline.leads().values()
        for each in workflows_set_off(lead, before, after, "rules", NOON + DAY)
    ]
    story.when(Publish("rules", text, 20, DAY, fire=fire))
    acted = sorted((s.lead_id, s.workflow_id, s.reason) for s in story.statements(*FIRED) if not s.silent)
    assert acted == (sorted((s.lead_id, s.workflow_id, s.reason) for s in predicted) if fire else [])
    if text is not RULES:
        summed = {each.workflow_id: (each.leads, each.anonymous) for each in by_workflow(predicted)}
        assert sum(leads for leads, _ in summed.values()) == len(predicted) > 2
