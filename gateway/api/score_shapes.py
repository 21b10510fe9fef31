"""Recorded scores as answers show them: of a row of `live.lead_scores`, or of the change of the ledger that made it."""

from collections.abc import Mapping, Sequence
from typing import Any

from gateway.api.lead_flags import bands_and_flags
from gateway.api.points import plain
from gateway.store import Row
from scoring.models.model import ONE_POINT, Model, rounded_points


def current_score_json(row: Row, model: Model | None) -> dict[str, Any]:
    return {
        "total": plain(row["total"]),
        "rounded": row["rounded"],
        "version": row["version"],
        **bands_and_flags(row["bands"], model),
        "as_of": row["as_of"],
        "next_due": row["next_due"],
    }


def past_score_json(change: Row, model: Model | None) -> dict[str, Any]:
    """As the change left it."""
    return {
        "total": plain(change["total"]),
        "rounded": rounded_points(int(change["total"] * ONE_POINT)),
        "version": change["version"],
        **bands_and_flags(change["bands"], model),
        "as_of": change["at"],
    }


def add_recorded_lines(scores: Mapping[str, dict[str, Any]], lines: Sequence[Row]) -> None:
    """The lines of the ledger, added up, at the scores of their models."""
    for score in scores.values():
        score["lines"] = []
    for line in lines:
        if line["model"] in scores:
            names = {name: line[name] for name in ("group", "rule", "kind")}
            scores[line["model"]]["lines"].append({**names, "points": plain(line["points"])})
