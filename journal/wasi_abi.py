"""WASI preview 1 in binary form: error numbers, flags, rights and structures.

Numbers are those of the specification (witx, `wasi_snapshot_preview1`).
"""

import errno as host
import signal as host_signals
import struct
from enum import IntEnum, IntFlag
from typing import NamedTuple

from journal.events.paths import OpenFlags as OpenFlags
from journal.events.paths import TimeFlags as TimeFlags

MODULE = "wasi_snapshot_preview1"


class Errno(IntEnum):
    """Error numbers that this host returns."""

    SUCCESS = 0
    TOO_BIG = 1
    ACCES = 2
    ADDRINUSE = 3
    ADDRNOTAVAIL = 4
    AFNOSUPPORT = 5
    AGAIN = 6
    ALREADY = 7
    BADF = 8
    BUSY = 10
    CANCELED = 11
    CHILD = 12
    CONNABORTED = 13
    CONNREFUSED = 14
    CONNRESET = 15
    DEADLK = 16
    DESTADDRREQ = 17
    DOM = 18
    DQUOT = 19
    EXIST = 20
    FAULT = 21
    FBIG = 22
    HOSTUNREACH = 23
    ILSEQ = 25
    INPROGRESS = 26
    INTR = 27
    INVAL = 28
    IO = 29
    ISCONN = 30
    ISDIR = 31
    LOOP = 32
    MFILE = 33
    MLINK = 34
    MSGSIZE = 35
    NAMETOOLONG = 37
    NETDOWN = 38
    NETRESET = 39
    NETUNREACH = 40
    NFILE = 41
    NOBUFS = 42
    NODEV = 43
    NOENT = 44
    NOEXEC = 45
    NOMEM = 48
    NOPROTOOPT = 50
    NOSPC = 51
    NOSYS = 52
    NOTCONN = 53
    NOTDIR = 54
    NOTEMPTY = 55
    NOTSOCK = 57
    NOTSUP = 58
    NOTTY = 59
    NXIO = 60
    OVERFLOW = 61
    PERM = 63
    PIPE = 64
    PROTO = 65
    PROTONOSUPPORT = 66
    PROTOTYPE = 67
    RANGE = 68
    ROFS = 69
    SPIPE = 70
    SRCH = 71
    STALE = 72
    TIMEDOUT = 73
    TXTBSY = 74
    XDEV = 75
    SHUTDOWN = 77
    MEMVIOLATION = 78


STILL_PENDING = frozenset((Errno.INPROGRESS, Errno.INTR))
"""Results of a request for a connection after which its outcome is not known yet."""


class WasiError(Exception):
    """The failure of a call with an error number."""

    def __init__(self, errno: int) -> None:
        super().__init__(errno)
        self.errno = int(errno)


class MemoryFault(Exception):
    """A guest pointer outside the guest's memory; the specification requires a trap.

    A journal records the text as the kind of ``ProcessTrap``, so existing texts must not change.
    """


PROCESS_ID = 1
"""Number of the first process of a guest, and of its main thread, as in Wasmer."""


class Signal(IntEnum):
    """Signals of WASI. The numbers above 15 are not those of Linux."""

    HUP = 1
    INT = 2
    QUIT = 3
    ILL = 4
    TRAP = 5
    ABRT = 6
    BUS = 7
    FPE = 8
    KILL = 9
    USR1 = 10
    SEGV = 11
    USR2 = 12
    PIPE = 13
    ALRM = 14
    TERM = 15
    CHLD = 16
    CONT = 17
    STOP = 18
    TSTP = 19
    TTIN = 20
    TTOU = 21
    URG = 22
    XCPU = 23
    XFSZ = 24
    VTALRM = 25
    PROF = 26
    WINCH = 27
    POLL = 28
    PWR = 29
    SYS = 30


def to_guest_signal(number: int) -> Signal | None:
    """Return the signal of WASI with the name of a signal of this system, None if there is none."""
    return _SIGNAL_OF_HOST.get(number)


_SIGNAL_OF_HOST = {
    int(getattr(host_signals, f"SIG{name}")): number
    for name, number in Signal.__members__.items()
    if hasattr(host_signals, f"SIG{name}")
}


class ProcExit(BaseException):
    """A call of ``proc_exit``."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


_FROM_HOST = {
    getattr(host, f"E{name}"): number
    for name, number in Errno.__members__.items()
    if hasattr(host, f"E{name}")
}
# EOPNOTSUPP and EWOULDBLOCK have a second name with another number on some systems.
_FROM_HOST[host.EOPNOTSUPP] = Errno.NOTSUP
_FROM_HOST[host.EWOULDBLOCK] = Errno.AGAIN


def to_wasi_errno(error: OSError) -> Errno:
    """Return the WASI number of an operating system error, or ``IO`` if there is none."""
    return _FROM_HOST.get(error.errno or 0, Errno.IO)


class FdFlags(IntFlag):
    """``fdflags`` of a descriptor."""

    APPEND = 1
    DSYNC = 2
    NONBLOCK = 4
    RSYNC = 8
    SYNC = 16


SYNC_FLAGS = FdFlags.DSYNC | FdFlags.RSYNC | FdFlags.SYNC


class Rights(IntFlag):
    """Rights of a descriptor."""

    FD_DATASYNC = 1 << 0
    FD_READ = 1 << 1
    FD_SEEK = 1 << 2
    FD_FDSTAT_SET_FLAGS = 1 << 3
    FD_SYNC = 1 << 4
    FD_TELL = 1 << 5
    FD_WRITE = 1 << 6
    FD_ADVISE = 1 << 7
    FD_ALLOCATE = 1 << 8
    PATH_CREATE_DIRECTORY = 1 << 9
    PATH_CREATE_FILE = 1 << 10
    PATH_LINK_SOURCE = 1 << 11
    PATH_LINK_TARGET = 1 << 12
    PATH_OPEN = 1 << 13
    FD_READDIR = 1 << 14
    PATH_READLINK = 1 << 15
    PATH_RENAME_SOURCE = 1 << 16
    PATH_RENAME_TARGET = 1 << 17
    PATH_FILESTAT_GET = 1 << 18
    PATH_FILESTAT_SET_SIZE = 1 << 19
    PATH_FILESTAT_SET_TIMES = 1 << 20
    FD_FILESTAT_GET = 1 << 21
    FD_FILESTAT_SET_SIZE = 1 << 22
    FD_FILESTAT_SET_TIMES = 1 << 23
    PATH_SYMLINK = 1 << 24
    PATH_REMOVE_DIRECTORY = 1 << 25
    PATH_UNLINK_FILE = 1 << 26
    POLL_FD_READWRITE = 1 << 27
    SOCK_SHUTDOWN = 1 << 28
    SOCK_ACCEPT = 1 << 29


RIGHTS_ALL = Rights((1 << 30) - 1)

#: Rights that many libraries expect of a preopened directory and pass on to opened files.
RIGHTS_PREOPEN = (
    Rights.PATH_CREATE_DIRECTORY
    | Rights.PATH_CREATE_FILE
    | Rights.PATH_LINK_SOURCE
    | Rights.PATH_LINK_TARGET
    | Rights.PATH_OPEN
    | Rights.FD_READDIR
    | Rights.PATH_READLINK
    | Rights.PATH_RENAME_SOURCE
    | Rights.PATH_RENAME_TARGET
    | Rights.PATH_SYMLINK
    | Rights.PATH_REMOVE_DIRECTORY
    | Rights.PATH_UNLINK_FILE
    | Rights.PATH_FILESTAT_GET
    | Rights.PATH_FILESTAT_SET_TIMES
    | Rights.FD_FILESTAT_GET
    | Rights.FD_FILESTAT_SET_TIMES
)
RIGHTS_PREOPEN_INHERITING = (
    RIGHTS_PREOPEN
    | Rights.FD_DATASYNC
    | Rights.FD_READ
    | Rights.FD_SEEK
    | Rights.FD_FDSTAT_SET_FLAGS
    | Rights.FD_SYNC
    | Rights.FD_TELL
    | Rights.FD_WRITE
    | Rights.FD_ADVISE
    | Rights.FD_ALLOCATE
    | Rights.FD_FILESTAT_SET_SIZE
    | Rights.POLL_FD_READWRITE
)
RIGHTS_SOCKET = (
    Rights.FD_READ
    | Rights.FD_WRITE
    | Rights.FD_FDSTAT_SET_FLAGS
    | Rights.FD_FILESTAT_GET
    | Rights.POLL_FD_READWRITE
    | Rights.SOCK_SHUTDOWN
    | Rights.SOCK_ACCEPT
)
RIGHTS_DIRECTORY = RIGHTS_ALL & ~(
    Rights.FD_SEEK | Rights.FD_FILESTAT_SET_SIZE | Rights.PATH_FILESTAT_SET_SIZE
)

SYMLINK_FOLLOW = 1  # the one bit of `lookupflags`
WHENCE_SET, WHENCE_CURRENT, WHENCE_END = 0, 1, 2

FDSTAT = struct.Struct("<BxHxxxxQQ")  # file type, flags, rights, inheriting rights
FILESTAT = struct.Struct("<QQBxxxxxxxQQQQQ")  # dev, ino, type, nlink, size, atim, mtim, ctim
DIRENT = struct.Struct("<QQIBxxx")  # next cookie, inode, name length, type
SUBSCRIPTION = struct.Struct("<QBxxxxxxxIxxxxQQHxxxxxx")  # userdata, type, then a clock's fields
EVENT = struct.Struct("<QHBxxxxxQHxxxxxx")  # userdata, error, type, bytes ready, flags
assert FDSTAT.size == 24
assert FILESTAT.size == 64
assert DIRENT.size == 24
assert SUBSCRIPTION.size == 48
assert EVENT.size == 32

EVENT_CLOCK, EVENT_READ, EVENT_WRITE = 0, 1, 2
CLOCK_ABSOLUTE = 1  # the one bit of `subclockflags`
HANGUP = 1  # the one bit of `eventrwflags`

CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_PROCESS, CLOCK_THREAD = 0, 1, 2, 3


class FileStat(NamedTuple):
    """Content of ``filestat``; times in nanoseconds since the epoch."""

    device: int
    inode: int
    filetype: int
    links: int
    size: int
    atime: int
    mtime: int
    ctime: int

    def pack(self) -> bytes:
        """Return the structure in the guest's layout."""
        return FILESTAT.pack(*self)


class DirectoryEntry(NamedTuple):
    """One directory entry."""

    name: str
    inode: int
    filetype: int
