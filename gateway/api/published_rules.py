"""The models of publications that were read with other rows, so that both are of one moment. `Ports.published` may be a second
older.
"""

from collections.abc import Sequence
from datetime import datetime

from authoring.active_models import ActiveRules
from authoring.published_texts import compiled_model
from gateway.store import Row
from schemas.control import EVERY_TENANT


def rules_of_publications(
    active: ActiveRules, published: Sequence[Row]
) -> tuple[ActiveRules, dict[str, tuple[int, datetime]]]:
    """`active` with the models of these publications (`select_publications_until`), a tenant's own before everybody's; and of each
    model (version, published at). Time zone, idle time and lifecycle stay those of `active`: their history is not kept.
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
