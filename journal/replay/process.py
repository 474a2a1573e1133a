"""Effects of events that say what ran, on what, and where the journal comes from."""

from journal.events import process
from journal.replay.applying import apply
from journal.replay.host import Host
from journal.replay.refusing import NotPlayable, check_size


@apply.register
def _(event: process.ProcessStart, host: Host) -> None:
    if host.process.start is not None:
        host.begin()
    host.process.start = event
    host.process.module_hash = event.module_hash


@apply.register
def _(event: process.ModulePart, host: Host) -> None:
    module = host.process.module
    if event.offset > len(module):
        raise NotPlayable(f"{len(module)} bytes of the module are known, not {event.offset}")
    end = event.offset + len(event.data)
    check_size("the module", end, host.limits.module_size_max)
    module[event.offset : end] = event.data


@apply.register
def _(event: process.Mount, host: Host) -> None:
    host.mount(event)


@apply.register
def _(event: process.SessionStart, host: Host) -> None:
    host.process.session = event
    host.process.session_count += 1


@apply.register
def _(event: process.ProcessTrap, host: Host) -> None:
    host.end()
    host.process.ended = event


@apply.register
def _(event: process.ParentLink, host: Host) -> None:
    host.process.parent = event


@apply.register
def _(event: process.Seal, host: Host) -> None:
    host.process.seal = event
