"""Effects of declarations of applications: none."""

from journal.events import application
from journal.replay.dispatch import apply_effect
from journal.replay.host import Host


@apply_effect.register
def _(event: application.ApplicationKind, host: Host) -> None:
    """Ignore the declaration: it says how to read events, and changes no state."""
