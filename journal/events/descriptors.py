"""Events of open descriptors: files, and unnamed pipes, event counters and epoll instances."""

from dataclasses import dataclass
from enum import IntEnum
from typing import Annotated

import construct as cs

from journal.events.definition import (
    Closes,
    Copies,
    Event,
    Group,
    Moves,
    Needed,
    Opens,
    Role,
    event,
)
from journal.events.wire_types import (
    I64,
    U16,
    U32,
    U64,
    Enumerated,
    Fd,
    FileBytes,
    Flag,
    GuestPath,
    OptionalOf,
    RecordOf,
)


class Whence(IntEnum):
    """Base position of a seek."""

    SET = 0
    CURRENT = 1
    END = 2
    UNKNOWN = 255


class Advice(IntEnum):
    """Advice about the future use of a file, with WASI's numbers."""

    NORMAL = 0
    SEQUENTIAL = 1
    RANDOM = 2
    WILL_NEED = 3
    DONT_NEED = 4
    NO_REUSE = 5
    UNKNOWN = 255


class EpollOperation(IntEnum):
    """Operation of an EpollCtl on the set of watched descriptors."""

    ADD = 0
    MODIFY = 1
    DELETE = 2
    UNKNOWN = 255


WhenceField = Annotated[Whence, Enumerated(cs.Int8ul, Whence)]
AdviceField = Annotated[Advice, Enumerated(cs.Int8ul, Advice)]
EpollOperationField = Annotated[EpollOperation, Enumerated(cs.Int8ul, EpollOperation)]


@dataclass(frozen=True, slots=True)
class EpollEvent:
    """Events to watch on a descriptor, and the values that the guest receives with them."""

    events: int
    pointer: int
    fd: int
    data1: int
    data2: int


EpollEventField = Annotated[
    EpollEvent | None,
    OptionalOf(
        RecordOf(
            EpollEvent,
            events=cs.Int32ul,
            pointer=cs.Int64ul,
            fd=cs.Int32ul,
            data1=cs.Int32ul,
            data2=cs.Int64ul,
        )
    ),
]


@event(tag=5, group=Group.FILES, role=Role.EFFECT, rule=Needed())
class FileDescriptorSeek(Event):
    """The guest set the position of a descriptor with fd_seek: ``offset`` bytes from ``whence``."""

    fd: Fd
    offset: I64
    whence: WhenceField


@event(tag=6, group=Group.FILES, role=Role.EFFECT, rule=Needed())
class FileDescriptorWrite(Event):
    """The guest wrote bytes through an open descriptor with fd_write or fd_pwrite.

    ``offset`` is the offset of the bytes in the file, whatever the position of the descriptor.
    """

    fd: Fd
    offset: U64
    is_64bit: Flag = False
    data: FileBytes


@event(tag=10, group=Group.FILES, role=Role.EFFECT, rule=Opens())
class OpenFileDescriptor(Event):
    """The guest opened a path with path_open and received the descriptor ``fd``.

    The path is relative to ``dirfd``. ``dirflags`` are WASI's lookupflags, ``o_flags`` its oflags
    (with creat or trunc the file itself changes), and ``fs_flags`` its fdflags.
    """

    fd: Fd
    dirfd: Fd
    dirflags: U32
    o_flags: U16
    fs_flags: U16
    fs_rights_base: U64
    fs_rights_inheriting: U64
    path: GuestPath


@event(tag=61, group=Group.FILES, role=Role.EFFECT, rule=Opens())
class OpenFileDescriptorWithFlags(Event):
    """OpenFileDescriptor with flags of the descriptor: ``fd_flags`` 1 is close-on-exec."""

    fd: Fd
    dirfd: Fd
    dirflags: U32
    o_flags: U16
    fs_flags: U16
    fs_rights_base: U64
    fs_rights_inheriting: U64
    fd_flags: U16
    path: GuestPath


@event(tag=11, group=Group.FILES, role=Role.EFFECT, rule=Closes())
class CloseFileDescriptor(Event):
    """The guest closed a descriptor with fd_close."""

    fd: Fd


@event(tag=12, group=Group.FILES, role=Role.EFFECT, rule=Moves("old_fd", "new_fd"))
class RenumberFileDescriptor(Event):
    """The guest moved a descriptor to another number with fd_renumber, which closed ``new_fd``."""

    old_fd: Fd
    new_fd: Fd


@event(tag=13, group=Group.FILES, role=Role.EFFECT, rule=Copies("original_fd", "copied_fd"))
class DuplicateFileDescriptor(Event):
    """The guest duplicated a descriptor with fd_dup. Both descriptors share a position."""

    original_fd: Fd
    copied_fd: Fd


@event(tag=62, group=Group.FILES, role=Role.EFFECT, rule=Copies("original_fd", "copied_fd"))
class DuplicateFileDescriptorWithFlags(Event):
    """DuplicateFileDescriptor with a flag: ``cloexec`` closes the copy on exec."""

    original_fd: Fd
    copied_fd: Fd
    cloexec: Flag


@event(tag=17, group=Group.FILES, role=Role.EFFECT, rule=Needed())
class FileDescriptorSetTimes(Event):
    """The guest set the times of an open file with fd_filestat_set_times.

    Times are in nanoseconds since the epoch. ``fst_flags`` are WASI's fstflags: they select the
    times to set, and the times to set to the present.
    """

    fd: Fd
    st_atim: U64
    st_mtim: U64
    fst_flags: U16


@event(tag=18, group=Group.FILES, role=Role.EFFECT, rule=Needed())
class FileDescriptorSetSize(Event):
    """The guest set the size of an open file to ``st_size`` bytes with fd_filestat_set_size."""

    fd: Fd
    st_size: U64


@event(tag=19, group=Group.FILES, role=Role.EFFECT, rule=Needed())
class FileDescriptorSetFlags(Event):
    """The guest set WASI's fdflags of a descriptor with fd_fdstat_set_flags."""

    fd: Fd
    flags: U16


@event(tag=63, group=Group.FILES, role=Role.EFFECT, rule=Needed())
class FileDescriptorSetFdFlags(Event):
    """The guest set the flags of the descriptor itself with fd_fdflags_set: 1 is close-on-exec."""

    fd: Fd
    flags: U16


@event(tag=20, group=Group.FILES, role=Role.EFFECT, rule=Needed())
class FileDescriptorSetRights(Event):
    """The guest reduced the rights of a descriptor with fd_fdstat_set_rights."""

    fd: Fd
    fs_rights_base: U64
    fs_rights_inheriting: U64


@event(tag=21, group=Group.FILES, role=Role.EFFECT, rule=Needed())
class FileDescriptorAdvise(Event):
    """The guest advised with fd_advise how it will use ``len`` bytes of a file from ``offset``."""

    fd: Fd
    offset: U64
    len: U64
    advice: AdviceField


@event(tag=22, group=Group.FILES, role=Role.EFFECT, rule=Needed())
class FileDescriptorAllocate(Event):
    """The guest allocated ``len`` bytes of a file from ``offset`` with fd_allocate."""

    fd: Fd
    offset: U64
    len: U64


@event(tag=28, group=Group.FILES, role=Role.EFFECT, rule=Opens())
class EpollCreate(Event):
    """The guest created an epoll descriptor with epoll_create."""

    fd: Fd


@event(tag=29, group=Group.FILES, role=Role.EFFECT, rule=Needed())
class EpollCtl(Event):
    """The guest changed with epoll_ctl how ``epfd`` watches ``fd``. A deletion has no ``event``."""

    epfd: Fd
    op: EpollOperationField
    fd: Fd
    event: EpollEventField


@event(tag=31, group=Group.FILES, role=Role.EFFECT, rule=Opens(("read_fd", "write_fd")))
class CreatePipe(Event):
    """The guest created a pipe with fd_pipe."""

    read_fd: Fd
    write_fd: Fd


@event(tag=32, group=Group.FILES, role=Role.EFFECT, rule=Opens())
class CreateEvent(Event):
    """The guest created an event counter with fd_event.

    ``flags`` 1 selects semaphore mode, and 4 a counter that does not block.
    """

    initial_val: U64
    flags: U16
    fd: Fd
