"""Sockets of preview 1: a guest is given none, so there is nothing that is one."""

from journal.engine.abi import Errno, Refusal
from journal.engine.calls.state import State


def sock_accept(state: State, fd: int, flags: int, result: int) -> None:
    """No descriptor is a socket."""
    _refuse(state, fd)


def sock_recv(
    state: State, fd: int, iovs: int, count: int, flags: int, size: int, out_flags: int
) -> None:
    """No descriptor is a socket."""
    _refuse(state, fd)


def sock_send(state: State, fd: int, iovs: int, count: int, flags: int, size: int) -> None:
    """No descriptor is a socket."""
    _refuse(state, fd)


def sock_shutdown(state: State, fd: int, how: int) -> None:
    """No descriptor is a socket."""
    _refuse(state, fd)


def _refuse(state: State, fd: int) -> None:
    state.descriptors.get(fd)
    raise Refusal(Errno.NOTSOCK)
