"""The models and settings of publications that were read with other rows, so that both are of one moment. `Ports.published`
may be a second older.
"""

from collections.abc import Sequence
from datetime import datetime

from authoring.active_models import MINUTE_MS, ActiveRules
from authoring.published_texts import compiled_model
from gateway.store import Row
from schemas.control import EVERY_TENANT
from scoring.features.calendar import calendar
from scoring.lifecycle.lifecycle import built_in_lifecycle


def rules_of_publications(
    active: ActiveRules, published: Sequence[Row]
) -> tuple[ActiveRules, dict[str, tuple[int, datetime]]]:
    """`active` with the models of these publications (`select_publications_until`), a tenant's own before everybody's; and of each
    model (version, published at). Settings stay those of `active`.
    """
    newest: dict[str, Row] = {}
    for own in (False, True):
        newest |= {row["model"]: row for row in published if (row["tenant"] != EVERY_TENANT) is own}
    if not newest:
        return active, {}
    rows = {name: row for name, row in sorted(newest.items()) if row["text"]}
    models = {name: compiled_model(row["text"], row["folding"]) for name, row in rows.items()}
    versions = {name: (row["version"], row["recorded_at"]) for name, row in rows.items()}
    return active._replace(models=models), versions


def rules_then(
    active: ActiveRules, published: Sequence[Row], settings: Sequence[Row]
) -> tuple[ActiveRules, dict[str, tuple[int, datetime]]]:
    """As `rules_of_publications`, with time zone, idle time and lifecycle of these settings (`select_settings_until`), too. What the
    tables do not have of a moment, since an earlier version wrote them, stays that of `active`.
    """
    rules, versions = rules_of_publications(active, published)
    row = next((each for each in settings if each["tenant"] != EVERY_TENANT), next(iter(settings), None))
    if row is None:
        return rules, versions
    return (
        rules._replace(
            zone=calendar(row["time_zone"]),
            idle_ms=row["idle_minutes"] * MINUTE_MS,
            lifecycle=row["lifecycle"] or built_in_lifecycle(),
        ),
        versions,
    )
