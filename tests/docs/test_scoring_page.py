"""docs/scoring.md is current, and everything that it teaches is so."""

import re

import pytest
from typer.main import get_command

from leadstream.cli.root import app
from leadstream.operations import scoring_page
from scoring.features.operators import OPERATORS
from scoring.features.signals import EVENT_TYPE_BY_TAG
from scoring.models import counting, model_text, phrases, rules
from scoring.models.model import ModelError, all_models, compile_model
from scoring.models.profile_fields_text import read_profile_fields

PAGE = scoring_page.SCORING_PAGE.read_text(encoding="utf-8")
TAUGHT = PAGE[: PAGE.index("## Limits")]
EXAMPLES = re.findall(r"```toml\n(.*?)```", TAUGHT, re.DOTALL)


def whole(example):
    """The example as a model: what it does not show is added."""
    if example.startswith("rules = ["):
        example = f"[groups.g]\n{example}"
    if "[groups." not in example:
        example = f"{example}\n[groups.g]\nrules = []"
    return example if "model " in example else f'model = "m"\n{example}'


def test_the_page_is_current():
    assert scoring_page.page_with_parts(PAGE) == PAGE, "run `make schemas`"


def test_a_page_without_its_marks_is_refused():
    with pytest.raises(ValueError, match="must contain the lines"):
        scoring_page.page_with_parts("# Scoring\n")


@pytest.mark.parametrize("example", EXAMPLES, ids=range(len(EXAMPLES)))
def test_every_example_compiles(example):
    if example.startswith("[profile_fields]"):
        assert read_profile_fields(example)
    else:
        compile_model(whole(example))


def test_there_is_an_example_of_everything_but_the_session_phrases():
    assert len(EXAMPLES) == 8


def test_every_rule_in_the_table_of_kinds_compiles():
    shown = re.findall(
        r"^\| `\w+` \| .* \| `(.+)` \|$", TAUGHT.partition("## What rules can read")[0], re.MULTILINE
    )
    kinds = [rule for rule in shown if rule.split(" =")[0] in rules.RULE_KINDS]
    assert [rule.split(" =")[0] for rule in kinds] == list(rules.RULE_KINDS)
    for rule in kinds:
        compile_model(whole(f'rules = [{{ name = "x", {rule} }}]'))


def test_every_phrase_in_its_table_can_be_read():
    section = TAUGHT.partition("## What rules can read")[2].partition("\n## ")[0]
    shown = re.findall(r"^\| `([^`]+)` \|", section, re.MULTILINE)
    assert len(shown) == 15
    for phrase in [*shown, *re.findall(r"`(\w+_(?:count|ago|creation))`", section)]:
        phrases.parse_phrase(phrase, {})


def test_every_operator_in_its_table_compiles_and_none_is_missing():
    section = TAUGHT.partition("## What `value` can ask")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (`.*?`) \| .*? \| `(.*)` \|$", section, re.MULTILINE)
    assert {name for names, _ in rows for name in re.findall(r"`(\w+)`", names)} == OPERATORS.keys()
    for _, example in rows:
        rule = example.replace("\\|", "|")
        compile_model(whole(f'rules = [{{ name = "x", value = "profile.f", {rule}, points = 1 }}]'))


KEYS = {
    "rule": ["name", "points", "min", "max", "active", "id", "priority", "below", "otherwise", "never"],
    "group": ["weight", "min", "max"],
    "need": ["fields", "actions", "within_days", "minimum"],
    "matrix": ["rows", "columns"],
    "lead": ["mean_of", "latest", "half_life_days"],
    "signal": ["event", "field", "source", "where", "distinct", "site", "within"],
}
TAUGHT_KEYS = sorted(
    {key for keys in KEYS.values() for key in keys} | {*model_text._MODEL_KEYS, *counting.COUNTING_KEYS}
)


@pytest.mark.parametrize(
    "key",
    [*TAUGHT_KEYS, *rules.RULE_KINDS, *phrases.UNIT_MS, *phrases.PHRASE_ALIASES],
)
def test_every_key_is_taught(key):
    assert re.search(rf"(?<!\w){re.escape(key)}(?!\w)", TAUGHT)


def test_every_model_that_can_be_published_by_name_is_told():
    told = re.findall(r"^### (\w+)$", PAGE, re.MULTILINE)
    assert sorted(told) == sorted(all_models())


def test_every_event_that_the_page_names_exists():
    named = set(re.findall(r'(?:each|once|event) = "([a-z_]+)[ :"]', TAUGHT))
    assert named <= EVENT_TYPE_BY_TAG.keys()


def test_a_mistake_is_refused_with_its_line_its_rule_and_the_reason():
    """As the page promises, of its own first example."""
    with pytest.raises(ModelError, match=r"line 11, group 'fit', rule 'Free mailbox': .*not a number"):
        compile_model(EXAMPLES[0].replace("points = -5", 'points = "five"'))


def test_every_command_that_the_page_names_exists():
    named = set(re.findall(r"leadstream ([a-z-]+)", TAUGHT))
    assert len(named) > 5
    assert named <= get_command(app).commands.keys()
