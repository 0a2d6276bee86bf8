"""Compact letter displays: policies that share a letter are not shown to differ.

Piepho, Journal of Computational and Graphical Statistics 13 (2004). The letters are the maximal
cliques of the graph whose edges join policies not found to differ.
"""

import string
from collections.abc import Iterable, Mapping, Sequence

_LETTERS = string.ascii_lowercase + string.ascii_uppercase


def compact_letters(order: Sequence[str], different: Iterable[tuple[str, str]]) -> dict[str, str]:
    """The letters of each policy.

    Args:
        order: policies, best first; letters are named in this order.
        different: pairs found to differ; a pair's own order is ignored.

    Raises:
        ValueError: a policy is there twice, or a pair names one that is not in `order`.
    """
    rank = {policy: i for i, policy in enumerate(order)}
    if len(rank) != len(order):
        raise ValueError(f"a policy is there twice in {list(order)}")
    apart: set[frozenset[int]] = set()
    for a, b in different:
        if a not in rank or b not in rank or a == b:
            raise ValueError(f"pair ({a!r}, {b!r}) does not name two policies of {list(order)}")
        apart.add(frozenset((rank[a], rank[b])))
    everyone = range(len(order))
    alike = {
        i: {j for j in everyone if j != i and frozenset((i, j)) not in apart} for i in everyone
    }
    cliques = [sorted(clique) for clique in _maximal_cliques(set(), set(everyone), set(), alike)]
    cliques.sort(key=lambda members: (members[0], -len(members), members))
    letters = dict.fromkeys(order, "")
    for number, members in enumerate(cliques):
        for i in members:
            letters[order[i]] += _letter(number)
    return letters


def _letter(number: int) -> str:
    return _LETTERS[number] if number < len(_LETTERS) else f"({number + 1})"


def _maximal_cliques(
    clique: set[int], candidates: set[int], excluded: set[int], alike: Mapping[int, set[int]]
) -> Iterable[set[int]]:
    """Bron and Kerbosch's enumeration with a pivot (Communications of the ACM 16, 1973)."""
    if not candidates and not excluded:
        if clique:
            yield clique
        return
    pivot = max(candidates | excluded, key=lambda i: len(alike[i] & candidates))
    for i in sorted(candidates - alike[pivot]):
        yield from _maximal_cliques(clique | {i}, candidates & alike[i], excluded & alike[i], alike)
        candidates = candidates - {i}
        excluded = excluded | {i}
