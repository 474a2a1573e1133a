"""Functions of WASIX that duplicate descriptors and read or set the flags of a descriptor."""

from journal.engine.runtime.bindings import Handler
from journal.engine.wasi.call_context import CallContext
from journal.engine.wasi.descriptors import CLOSE_ON_EXEC
from journal.events import codec
from journal.events.descriptors import (
    DuplicateFileDescriptor,
    DuplicateFileDescriptorWithFlags,
    FileDescriptorSetFdFlags,
)

_pack_duplicate = codec.make_late_packer(DuplicateFileDescriptor)
_pack_duplicate_with_flags = codec.make_late_packer(DuplicateFileDescriptorWithFlags)
_pack_fd_flags = codec.make_late_packer(FileDescriptorSetFdFlags)


def fd_dup(context: CallContext, fd: int, result: int) -> None:
    """Duplicate a descriptor and write the number of the copy, the lowest that is free."""
    context.descriptors.get(fd)
    context.memory.check(result, 4)
    copied_fd = context.descriptors.next_fd()
    duplicate(context, fd, copied_fd)
    context.memory.write_u32(result, copied_fd)


def duplicate(context: CallContext, fd: int, copied_fd: int) -> None:
    """Duplicate a descriptor as ``copied_fd``, which is free."""
    context.descriptors.get(fd)
    payload = _pack_duplicate(fd, copied_fd)
    context.tape.record_effect(DuplicateFileDescriptor.tag, payload)
    context.descriptors.duplicate(fd, copied_fd)


def fd_dup2(context: CallContext, fd: int, at_least: int, cloexec: int, result: int) -> None:
    """Duplicate a descriptor and write the lowest free number from ``at_least`` on (F_DUPFD)."""
    context.descriptors.get(fd)
    context.memory.check(result, 4)
    copied_fd = context.descriptors.next_fd(at_least)
    duplicate_with_flags(context, fd, copied_fd, bool(cloexec))
    context.memory.write_u32(result, copied_fd)


def duplicate_with_flags(context: CallContext, fd: int, copied_fd: int, cloexec: bool) -> None:
    """Duplicate a descriptor as ``copied_fd``, which is free, with its flag."""
    context.descriptors.get(fd)
    payload = _pack_duplicate_with_flags(fd, copied_fd, cloexec)
    context.tape.record_effect(DuplicateFileDescriptorWithFlags.tag, payload)
    context.descriptors.duplicate(fd, copied_fd, CLOSE_ON_EXEC if cloexec else 0)


def fd_fdflags_get(context: CallContext, fd: int, result: int) -> None:
    """Write the flags of a descriptor itself."""
    context.descriptors.get(fd)
    flags = context.descriptors.fd_flags.get(fd, 0)
    context.memory.write(result, flags.to_bytes(2, "little"))


def fd_fdflags_set(context: CallContext, fd: int, flags: int) -> None:
    """Set the flags of a descriptor itself. Unknown flags are ignored."""
    context.descriptors.get(fd)
    flags &= CLOSE_ON_EXEC
    context.tape.record_effect(FileDescriptorSetFdFlags.tag, _pack_fd_flags(fd, flags))
    context.descriptors.set_fd_flags(fd, flags)


FUNCTIONS: dict[str, tuple[str, Handler]] = {
    "fd_dup": ("ii", fd_dup),
    "fd_dup2": ("iiii", fd_dup2),
    "fd_fdflags_get": ("ii", fd_fdflags_get),
    "fd_fdflags_set": ("ii", fd_fdflags_set),
}
"""Parameter types and handler of each function of WASIX in this module."""
