"""Texts with places for values."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from delivery import built_in_texts
from delivery.message import LeadCard
from delivery.templates import (
    SAMPLE,
    TemplateRefusedError,
    render_html,
    render_published,
    render_text,
)


def test_values_of_the_lead_stand_in_their_places():
    text = "{{ lead.name }} ({{ lead.fields.industry }}): {{ lead.scores.rules }}, {{ owner.name }}, {{ reason }}"
    said = "Ada Lovelace (SaaS): 82, Grace Hopper, rules rose from 71 to 82, through 80"
    assert render_text(text, SAMPLE) == said
    assert render_published(text, SAMPLE) == said


def test_a_field_that_the_lead_lacks_is_blank_and_a_misspelt_name_is_refused():
    assert render_published("<{{ lead.fields.budget }}>", SAMPLE) == "<>"
    with pytest.raises(TemplateRefusedError, match="has no attribute 'nmae'"):
        render_published("{{ lead.nmae }}", SAMPLE)


@given(st.text())
def test_html_of_a_value_is_text(name):
    message = SAMPLE._replace(lead=LeadCard("x", name=f"<script>{name}"))
    assert "<script>" not in render_html(built_in_texts.HTML, message)


@pytest.mark.parametrize(
    "text",
    [
        "{% for n in range(100000) %}x{% endfor %}",
        "{{ ''.__class__ }}{{ lead.name.__class__.__mro__() }}",
        "{{ 'a' * 1000000000 }}",
        "{{ lead.name.join(['a']) }}",
        "{% set a = 1 %}",
        "{{ 9 ** 999999 }}",
        "{{ lead.name|center(1000000000) }}",
        "{% macro a() %}{{ a() }}{% endmacro %}{{ a() }}",
        "{{ " + "(" * 5_000 + "1" + ")" * 5_000 + " }}",
        "{{ lead.name",
    ],
)
def test_a_published_text_has_no_logic(text):
    with pytest.raises(TemplateRefusedError):
        render_published(text, SAMPLE)


def test_the_configuration_reaches_nothing_but_its_values():
    for text in ("{{ ''.__class__.__mro__ }}", "{{ lead.__init__.__globals__ }}", "{{ self.__init__ }}"):
        with contextlib.suppress(TemplateRefusedError):
            assert "class" not in render_text(text, SAMPLE)


def test_an_endless_text_is_cut_off():
    with pytest.raises(TemplateRefusedError, match="longer than"):
        render_text(
            "{% for a in range(9999) %}{% for b in range(9999) %}xxxxxxxxxx{% endfor %}{% endfor %}", SAMPLE
        )
