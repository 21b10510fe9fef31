"""The bands of a model's text: sets of thresholds, matrices of two groups, and the requirements of bands.

Every set has a name, and every refusal names the set and the reason.
"""

import re
from collections.abc import Mapping
from typing import Any

from scoring.features.calendar import DAY_MS
from scoring.features.features import FIELDS_KEPT
from scoring.features.signals import SignalDefinition
from scoring.models.phrases import PhraseError, parse_phrase
from scoring.models.plan import BandRequirement, LineLabel, Matrix, MatrixAxis, RuleGroup
from scoring.models.points import MicroPoints, PointsError, read_milli_points
from scoring.models.rules import LARGEST_RULE_ID, LONGEST_RULE_NAME, RuleError
from scoring.models.text_refusals import (
    ModelError,
    TomlTable,
    copy_of_table,
    is_whole_number,
    line_of,
    model_refusal,
)

MOST_SCALES = 8
MOST_BANDS = 32
MOST_REQUIREMENTS = 8
LONGEST_REQUIREMENT_DAYS = 3_650

NAME_PATTERN = re.compile(r"[a-z][a-z0-9_]{0,63}", re.ASCII)
"""The name of a model, a signal or a set of bands."""

Thresholds = list[tuple[MicroPoints, str]]


class _BandsError(ValueError):
    """The set of bands is wrong."""


def compile_scales(text: str, document: TomlTable) -> dict[str, Thresholds]:
    """The sets of bands of the total."""
    tables = copy_of_table(text, "bands", document.get("bands", {}))
    if len(tables) > MOST_SCALES:
        raise model_refusal(
            text, "bands", f"a model has at most {MOST_SCALES} sets of bands, not {len(tables)}"
        )
    scales = {}
    for scale, bands in tables.items():
        try:
            scales[_checked_name(scale)] = _thresholds(bands)
        except _BandsError as wrong:
            raise model_refusal(text, "bands", f"{scale!r}{wrong}") from None
    return scales


def compile_matrices(
    text: str,
    document: TomlTable,
    groups: tuple[RuleGroup, ...],
    entries: tuple[LineLabel, ...],
    scales: Mapping[str, Any],
) -> dict[str, Matrix]:
    """The sets of bands that combine two groups."""
    tables = copy_of_table(text, "matrix", document.get("matrix", {}))
    if len(tables) > MOST_SCALES:
        raise model_refusal(text, "matrix", f"a model has at most {MOST_SCALES}, not {len(tables)}")
    matrices = {}
    for name, table in tables.items():
        header = rf"^[ \t]*\[?matrix\.[\"']?{re.escape(name)}[\"']?\s*[\].=]"
        line = line_of(text, header + r"|^[ \t]*\[?matrix\b")
        where = f"line {line}, matrix.{name}"
        if (
            not NAME_PATTERN.fullmatch(name)
            or not isinstance(table, dict)
            or table.keys() != {"rows", "columns"}
        ):
            raise ModelError(
                f"{where}: wants a name of small letters, digits and _, and rows = {{ group = ..., "
                "bands = { name = threshold, ... } } and columns alike, nothing else"
            )
        if name in scales:
            raise ModelError(f"{where}: [bands] has a set of this name")
        axes = []
        for side in ("rows", "columns"):
            line = line_of(text, rf"\b{side}\b", header)
            try:
                axes.append(_axis(table[side], groups, entries))
            except _BandsError as wrong:
                raise ModelError(f"line {line}, matrix.{name}, {side}: {wrong}") from None
        rows, columns = axes
        if rows.group == columns.group:
            raise ModelError(f"{where}: rows and columns are the same group, {rows.group!r}")
        cells = [row + column for _, row in rows.thresholds for _, column in columns.thresholds]
        if len(set(cells)) < len(cells):
            twice = next(cell for cell in cells if cells.count(cell) > 1)
            raise ModelError(f"{where}: two pairs of a row and a column are both called {twice!r}")
        matrices[name] = Matrix(rows, columns)
    return matrices


def band_sets_of(
    scales: Mapping[str, Thresholds], matrices: Mapping[str, Matrix]
) -> dict[str, tuple[str, ...]]:
    """Every set of bands with its bands, the best first."""
    sets = {scale: tuple(band for _, band in thresholds) for scale, thresholds in scales.items()}
    for name, (rows, columns) in matrices.items():
        sets[name] = tuple(row + column for _, row in rows.thresholds for _, column in columns.thresholds)
    return sets


def compile_requirements(
    text: str, document: TomlTable, defined: Mapping[str, SignalDefinition], scales: Mapping[str, Thresholds]
) -> dict[str, tuple[BandRequirement, ...]]:
    """The requirements of the total's bands, beside points."""
    tables = copy_of_table(text, "needs", document.get("needs", {}))
    bands = {band for thresholds in scales.values() for _, band in thresholds}
    needs: dict[str, tuple[BandRequirement, ...]] = {}
    ids: set[int] = set()
    for band, table in tables.items():
        header = rf"^[ \t]*\[+needs\.[\"']?{re.escape(band)}"
        where = f"line {line_of(text, header)}, needs.{band}"
        if band not in bands:
            raise ModelError(f"{where}: there is no band of this name")
        several = table if isinstance(table, list) else [table]
        if not 1 <= len(several) <= MOST_REQUIREMENTS or not all(isinstance(need, dict) for need in several):
            raise ModelError(f"{where}: wants 1 to {MOST_REQUIREMENTS} tables")
        try:
            compiled = [compile_requirement(need, defined, ids) for need in several]
        except (RuleError, PhraseError, PointsError) as wrong:
            raise ModelError(f"{where}: {wrong}") from None
        active = [need.get("active", True) for need in several]
        # No lead reaches a band whose criteria are all switched off: they must not qualify anyone.
        needs[band] = tuple(need for need, on in zip(compiled, active, strict=True) if on)
    return needs


def compile_requirement(
    table: Mapping[str, Any], defined: Mapping[str, SignalDefinition], ids: set[int]
) -> BandRequirement:
    """Compile one criterion, also if it is switched off. Adds its id to `ids`.

    Raises RuleError, PhraseError or PointsError.
    """
    rest = dict(table)
    name, number, active = rest.pop("name", "criterion"), rest.pop("id", None), rest.pop("active", True)
    if not isinstance(name, str) or not name.strip() or len(name) > LONGEST_RULE_NAME:
        raise RuleError(f"name = {name!r} is not a text of 1 to {LONGEST_RULE_NAME} characters")
    if number is not None and not is_whole_number(number, 1, LARGEST_RULE_ID):
        raise RuleError(f"id is a whole number above 0, not {number!r}")
    if number in ids:
        raise RuleError(f"two criteria of the model have the id {number}")
    if number is not None:
        ids.add(number)
    if not isinstance(active, bool):
        raise RuleError(f"active is true or false, not {active!r}")
    return _requirement(rest, defined)


def _checked_name(scale: str) -> str:
    if not NAME_PATTERN.fullmatch(scale):
        raise _BandsError(" is not a name of small letters, digits and _")
    return scale


def _thresholds(bands: Any) -> Thresholds:
    if not isinstance(bands, dict) or not 1 <= len(bands) <= MOST_BANDS:
        raise _BandsError(f" wants 1 to {MOST_BANDS} bands: {{ name = threshold, ... }}")
    try:
        thresholds = [(read_milli_points(threshold) * 1000, band) for band, threshold in bands.items()]
    except PointsError as wrong:
        raise _BandsError(f": {wrong}") from None
    if len({threshold for threshold, _ in thresholds}) != len(thresholds):
        raise _BandsError(" has two bands at one threshold")
    if not all(1 <= len(band) <= LONGEST_RULE_NAME for band in bands):
        raise _BandsError(f": a band's name has 1 to {LONGEST_RULE_NAME} characters")
    return sorted(thresholds, reverse=True)


def _axis(table: Any, groups: tuple[RuleGroup, ...], entries: tuple[LineLabel, ...]) -> MatrixAxis:
    if not isinstance(table, dict) or table.keys() != {"group", "bands"}:
        raise _BandsError('wants { group = "...", bands = { name = threshold, ... } }')
    group = next((group for group in groups if group.name == table["group"]), None)
    if group is None:
        raise _BandsError(f"there is no group {table['group']!r}")
    if not group.weight:
        raise _BandsError(f"the group {group.name!r} weighs 0")
    try:
        thresholds = _thresholds(table["bands"])
    except _BandsError as wrong:
        raise _BandsError(f"bands{wrong}") from None
    own = [index for index, entry in enumerate(entries) if entry.group == group.name]
    lines = slice(own[0], own[-1] + 1) if own else slice(0, 0)
    return MatrixAxis(group.name, thresholds, lines, group.weight)


def _requirement(table: TomlTable, defined: Mapping[str, SignalDefinition]) -> BandRequirement:
    fields, actions = table.pop("fields", []), table.pop("actions", [])
    within, minimum = table.pop("within_days", None), read_milli_points(table.pop("minimum", -1_000_000))
    if table:
        raise RuleError(f"unknown: {', '.join(table)}")
    for names in (fields, actions):
        if (
            not isinstance(names, list)
            or len(names) > FIELDS_KEPT
            or not all(isinstance(n, str) for n in names)
        ):
            raise RuleError(f"wants a list of names, not {names!r}")
    if within is not None and not is_whole_number(within, 1, LONGEST_REQUIREMENT_DAYS):
        raise RuleError(f"within_days is 1 to {LONGEST_REQUIREMENT_DAYS}, not {within!r}")
    for field in fields:
        parse_phrase(f"profile.{field}", defined)
    stored = []
    for action in actions:
        elapsed = parse_phrase(f"days since {action}", defined).elapsed
        if elapsed is None or elapsed.signal not in parse_phrase(action, defined).reads.signals:
            raise RuleError(f"{action!r} is no action")
        stored.append(elapsed.signal)
    return BandRequirement(
        tuple(fields), tuple(stored), None if within is None else within * DAY_MS, minimum * 1000
    )
