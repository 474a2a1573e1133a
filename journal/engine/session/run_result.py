"""Result of a run."""

from dataclasses import dataclass
from enum import Enum


class ExitKind(Enum):
    """Kind of the end of a run."""

    EXITED = "exited"
    TRAPPED = "trapped"
    STOPPED = "stopped"
    REPLACED = "replaced"
    """The process continues with another program, in another journal."""


@dataclass(frozen=True, slots=True)
class RunResult:
    """Result of a run.

    ``code`` is the exit code of a guest that exited, else None. ``reason`` is the kind of the
    trap, and ``backtrace`` its call stack, innermost function first.
    """

    kind: ExitKind
    code: int | None = None
    reason: str = ""
    backtrace: str = ""
