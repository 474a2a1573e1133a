"""Effects of events of threads, globals and tables."""

from journal.events import threads
from journal.replay.dispatch import apply
from journal.replay.host import Host


@apply.register
def _(event: threads.SetThread, host: Host) -> None:
    host.machine.set_thread(event)


@apply.register
def _(event: threads.CloseThread, host: Host) -> None:
    host.machine.close_thread(event.id)


@apply.register
def _(event: threads.GlobalsSet, host: Host) -> None:
    host.machine.set_globals(event)


@apply.register
def _(event: threads.TableSet, host: Host) -> None:
    host.machine.set_elements(event.table, event.start, event.functions)
