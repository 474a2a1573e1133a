"""Effects of events of the whole process that every journal can have."""

from journal.events import core
from journal.replay.dispatch import apply_effect
from journal.replay.host import Host


@apply_effect.register
def _(event: core.InitModule, host: Host) -> None:
    host.process.module_hash = event.wasm_hash
    host.restart_module()


@apply_effect.register
def _(event: core.ProcessExit, host: Host) -> None:
    host.end_process()
    host.process.end_event = event


@apply_effect.register
def _(event: core.SetClockTime, host: Host) -> None:
    host.process.clocks[event.clock_id] = event


@apply_effect.register
def _(event: core.TtySet, host: Host) -> None:
    host.process.tty = event
