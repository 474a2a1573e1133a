"""Effects of events of the identity of a process, its sessions, and the origin of a journal."""

from journal.events import process
from journal.replay.dispatch import apply_effect
from journal.replay.host import Host
from journal.replay.limits import ReplayError, check_size
from journal.replay.state.descriptor_table import SocketState
from journal.wasi_abi import FdFlags

Part = process.ModulePart | process.InstrumentedPart


@apply_effect.register
def _(event: process.ProcessStart, host: Host) -> None:
    if host.process.start is not None:
        host.start_process()
    host.process.start = event
    host.process.module_hash = event.module_hash


@apply_effect.register
def _(event: process.ModulePart, host: Host) -> None:
    _write_part(event, host.process.module, "the module", host)


@apply_effect.register
def _(event: process.InstrumentedPart, host: Host) -> None:
    instrumented = host.process.instrumented
    _write_part(event, instrumented, "the instrumented module", host)
    if not event.offset:
        # Another session may have another instrumented module.
        del instrumented[len(event.data) :]


@apply_effect.register
def _(event: process.Mount, host: Host) -> None:
    host.mount(event)


@apply_effect.register
def _(event: process.SessionStart, host: Host) -> None:
    host.process.session = event
    host.process.session_count += 1


@apply_effect.register
def _(event: process.Listener, host: Host) -> None:
    socket = SocketState(event, bound=event, listening=event)
    host.table.add(event.fd, socket, flags=FdFlags.NONBLOCK if event.non_blocking else 0)


@apply_effect.register
def _(event: process.ClockPoint, host: Host) -> None:
    host.process.clock_point = event


@apply_effect.register
def _(event: process.Reseeded, host: Host) -> None:
    host.process.reseeding = event
    host.set_generation(event.generation)


@apply_effect.register
def _(event: process.ProcessTrap, host: Host) -> None:
    host.end_process()
    host.process.end_event = event


@apply_effect.register
def _(event: process.ParentLink, host: Host) -> None:
    host.process.parent = event


@apply_effect.register
def _(event: process.Seal, host: Host) -> None:
    host.process.seal = event


def _write_part(part: Part, module: bytearray, subject: str, host: Host) -> None:
    """Write a part of a module at its offset. Raises ReplayError for a gap before it."""
    if part.offset > len(module):
        raise ReplayError(
            f"a part at offset {part.offset} of {subject} follows only {len(module)} bytes"
        )
    end = part.offset + len(part.data)
    check_size(subject, end, host.limits.module_size_max)
    module[part.offset : end] = part.data
