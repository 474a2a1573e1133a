"""Read, write and seek functions of standard streams and files."""

import struct
from typing import NoReturn

from journal.engine.wasi.call_context import CallContext
from journal.engine.wasi.channel import ByteChannel
from journal.engine.wasi.descriptors import InputStream, OpenFile, OutputStream
from journal.events import codec
from journal.events.descriptors import FileDescriptorSeek
from journal.events.inputs import HostCall, HostResult, StreamRead
from journal.events.streams import StreamWrite
from journal.vfs.memory_backend import WRITE_SIZE_MAX
from journal.wasi_abi import (
    WHENCE_CURRENT,
    WHENCE_END,
    WHENCE_SET,
    Errno,
    FdFlags,
    WasiError,
    to_wasi_errno,
)

#: Largest count of buffers in one call. The cost of a call that the guest cannot see is bounded by
#: it. Libraries pass long lists, because wasmtime accepts any count that fits its budget of bytes.
IOVS_MAX = 1 << 20
#: Largest size of one read of a stream, in bytes.
STREAM_READ_SIZE_MAX = 1 << 20

#: Largest transfer of one call, in bytes. A guest may pass the same buffer many times, so the sum
#: of the buffers has no other bound. A longer call becomes a short transfer.
TRANSFER_SIZE_MAX = 16 << 20
_NONBLOCK = int(FdFlags.NONBLOCK)
_APPEND = int(FdFlags.APPEND)  # An operation on an enum flag costs more than the write itself.
_POSITION_MAX = (1 << 63) - 1

_IOV = struct.Struct("<II")
_unpack_iov = _IOV.unpack_from
_READ_HEAD = struct.Struct("<BQ")
_READ_SIZE = struct.Struct("<I")
_pack_read = codec.make_packer(StreamRead)
_pack_write = codec.make_packer(StreamWrite)
_pack_seek = codec.make_packer(FileDescriptorSeek)
_READ, _WRITE, _SEEK = StreamRead.tag, StreamWrite.tag, FileDescriptorSeek.tag


def fd_write(context: CallContext, fd: int, iovs: int, count: int, result: int) -> int:
    """Write buffers at the position of the descriptor, or at the end of a file opened to append."""
    descriptor = context.descriptors.used.get(fd)
    if descriptor is None:
        return Errno.BADF
    memory = context.memory
    if count == 1 and iovs + 8 <= memory.size:  # The most frequent case needs no further call.
        pointer, size = _unpack_iov(memory.view, iovs)
        end = pointer + size
        if end <= memory.size and size <= TRANSFER_SIZE_MAX:
            data = memory.view[pointer:end].tobytes()
        else:
            data = read_buffers(context, iovs, count)
    else:
        data = read_buffers(context, iovs, count)
    if type(descriptor) is OpenFile:
        if not descriptor.is_writable:
            return Errno.BADF
        file = descriptor.file
        if descriptor.flags & _APPEND:
            descriptor.position = file.size(fd)
        position = descriptor.position
        if position + len(data) > _POSITION_MAX:
            return Errno.FBIG
        written_size = file.write(fd, position, data)
        descriptor.position = position + written_size
    elif type(descriptor) is OutputStream:
        written_size = _write_stream(context, descriptor, fd, data)
    elif isinstance(descriptor, ByteChannel):
        memory.check(result, 4)
        written_size = descriptor.write(context, fd, data)
    else:
        return Errno.BADF
    memory.write_u32(result, written_size)
    return 0


def fd_pwrite(
    context: CallContext, fd: int, iovs: int, count: int, offset: int, result: int
) -> int:
    """Write buffers at an offset. A file opened to append grows at its end, as on Linux."""
    descriptor = context.descriptors.get(fd)
    data = read_buffers(context, iovs, count)
    if isinstance(descriptor, (OutputStream, ByteChannel)):
        return Errno.SPIPE
    if not isinstance(descriptor, OpenFile) or not descriptor.is_writable:
        return Errno.BADF
    if descriptor.flags & _APPEND:
        offset = descriptor.file.size(fd)
    if offset + len(data) > _POSITION_MAX:
        return Errno.INVAL
    context.memory.write_u32(result, descriptor.file.write(fd, offset, data))
    return 0


def fd_read(context: CallContext, fd: int, iovs: int, count: int, result: int) -> int:
    """Read into buffers from the position of the descriptor."""
    descriptor = context.descriptors.get(fd)
    buffers = read_iovs(context, iovs, count)
    size_max = min(sum(size for _, size in buffers), TRANSFER_SIZE_MAX)
    if type(descriptor) is OpenFile:
        if not descriptor.is_readable:
            return Errno.BADF
        if descriptor.position >= _POSITION_MAX:
            return Errno.INVAL
        data = descriptor.file.read(fd, descriptor.position, size_max) if size_max else b""
        descriptor.position += len(data)
    elif type(descriptor) is InputStream:
        data = _read_stream(context, descriptor, fd, size_max) if size_max else b""
    elif isinstance(descriptor, ByteChannel):
        context.memory.check(result, 4)
        data = descriptor.read(context, fd, size_max)
    else:
        return Errno.BADF
    write_buffers(context, buffers, data)
    context.memory.write_u32(result, len(data))
    return 0


def fd_pread(context: CallContext, fd: int, iovs: int, count: int, offset: int, result: int) -> int:
    """Read into buffers from an offset."""
    descriptor = context.descriptors.get(fd)
    buffers = read_iovs(context, iovs, count)
    if isinstance(descriptor, (InputStream, ByteChannel)):
        return Errno.SPIPE
    if not isinstance(descriptor, OpenFile) or not descriptor.is_readable:
        return Errno.BADF
    if offset > _POSITION_MAX:
        return Errno.INVAL
    size_max = min(sum(size for _, size in buffers), TRANSFER_SIZE_MAX)
    data = descriptor.file.read(fd, offset, size_max) if size_max else b""
    write_buffers(context, buffers, data)
    context.memory.write_u32(result, len(data))
    return 0


def fd_seek(context: CallContext, fd: int, offset: int, whence: int, result: int) -> None:
    """Move the position of a descriptor."""
    descriptor = context.descriptors.get_seekable(fd)
    if offset > _POSITION_MAX:
        offset -= 1 << 64  # The argument is signed.
    if whence == WHENCE_SET:
        position = offset
    elif whence == WHENCE_CURRENT:
        position = descriptor.position + offset
    else:
        assert whence == WHENCE_END
        position = descriptor.file.size(fd) + offset
    if not 0 <= position < 1 << 64:
        raise WasiError(Errno.INVAL)
    context.memory.check(result, 8)
    context.tape.record_effect(_SEEK, _pack_seek(fd, offset, whence))
    descriptor.position = position
    context.memory.write_u64(result, position)


def fd_tell(context: CallContext, fd: int, result: int) -> None:
    """Write the position of a descriptor."""
    context.memory.write_u64(result, context.descriptors.get_seekable(fd).position)


def _write_stream(context: CallContext, stream: OutputStream, fd: int, data: bytes) -> int:
    """Record an output and queue it; raise ``WasiError`` if its target cannot be written.

    The journal has a ``HostResult`` in place of the ``StreamWrite`` of a refused write.
    """
    if context.tape.replaying:
        is_refused = context.tape.peek(HostResult.tag) is not None
    else:
        if context.relay is not None:  # Other processes have written this output before.
            context.relay.serve()
        is_refused = not context.outbox.is_writable(stream.number)
    if is_refused:
        _raise_stream_error(context, HostCall.WRITE, fd, Errno.BADF)
    for start in range(0, len(data), WRITE_SIZE_MAX):
        part = data[start : start + WRITE_SIZE_MAX]
        position = stream.position
        stream.position = position + len(part)
        payload = _pack_write(stream.number, position, part)
        if context.tape.replaying:
            # Queue the write before comparing the event: if the journal ends with this event,
            # `record_effect` turns the tape live, which delivers the queue.
            context.outbox.requeue(stream.number, position, part)
            context.tape.record_effect(_WRITE, payload)
        else:
            context.tape.record_effect(_WRITE, payload)
            context.outbox.put(stream.number, position, part)
    return len(data)


def _read_stream(context: CallContext, stream: InputStream, fd: int, size_max: int) -> bytes:
    """Return the next input; raise ``WasiError`` if the host cannot read it.

    The journal has a ``HostResult`` in place of the ``StreamRead`` of a failed read.
    """
    size_max = min(size_max, STREAM_READ_SIZE_MAX)

    def live() -> bytes:
        return _pack_read(0, stream.position, _read_source(context, stream, size_max))

    if context.tape.peek(HostResult.tag) is not None:
        _raise_stream_error(context, HostCall.READ, fd, Errno.IO)
    try:
        payload = context.tape.request_input(_READ, _READ_HEAD.pack(0, stream.position), live)
    except _SourceError as error:
        _raise_stream_error(context, HostCall.READ, fd, error.errno)
    if not stream.source.is_rereadable and not context.tape.replaying:
        context.on_consumed()
    data = payload[_READ_HEAD.size + _READ_SIZE.size :]
    if len(data) > size_max:
        raise ValueError(f"recorded input has {len(data)} bytes: at most {size_max} were requested")
    stream.position += len(data)
    return data


class _SourceError(Exception):
    """The failure of a read of standard input, with its WASI error number."""

    def __init__(self, errno: int) -> None:
        super().__init__(errno)
        self.errno = errno


def _read_source(context: CallContext, stream: InputStream, size_max: int) -> bytes:
    """Wait for input and return it; raise ``_SourceError`` if the host cannot read it."""
    source = stream.source
    while True:
        if not source.is_ready():
            if stream.flags & _NONBLOCK:
                raise _SourceError(Errno.AGAIN)
            context.wait("fd_read", source, needs_input=True)
        try:
            return source.read(stream.position, size_max)
        except BlockingIOError:
            # Another process has consumed the input of a descriptor that does not block.
            context.interrupter.check()
        except OSError as error:
            raise _SourceError(to_wasi_errno(error)) from error


def _raise_stream_error(context: CallContext, call: HostCall, fd: int, errno: int) -> NoReturn:
    """Record the failure of a standard stream, or take it from the journal, and raise it."""
    recorded, _ = context.tape.request_host_result(call, fd, lambda: (errno, b""))
    if not recorded:
        raise ValueError("the recorded failure of a standard stream has no error number")
    raise WasiError(recorded)


def read_iovs(context: CallContext, iovs: int, count: int) -> list[tuple[int, int]]:
    """Return ``(pointer, size)`` of the buffers of the guest, each checked against its memory."""
    if count > IOVS_MAX:
        raise WasiError(Errno.INVAL)
    memory = context.memory
    buffers: list[tuple[int, int]] = []
    for pointer, size in memory.unpack_many(_IOV, iovs, count):
        if pointer + size > memory.size:
            memory.check(pointer, size)
        buffers.append((pointer, size))
    return buffers


def read_buffers(context: CallContext, iovs: int, count: int) -> bytes:
    """Return the bytes of the buffers of the guest, up to ``TRANSFER_SIZE_MAX``."""
    memory = context.memory
    if count == 1 and iovs + 8 <= memory.size:
        pointer, size = _unpack_iov(memory.view, iovs)
        if size <= TRANSFER_SIZE_MAX:
            return memory.read(pointer, size)
    parts, space_left = [], TRANSFER_SIZE_MAX
    for pointer, size in read_iovs(context, iovs, count):
        parts.append(memory.read(pointer, min(size, space_left)))
        space_left -= len(parts[-1])
    return b"".join(parts)


def write_buffers(context: CallContext, buffers: list[tuple[int, int]], data: bytes) -> None:
    """Write ``data`` into the buffers, one after the other."""
    offset = 0
    for pointer, size in buffers:
        part = data[offset : offset + size]
        if not part:
            break
        context.memory.write(pointer, part)
        offset += len(part)
