"""Options and addresses of sockets inside the guest.

Only the time limits and ONLY_V6 change what such a socket does.
"""

from typing import TYPE_CHECKING

from journal.engine.wasi.objects.inner_network import make_any
from journal.engine.wasi.socket_calls import AnyAddress, SocketChannel
from journal.events import codec
from journal.events.sockets import (
    AddressFamily,
    SocketOption,
    SocketSetOptFlag,
    SocketSetOptSize,
    SocketSetOptTime,
    SocketType,
    TimeType,
)
from journal.wasi_abi import Errno, WasiError

if TYPE_CHECKING:
    from journal.engine.wasi.call_context import CallContext

OPENING, OPENED, CLOSED, FAILED = range(4)
_TCP, _UDP = 6, 17

FLAGS = frozenset(
    (
        *(SocketOption.REUSE_PORT, SocketOption.REUSE_ADDR, SocketOption.NO_DELAY),
        *(SocketOption.DONT_ROUTE, SocketOption.ONLY_V6, SocketOption.BROADCAST),
        *(SocketOption.MULTICAST_LOOP_V4, SocketOption.MULTICAST_LOOP_V6),
        *(SocketOption.KEEP_ALIVE, SocketOption.OOB_INLINE),
    )
)
TIMES = {
    SocketOption.RECV_TIMEOUT: TimeType.READ,
    SocketOption.SEND_TIMEOUT: TimeType.WRITE,
    SocketOption.ACCEPT_TIMEOUT: TimeType.ACCEPT,
    SocketOption.CONNECT_TIMEOUT: TimeType.CONNECT,
    SocketOption.LINGER: TimeType.LINGER,
}
DEFAULT_SIZES = {
    SocketOption.RECV_BUF_SIZE: 212992,
    SocketOption.SEND_BUF_SIZE: 212992,
    SocketOption.RECV_LOWAT: 1,
    SocketOption.SEND_LOWAT: 1,
    SocketOption.TTL: 64,
    SocketOption.MULTICAST_TTL_V4: 1,
}

_pack_flag = codec.make_late_packer(SocketSetOptFlag)
_pack_size = codec.make_late_packer(SocketSetOptSize)
_pack_time = codec.make_late_packer(SocketSetOptTime)


class InnerOptions(SocketChannel):
    """The calls of a socket inside the guest that read or set its options and its state."""

    local: AnyAddress | None
    remote: AnyAddress | None
    error: int
    backlog: int | None = None
    is_connected = is_read_shut = is_write_shut = has_failed = False
    receive_timeout_ns: int | None
    send_timeout_ns: int | None
    options: dict[SocketOption, int]

    @property
    def is_internet(self) -> bool:
        """Return whether the socket has ports, and not names."""
        return self.family is not AddressFamily.UNIX

    def local_address(self, context: "CallContext", fd: int) -> AnyAddress:
        """Return the local address; unspecified, or an empty name, if the socket is not bound."""
        if self.local is not None:
            return self.local
        return make_any(self.family) if self.is_internet else b""

    def peer_address(self, context: "CallContext", fd: int) -> AnyAddress:
        """Return the address of the peer; raise ``WasiError`` with ``NOTCONN`` without one."""
        if not self.is_connected:
            raise WasiError(Errno.NOTCONN)
        if self.remote is not None:
            return self.remote
        return make_any(self.family) if self.is_internet else b""

    def status(self, context: "CallContext", fd: int) -> int:
        """Return the state of the connection: 0 opening, 1 opened, 2 closed, 3 failed."""
        if self.kind is SocketType.DGRAM or self.backlog is not None:
            return OPENED
        if not self.is_connected:
            return FAILED if self.has_failed else OPENING
        return CLOSED if self.is_read_shut and self.is_write_shut else OPENED

    def get_option(self, context: "CallContext", fd: int, option: SocketOption) -> int | None:
        """Return a flag, a size, or a time in nanoseconds, None without a limit of time."""
        if option is SocketOption.LAST_ERROR:
            error, self.error = self.error, Errno.SUCCESS
            return error
        if option is SocketOption.LISTENING:
            return int(self.backlog is not None)
        if option is SocketOption.TYPE:
            return self.kind
        if option is SocketOption.PROTO:
            default = _UDP if self.kind is SocketType.DGRAM else _TCP
            return self.protocol or (default if self.is_internet else 0)
        return self.options[option] if option in self.options else _get_default(option)

    def set_option(
        self, context: "CallContext", fd: int, option: SocketOption, value: int | None
    ) -> None:
        """Set a flag, a size, or a time in nanoseconds, None without a limit of time."""
        tag, effect = _make_effect(fd, option, value)
        context.tape.record_effect(tag, effect)
        if option in TIMES:
            self.set_limit(option, value or None)
        else:
            self.options[option] = value or 0

    def set_limit(self, option: SocketOption, time_ns: int | None) -> None:
        """Set a limit of time in nanoseconds, None for no limit."""
        self.options.pop(option, None)
        if time_ns is not None:
            self.options[option] = time_ns
        if option is SocketOption.RECV_TIMEOUT:
            self.receive_timeout_ns = time_ns
        elif option is SocketOption.SEND_TIMEOUT:
            self.send_timeout_ns = time_ns


def _make_effect(fd: int, option: SocketOption, value: int | None) -> tuple[int, bytes]:
    """Return the tag and the payload of the event that sets an option.

    Raises ``WasiError`` for an option that cannot be set.
    """
    if option in TIMES:
        return SocketSetOptTime.tag, _pack_time(fd, TIMES[option], value or None)
    if value is None or not (option in FLAGS or option in DEFAULT_SIZES):
        raise WasiError(Errno.NOPROTOOPT)
    if option in FLAGS:
        return SocketSetOptFlag.tag, _pack_flag(fd, option, bool(value))
    return SocketSetOptSize.tag, _pack_size(fd, option, value)


def _get_default(option: SocketOption) -> int | None:
    """Return the value of an option that the guest has not set; None is no limit of time.

    Raises ``WasiError`` with ``NOPROTOOPT`` for an unknown option.
    """
    if option in TIMES:
        return None
    if option in FLAGS:
        return 0
    if option not in DEFAULT_SIZES:
        raise WasiError(Errno.NOPROTOOPT)
    return DEFAULT_SIZES[option]
