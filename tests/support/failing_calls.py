"""Functions that fail as calls of the operating system do."""

import os
from collections.abc import Callable


def fail(number: int) -> Callable[..., int]:
    """Return a function that always raises OSError with an error number."""

    def call(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    return call
