"""What the command line says of leads that saw several variants."""

from datetime import UTC, datetime

from leadstream.evaluation.experiment_report import print_results
from scoring.experiments.experiment_text import built_in_experiments_by_name
from scoring.experiments.results import Exposure, GoalConversion, experiment_results

AT = datetime(2030, 1, 31, 12, 0, tzinfo=UTC)


def test_leads_that_saw_several_variants_are_told_beside_the_rates(capsys):
    """Of the two leads of A one asked for a demo, having seen both."""
    exposures = [Exposure("l", "A", AT, "1"), Exposure("l", "B", AT, "2"), Exposure("m", "A", AT, "3")]
    conversions = [GoalConversion("l", "demo_requested", None, AT)]
    experiment = built_in_experiments_by_name()["greeting_message"]
    print_results(experiment, experiment_results(experiment, exposures, conversions))
    told = capsys.readouterr()
    assert "50.0%" in told.out
    assert "1 of the leads of A saw another variant later, and count for A: " in told.err
    assert "demo_request, reached by 1 of them, 0.0% without them" in told.err
    assert "of the leads of B" not in told.err
