"""Writes the parts of docs/scoring.md about the profile fields, the built-in models, and the limits of every model.

`python -m leadstream.operations.scoring_page` writes; the rest of the page is written by hand and is kept.
The same models give the same bytes; nothing here is read at run time.
"""

from pathlib import Path

from scoring.editing.describe import describe_model, markdown_table
from scoring.features import sequence_signals, sequences
from scoring.features.profile_fields import FIELD_TYPES, types_of_fields
from scoring.models import band_text, model_text, phrases, rules
from scoring.models.model import built_in_models, optional_models

SCORING_PAGE = Path(__file__).parents[2] / "docs" / "scoring.md"
PART_MARKS = ("<!-- the {}: written by `make schemas` -->", "<!-- end of the {} -->")


def models_part() -> str:
    """Every built-in model, first those that score from the first start, then those that score once published."""
    optional = [describe_model(text) for text in optional_models().values()]
    chapters = [describe_model(text) for text in built_in_models().values()]
    if optional:
        chapters.append("These score once they are published by their name.")
    return "\n\n".join([*chapters, *optional])


def profile_fields_part() -> str:
    """The types of profile fields, each with the built-in fields that have it."""
    fields = types_of_fields()
    rows = [
        (f"`{kind}`", ", ".join(f"`{name}`" for name, field in fields.items() if field == kind), meaning)
        for kind, meaning in FIELD_TYPES.items()
    ]
    return markdown_table(("type", "built-in fields", "values"), rows)


def limits_part() -> str:
    """The limits of every model, as a table."""
    bounds = {
        "characters of a model": model_text.LONGEST_TEXT,
        "groups": model_text.MOST_GROUPS,
        "rules": model_text.MOST_RULES,
        "signals of its own, those of rules with `site` and sequences among them": model_text.MOST_SIGNALS,
        "sequences": sequence_signals.MOST_SEQUENCES,
        "steps of a sequence": sequences.MOST_STEPS,
        "sets of bands, and matrices": band_text.MOST_SCALES,
        "bands of a set": band_text.MOST_BANDS,
        "alternatives of a band's needs": band_text.MOST_REQUIREMENTS,
        "characters of a name": rules.LONGEST_RULE_NAME,
        "items in a list of a rule": rules.LONGEST_PHRASE_LIST,
        "days of a window": phrases.LONGEST_WINDOW_DAYS,
        "days of a need": band_text.LONGEST_REQUIREMENT_DAYS,
        "counted events of a day": phrases.MOST_COUNTED_A_DAY,
        "sessions that a mean is made of": model_text.MOST_SESSIONS_IN_MEAN,
    }
    return markdown_table(("what", "at most"), [(what, f"{most:,}") for what, most in bounds.items()])


def page_with_parts(page: str) -> str:
    """The page with the current text between its marks."""
    for name, part in (
        ("profile fields", profile_fields_part()),
        ("limits", limits_part()),
        ("models", models_part()),
    ):
        begin, end = (mark.format(name) for mark in PART_MARKS)
        before, begun, rest = page.partition(begin)
        _, ended, after = rest.partition(end)
        if not (begun and ended):
            raise ValueError(f"{SCORING_PAGE.name} must contain the lines {begin} and {end}")
        page = f"{before}{begin}\n\n{part}\n\n{end}{after}"
    return page


def main() -> None:
    SCORING_PAGE.write_text(page_with_parts(SCORING_PAGE.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
