"""The red and green flags of a score, as answers show them beside its bands."""

from collections.abc import Mapping
from typing import Any

from scoring.models.flags import RaisedFlag, raised_flags, split_flags
from scoring.models.model import Model


def shown_flag(flag: RaisedFlag) -> dict[str, Any]:
    return flag._asdict()


def bands_and_flags(bands: Mapping[str, str | None], model: Model | None = None) -> dict[str, Any]:
    """`model` has the texts of the flags; without it they are null."""
    own, _ = split_flags(bands)
    flags = raised_flags(bands, model.flags if model else ())
    return {"bands": own, "flags": [shown_flag(flag) for flag in flags]}
