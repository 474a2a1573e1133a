"""A second, plain implementation of the descriptors for bytes: sockets, pipes, counters and epolls.

It has the whole journal and looks ahead for the result of each request. It assumes that the events
are possible. Of files and directories it knows only that they are open.
"""

from __future__ import annotations

from typing import Any

from journal import Event
from journal.events import codec, descriptors, inputs, sockets, tag_sets
from journal.events.definition import Group
from journal.events.descriptors import (
    EpollOperation,
    OpenFileDescriptor,
    OpenFileDescriptorWithFlags,
)
from journal.events.inputs import HostCall
from journal.events.process import Mount, MountKind
from journal.events.sockets import AddressFamily, Shutdown, SocketType
from journal.replay import ModelHost
from journal.replay.hosts.model import EpollState
from journal.replay.state.descriptor_table import EventCounter, SocketState
from journal.wasi_abi import Errno

CALLS: dict[type[Event], HostCall] = {
    sockets.SocketOpen: HostCall.SOCKET,
    sockets.SocketBind: HostCall.BIND,
    sockets.SocketListen: HostCall.LISTEN,
    sockets.SocketConnect: HostCall.CONNECT,
    sockets.SocketSend: HostCall.SEND,
    sockets.SocketSendTo: HostCall.SEND,
    sockets.SocketSendFile: HostCall.SEND,
    sockets.SocketShutdown: HostCall.SHUTDOWN,
    sockets.SocketSetOptFlag: HostCall.SET_OPTION,
    sockets.SocketSetOptSize: HostCall.SET_OPTION,
    sockets.SocketSetOptTime: HostCall.SET_OPTION,
    sockets.SocketJoinIpv4Multicast: HostCall.MULTICAST,
    sockets.SocketJoinIpv6Multicast: HostCall.MULTICAST,
    sockets.SocketLeaveIpv4Multicast: HostCall.MULTICAST,
    sockets.SocketLeaveIpv6Multicast: HostCall.MULTICAST,
}
WAITING = (0, Errno.AGAIN, Errno.INPROGRESS, Errno.INTR)


Thing = dict[str, Any]


class PlainDescriptors:
    """Descriptors after some events, each a dictionary. Duplicates are the same dictionary."""

    def __init__(self, events: list[Event]) -> None:
        self.used: dict[int, Thing] = {fd: {"kind": "other"} for fd in range(3)}
        self.fd_flags = dict.fromkeys(range(3), 0)
        self._events = events
        for index, event in enumerate(events):
            self._add(index, event)

    def description_ids(self) -> dict[int, int]:
        """Return the number of each open object, by its identity."""
        numbers: dict[int, int] = {}
        for _, thing in sorted(self.used.items()):
            numbers.setdefault(id(thing), len(numbers))
        return numbers

    def for_bytes(self) -> dict[int, Thing]:
        """Return the descriptors of sockets, pipes, counters and epolls, with comparable values."""
        numbers, pipes = self.description_ids(), dict[int, int]()
        found = {}
        for fd, thing in sorted(self.used.items()):
            if thing["kind"] == "pipe":
                thing = thing | {"pipe": pipes.setdefault(thing["pipe"], len(pipes))}
            elif thing["kind"] == "epoll":
                watched = {
                    (number, None if target is None else numbers[id(target)]): event
                    for number, target, event in thing["watched"]
                }
                thing = thing | {"watched": watched}
            if thing["kind"] != "other":
                found[fd] = thing
        return found

    def _add(self, index: int, event: Any) -> None:
        if type(event) in CALLS:
            self._request(index, event)
        elif isinstance(event, descriptors.CreatePipe):
            pipe = {"kind": "pipe", "flags": 0, "pipe": index}
            self._open(event.read_fd, pipe | {"writes": False})
            self._open(event.write_fd, pipe | {"writes": True})
        elif isinstance(event, descriptors.CreateEvent):
            self._open(event.fd, {"kind": "counter", "initial": event.initial_val, "flags": 0})
        elif isinstance(event, descriptors.EpollCreate):
            self._open(event.fd, {"kind": "epoll", "watched": [], "flags": 0})
        elif isinstance(event, (sockets.SocketPair, sockets.SocketPairOfType)):
            for fd in (event.fd1, event.fd2):
                is_datagram = getattr(event, "ty", None) is SocketType.DGRAM
                self._open(fd, new_socket(is_datagram=is_datagram, is_inside=True))
        elif isinstance(event, (OpenFileDescriptor, OpenFileDescriptorWithFlags, Mount)):
            self._open_file(index, event)
        else:
            self._add_connection(event)

    def _open_file(self, index: int, event: Any) -> None:
        """Open a file or a directory; in a directory of the host, if the host has done it."""
        if isinstance(event, Mount):
            self._open(event.fd, {"kind": "other", "is_of_host": event.kind is MountKind.HOST})
            return
        is_of_host = self.used[event.dirfd]["is_of_host"]
        result = self._events[index + 1] if is_of_host and index + 1 < len(self._events) else None
        is_opened = (
            isinstance(result, inputs.HostResult)
            and result.call is HostCall.OPEN
            and not result.errno
        )
        if is_opened or not is_of_host:
            self._open(event.fd, {"kind": "other", "is_of_host": is_of_host})
            self.fd_flags[event.fd] = getattr(event, "fd_flags", 0)

    def _add_connection(self, event: Any) -> None:
        if isinstance(event, sockets.SocketAccepted):
            is_inside = self.used[event.listen_fd]["is_inside"]
            new = new_socket(is_inside=is_inside, flags=event.fd_flags)
            self._open(event.fd, new | {"accepted": (event.local_addr, event.peer_addr)})
        elif isinstance(event, sockets.SocketInside):
            self.used[event.fd]["is_inside"] = True
        elif isinstance(event, sockets.UnixSocketBind):
            self.used[event.fd]["bound"] = event.name
        elif isinstance(event, sockets.UnixSocketConnect):
            self.used[event.fd] |= {"requested": event.name, "is_refused": False}
        elif isinstance(event, sockets.SocketConnected):
            self.used[event.fd]["connected"] = event.local_addr, event.peer_addr
        elif isinstance(event, (inputs.BytesReceived, inputs.HostResult)):
            self._receive(event)
        elif isinstance(event, descriptors.EpollCtl):
            self._watch(event)
        else:
            self._change_number(event)

    def _watch(self, event: descriptors.EpollCtl) -> None:
        """Change a list of numbers, objects and events."""
        watched, target = self.used[event.epfd]["watched"], self.used.get(event.fd)
        found = [
            at for at, (fd, thing, _) in enumerate(watched) if fd == event.fd and thing is target
        ]
        if event.op is EpollOperation.DELETE:
            for at in found:
                del watched[at]
        elif found:
            watched[found[0]] = event.fd, target, event.event
        else:
            watched.append((event.fd, target, event.event))

    def _change_number(self, event: Any) -> None:
        if isinstance(event, descriptors.CloseFileDescriptor):
            self._close(event.fd)
        elif isinstance(event, descriptors.RenumberFileDescriptor):
            if event.old_fd != event.new_fd:
                self._close(event.new_fd)
                self.used[event.new_fd] = self.used.pop(event.old_fd)
                self.fd_flags[event.new_fd] = self.fd_flags.pop(event.old_fd)
        elif isinstance(
            event,
            (descriptors.DuplicateFileDescriptor, descriptors.DuplicateFileDescriptorWithFlags),
        ):
            self.used[event.copied_fd] = self.used[event.original_fd]
            self.fd_flags[event.copied_fd] = int(getattr(event, "cloexec", False))
        elif isinstance(event, descriptors.FileDescriptorSetFdFlags):
            self.fd_flags[event.fd] = event.flags
        elif isinstance(event, descriptors.FileDescriptorSetFlags):
            self.used[event.fd]["flags"] = event.flags

    def _open(self, fd: int, thing: Thing) -> None:
        self.used[fd], self.fd_flags[fd] = thing, 0

    def _close(self, fd: int) -> None:
        """Close a number. The last number of an object ends the watches of the object."""
        closed = self.used.pop(fd, None)
        self.fd_flags.pop(fd, None)
        things = list(self.used.values())
        if any(thing is closed for thing in things):
            return
        for thing in things:
            if thing["kind"] == "epoll":
                thing["watched"] = [one for one in thing["watched"] if one[1] is not closed]

    def _receive(self, event: inputs.BytesReceived | inputs.HostResult) -> None:
        """Count received bytes, and note the error of a receive, a connection or a send."""
        socket = self.used.get(event.fd, {})
        if socket.get("kind") != "socket":
            return
        if isinstance(event, inputs.BytesReceived):
            socket["received"] += len(event.data)
        elif event.call not in (HostCall.CONNECT, HostCall.SEND):
            return
        has_failed = event.errno not in (0, Errno.INPROGRESS) and not socket["is_datagram"]
        if getattr(event, "call", None) is HostCall.CONNECT and has_failed:
            socket |= {"requested": None, "is_refused": True}
        if event.errno not in WAITING:
            socket["error"] = event.errno

    # -- requests ---------------------------------------------------------------------------------

    def _request(self, index: int, event: Any) -> None:
        """Apply a request, unless its result says that it failed or the journal ends before it."""
        fd = getattr(event, "socket_fd", None)
        fd = event.fd if fd is None else fd
        is_open = isinstance(event, sockets.SocketOpen)
        is_unix = is_open and event.af is AddressFamily.UNIX
        if is_unix or (not is_open and self.used[fd]["is_inside"]):
            self._apply(fd, event, None)
            return
        follower = self._find_follower(index)
        if not isinstance(follower, inputs.HostResult) or follower.call is not CALLS[type(event)]:
            return
        is_started = follower.call is HostCall.CONNECT and follower.errno == Errno.INPROGRESS
        if not follower.errno or is_started:
            self._apply(fd, event, follower.value)

    def _find_follower(self, index: int) -> Event | None:
        for event in self._events[index + 1 :]:
            is_guest = event.tag not in tag_sets.RECORDING | tag_sets.PREAMBLE
            if is_guest or event.group is Group.SNAPSHOTS:
                return event
        return None

    def _apply(self, fd: int, event: Any, value: bytes | None) -> None:
        if isinstance(event, sockets.SocketOpen):
            is_datagram, is_inside = event.ty is SocketType.DGRAM, event.af is AddressFamily.UNIX
            self._open(fd, new_socket(is_datagram=is_datagram, is_inside=is_inside))
            return
        socket = self.used[fd]
        if isinstance(event, sockets.SocketBind):
            socket["bound"] = event.addr if value is None else address_of(value)
        elif isinstance(event, sockets.SocketListen):
            socket["backlog"] = event.backlog
            if value is not None and socket["bound"] is None:
                socket["bound"] = address_of(value)
        elif isinstance(event, sockets.SocketConnect):
            socket |= {"requested": event.addr, "is_refused": False}
        elif isinstance(event, sockets.SocketShutdown):
            socket["shut"] |= {0: 1, 1: 2, 2: 3}[int(event.how)]
        else:
            self._apply_to_connection(socket, event, value)

    def _apply_to_connection(self, socket: Thing, event: Any, value: bytes | None) -> None:
        if CALLS[type(event)] is HostCall.SEND:
            count = event.count if isinstance(event, sockets.SocketSendFile) else len(event.data)
            if value is not None:
                count = min(count, int.from_bytes(value, "little"))
            socket["sent"] += count
            socket["has_sent"] |= socket["is_datagram"]
        elif CALLS[type(event)] is HostCall.MULTICAST:
            group = event.multiaddr, event.iface
            socket["groups"].discard(group)
            if "Join" in type(event).__name__:
                socket["groups"].add(group)
        else:
            option = getattr(event, "opt", None)
            key = type(event), event.ty if option is None else option
            socket["options"][key] = event


def new_socket(**changes: Any) -> Thing:
    """Return a socket that nothing has happened to."""
    found: Thing = {"kind": "socket", "bound": None, "backlog": None, "requested": None}
    found |= {"connected": None, "accepted": None, "shut": 0, "options": {}, "groups": set()}
    found |= {"is_datagram": False, "is_refused": False, "has_sent": False}
    return found | {"sent": 0, "received": 0, "error": 0, "flags": 0} | changes


def address_of(value: bytes) -> Any:
    """Return the address in the value of a host result."""
    event = codec.decode(sockets.SocketBind.tag, bytes(4) + value)
    assert isinstance(event, sockets.SocketBind)
    return event.addr


def describe_model(host: ModelHost) -> tuple[dict[int, Thing], dict[int, int]]:
    """Return the descriptors for bytes of a model host, as ``PlainDescriptors`` has them."""
    found: dict[int, Thing] = {}
    for fd, state in host.descriptors.items():
        thing = state.object
        if isinstance(thing, SocketState):
            found[fd] = _describe_socket(thing) | {"flags": state.flags}
        elif isinstance(thing, EventCounter):
            found[fd] = {"kind": "counter", "initial": thing.initial, "flags": state.flags}
        elif isinstance(thing, EpollState):
            found[fd] = {"kind": "epoll", "watched": thing.watched, "flags": state.flags}
        elif isinstance(thing, tuple) and thing[0] == "pipe":
            found[fd] = {"kind": "pipe", "writes": thing[2], "pipe": thing[1], "flags": state.flags}
    return found, {fd: host.descriptors[fd].fd_flags for fd in found}


def _address_in(event: Any) -> Any:
    """Return the address or the name in an event of a socket."""
    return getattr(event, "addr", getattr(event, "name", None))


def _describe_socket(socket: SocketState) -> Thing:
    created: Any = socket.created_by
    listening: Any = socket.listening
    connected: Any = socket.connected
    is_accepted = isinstance(created, sockets.SocketAccepted)
    return new_socket(
        is_datagram=socket.is_datagram,
        is_refused=socket.is_refused,
        has_sent=socket.has_sent,
        is_inside=socket.is_inside,
        bound=_address_in(socket.bound),
        backlog=listening.backlog if listening else None,
        requested=_address_in(socket.requested),
        connected=(connected.local_addr, connected.peer_addr) if connected else None,
        accepted=(created.local_addr, created.peer_addr) if is_accepted else None,
        shut=(Shutdown.READ in socket.shut) + 2 * (Shutdown.WRITE in socket.shut),
        options={
            (type(one), getattr(one, "ty", None) if option is None else option): one
            for one in socket.options.values()
            for option in (getattr(one, "opt", None),)
        },
        groups=set(socket.groups),
        sent=socket.sent,
        received=socket.received,
        error=socket.error,
    )
