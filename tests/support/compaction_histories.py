"""Generated histories for the tests of compaction, and the states of a journal."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address
from pathlib import Path
from random import Random
from typing import Any

from hypothesis import strategies as st

from journal import Event, Frame, Reader, Writer, compaction
from journal.events import (
    codec,
    core,
    descriptors,
    inputs,
    paths,
    process,
    snapshots,
    sockets,
    streams,
    threads,
)
from journal.events.definition import field_dict
from journal.events.descriptors import EpollEvent, EpollOperation, Whence
from journal.events.inputs import HostCall
from journal.events.memory import PAGE_SIZE, MemoryPages
from journal.events.paths import FileType
from journal.events.process import RecordingLevel
from journal.events.snapshots import SafePoint, Trigger
from journal.events.wire_types import SocketAddress
from journal.pages import PageResolver
from journal.pages.encoding import ZERO_PAGE
from journal.replay import ModelHost, ReplayError, ReplayLimits, play
from journal.replay.hosts.model import ReplayState
from journal.replay.state.descriptor_table import (
    Epoll,
    HostNode,
    OpenMountDirectory,
    OpenMountFile,
    PipeEnd,
    SocketState,
    StandardStream,
)
from journal.vfs import MemoryFile
from tests.support.flat_machine import FULL_PAGE, FlatMachine
from tests.support.network_histories import contents_of, network_step
from tests.support.page_histories import plain_digest
from tests.support.replayed_files import TREE
from tests.support.sample_events import (
    CODE,
    MODULE,
    host_result,
    open_path,
    process_start,
    region,
    thread,
    write,
)

LIMITS = ReplayLimits(files_size_max=1 << 30, memory_size_max=1 << 26)
ON_HOST = 20
START = 1_000_000_000_000

Story = list[tuple[int, bytes, int]]
"""Events as tags, payloads and times."""

# -- states ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Seen:
    """State of a replay, with the contents of open files by descriptor."""

    state: ReplayState
    nameless: dict[int, bytes]


def state_of(host: ModelHost) -> ReplayState:
    """Return a state without what a socket has transferred: no later event depends on it."""
    state = host.state()
    for descriptor in state.descriptors.values():
        if isinstance(descriptor.object, SocketState):
            socket = descriptor.object
            socket.sent = socket.received = socket.error = 0
    return state


def seen(host: ModelHost) -> Seen:
    """Return the part of a state that compaction keeps: not the inputs and the counts."""
    state = state_of(host)
    closed, staged = state.machine
    if closed.safe_point is not None:
        point = SafePoint(**field_dict(closed.safe_point) | {"whole": False})
        closed = replace(closed, safe_point=point)
    kept = state.process
    kept.snapshot_count, kept.seal = 0, None
    nameless = {}
    for fd, number in host.table:
        thing = number.description.object
        if isinstance(thing, OpenMountFile):
            assert isinstance(thing.file, MemoryFile)
            nameless[fd] = thing.file._node.content()
    plain: Any = None
    state = replace(state, inputs=plain, machine=(closed, staged), process=kept)
    return Seen(state, nameless)


def frames_of(path: Path) -> list[Frame]:
    """Return all frames, without their offsets."""
    with Reader(path) as reader:
        return [frame._replace(offset=0) for frame in reader.frames()]


def states_of(frames: Sequence[Frame], seqs: Iterable[int]) -> dict[int, Seen]:
    """Return the states after these sequence numbers, and the final state under -1."""
    host, wanted, found = ModelHost(LIMITS), set(seqs), {}
    for frame in frames:
        play([frame], host)
        if frame.seq in wanted:
            found[frame.seq] = seen(host)
    found[-1] = seen(host)
    return found


def kept_of(frames: Sequence[Frame]) -> list[int]:
    """Return the sequence numbers of the snapshots."""
    return [frame.seq for frame in frames if frame.tag == snapshots.Snapshot.tag]


def resolve_pages(path: Path, start: int) -> list[Frame]:
    """Return the frames from ``start`` on, with the bytes of referenced pages."""
    with Reader(path) as reader:
        frames = PageResolver.from_reader(reader).resolve_frames(reader.frames(start))
        return [frame._replace(offset=0) for frame in frames]


def check(
    source: Path, target: Path, policy: compaction.RetentionPolicy
) -> compaction.CompactionResult:
    """Compact a journal, and check that its states and the retained events are the same."""
    found = compaction.compact(source, target, policy=policy)
    before, after = frames_of(source), frames_of(target)
    with Reader(target) as reader:
        assert list(reader.verify()) == []
        assert reader.journal_id == found.journal_id
        assert not reader.summary().damage
    assert kept_of(after) == list(found.snapshots)
    assert after[-1].seq == before[-1].seq
    assert resolve_pages(target, found.upto) == resolve_pages(source, found.upto)
    wanted = states_of(before, found.snapshots)
    assert states_of(after, found.snapshots) == wanted
    numbered = {frame.seq: frame for frame in before}
    moved = {kind.tag for kind in (SafePoint, MemoryPages, threads.TableSet, threads.GlobalsSet)}
    for frame in after:
        if frame.tag not in moved:
            assert numbered[frame.seq] == frame
    assert found.kept_events == len(after)
    assert found.events == len(before)
    assert found.kept_size == sum(len(frame.payload) for frame in after)
    return found


def write_story(path: Path, story: Story, *, block_events: int = 7) -> Path:
    """Write a journal of these events, with a few events in each block."""
    moment = START

    def clock() -> int:
        return moment

    with Writer(path, clock=clock) as writer:
        for count, (tag, payload, time) in enumerate(story):
            moment = time
            writer.append_frame(tag, payload)
            if count % block_events == block_events - 1:
                writer.flush()
    return path


def write_events(path: Path, events: Iterable[Event]) -> Path:
    """Write a journal of these events, a microsecond apart."""
    story = [(one.tag, codec.encode(one), START + at) for at, one in enumerate(events)]
    return write_story(path, story)


# -- histories ------------------------------------------------------------------------------------

fds = range(5, 13)
NAMES = ("a", "b", "c", "d", "e")
PLACES = (*NAMES, *NAMES, "d/a", "d/b", "d/d", "c/a", "d/d/a", "./a", "d/../b", "d/", "d/.", "..")
LOOPBACK = SocketAddress(IPv4Address("127.0.0.1"), 80)
GROUP = IPv4Address("224.0.0.1")
HERE = IPv4Address("127.0.0.1")
STEPS = ["files"] * 12 + ["descriptors"] * 4 + ["host"] * 2 + ["streams"] * 2
NETWORK_STEPS = [*STEPS, *["network"] * 40]


def preamble(level: RecordingLevel = RecordingLevel.FULL) -> list[Event]:
    """Return the first events of the journal of a process."""
    mount = process.Mount(fd=ON_HOST, kind=process.MountKind.HOST, guest="/host", host="/h")
    return [process_start(level), process.InstrumentedPart(offset=0, data=MODULE), *TREE[:2], mount]


@dataclass
class Making:
    """Builder of a history. It leaves out events that a replay refuses."""

    random: Random
    host: ModelHost = field(default_factory=lambda: ModelHost(LIMITS))
    events: list[Event] = field(default_factory=list)
    machine: FlatMachine = field(default_factory=FlatMachine)
    closed: FlatMachine = field(default_factory=FlatMachine)
    has_snapshot: bool = False
    steps: list[str] = field(default_factory=lambda: STEPS)

    def add(self, *events: Event) -> None:
        """Add a group of events up to the first that a replay refuses."""
        for event in events:
            seq = len(self.events)
            try:
                play([Frame(seq, event.tag, codec.encode(event), START + seq, 0)], self.host)
            except ReplayError:
                return
            self.events.append(event)

    def below(self, number: int) -> int:
        """Return a random number below ``number``."""
        return self.random.randrange(number)

    def fd(self) -> int:
        """Return a descriptor, mostly an open one."""
        used = [fd for fd, _ in self.host.table]
        return self.random.choice(used if used and self.below(4) else list(fds))

    def new_fd(self) -> int:
        """Return a descriptor, mostly a free one."""
        free = sorted(set(fds) - set(self.host.table.entries))
        return self.random.choice(free if free and self.below(4) else list(fds))

    def directory(self) -> int:
        """Return a descriptor, mostly of a directory."""
        kinds = OpenMountDirectory
        found = [fd for fd, one in self.host.table if isinstance(one.description.object, kinds)]
        return self.random.choice(found if found and self.below(9) else list(fds))

    def file(self) -> int:
        """Return a descriptor, mostly of a file."""
        found = [
            fd for fd, one in self.host.table if isinstance(one.description.object, OpenMountFile)
        ]
        return self.random.choice(found if found and self.below(9) else list(fds))

    def place(self) -> str:
        """Return a path."""
        return self.random.choice(PLACES)

    def step(self) -> None:
        """Add one random step."""
        step = self.random.choice(self.steps)
        if step == "files":
            self.add(self.random.choice(_FILES)(self))
        elif step == "descriptors":
            self.descriptors()
        elif step == "host":
            self.of_host()
        elif step == "network":
            network_step(self)
        else:
            self.add(self.random.choice(_STREAMS)(self))

    def descriptors(self) -> None:
        """Add a change of descriptors."""
        if self.below(9):
            self.add(self.random.choice(_DESCRIPTORS)(self))
            return
        fd, family, ty = self.new_fd(), sockets.AddressFamily.INET4, sockets.SocketType.STREAM
        opening = sockets.SocketOpen(af=family, ty=ty, pt=0, fd=fd)
        bound = codec.encode(sockets.SocketBind(fd=0, addr=LOOPBACK))[4:]
        self.add(opening, host_result(HostCall.SOCKET, fd))
        if isinstance(self.thing(fd), SocketState) and self.below(2):
            binding = sockets.SocketBind(fd=fd, addr=LOOPBACK)
            self.add(binding, host_result(HostCall.BIND, fd, bound))
            listening = sockets.SocketListen(fd=fd, backlog=3)
            self.add(listening, host_result(HostCall.LISTEN, fd, bound))

    def thing(self, fd: int) -> object:
        """Return the open object of a descriptor."""
        number = self.host.table.entries.get(fd)
        return None if number is None else number.description.object

    def of_host(self) -> None:
        """Add an operation in a host directory, with its host result."""
        errno, what, fd = self.random.choice([0, 0, 0, 2]), self.below(8), self.fd()
        is_node = isinstance(self.thing(fd), HostNode) and fd != ON_HOST
        probe = host_result(HostCall.PROBE, ON_HOST, b"\1")
        if what < 2:
            opening = descriptors.OpenFileDescriptor(
                fd=self.new_fd(),
                dirfd=ON_HOST,
                dirflags=0,
                o_flags=1,
                fs_flags=0,
                fs_rights_base=66,
                fs_rights_inheriting=0,
                path="a",
            )
            self.add(opening, host_result(HostCall.OPEN, ON_HOST, b"\4node", errno))
        elif what < 4 and is_node:
            writing = write(fd, self.below(20), b"abcde")
            count = self.below(6).to_bytes(4, "little")
            self.add(writing, host_result(HostCall.WRITE, fd, count, errno))
        elif what == 4:
            self.add(host_result(HostCall.SIZE, fd, self.below(20).to_bytes(8, "little"), errno))
        elif what == 5 and is_node:
            size = descriptors.FileDescriptorSetSize(fd=fd, st_size=self.below(20))
            self.add(size, host_result(HostCall.SIZE, fd, b"", errno))
        elif what == 6:
            rename = paths.PathRename(old_fd=ON_HOST, new_fd=ON_HOST, old_path="a", new_path="b")
            self.add(probe, rename, host_result(HostCall.RENAME, ON_HOST, b"names", errno))
        elif self.below(2):
            unlink = paths.UnlinkFile(fd=ON_HOST, path="a")
            self.add(probe, unlink, host_result(HostCall.UNLINK, ON_HOST, b"", errno))
        else:
            self.add(host_result(HostCall.READ, fd, b"what was read"))

    def run_on(self) -> None:
        """Change the machine of the guest."""
        machine, random = self.machine, self.random
        for _ in range(self.below(5)):
            flat = machine.memories.setdefault(self.below(3), bytearray())
            flat += bytes(PAGE_SIZE * self.below(4))
            data = random.choice(
                [random.randbytes(self.below(40)), ZERO_PAGE, FULL_PAGE, FULL_PAGE * 2]
            )
            at = self.below(len(flat) + 1)
            flat[at : at + len(data)] = data[: len(flat) - at]
        for _ in range(self.below(3)):
            table = machine.tables.setdefault(self.below(2), [])
            table += [self.below(9) for _ in range(self.below(3))]
            if table:
                table[self.below(len(table))] = threads.TABLE_NULL
        machine.values += self.below(1000)

    def snapshot(self) -> None:
        """Add a snapshot, or only its first events."""
        self.run_on()
        whole = not self.has_snapshot or not self.below(4)
        point = SafePoint(
            calls=1, monotonic=2, code=CODE, whole=whole, entry="_start", function="fd_write"
        )
        told = list(self.machine.told(self.closed, whole=whole))[:-1]
        kinds = (StandardStream, OpenMountFile, HostNode)
        used = [fd for fd, one in self.host.table if isinstance(one.description.object, kinds)]
        stacks = thread(0, self.random.randbytes(self.below(9)))
        positions = snapshots.DescriptorPositions(
            positions=tuple((fd, self._position(fd)) for fd in used), free=(30, 31)
        )
        contents = contents_of(self) if "network" in self.steps else []
        events = [point, *told, stacks, positions, *contents]
        if not self.below(5):
            self.add(*events[: self.below(len(events))])
            if self.below(2):
                self.machine = self.closed.copy()
            return
        digest = self.digest(stacks, positions, *contents)
        closing = snapshots.Snapshot(when=len(self.events), trigger=Trigger.EXPLICIT, digest=digest)
        self.add(*events, closing)
        assert self.host.machine.digest_matches
        self.closed, self.has_snapshot = self.machine.copy(), True

    def _position(self, fd: int) -> int:
        is_input = self.thing(fd) == StandardStream(0)
        return self.host.inputs.read.get(0, 0) if is_input else self.below(30)

    def digest(self, *parts: Event) -> bytes:
        """Return the digest, computed as the spec describes."""
        machine = self.machine
        payloads = [codec.encode(machine.globals)]
        for index, functions in sorted(machine.tables.items()):
            table = threads.TableSet(table=index, start=0, functions=tuple(functions))
            payloads.append(codec.encode(table))
        payloads += map(codec.encode, parts)
        memories = [(index, bytes(flat)) for index, flat in sorted(machine.memories.items())]
        return plain_digest(memories, payloads)


Make = Callable[[Making], Event]


def _placed(make: Making) -> Event:
    return paths.FilePlaced(
        kind=make.random.choice([FileType.REGULAR_FILE, FileType.DIRECTORY]),
        offset=0,
        path=f"/west/{make.place()}",
        data=b"abc",
    )


def _times(make: Making) -> dict[str, Any]:
    return {"st_atim": make.below(1 << 40), "st_mtim": make.below(9), "fst_flags": make.below(16)}


_FILES: tuple[Make, ...] = (
    lambda m: open_path(m.new_fd(), m.directory(), m.place(), 1, m.below(2)),
    lambda m: open_path(m.new_fd(), m.directory(), m.place(), 1, 1),
    lambda m: open_path(m.new_fd(), m.directory(), m.place(), m.below(16), m.below(2)),
    lambda m: open_path(m.new_fd(), m.directory(), m.place(), 9, 1),
    lambda m: descriptors.OpenFileDescriptorWithFlags(
        **field_dict(open_path(m.new_fd(), m.directory(), m.place(), 0)), fd_flags=1
    ),
    lambda m: descriptors.CloseFileDescriptor(fd=m.file()),
    lambda m: descriptors.CloseFileDescriptor(fd=m.file()),
    lambda m: descriptors.CloseFileDescriptor(fd=m.random.choice(fds)),
    lambda m: write(m.file(), m.below(30), m.random.randbytes(m.below(9))),
    lambda m: write(m.file(), m.below(30), m.random.randbytes(m.below(9))),
    lambda m: write(m.file(), m.below(9), m.random.randbytes(30)),
    lambda m: descriptors.FileDescriptorSetSize(fd=m.file(), st_size=m.below(40)),
    lambda m: descriptors.FileDescriptorAllocate(fd=m.file(), offset=m.below(30), len=m.below(20)),
    lambda m: descriptors.FileDescriptorSetTimes(fd=m.file(), **_times(m)),
    lambda m: descriptors.FileDescriptorSetTimes(fd=m.directory(), **_times(m)),
    lambda m: descriptors.FileDescriptorSeek(
        fd=m.fd(), offset=m.below(20) - 9, whence=m.random.choice(list(Whence))
    ),
    lambda m: paths.CreateDirectory(fd=m.directory(), path=m.place()),
    lambda m: paths.RemoveDirectory(fd=m.directory(), path=m.place()),
    lambda m: paths.UnlinkFile(fd=m.directory(), path=m.place()),
    lambda m: paths.UnlinkFile(fd=m.directory(), path=m.place()),
    lambda m: paths.PathSetTimes(fd=m.directory(), flags=m.below(2), path=m.place(), **_times(m)),
    lambda m: paths.PathRename(
        old_fd=m.directory(), new_fd=m.directory(), old_path=m.place(), new_path=m.place()
    ),
    lambda m: paths.PathRename(
        old_fd=3, new_fd=3, old_path=m.random.choice(NAMES), new_path=m.random.choice(NAMES)
    ),
    lambda m: paths.CreateHardLink(
        old_fd=m.directory(),
        old_flags=0,
        new_fd=m.directory(),
        old_path=m.place(),
        new_path=m.place(),
    ),
    lambda m: paths.CreateSymbolicLink(fd=m.directory(), old_path=m.place(), new_path=m.place()),
    _placed,
)

_DESCRIPTORS: tuple[Make, ...] = (
    lambda m: descriptors.DuplicateFileDescriptorWithFlags(
        original_fd=m.fd(), copied_fd=m.new_fd(), cloexec=True
    ),
    lambda m: descriptors.DuplicateFileDescriptor(original_fd=m.file(), copied_fd=m.new_fd()),
    lambda m: descriptors.RenumberFileDescriptor(old_fd=m.fd(), new_fd=m.new_fd()),
    lambda m: descriptors.RenumberFileDescriptor(old_fd=m.file(), new_fd=m.fd()),
    lambda m: descriptors.FileDescriptorSetFlags(fd=m.fd(), flags=m.below(9)),
    lambda m: descriptors.FileDescriptorSetFdFlags(fd=m.fd(), flags=m.below(9)),
    lambda m: descriptors.FileDescriptorSetRights(
        fd=m.fd(), fs_rights_base=m.below(9), fs_rights_inheriting=0
    ),
    lambda m: descriptors.FileDescriptorAdvise(
        fd=m.fd(), offset=0, len=1, advice=descriptors.Advice.NORMAL
    ),
    lambda m: descriptors.CreatePipe(read_fd=m.new_fd(), write_fd=m.new_fd()),
    lambda m: descriptors.EpollCreate(fd=m.new_fd()),
    lambda m: descriptors.CreateEvent(initial_val=1, flags=0, fd=m.new_fd()),
    lambda m: sockets.SocketPair(fd1=m.new_fd(), fd2=m.new_fd()),
    lambda m: sockets.SocketPairOfType(
        fd1=m.new_fd(),
        fd2=m.new_fd(),
        af=sockets.AddressFamily.UNIX,
        ty=sockets.SocketType.DGRAM,
        pt=0,
    ),
    lambda m: descriptors.CloseFileDescriptor(fd=m.random.choice(fds)),
    lambda m: descriptors.EpollCtl(
        epfd=_of(m, Epoll),
        op=m.random.choice(list(EpollOperation)[:3]),
        fd=m.below(2),
        event=m.random.choice([None, EpollEvent(1, 2, 3, 4, m.below(9))]),
    ),
    lambda m: sockets.SocketInside(fd=_of(m, SocketState)),
    lambda m: sockets.UnixSocketBind(fd=_of(m, SocketState), name=b"here"),
    lambda m: sockets.UnixSocketConnect(fd=_of(m, SocketState), name=b"there"),
    lambda m: sockets.SocketAccepted(
        listen_fd=_of(m, SocketState),
        fd=m.new_fd(),
        fd_flags=0,
        non_blocking=False,
        local_addr=LOOPBACK,
        peer_addr=LOOPBACK,
    ),
    lambda m: sockets.SocketConnected(
        fd=_of(m, SocketState), local_addr=LOOPBACK, peer_addr=LOOPBACK
    ),
    lambda m: sockets.SocketJoinIpv4Multicast(fd=_of(m, SocketState), multiaddr=GROUP, iface=HERE),
    lambda m: sockets.SocketLeaveIpv4Multicast(fd=_of(m, SocketState), multiaddr=GROUP, iface=HERE),
    lambda m: sockets.SocketSend(fd=_of(m, SocketState), flags=0, data=b"sent"),
    lambda m: sockets.SocketShutdown(
        fd=_of(m, SocketState), how=m.random.choice(list(sockets.Shutdown))
    ),
    lambda m: sockets.SocketSetOptFlag(
        fd=_of(m, SocketState),
        opt=m.random.choice(list(sockets.SocketOption)[:3]),
        flag=bool(m.below(2)),
    ),
    lambda m: write(_of(m, PipeEnd), 0, b"into a pipe"),
)


def _of(make: Making, kind: type) -> int:
    found = [fd for fd, one in make.host.table if isinstance(one.description.object, kind)]
    return make.random.choice(found or list(fds))


def _terminal(make: Making) -> Event:
    names = ("stdin_tty", "stdout_tty", "stderr_tty", "echo", "line_buffered", "line_feeds")
    plain: dict[str, Any] = dict.fromkeys(names, True)
    return core.TtySet(cols=make.below(99), rows=1, width=1, height=1, **plain)


def _read(make: Making) -> Event:
    if any(one.description.object == StandardStream(0) for _, one in make.host.table):
        offset = make.host.inputs.read.get(0, 0)
        return inputs.StreamRead(stream=0, offset=offset, data=b"read")
    return inputs.ClockRead(clock=1, time=make.below(99))


_STREAMS: tuple[Make, ...] = (
    lambda m: streams.StreamWrite(stream=1, offset=m.host.streams.sizes.get(1, 0), data=b"printed"),
    lambda m: streams.StreamDelivered(stream=1 + m.below(2), upto=m.below(99)),
    lambda m: streams.StreamOpened(
        stream=1 + m.below(2),
        inode=m.below(9),
        kind=streams.TargetKind.PIPE,
        append=False,
        position=0,
        device=0,
    ),
    _terminal,
    lambda m: core.SetClockTime(clock_id=m.random.choice(list(core.Clock)[:2]), time=m.below(99)),
    lambda m: inputs.ClockRead(clock=0, time=m.below(99)),
    lambda m: inputs.RandomBytes(data=b"random"),
    lambda m: inputs.PollResult(events=bytes(32)),
    _read,
    lambda m: paths.ChangeDirectory(path="/somewhere"),
    lambda m: process.SessionStart(
        realtime=1, monotonic=1, engine_version="", journal_version="", platform=""
    ),
    lambda m: process.Reseeded(generation=m.random.randbytes(16), realtime=1),
)


def history(
    seed: int,
    steps: int,
    every: int,
    level: RecordingLevel = RecordingLevel.FULL,
    kinds: list[str] = STEPS,
) -> Story:
    """Return the history of a process with files, host results, memory and snapshots.

    It has ``steps`` steps and on average one snapshot every ``every`` steps.
    """
    make = Making(Random(seed), steps=kinds)
    make.add(*preamble(level), *TREE[2:])
    for _ in range(steps):
        if make.below(every):
            make.step()
        else:
            make.snapshot()
    return keep_playable(timed(make.events, make.random.choice([0, 1, 1000])))


def foreign(seed: int, steps: int, every: int) -> Story:
    """Return the history of another runtime: memory regions, threads, no safe points.

    A process may end, and another process may start with the same files.
    """
    make = Making(Random(seed))
    make.add(core.InitModule(wasm_hash=b"hash"), *TREE)
    for _ in range(steps):
        if not make.below(every):
            make.add(snapshots.Snapshot(when=make.below(99), trigger=Trigger.EXPLICIT))
        elif make.below(2):
            make.step()
        elif make.below(every):
            make.add(make.random.choice(_MACHINE)(make))
        else:
            make.add(make.random.choice(_ENDS)(make))
    return keep_playable(timed(make.events))


def _table(make: Making) -> Event:
    functions = tuple(make.below(9) for _ in range(make.below(5)))
    return threads.TableSet(table=make.below(2), start=make.below(9), functions=functions)


_MACHINE: tuple[Make, ...] = (
    lambda m: region(m.below(9000), m.random.randbytes(m.below(99))),
    lambda m: region(m.below(9000), m.random.choice([FULL_PAGE, ZERO_PAGE])),
    lambda m: thread(m.below(4), m.random.randbytes(m.below(9))),
    lambda m: threads.CloseThread(id=m.below(4), exit_code=0),
    lambda m: threads.GlobalsSet(globals=((0, 0x7F, m.random.randbytes(16)),)),
    _table,
)
_ENDS: tuple[Make, ...] = (
    lambda m: snapshots.ClearEthereal(),
    lambda m: core.InitModule(wasm_hash=b"other"),
    lambda m: core.ProcessExit(exit_code=m.below(3)),
)


def timed(events: Iterable[Event], pause: int = 1) -> Story:
    """Return events as a story, ``pause`` microseconds apart."""
    return [(one.tag, codec.encode(one), START + pause * at) for at, one in enumerate(events)]


def keep_playable(story: Story) -> Story:
    """Return the events that a replay accepts. A refused event may have changed the state."""
    host, kept = ModelHost(LIMITS), Story()
    for tag, payload, time in story:
        with suppress(ReplayError):
            play([Frame(len(kept), tag, payload, time, 0)], host)
            kept.append((tag, payload, time))
    return kept


@dataclass(frozen=True)
class History:
    """Parameters of a history."""

    seed: int
    steps: int
    every: int
    has_network: bool = False

    @property
    def story(self) -> Story:
        """Return the history."""
        kinds = NETWORK_STEPS if self.has_network else STEPS
        return history(self.seed, self.steps, self.every, kinds=kinds)


histories = st.builds(
    History,
    st.integers(0, 1 << 32),
    st.integers(0, 250),
    st.sampled_from([5, 15, 40]),
    st.booleans(),
)
policies = st.builds(
    compaction.RetentionPolicy,
    keep_last=st.integers(1, 3),
    keep_every=st.none() | st.integers(1, 90),
    keep_within_seconds=st.none() | st.just(0.01),
)
