"""What an image of ours is made of, as a program in it knows it."""

from __future__ import annotations

import hashlib
import os
from functools import cache
from pathlib import Path

BILL_VARIABLE = "ASSAY_IMAGE_BILL"


@cache
def image_facts() -> dict[str, str]:
    """`image_bill`: SHA-256 of the image's bill of materials, which names each package with the
    hash of its files; nothing outside of an image.

    A program in a container can't know its image's own digest, which the engine gives it.
    """
    path = os.environ.get(BILL_VARIABLE)
    if not path:
        return {}
    try:
        return {"image_bill": f"sha256:{hashlib.sha256(Path(path).read_bytes()).hexdigest()}"}
    except OSError:
        return {}
