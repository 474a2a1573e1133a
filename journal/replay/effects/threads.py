"""Effects of events of threads, globals and tables."""

from journal.events import threads
from journal.replay.dispatch import apply_effect
from journal.replay.host import Host


@apply_effect.register
def _(event: threads.SetThread, host: Host) -> None:
    host.machine.set_thread(event)


@apply_effect.register
def _(event: threads.CloseThread, host: Host) -> None:
    host.machine.close_thread(event.id)


@apply_effect.register
def _(event: threads.GlobalsSet, host: Host) -> None:
    host.machine.set_globals(event)


@apply_effect.register
def _(event: threads.TableSet, host: Host) -> None:
    host.machine.set_elements(event.table, event.start, event.functions)
