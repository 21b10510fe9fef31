"""Where a lead that was merged belongs, and which leads are merged in a circle, against a reading of all paths."""

from hypothesis import given
from hypothesis import strategies as st

from scoring.features.identity import merge_circle, owner_by_redirects

leads = st.sampled_from("abcdef")
redirects = st.dictionaries(leads, leads).map(
    lambda them: {lead: to for lead, to in them.items() if lead != to}
)


def reached(lead, redirects):
    """All leads that follow this one, in order; it may be among them."""
    path = []
    while (lead := redirects.get(lead)) is not None and lead not in path:
        path.append(lead)
    return path


@given(leads, redirects)
def test_a_lead_belongs_to_the_end_of_its_path_or_to_the_smallest_of_the_circle_in_which_it_ends(
    lead, redirects
):
    path = [lead, *reached(lead, redirects)]
    in_circle = [each for each in path if each in reached(each, redirects)]
    assert owner_by_redirects(lead, redirects.get) == (min(in_circle) if in_circle else path[-1])


@given(leads, redirects)
def test_a_circle_is_every_lead_from_which_the_lead_is_reached_again(lead, redirects):
    after = reached(lead, redirects)
    circle = merge_circle(lead, redirects.get)
    assert circle == ([lead, *after[:-1]] if lead in after else [])
    assert {owner_by_redirects(each, redirects.get) for each in circle} == (
        {min(circle)} if circle else set()
    )


def test_a_chain_of_any_length_ends():
    chain = {f"{number:03}": f"{number + 1:03}" for number in range(100)}
    assert owner_by_redirects("000", chain.get) == "020"  # as the folds do: twenty steps
    assert merge_circle("000", chain.get) == []
