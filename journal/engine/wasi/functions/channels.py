"""Functions of WASIX that create objects inside the guest: pipes, counters and socket pairs."""

from journal.engine.runtime.bindings import Handler
from journal.engine.wasi.call_context import CallContext
from journal.engine.wasi.channel import ByteChannel
from journal.engine.wasi.objects.event_counter import SEMAPHORE, VALUE_MAX, CounterChannel
from journal.engine.wasi.objects.inner_socket import InnerSocket, connect_pair
from journal.engine.wasi.objects.pipe import PipeBuffer, PipeReader, PipeWriter
from journal.events import codec
from journal.events.descriptors import CreateEvent, CreatePipe
from journal.events.sockets import AddressFamily, SocketPair, SocketPairOfType, SocketType
from journal.wasi_abi import Errno, FdFlags, WasiError

_NONBLOCK = int(FdFlags.NONBLOCK)
_EVENT_FLAGS = SEMAPHORE | _NONBLOCK
_TCP, _UDP = 6, 17

#: Protocols of each type of a socket pair; 0 stands for the default.
_PROTOCOLS = {
    SocketType.STREAM: (0, _TCP),
    SocketType.DGRAM: (0, _UDP),
    SocketType.SEQPACKET: (0,),
}

_pack_pipe = codec.make_late_packer(CreatePipe)
_pack_event = codec.make_late_packer(CreateEvent)
_pack_pair = codec.make_late_packer(SocketPair)
_pack_pair_of_type = codec.make_late_packer(SocketPairOfType)


def fd_pipe(context: CallContext, read_result: int, write_result: int) -> None:
    """Create a pipe and write its reading and its writing descriptor."""
    context.memory.check(read_result, 4)
    context.memory.check(write_result, 4)
    read_fd, write_fd = context.descriptors.next_pair()
    create_pipe(context, read_fd, write_fd)
    context.memory.write_u32(read_result, read_fd)
    context.memory.write_u32(write_result, write_fd)


def create_pipe(context: CallContext, read_fd: int, write_fd: int) -> None:
    """Create a pipe with free descriptors."""
    context.tape.record_effect(CreatePipe.tag, _pack_pipe(read_fd, write_fd))
    reader: ByteChannel
    writer: ByteChannel
    if context.processes.records_pipes:
        reader, writer = context.processes.make_pipe()
    else:
        pipe = PipeBuffer()
        reader, writer = PipeReader(pipe), PipeWriter(pipe)
    context.descriptors.add_at(read_fd, reader)
    context.descriptors.add_at(write_fd, writer)


def fd_event(context: CallContext, value: int, flags: int, result: int) -> None:
    """Create an event counter and write its descriptor. Unknown flags are ignored."""
    flags &= _EVENT_FLAGS
    check_event(value, flags)
    context.memory.check(result, 4)
    fd = context.descriptors.next_fd()
    create_event(context, value, flags, fd)
    context.memory.write_u32(result, fd)


def check_event(value: int, flags: int) -> None:
    """Raise ``WasiError`` unless a counter can have this value and these flags."""
    if flags & ~_EVENT_FLAGS or value > VALUE_MAX:
        raise WasiError(Errno.INVAL)


def create_event(context: CallContext, value: int, flags: int, fd: int) -> None:
    """Create an event counter with a free descriptor."""
    context.tape.record_effect(CreateEvent.tag, _pack_event(value, flags, fd))
    counter = CounterChannel(value, is_semaphore=bool(flags & SEMAPHORE))
    counter.flags = flags & _NONBLOCK
    context.descriptors.add_at(fd, counter)


def sock_pair(
    context: CallContext, family: int, kind: int, protocol: int, result: int, peer_result: int
) -> None:
    """Create two connected sockets inside the guest and write their descriptors."""
    check_pair(family, kind, protocol)
    context.memory.check(result, 4)
    context.memory.check(peer_result, 4)
    fd, peer_fd = context.descriptors.next_pair()
    create_pair(context, fd, peer_fd, family, kind, protocol)
    context.memory.write_u32(result, fd)
    context.memory.write_u32(peer_result, peer_fd)


def check_pair(family: int, kind: int, protocol: int) -> None:
    """Raise ``WasiError`` unless there are pairs of this family, type and protocol."""
    if family > max(AddressFamily) or kind > max(SocketType):
        raise WasiError(Errno.INVAL)
    if kind not in _PROTOCOLS:
        raise WasiError(Errno.NOTSUP)
    if protocol not in _PROTOCOLS[SocketType(kind)]:
        raise WasiError(Errno.NOTSUP)


def create_pair(
    context: CallContext,
    fd: int,
    peer_fd: int,
    family: int = AddressFamily.UNIX,
    kind: int = SocketType.STREAM,
    protocol: int = 0,
) -> None:
    """Create two connected sockets with free descriptors."""
    if (family, kind, protocol) == (AddressFamily.UNIX, SocketType.STREAM, 0):
        context.tape.record_effect(SocketPair.tag, _pack_pair(fd, peer_fd))
    else:
        payload = _pack_pair_of_type(fd, peer_fd, family, kind, protocol)
        context.tape.record_effect(SocketPairOfType.tag, payload)
    sockets = [
        InnerSocket(AddressFamily(family), SocketType(kind), protocol) for _ in (fd, peer_fd)
    ]
    connect_pair(*sockets)
    context.descriptors.add_at(fd, sockets[0])
    context.descriptors.add_at(peer_fd, sockets[1])


FUNCTIONS: dict[str, tuple[str, Handler]] = {
    "fd_event": ("lii", fd_event),
    "fd_pipe": ("ii", fd_pipe),
    "sock_pair": ("iiiii", sock_pair),
}
"""Parameter types and handler of each function of WASIX in this module."""
