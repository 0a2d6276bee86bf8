"""What is wrong with data, said so that one can find it."""

from __future__ import annotations


class DataError(ValueError):
    """Data that cannot be read, or that does not hold what was asked of it.

    where: the file or folder. episode, field: named where the trouble lies in one of them.
    """

    def __init__(
        self,
        message: str,
        *,
        where: object = None,
        episode: str | None = None,
        field: str | None = None,
    ) -> None:
        places = [
            str(where) if where is not None else "",
            f"episode {episode}" if episode is not None else "",
            f"field {field!r}" if field is not None else "",
        ]
        place = ", ".join(filter(None, places))
        super().__init__(f"{place}: {message}" if place else message)
        self.where = where
        self.episode = episode
        self.field = field
