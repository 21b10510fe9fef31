"""Publications as a read model: who published which text when, and why."""

from projection_records import PARTITIONS, START, TENANT, at, published, recorded

from projections.facts import changes_of_record
from projections.rows import PublicationRow
from schemas.activity import ExperimentChanged, ModelChanged, ModelRemoved, SettingsChanged, WorkflowsChanged
from schemas.publications import WORKFLOWS


def rows_of(said):
    return [change for record in recorded(published(said)) for change in changes_of_record(record)]


def test_a_publication_that_stands_in_every_partition_is_one_row():
    said = ModelChanged(TENANT, "", START, "rules", 3, "text", True, "ada", "why", "rule_created 5")
    assert len(published(said)) == PARTITIONS > 1
    assert rows_of(said) == [
        PublicationRow(TENANT, "rules", 3, "text", True, "ada", "why", "rule_created 5", at(0))
    ]


def test_a_retirement_is_a_version_without_a_text():
    (row,) = rows_of(ModelRemoved(TENANT, "", START, "rules", 4, "ada", "never used"))
    assert (row.version, row.text, row.by, row.note, row.change) == (4, None, "ada", "never used", "retired")


def test_what_postgres_cannot_hold_is_replaced():
    (row,) = rows_of(ModelChanged(TENANT, "", START, "rules", 5, "a\0b", by="\0", note="n\0"))
    assert (row.text, row.by, row.note) == ("a\ufffdb", "\ufffd", "n\ufffd")


def test_the_workflows_of_a_tenant_are_a_row_under_a_name_that_no_model_has():
    said = WorkflowsChanged(TENANT, "", START, 2, "text", "ada", "why", "workflow_created 5", folding=2)
    assert rows_of(said) == [
        PublicationRow(
            TENANT, WORKFLOWS, 2, "text", False, "ada", "why", "workflow_created 5", at(0), folding=2
        )
    ]


def test_an_experiment_is_a_row_under_a_name_that_no_model_has():
    published = ExperimentChanged(TENANT, "", START, "greeting", 3, "text", "ada", "why", "started")
    assert rows_of(published) == [
        PublicationRow(
            TENANT, "#experiment:greeting", 3, "text", False, "ada", "why", "started", at(0), folding=1
        )
    ]


def test_settings_of_every_publication_are_kept_once():
    said = SettingsChanged(TENANT, "", START, 4, "Europe/Berlin", 45, "a lifecycle")
    (row,) = rows_of(said)
    assert row._asdict() == {
        "tenant": TENANT,
        "version": 4,
        "recorded_at": at(0),
        "time_zone": "Europe/Berlin",
        "idle_minutes": 45,
        "lifecycle": "a lifecycle",
    }
