"""A publication, model or settings, as both stages read it: one record each, for every partition.

The whole text travels in the log, so that a replay repeats the same decisions and no fold looks
anything up. A shard ignores what is not above the version that it holds.
"""

from schemas.activity import Activity, ModelChanged, ModelRemoved, SettingsChanged
from schemas.control import ModelPublished, ModelRetired, SettingsPublished
from schemas.decode import encode_activity, encode_source
from schemas.moment import millis
from schemas.record import Outgoing
from schemas.topics import EVENTS, LEAD_ACTIVITY, SHARED

Publication = ModelPublished | ModelRetired | SettingsPublished


def publication_records(said: Publication) -> list[Outgoing]:
    """Each is meant for every partition of its topic."""
    return [
        Outgoing(EVENTS, SHARED, encode_source(said)),
        Outgoing(LEAD_ACTIVITY, SHARED, encode_activity(_activity(said))),
    ]


def _activity(said: Publication) -> Activity:
    at = millis(said.recorded_at)
    match said:
        case ModelPublished():
            return ModelChanged(
                said.tenant,
                "",
                at,
                said.model,
                said.version,
                said.text,
                said.fire,
                said.by,
                said.note,
                said.change,
            )
        case ModelRetired():
            return ModelRemoved(said.tenant, "", at, said.model, said.version, said.by, said.note)
        case SettingsPublished():
            return SettingsChanged(
                said.tenant,
                "",
                at,
                said.version,
                said.time_zone,
                said.idle_minutes,
                said.lifecycle,
                said.by,
            )
