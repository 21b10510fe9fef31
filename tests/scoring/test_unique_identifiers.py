"""Two leads with different values of a unique field are two people."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scoring.features.unique_identifiers import differing_field, identifiers_in, united

identifiers = st.dictionaries(
    st.sampled_from(["crm_id", "email"]), st.frozensets(st.sampled_from("abc"), max_size=2)
)


@pytest.mark.parametrize(
    "nothing", [None, "", "N/A", "test", "0", 0, "unknown", True, [], ["7"], "{{crm_id}}"]
)
def test_what_says_nothing_is_no_value(nothing):
    assert identifiers_in({"crm_id": nothing, "email": "a@x.io"}, ["crm_id"]) == {}


def test_a_number_and_its_text_are_one_value():
    values = [identifiers_in({"crm_id": value}, ["crm_id"]) for value in (7, 7.0, "7", " 7 ")]
    assert values == [{"crm_id": frozenset({"7"})}] * 4


@given(identifiers, identifiers)
def test_two_leads_differ_where_each_has_a_value_that_the_other_lacks_and_they_share_none(one, other):
    apart = {
        name
        for name in ("crm_id", "email")
        if one.get(name) and other.get(name) and not one[name] & other[name]
    }
    found = differing_field(one, other)
    assert found in apart if apart else found is None
    assert (differing_field(other, one) is None) == (found is None)


@given(identifiers, identifiers)
def test_a_lead_that_was_made_of_two_differs_from_neither(one, other):
    assert differing_field(united(one, other), one) is None
    assert differing_field(united(one, other), other) is None
