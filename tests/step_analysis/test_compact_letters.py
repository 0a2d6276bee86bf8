from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from step_analysis.compact_letters import compact_letters


@st.composite
def _graphs(draw):
    order = [f"policy {i}" for i in range(draw(st.integers(1, 8)))]
    pairs = list(combinations(order, 2))
    different = [pair for pair in pairs if draw(st.booleans())]
    return order, different


def test_letters_are_those_of_the_reference(reference):
    for number, different, expected in reference("compact_letters")["graphs"]:
        order = [f"m{i}" for i in range(number)]
        letters = compact_letters(order, [(order[a], order[b]) for a, b in different])
        assert [letters[policy] for policy in order] == expected


@given(graph=_graphs())
def test_policies_share_a_letter_exactly_if_not_shown_to_differ(graph):
    order, different = graph
    letters = compact_letters(order, different)
    for a, b in combinations(order, 2):
        assert set(letters[a]).isdisjoint(letters[b]) == ((a, b) in different)
    assert all(letters.values())


@given(graph=_graphs(), data=st.data())
def test_the_order_of_pairs_and_within_pairs_is_ignored(graph, data):
    order, different = graph
    shuffled = [tuple(reversed(pair)) for pair in data.draw(st.permutations(different))]
    assert compact_letters(order, different) == compact_letters(order, shuffled)


def test_more_letters_than_the_alphabet_stay_distinct():
    order = [str(i) for i in range(60)]
    letters = compact_letters(order, list(combinations(order, 2)))
    assert len(set(letters.values())) == 60
    assert (letters["0"], letters["26"], letters["59"]) == ("a", "A", "(60)")


def test_a_single_policy_is_a_and_none_is_nothing():
    assert compact_letters(["only"], []) == {"only": "a"}
    assert compact_letters([], []) == {}


@pytest.mark.parametrize("pair", [("a", "x"), ("a", "a")])
def test_a_pair_of_strangers_is_refused(pair):
    with pytest.raises(ValueError, match="does not name two policies"):
        compact_letters(["a", "b"], [pair])
