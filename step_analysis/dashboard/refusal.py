"""What can't be shown, and why."""


class NotShownError(Exception):
    """There is no such page, figure or film, or the address asks for something impossible; the
    text says which. `status`: of the answer, in HTTP."""

    def __init__(self, message: str, *, status: int = 404) -> None:
        super().__init__(message)
        self.status = status
