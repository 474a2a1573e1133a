"""Reply of a guest to one piece of input."""

from dataclasses import dataclass
from enum import Enum


class Ending(Enum):
    """Reason why a call of a guest returned."""

    WAITING = "waiting"
    """The guest waits for more input than it was fed, and can be called again."""
    EXITED = "exited"
    TRAPPED = "trapped"
    TIMED_OUT = "timed-out"
    OUT_OF_MEMORY = "out-of-memory"
    OUTPUT_LIMIT = "output-limit"
    FILES_LIMIT = "files-limit"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class Reply:
    """Output of a guest since its last reply, and the reason why it returned.

    ``exit_code`` is that of a guest that exited, else None. ``message`` says more about another
    end in one sentence, such as the kind of a trap or the limit that was exceeded.
    """

    ending: Ending
    stdout: bytes
    stderr: bytes
    exit_code: int | None = None
    message: str = ""

    @property
    def is_alive(self) -> bool:
        """Return whether the guest can be called again."""
        return self.ending is Ending.WAITING
