"""Epoll sets of a guest, with the semantics of Linux.

A watch belongs to an open object and the descriptor number of its ``epoll_ctl``. It ends when the
last descriptor of the object is closed. A channel inside the guest announces its events, which
queues the watch. Events of the host come from an epoll instance of the host.
"""

import select
import struct
from collections import OrderedDict
from collections.abc import Iterable
from typing import TYPE_CHECKING, ClassVar

from journal.engine.wasi.channel import (
    ANY_EVENT,
    NOT_READY,
    ByteChannel,
    ChannelState,
    Readiness,
    add_watcher,
    from_poll_mask,
)
from journal.engine.wasi.descriptors import Descriptor, Descriptors, InputStream
from journal.engine.wasi.objects.epoll_nesting import can_nest
from journal.engine.wasi.objects.epoll_watch import EDGE, ONESHOT, EpollWatch, Watchable
from journal.engine.wasi.objects.host_watches import HostWatches
from journal.events.descriptors import EpollEvent, EpollOperation
from journal.events.paths import FileType
from journal.wasi_abi import Errno, Rights, WasiError

if TYPE_CHECKING:
    from journal.engine.wasi.call_context import CallContext

#: Watched descriptors of a guest in all its epoll sets.
WATCHES_MAX = 65536
_FD_BITS = 16  # A number in a result has the descriptor in these bits, and a rank above them.
_NUMBER = struct.Struct("<I")


class EpollSet(ByteChannel):
    """An epoll set: the descriptors that it watches, and those of them that may be ready.

    ``pending`` watches may have another descriptor of the host than the host watches for them.
    ``polled`` watches have an object that neither announces events nor can be watched by the host;
    each wait examines them.
    """

    filetype: ClassVar[FileType] = FileType.UNKNOWN
    rights: ClassVar[Rights] = Rights.FD_FILESTAT_GET | Rights.POLL_FD_READWRITE
    is_exact = False

    def __init__(self, descriptors: Descriptors) -> None:
        self._descriptors = descriptors
        self._watches: dict[
            tuple[int, int], EpollWatch
        ] = {}  # By identity of the object, and number.
        self._by_fd: dict[int, list[EpollWatch]] = {}
        self._queue: OrderedDict[EpollWatch, None] = OrderedDict()
        self._pending: dict[EpollWatch, None] = {}
        self._polled: dict[EpollWatch, None] = {}
        self._host = HostWatches()
        self._is_host_first = False
        self._input_count = 0

    # -- epoll_ctl --------------------------------------------------------------------------------

    def check(self, operation: EpollOperation, fd: int, target: Descriptor) -> Watchable:
        """Return ``target`` if it can be watched so; raise ``WasiError`` if not."""
        if not isinstance(target, Watchable):
            raise WasiError(Errno.PERM)
        if target is self:
            raise WasiError(Errno.INVAL)
        is_watched = (id(target), fd) in self._watches
        if operation is not EpollOperation.ADD:
            if not is_watched:
                raise WasiError(Errno.NOENT)
            return target
        if is_watched:
            raise WasiError(Errno.EXIST)
        if self._descriptors.watch_count >= WATCHES_MAX:
            raise WasiError(Errno.NOSPC)
        if isinstance(target, EpollSet) and not can_nest(
            self, target, EpollSet.get_nested, EpollSet.get_outer
        ):
            raise WasiError(Errno.LOOP)
        return target

    def control(
        self, operation: EpollOperation, fd: int, target: Watchable, event: EpollEvent | None
    ) -> None:
        """Change how ``fd`` is watched, which :meth:`check` has allowed."""
        if operation is EpollOperation.DELETE:
            self.drop(self._watches[id(target), fd])
            return
        assert event is not None, "only a deletion has no event"
        if operation is EpollOperation.ADD:
            watch = EpollWatch(self, fd, target, event)
            self._watches[id(target), fd] = watch
            self._by_fd.setdefault(fd, []).append(watch)
            add_watcher(target, watch)
            self._descriptors.watch_count += 1
            self._input_count += isinstance(target, InputStream)
        else:
            watch = self._watches[id(target), fd]
            watch.set_event(event)
        self.queue(watch, set(), is_changed=True)

    def queue(self, watch: EpollWatch, reached: set[int], *, is_changed: bool) -> None:
        """Let the next wait examine ``watch``, and tell the sets that watch this one.

        ``reached`` are the sets that were told already: there can be many ways to one set.
        """
        self._queue[watch] = None
        if is_changed:
            self._pending[watch] = None
        if id(self) not in reached:
            reached.add(id(self))
            for watcher in tuple(self.watchers):
                watcher.on_events(ANY_EVENT if is_changed else Readiness.READABLE, reached)

    def drop(self, watch: EpollWatch) -> None:
        """End a watch."""
        del self._watches[id(watch.target), watch.fd]
        numbered = self._by_fd[watch.fd]
        numbered.remove(watch)
        if not numbered:
            del self._by_fd[watch.fd]
        for each in (self._queue, self._pending, self._polled):
            each.pop(watch, None)
        self._host.remove(watch)
        del watch.target.watchers[watch]
        self._descriptors.watch_count -= 1
        self._input_count -= isinstance(watch.target, InputStream)

    def replace(self, watch: EpollWatch, target: ByteChannel) -> None:
        """Watch another channel in place of the object of ``watch``."""
        del self._watches[id(watch.target), watch.fd]
        del watch.target.watchers[watch]
        watch.target = target
        self._watches[id(target), watch.fd] = watch
        add_watcher(target, watch)
        self.queue(watch, set(), is_changed=True)

    def get_nested(self) -> "list[EpollSet]":
        """Return the epoll sets that this one watches."""
        return [each.target for each in self._watches.values() if isinstance(each.target, EpollSet)]

    def get_outer(self) -> "list[EpollSet]":
        """Return the epoll sets that watch this one."""
        outer = [each.epoll for each in self.watchers if isinstance(each, EpollWatch)]
        return [each for each in outer if isinstance(each, EpollSet)]

    # -- epoll_wait -------------------------------------------------------------------------------

    @property
    def needs_input(self) -> bool:
        """Return whether the set watches standard input."""
        return self._input_count > 0

    def collect(self, count: int) -> list[tuple[int, int]]:
        """Return at most ``count`` watches that have events, and take their edges.

        They are returned as pairs of their numbers and events.

        Objects inside the guest and descriptors of the host come first in turn.
        """
        self._update_host()
        found: dict[EpollWatch, int] = {}
        order = [self._collect_inside, self._collect_host]
        self._is_host_first = not self._is_host_first
        for collect in order if self._is_host_first else reversed(order):
            collect(found, count)
        return [(self._get_number(watch), events) for watch, events in found.items()]

    def _collect_inside(self, found: dict[EpollWatch, int], count: int) -> None:
        for _ in range(len(self._queue)):
            if len(found) >= count:
                break
            watch, _ = self._queue.popitem(last=False)
            events = watch.find_events()
            if events:
                found[watch] = events
        for watch in self._polled:
            if len(found) >= count:
                break
            events = watch.find_events()
            if events:
                found[watch] = events

    def _collect_host(self, found: dict[EpollWatch, int], count: int) -> None:
        if len(found) >= count:
            return
        for watch, mask in self._host.take_events(count - len(found)):
            is_exact = watch.is_exact
            events = int(from_poll_mask(mask)) & watch.wanted if is_exact else watch.find_events()
            if events:
                found[watch] = events

    def report(self, ready: Iterable[tuple[int, int]]) -> list[tuple[int, EpollEvent]]:
        """Return the events and the data of reported watches, and change them as Linux does.

        A one-shot watch is disabled, and a level-triggered watch stays queued. Raises
        ``ValueError`` for a watch or an event that the set does not have.
        """
        reported = []
        for number, events in ready:
            watch = self._find(number)
            if not events or events & ~watch.wanted:
                raise ValueError(f"descriptor {number} is not watched for the events {events:#x}")
            reported.append((events, watch.event))
            self._queue.pop(watch, None)
            if watch.event.events & ONESHOT:
                self._disable(watch)
            elif not (watch.event.events & EDGE or (watch.is_exact and watch in self._host)):
                self._queue[watch] = None
        return reported

    def _disable(self, watch: EpollWatch) -> None:
        watch.is_enabled = False
        self._polled.pop(watch, None)
        if not watch.is_exact:  # The host knows nothing of one shot.
            self._host.remove(watch)

    def _get_number(self, watch: EpollWatch) -> int:
        """Return the descriptor of a watch, and its rank among the watches of this number."""
        watches = self._by_fd[watch.fd]
        return watch.fd if watches[0] is watch else watches.index(watch) << _FD_BITS | watch.fd

    def _find(self, number: int) -> EpollWatch:
        rank, fd = divmod(number, 1 << _FD_BITS)
        watches = self._by_fd.get(fd, ())
        if rank >= len(watches):
            raise ValueError(f"descriptor {number} is not watched")
        return watches[rank]

    # -- the host ---------------------------------------------------------------------------------

    def _update_host(self) -> None:
        """Let the host watch the descriptors that it has for the pending watches."""
        while self._pending:
            watch, _ = self._pending.popitem()
            if not watch.is_enabled:
                continue
            self._polled.pop(watch, None)
            watched = watch.get_host_events()
            if not watched:
                self._host.remove(watch)
                if isinstance(watch.target, InputStream) and not watch.target.source.is_rereadable:
                    self._polled[watch] = None
                continue
            try:
                fd, events = watched[0]
                self._host.put(watch, fd, watch.to_host_mask(events))
            except OSError:  # A device that cannot be watched, or no more descriptors.
                self._host.remove(watch)
                self._polled[watch] = None
            else:
                if watch.is_exact:
                    self._queue.pop(watch, None)  # The host has its first edge.

    def get_host_descriptor(self) -> int | None:
        """Return the descriptor of the host that is readable when the host has an event."""
        self._update_host()
        return self._host.fileno() if len(self._host) else None

    def release_host(self) -> None:
        """Close the epoll instance of the host, because the session ends."""
        self._host.close()

    # -- the set as a channel ---------------------------------------------------------------------

    def read(self, context: "CallContext", fd: int, size_max: int) -> bytes:
        """Refuse with ``INVAL``: an epoll set has no bytes."""
        raise WasiError(Errno.INVAL)

    def write(self, context: "CallContext", fd: int, data: bytes) -> int:
        """Refuse with ``INVAL``: an epoll set has no bytes."""
        raise WasiError(Errno.INVAL)

    def readiness(self) -> Readiness:
        """Return whether a watch has an event. Watches that have none leave the queue."""
        self._update_host()
        is_ready = self._host.has_events() or any(map(EpollWatch.find_events, self._polled))
        while self._queue and not is_ready:
            is_ready = bool(next(iter(self._queue)).find_events())
            if not is_ready:
                self._queue.popitem(last=False)
        return Readiness.READABLE if is_ready else NOT_READY

    def poll_events(self, wanted: Readiness) -> list[tuple[int, int]]:
        """Return the descriptors of the host by which an event can come."""
        if self.readiness():
            return []
        return self.get_waited()

    def watch_events(self, wanted: Readiness) -> list[tuple[int, int]]:
        """Return the epoll instance of the host, which another set can watch."""
        fd = self.get_host_descriptor()
        return [] if fd is None else [(fd, int(select.POLLIN))]

    def get_waited(self) -> list[tuple[int, int]]:
        """Return the descriptors of the host to wait for."""
        waited = self.watch_events(Readiness.READABLE)
        for watch in self._polled:
            waited += watch.get_host_events()
        return waited

    # -- snapshots --------------------------------------------------------------------------------

    def save(self) -> ChannelState | None:
        """Return the numbers of the watches that have reported their one event.

        Nothing else is needed: a restored set examines all other watches at its next wait.
        """
        disabled = [watch for watch in self._watches.values() if not watch.is_enabled]
        numbers = sorted(map(self._get_number, disabled))
        return ChannelState(0, 0, tuple(map(_NUMBER.pack, numbers))) if numbers else None

    def load(self, state: ChannelState) -> None:
        """Disable the watches of :meth:`save`."""
        for part in state.parts:
            if len(part) != _NUMBER.size:
                raise ValueError(f"the number of a watch cannot have {len(part)} bytes")
            watch = self._find(*_NUMBER.unpack(part))
            if not watch.event.events & ONESHOT:
                raise ValueError(f"the watch of descriptor {watch.fd} has no single event")
            self._disable(watch)

    def close(self) -> None:
        """End all watches, and close the epoll instance of the host."""
        for watch in list(self._watches.values()):
            self.drop(watch)
        self._host.close()
