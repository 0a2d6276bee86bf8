"""Which documents show the same pictures.

Axes: D document.
"""

from __future__ import annotations

import hashlib

import numpy as np

from trainer.data.text.source import TextSource
from trainer.data.windows import IntArray


def joined_by_pictures(source: TextSource) -> IntArray:
    """(D,), of each document the first one of its group.

    Two are of one group if they share a picture, byte by byte, or if others between them do. One
    without a picture is alone. Raises DataError.
    """
    # Of each an earlier one of its group, or itself (union-find).
    earlier = list(range(len(source)))

    def first_of(document: int) -> int:
        while earlier[document] != document:
            # Each look shortens the way of the next.
            earlier[document] = earlier[earlier[document]]
            document = earlier[document]
        return document

    shown_by: dict[bytes, int] = {}
    for index in range(len(source)):
        for picture in source.document(index).images:
            other = shown_by.setdefault(hashlib.sha256(picture).digest(), index)
            first, second = sorted((first_of(other), first_of(index)))
            earlier[second] = first
    return np.array([first_of(index) for index in range(len(source))])
