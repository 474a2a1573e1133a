"""Effects of events that say what ran, on what, and where the journal comes from."""

from journal.events import process
from journal.replay.dispatch import apply
from journal.replay.host import Host
from journal.replay.limits import ReplayError, check_size

Part = process.ModulePart | process.InstrumentedPart


@apply.register
def _(event: process.ProcessStart, host: Host) -> None:
    if host.process.start is not None:
        host.start_process()
    host.process.start = event
    host.process.module_hash = event.module_hash


@apply.register
def _(event: process.ModulePart, host: Host) -> None:
    _write_part(event, host.process.module, "the module", host)


@apply.register
def _(event: process.InstrumentedPart, host: Host) -> None:
    instrumented = host.process.instrumented
    _write_part(event, instrumented, "the instrumented module", host)
    if not event.offset:
        del instrumented[len(event.data) :]  # another session may have another one


@apply.register
def _(event: process.Mount, host: Host) -> None:
    host.mount(event)


@apply.register
def _(event: process.SessionStart, host: Host) -> None:
    host.process.session = event
    host.process.session_count += 1


@apply.register
def _(event: process.ProcessTrap, host: Host) -> None:
    host.end_process()
    host.process.end_event = event


@apply.register
def _(event: process.ParentLink, host: Host) -> None:
    host.process.parent = event


@apply.register
def _(event: process.Seal, host: Host) -> None:
    host.process.seal = event


def _write_part(part: Part, module: bytearray, what: str, host: Host) -> None:
    """Put a part of a module where it belongs."""
    if part.offset > len(module):
        raise ReplayError(f"{len(module)} bytes of {what} are known, not {part.offset}")
    end = part.offset + len(part.data)
    check_size(what, end, host.limits.module_size_max)
    module[part.offset : end] = part.data
