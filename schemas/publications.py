"""The records of a publication (a model, settings, workflows or an experiment): one for each stage, in every partition.

The log carries the whole text, so that a replay makes the same decisions and no fold looks anything up. A shard
ignores a publication whose version is not above its own. A moment of a workflow's schedule is recorded in the same way,
and so is the erasure of a person.
"""

from typing import Final

from schemas.activity import (
    Activity,
    ErasureRecorded,
    ExperimentChanged,
    ModelChanged,
    ModelRemoved,
    SettingsChanged,
    WorkflowMomentCame,
    WorkflowsChanged,
)
from schemas.control import (
    ExperimentPublished,
    ModelPublished,
    ModelRetired,
    PersonErased,
    SettingsPublished,
    WorkflowsDue,
    WorkflowsPublished,
)
from schemas.decode import encode_activity, encode_source
from schemas.moment import millis
from schemas.record import Outgoing
from schemas.topics import EVENTS, LEAD_ACTIVITY, PARTITION_WIDE_KEY

WORKFLOWS: Final = "#workflows"
"""The `model` of a row in `publications` and `model_drafts` that has the workflows of a tenant. No model can have it."""


EXPERIMENT_PREFIX: Final = "#experiment:"
"""Begins the `model` of a row that has an experiment; its name follows."""

Publication = (
    ModelPublished
    | ModelRetired
    | SettingsPublished
    | WorkflowsPublished
    | WorkflowsDue
    | ExperimentPublished
    | PersonErased
)


def publication_records(publication: Publication) -> list[Outgoing]:
    """The records of a publication; each goes to every partition of its topic."""
    return [
        Outgoing(EVENTS, PARTITION_WIDE_KEY, encode_source(publication)),
        Outgoing(LEAD_ACTIVITY, PARTITION_WIDE_KEY, encode_activity(_activity_of(publication))),
    ]


def _activity_of(publication: Publication) -> Activity:
    at = millis(publication.recorded_at)
    match publication:
        case ModelPublished():
            return ModelChanged(
                publication.tenant,
                "",
                at,
                publication.model,
                publication.version,
                publication.text,
                publication.fire,
                publication.by,
                publication.note,
                publication.change,
                publication.folding,
            )
        case ModelRetired():
            return ModelRemoved(
                publication.tenant,
                "",
                at,
                publication.model,
                publication.version,
                publication.by,
                publication.note,
            )
        case SettingsPublished():
            return SettingsChanged(
                publication.tenant,
                "",
                at,
                publication.version,
                publication.time_zone,
                publication.idle_minutes,
                publication.lifecycle,
                publication.by,
                publication.profile_fields,
                publication.attribution,
                None
                if publication.consent_required_since is None
                else millis(publication.consent_required_since),
                publication.unique_fields,
            )
        case WorkflowsPublished():
            return WorkflowsChanged(
                publication.tenant,
                "",
                at,
                publication.version,
                publication.text,
                publication.by,
                publication.note,
                publication.change,
                publication.folding,
            )
        case WorkflowsDue():
            return WorkflowMomentCame(
                publication.tenant, "", at, publication.workflow_id, millis(publication.scheduled_for)
            )
        case ExperimentPublished():
            return ExperimentChanged(
                publication.tenant,
                "",
                at,
                publication.experiment,
                publication.version,
                publication.text,
                publication.by,
                publication.note,
                publication.change,
            )
        case PersonErased():
            return ErasureRecorded(publication.tenant, "", at, publication.salt, publication.hashes)
