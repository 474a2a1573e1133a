"""Result of one piece of code in a sandbox."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from journal.engine.session.reply import Ending


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Result of one piece of code that a sandbox evaluated.

    ``value`` is the value of the last statement if that is an expression: what JSON makes of it,
    or, with ``is_repr``, its text, because JSON has no such value. ``stdout`` and ``stderr`` are
    the output of the code, and ``files`` the files under ``/work`` that it created or changed, by
    their paths. ``error`` is empty, or the traceback of the code, or one sentence about the
    ``ending`` of its process. Everything comes from the guest: the code may have chosen it.
    """

    value: Any = None
    is_repr: bool = False
    stdout: bytes = b""
    stderr: bytes = b""
    error: str = ""
    files: Mapping[str, bytes] = field(default_factory=dict)
    ending: Ending = Ending.WAITING

    @property
    def is_alive(self) -> bool:
        """Return whether the session can evaluate more code."""
        return self.ending is Ending.WAITING
