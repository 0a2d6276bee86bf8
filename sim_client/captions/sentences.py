"""Facts in words: a caption, and questions with their answers.

What is asked about two objects is asked only where the answer is plain to see.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from sim_client.captions.facts import SeenObject

_APART = 0.12
"""Of the picture's width: objects nearer to each other are side by side to the eye."""
_APART_M = 0.05


@dataclass(frozen=True, kw_only=True)
class Exchange:
    question: str
    answer: str


def caption(seen: Sequence[SeenObject], rng: np.random.Generator) -> Exchange | None:
    """Where each object is; None for a picture of none."""
    if not seen:
        return None
    order = rng.permutation(len(seen))
    parts = [_placed(seen[place]) for place in order]
    return Exchange(
        question="What is in the picture?", answer=f"{_sentence(', and '.join(parts))}."
    )


def questions(
    seen: Sequence[SeenObject], instructions: Sequence[str], rng: np.random.Generator
) -> list[Exchange]:
    """All that can be asked of a picture, in an order that the generator chooses.

    instructions: phrasings of the task, any of which may be told.
    """
    asked = [
        Exchange(question="What should the robot do?", answer=str(rng.choice(list(instructions))))
    ]
    for each in seen:
        asked.append(
            Exchange(question=f"Where is the {each.name}?", answer=_sentence(f"{_where(each)}."))
        )
        answer = _sentence(f"{each.colour}.")
        asked.append(Exchange(question=f"What colour is the {each.name}?", answer=answer))
        asked.append(Exchange(question=f"Point at the {each.name}.", answer=_point(each)))
    asked += _comparisons(
        seen, "Which is further left", lambda each: each.column, least=_APART, rng=rng
    )
    asked += _comparisons(
        seen, "Which is nearer to the camera", lambda each: each.distance_m, least=_APART_M, rng=rng
    )
    return [asked[place] for place in rng.permutation(len(asked))]


def _comparisons(
    seen: Sequence[SeenObject],
    question: str,
    measure: Callable[[SeenObject], float],
    *,
    least: float,
    rng: np.random.Generator,
) -> list[Exchange]:
    """The lesser of each two that differ plainly, asked in either order."""
    found = []
    for place, first in enumerate(seen):
        for second in seen[place + 1 :]:
            if abs(measure(first) - measure(second)) < least:
                continue
            pair = [first, second] if rng.random() < 0.5 else [second, first]
            lesser = min(pair, key=measure)
            found.append(
                Exchange(
                    question=f"{question}, the {pair[0].name} or the {pair[1].name}?",
                    answer=f"The {lesser.name}.",
                )
            )
    return found


def _placed(each: SeenObject) -> str:
    article = "an" if each.colour[0] in "aeiou" else "a"
    return f"{article} {each.colour} {each.name} is {_where(each)}"


def _where(each: SeenObject) -> str:
    return f"in the {each.region}"


def _point(each: SeenObject) -> str:
    """In hundredths of the picture's width and height, from its upper left corner."""
    column, row = (min(99, int(100 * share)) for share in (each.column, each.row))
    return f"Column {column}, row {row}."


def _sentence(words: str) -> str:
    return words[0].upper() + words[1:]
