"""Functions of epoll. Their structures have WASIX's own layout and event bits."""

import struct
import time
from collections.abc import Sequence
from functools import partial

from journal.engine.runtime.bindings import Handler
from journal.engine.wasi.call_context import CallContext
from journal.engine.wasi.objects.epoll import EpollSet
from journal.events import codec
from journal.events.descriptors import EpollCreate, EpollCtl, EpollEvent, EpollOperation
from journal.events.inputs import EpollResult
from journal.wasi_abi import Errno, WasiError

#: Largest count of events in one call, as on Linux.
EVENTS_MAX = ((1 << 31) - 1) // 32

# Events, and the data of the guest: a pointer, a descriptor and two numbers.
_EVENT = struct.Struct("<I4xIII4xQ")
_RESULT, _READY = struct.Struct("<II"), struct.Struct("<II")
_FOREVER = (1 << 64) - 1
_pack_create = codec.make_late_packer(EpollCreate)
_pack_control = codec.make_late_packer(EpollCtl)


class EpollWait:
    """Wait until an epoll set has an event."""

    def __init__(self, epoll: EpollSet) -> None:
        self._epoll = epoll

    def is_ready(self) -> bool:
        """Return whether a watch has an event."""
        return bool(self._epoll.readiness())

    def poll_events(self) -> list[tuple[int, int]]:
        """Return the descriptors of the host by which an event can come."""
        return self._epoll.get_waited()


def epoll_create(context: CallContext, result: int) -> None:
    """Create an epoll set."""
    context.memory.check(result, 4)
    fd = context.descriptors.next_fd()
    create_epoll(context, fd)
    context.memory.write_u32(result, fd)


def create_epoll(context: CallContext, fd: int) -> None:
    """Create an epoll set with the free descriptor ``fd``."""
    context.tape.record_effect(EpollCreate.tag, _pack_create(fd))
    context.descriptors.add_at(fd, EpollSet(context.descriptors))


def epoll_ctl(context: CallContext, epfd: int, operation: int, fd: int, pointer: int) -> None:
    """Add, modify or delete a watched descriptor."""
    event = None
    if operation in (EpollOperation.ADD, EpollOperation.MODIFY):
        if not pointer:
            raise WasiError(Errno.INVAL)
        event = EpollEvent(*context.memory.unpack(_EVENT, pointer))
    control(context, epfd, operation, fd, event)


def control(
    context: CallContext, epfd: int, operation: int, fd: int, event: EpollEvent | None
) -> None:
    """Change how the set ``epfd`` watches ``fd``. A deletion has no event."""
    descriptor, target = context.descriptors.get(epfd), context.descriptors.get(fd)
    known = (EpollOperation.ADD, EpollOperation.MODIFY, EpollOperation.DELETE)
    if not isinstance(descriptor, EpollSet) or operation not in known:
        raise WasiError(Errno.INVAL)
    kind = EpollOperation(operation)
    watched = descriptor.check(kind, fd, target)
    context.tape.record_effect(EpollCtl.tag, _pack_control(epfd, kind, fd, event))
    descriptor.control(kind, fd, watched, event)


def epoll_wait(
    context: CallContext, epfd: int, events: int, count: int, timeout: int, result: int
) -> None:
    """Write the events of watched descriptors; wait until there are some or the timeout ends."""
    if not 0 < count <= EVENTS_MAX:
        raise WasiError(Errno.INVAL)
    epoll = context.descriptors.get_channel(epfd, EpollSet)
    context.memory.check(events, count * _EVENT.size)
    context.memory.check(result, 4)

    def live() -> bytes:
        # An interrupted call is repeated.
        start = context.wait_started or time.monotonic_ns()
        timeout_ns = None if timeout == _FOREVER else timeout
        wait = partial(context.wait_timed, "epoll_wait", EpollWait(epoll), start, timeout_ns)
        ready = epoll.collect(count)
        while not ready and timeout and wait(needs_input=epoll.needs_input):
            ready = epoll.collect(count)
        context.wait_started = None
        return pack_result(epfd, ready)

    payload = context.tape.request_input(EpollResult.tag, epfd.to_bytes(4, "little"), live)
    ready = unpack_result(payload)
    if len(ready) > count:
        raise ValueError(f"recorded result has {len(ready)} events: {count} were requested")
    found = [
        _EVENT.pack(flags, each.pointer, each.fd, each.data1, each.data2)
        for flags, each in epoll.report(ready)
    ]
    context.memory.write(events, b"".join(found))
    context.memory.write_u32(result, len(found))


def pack_result(epfd: int, ready: Sequence[tuple[int, int]]) -> bytes:
    """Return the payload of an ``EpollResult``, faster than the codec for many descriptors."""
    return _RESULT.pack(epfd, len(ready)) + b"".join([_READY.pack(*each) for each in ready])


def unpack_result(payload: bytes) -> list[tuple[int, int]]:
    """Return the numbers and the events in the payload of an ``EpollResult``."""
    _, count = _RESULT.unpack_from(payload)
    if len(payload) != _RESULT.size + count * _READY.size:
        raise ValueError(f"recorded result of {len(payload)} bytes does not have {count} events")
    return list(_READY.iter_unpack(memoryview(payload)[_RESULT.size :]))


#: Parameter types and handler of each function.
FUNCTIONS: dict[str, tuple[str, Handler]] = {
    "epoll_create": ("i", epoll_create),
    "epoll_ctl": ("iiii", epoll_ctl),
    "epoll_wait": ("iiili", epoll_wait),
}
