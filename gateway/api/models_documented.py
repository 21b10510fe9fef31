"""What /api/models takes and answers, as OpenAPI shows it: an example of each."""

from typing import Any

from msgspec import Struct, json

Responses = dict[int | str, dict[str, Any]]


def takes(kind: type[Struct], example: object) -> dict[str, Any]:
    """The body of a request."""
    _, schemas = json.schema_components([kind], ref_template="{name}")
    content = {"application/json": {"schema": schemas[kind.__name__], "example": example}}
    return {"requestBody": {"required": True, "content": content}}


def _answers(description: str, example: object, status: int = 200) -> Responses:
    return {status: {"description": description, "content": {"application/json": {"example": example}}}}


TEXT = {"text": 'model = "rules"\n...', "note": "more for a demo", "by": "ada"}
_STATE = {"by": "ada", "note": "more for a demo"}
_MODEL = {
    "model": "rules",
    "version": 5,
    "shared": False,
    "retired": False,
    "about": "How far a lead is from a purchase.",
    "since": "2030-01-31T10:00:00Z",
    **_STATE,
}
_DRAFT = {
    "id": 7,
    "model": "rules",
    "state": "scheduled",
    "based_on": 5,
    **_STATE,
    "change": None,
    "fire": False,
    "effective_from": "2030-02-01T00:00:00Z",
    "problem": None,
    "created_at": "2030-01-31T09:00:00Z",
    "changed_at": "2030-01-31T10:00:00Z",
    "version": None,
    "published_at": None,
}

MODELS = _answers(
    "The models that score the tenant's leads, and optional ones that are not in force.",
    {"models": [_MODEL], "optional": [{"model": "fit_engagement", "about": "Fit and engagement apart."}]},
)
MODEL = _answers(
    "The newest version: its text, and the text as data.",
    {
        **_MODEL,
        "text": 'model = "rules"\n...',
        "outline": {
            "model": "rules",
            "bands": {"stage": {"mql": 50}},
            "groups": [
                {"name": "demographic", "rules": [{"name": "Demo", "each": "demo_requested", "points": 50}]}
            ],
        },
    },
)
VERSIONS = _answers(
    "Versions, at most `limit` from `offset` on; with diff, what one changed in another (`diff`: unified).",
    {
        "model": "rules",
        "versions": [
            {
                "version": 5,
                "at": "2030-01-31T10:00:00Z",
                **_STATE,
                "change": "rule_created 9",
                "fire": False,
                "retired": False,
                "shared": False,
            }
        ],
        "next_offset": None,
    },
)
PROGRESS = _answers(
    "How far each partition of scoring has come; leads are estimated, and null once it is complete.",
    {
        "model": "rules",
        "version": 5,
        "complete": False,
        "partitions": {"done": 11, "of": 24},
        "leads": {"visited": 480_000, "of": 1_000_000},
        "by_partition": [
            {"partition": 0, "version": 5, "state": "sweeping", "cursor": "default/l/lead-0519"}
        ],
    },
)
PUBLISHED = _answers(
    "On record and in the log; its progress says when every lead is rescored. A text that is the newest already is "
    "not published again: its state is unchanged.",
    {
        "model": "rules",
        "version": 6,
        "state": "published",
        **_STATE,
        "change": None,
        "published_at": "2030-01-31T10:00:00Z",
    },
)
DRAFTS = _answers("Drafts that may still be published.", {"drafts": [_DRAFT]})
DRAFT = _answers("The draft as it is now.", _DRAFT)
WRITTEN = _answers("The draft as it is now.", _DRAFT, 201)
