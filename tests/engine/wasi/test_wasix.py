"""First socket functions of WASIX: listening, permissions, replay, and resume."""

from __future__ import annotations

import socket
import struct
import subprocess
from collections.abc import Iterator
from functools import partial
from ipaddress import ip_address
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import journal
from journal.engine import ALL_NETWORK, NO_NETWORK
from journal.engine.tape import Tape
from journal.engine.wasi.descriptors import DESCRIPTORS_MAX, Descriptors
from journal.engine.wasi.network.guest_network import GuestNetwork
from journal.engine.wasi.network.socket import Socket
from journal.events.inputs import HostCall, HostResult, StreamRead
from journal.events.sockets import AddressFamily, SocketBind, SocketListen, SocketOpen, SocketType
from journal.events.streams import StreamWrite
from journal.events.wire_types import SocketAddress
from journal.replay import ModelHost, play
from journal.replay.state import descriptor_table as replayed
from journal.wasi_abi import Errno, WasiError
from tests.support.deadlines import DEADLINE_SECONDS, wait_until
from tests.support.guest_runs import run_limited_tool
from tests.support.killed_runs import CACHE_HOME, JOURNALTOOL
from tests.support.programs import ROOT
from tests.support.remote_guest import (
    ANSWER_SIZE,
    CALLS,
    DATA,
    DATA_SIZE,
    END,
    MEMORY_SIZE,
    REMOTE,
    Answer,
    Remote,
    Session,
    encode_order,
    parse_answer,
)
from tests.support.rewrites import (
    alter_event,
    events_of,
    frames_of,
    keep_first,
    replace_event,
    rewrite,
)
from tests.support.wasix_sockets import (
    DGRAM,
    INET4,
    INET6,
    RAW,
    STREAM,
    UNIX,
    answers_in,
    expect_note,
    inet4,
    is_reached,
    listen,
    open_socket,
    port_of,
    read_answers,
    resume_remote,
)
from tests.support.wat import module

TCP, UDP = 6, 17
FIRST = 4  # After the standard streams and the memory root.
ERRNOS = {int(errno) for errno in Errno}


def inet6(port: int, address: str = "::1", scope: int = 0) -> bytes:
    octets = ip_address(address).packed
    return struct.pack("<BxH16s4H", INET6, port, octets, 0, 0, scope >> 16, scope & 0xFFFF)


@pytest.fixture
def guest(tmp_path: Path, cache_dir: Path) -> Iterator[Remote]:
    """Run a guest that may use sockets."""
    with journal.record(REMOTE, tmp_path / "j", network=ALL_NETWORK, cache=cache_dir) as recorder:
        yield Remote(recorder)


# -- results of calls ---------------------------------------------------------------------------


def test_a_guest_that_listens_can_be_reached(guest: Remote) -> None:
    fd = open_socket(guest)
    assert fd == FIRST
    assert guest("sock_bind", fd, DATA, data=inet4(0)).errno == 0
    port = port_of(guest, fd)
    assert port, "port 0 is a port that was free"
    assert not is_reached(port)
    assert guest("sock_listen", fd, 5).errno == 0
    assert is_reached(port)
    assert guest("fd_close", fd).errno == 0
    assert not is_reached(port)


def test_a_guest_is_told_the_address_that_it_asked_for(guest: Remote) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    fd = open_socket(guest, protocol=TCP)
    assert guest("sock_addr_local", fd, DATA).data[:8] == inet4(0, "0.0.0.0")
    assert guest("sock_bind", fd, DATA, data=inet4(port)).errno == 0
    assert guest("sock_addr_local", fd, DATA).data[:8] == inet4(port)


def test_a_socket_that_listens_without_an_address_gets_one(guest: Remote) -> None:
    fd = open_socket(guest)
    assert guest("sock_listen", fd, 0xFFFFFFFF).errno == 0
    assert is_reached(port_of(guest, fd))


def test_sockets_of_version_6_have_addresses_of_both_sizes(guest: Remote) -> None:
    if not socket.has_ipv6 or not Path("/proc/net/if_inet6").exists():
        pytest.skip("this machine has no IPv6")
    fd = open_socket(guest, INET6)
    assert guest("sock_bind", fd, DATA, data=inet6(0)).errno == 0
    assert guest("sock_listen", fd, 1).errno == 0
    answer = guest("sock_addr_local", fd, DATA)
    assert answer.data[:28] == inet6(answer.port)
    assert is_reached(port_of(guest, fd), "::1")
    # An older program has other data after an address: flow and scope are 0 then.
    older = open_socket(guest, INET6)
    assert guest("sock_bind", older, DATA, data=inet6(0)[:20] + b"\x01" * 108).errno == 0


def test_what_cannot_be_made_is_refused(guest: Remote) -> None:
    refused = {
        (UNIX, RAW, 0): Errno.NOTSUP,
        (UNIX, STREAM, TCP): Errno.PROTONOSUPPORT,
        (0, STREAM, 0): Errno.AFNOSUPPORT,
        (4, STREAM, 0): Errno.INVAL,
        (INET4, 0, 0): Errno.NOTSUP,
        (INET4, RAW, 0): Errno.NOTSUP,
        (INET4, 5, 0): Errno.INVAL,
        (INET4, STREAM, UDP): Errno.PROTONOSUPPORT,
        (INET4, DGRAM, TCP): Errno.PROTONOSUPPORT,
        (INET4, STREAM, 1 << 16): Errno.INVAL,
    }
    given = {kind: guest("sock_open", *kind, DATA).errno for kind in refused}
    assert given == refused
    assert open_socket(guest, INET4, DGRAM, UDP) == FIRST


def test_addresses_are_checked(guest: Remote) -> None:
    fd = open_socket(guest)
    assert guest("sock_bind", fd, DATA, data=b"\x09").errno == Errno.INVAL
    assert guest("sock_bind", fd, DATA, data=bytes([UNIX])).errno == Errno.AFNOSUPPORT
    assert guest("sock_bind", fd, DATA, data=inet6(0)).errno == Errno.AFNOSUPPORT
    assert guest("sock_bind", 77, DATA, data=inet4(0)).errno == Errno.BADF
    assert guest("sock_bind", 1, DATA, data=inet4(0)).errno == Errno.NOTSOCK
    elsewhere = inet4(0, "192.0.2.1")  # An address that no machine has.
    assert guest("sock_bind", fd, DATA, data=elsewhere).errno == Errno.ADDRNOTAVAIL
    assert guest("sock_bind", fd, DATA, data=inet4(0)).errno == 0
    assert guest("sock_bind", fd, DATA, data=inet4(0)).errno == Errno.INVAL
    six = open_socket(guest, INET6)
    flow = struct.pack("<BxH16s4H", INET6, 0, ip_address("::1").packed, 0xFFFF, 0, 0, 0)
    assert guest("sock_bind", six, DATA, data=flow).errno == Errno.INVAL


def test_a_port_that_is_taken_is_refused(guest: Remote) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        taken = inet4(server.getsockname()[1])
        assert guest("sock_bind", open_socket(guest), DATA, data=taken).errno == Errno.ADDRINUSE


def test_a_socket_is_a_descriptor(guest: Remote) -> None:
    stream, datagrams = open_socket(guest), open_socket(guest, kind=DGRAM)
    assert guest("fd_fdstat_get", stream, DATA).data[0] == 6
    assert guest("fd_fdstat_get", datagrams, DATA).data[0] == 5
    assert guest("fd_filestat_get", stream, DATA).data[16] == 6
    assert guest("fd_fdstat_set_flags", stream, 4).errno == 0
    assert guest("fd_fdstat_get", stream, DATA).data[2] == 4
    assert guest("fd_tell", stream, DATA).errno == Errno.SPIPE
    assert guest("fd_read", stream, 300, 2, 340).errno == Errno.NOTCONN
    assert guest("fd_write", stream, 316, 2, 340).errno == Errno.NOTCONN
    assert guest("path_open", stream, 0, DATA, 1, 0, 0, 0, 0, 340).errno == Errno.NOTDIR
    assert guest("fd_close", stream).errno == 0
    assert guest("sock_listen", stream, 1).errno == Errno.BADF


def test_nothing_passes_over_a_socket_that_is_not_connected(guest: Remote) -> None:
    stream, datagrams = open_socket(guest), open_socket(guest, kind=DGRAM)
    assert guest("sock_accept", stream, 0, DATA).errno == Errno.INVAL
    assert guest("sock_listen", stream, 1).errno == 0
    assert guest("sock_accept", datagrams, 0, DATA).errno == Errno.NOTSUP
    assert guest("sock_listen", datagrams, 1).errno == Errno.NOTSUP
    for call in ("sock_recv", "sock_send", "sock_shutdown"):
        how = (3,) if call == "sock_shutdown" else ()
        assert guest(call, stream, *how).errno == Errno.NOTCONN
        assert guest(call, 0, *how).errno == Errno.NOTSOCK
        assert guest(call, 99, *how).errno == Errno.BADF


def test_a_socket_that_gets_the_number_of_another_closes_that_one(guest: Remote) -> None:
    (one, port), (other, gone) = listen(guest), listen(guest)
    assert guest("fd_renumber", one, other).errno == 0
    assert is_reached(port)
    assert not is_reached(gone)
    assert port_of(guest, other) == port
    guest.end()
    assert not is_reached(port), "what has ended does not listen"


def test_a_guest_has_no_more_descriptors_than_there_are() -> None:
    table = Descriptors()
    one = Socket(AddressFamily.INET4, SocketType.STREAM, 0)
    table.used = dict.fromkeys(range(DESCRIPTORS_MAX), one)
    with pytest.raises(WasiError) as refused:
        GuestNetwork(Tape(_Nowhere()), table, policy=ALL_NETWORK).open(INET4, STREAM, 0)
    assert refused.value.errno == Errno.MFILE


class _Nowhere:
    time = 0

    def append_frame(self, tag: int, payload: bytes) -> int:
        raise AssertionError("nothing was done")


# -- imports ------------------------------------------------------------------------------------


def import_module(name: str, signature: str) -> bytes:
    return module(f"""(module (import "wasix_32v1" "{name}" (func {signature}))
        (memory (export "memory") 1) (func (export "_start")))""")


@pytest.mark.parametrize(
    ("name", "signature"),
    [
        ("thread_spawn_v2", "(param i32 i32) (result i32)"),
        ("sock_open", "(param i32) (result i32)"),
        ("args_got", "(param i32 i32) (result i32)"),
    ],
)
def test_a_function_of_wasix_that_is_not_there_is_refused_by_name(
    name: str, signature: str, tmp_path: Path, cache_dir: Path
) -> None:
    with pytest.raises(journal.ModuleRefused, match=f"unknown imports: wasix_32v1.{name}"):
        journal.record(import_module(name, signature), tmp_path / "j", cache=cache_dir)


def test_asking_for_a_snapshot_leaves_no_event_of_its_own(guest: Remote) -> None:
    assert guest("proc_snapshot").errno == 0
    guest.end()
    kinds = [type(event) for event in events_of(guest.recorder.path)]
    first = kinds.index(StreamRead)
    assert set(kinds[first : kinds.index(StreamRead, first + 1)]) <= {StreamRead, StreamWrite}


# -- permission ---------------------------------------------------------------------------------


def test_a_guest_without_permission_is_refused_and_a_replay_with_it_too(
    tmp_path: Path, cache_dir: Path
) -> None:
    path = tmp_path / "j"
    with journal.record(REMOTE, path, cache=cache_dir) as recorder:
        assert Remote(recorder)("sock_open", INET4, STREAM, 0, DATA).errno == Errno.ACCES
    answers = [event for event in events_of(path) if isinstance(event, HostResult)]
    assert answers == [HostResult(call=HostCall.SOCKET, fd=FIRST, errno=Errno.ACCES, value=b"")]
    with journal.resume(path, network=ALL_NETWORK, cache=cache_dir) as recorder:
        wait_until(lambda: len(recorder.stdout) >= ANSWER_SIZE)
        assert parse_answer(recorder.stdout).errno == Errno.ACCES
        assert open_socket(Remote(recorder)) == FIRST


def test_the_command_allows_sockets_where_it_is_told_to(tmp_path: Path) -> None:
    (tmp_path / "remote.wasm").write_bytes(REMOTE)
    for option, errno in (((), Errno.ACCES), (("--net", "all"), 0)):
        done = subprocess.run(
            [*JOURNALTOOL, "run", "--force", "--quiet", *option, "remote.wasm"],
            cwd=tmp_path,
            env={"XDG_CACHE_HOME": str(CACHE_HOME), "PYTHONPATH": f"{ROOT}:{ROOT / 'cli'}"},
            input=encode_order("sock_open", INET4, STREAM, 0, DATA) + END,
            capture_output=True,
            timeout=DEADLINE_SECONDS,
            check=True,
        )
        assert parse_answer(done.stdout).errno == errno
    assert (
        run_limited_tool("resume", "--net", "all", "remote.journal", folder=tmp_path).returncode
        == 0
    )


def test_a_guest_resumed_without_permission_is_told_at_its_next_call(
    tmp_path: Path, cache_dir: Path
) -> None:
    path = tmp_path / "j"
    with journal.record(REMOTE, path, network=ALL_NETWORK, cache=cache_dir) as recorder:
        fd, port = listen(Remote(recorder))
    lost = f"socket {FIRST} at 127.0.0.1:{port} .* no network now"
    with (
        expect_note(lost),
        journal.resume(path, network=NO_NETWORK, cache=cache_dir) as recorder,
    ):
        again = resume_remote(recorder)
        assert again("sock_listen", fd, 5).errno == Errno.ACCES
        assert port_of(again, fd) == port, "what it was told stays true"
        assert not is_reached(port)


# -- replay and resume --------------------------------------------------------------------------


def test_a_replay_touches_no_network(
    tmp_path: Path, cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "j"
    with journal.record(REMOTE, path, network=ALL_NETWORK, cache=cache_dir) as recorder:
        guest = Remote(recorder)
        listen(guest)
        open_socket(guest, kind=DGRAM)
        guest.end()
        printed = recorder.stdout

    def unheard_of(*_: object) -> None:
        raise AssertionError("a replay made a socket")

    monkeypatch.setattr(socket, "socket", unheard_of)
    for network in (NO_NETWORK, ALL_NETWORK):
        with journal.resume(path, network=network, cache=cache_dir) as recorder:
            assert recorder.files == {}  # Reading the files replays the journal.
            assert recorder.stdout == printed


def test_a_guest_that_was_killed_listens_again_at_its_addresses(
    tmp_path: Path, cache_dir: Path
) -> None:
    path = tmp_path / "j"
    with Session("record", path, cache_dir) as first:
        (one, port), (_, other) = listen(first), listen(first)
        unbound = open_socket(first)
        assert first("sock_listen", unbound, 3).errno == 0
        anywhere = port_of(first, unbound)
        open_socket(first)
        # The connection occupies the port for a while.
        with socket.create_connection(("127.0.0.1", port)):
            first.kill()
    assert not is_reached(port)
    for _ in range(2):
        with Session("resume", path, cache_dir) as again:
            assert port_of(again, one) == port
            assert is_reached(port)
            assert is_reached(other)
            assert is_reached(anywhere)
            assert open_socket(again) > unbound + 1
            again.kill()


def test_a_snapshot_brings_sockets_and_the_terminal_back(tmp_path: Path, cache_dir: Path) -> None:
    path, tty = tmp_path / "j", struct.pack("<4I6B2x", 99, 44, 0, 0, *[0] * 6)
    snapshots = journal.engine.SnapshotOptions(on=frozenset({journal.snapshots.Trigger.EXPLICIT}))
    with journal.record(
        REMOTE, path, network=ALL_NETWORK, snapshots=snapshots, cache=cache_dir
    ) as recorder:
        guest = Remote(recorder)
        fd, port = listen(guest)
        assert guest("sock_open", UNIX, RAW, 0, DATA).errno == Errno.NOTSUP
        assert guest("tty_set", DATA, data=tty).errno == 0
        assert guest("proc_snapshot").errno == 0
    with journal.resume(path, network=ALL_NETWORK, cache=cache_dir) as recorder:
        again = resume_remote(recorder)
        assert is_reached(port)
        assert port_of(again, fd) == port
        assert again("tty_get", DATA).data[:24] == tty
        again.end()


def test_every_cut_of_a_journal_with_sockets_goes_on_to_the_same_end(
    tmp_path: Path, cache_dir: Path
) -> None:
    whole = tmp_path / "whole"
    with journal.record(REMOTE, whole, network=ALL_NETWORK, cache=cache_dir) as recorder:
        listen(Remote(recorder))
    orders = [
        encode_order("sock_open", INET4, STREAM, 0, DATA),
        encode_order("sock_bind", FIRST, DATA, data=inet4(0)),
        encode_order("sock_listen", FIRST, 5),
        encode_order("sock_addr_local", FIRST, DATA),
    ]
    frames = frames_of(whole)
    first = next(frame.seq for frame in frames if frame.tag == StreamRead.tag)
    results = {e.call: at for at, e in enumerate(events_of(whole)) if isinstance(e, HostResult)}
    was_at = answers_of(whole)[-1].port
    for count in range(first, len(frames) + 1):
        cut = rewrite(whole, tmp_path / f"{count}", keep_first(count))
        heard = sum(frame.tag == StreamRead.tag for frame in frames[:count])
        with journal.resume(cut, network=ALL_NETWORK, cache=cache_dir) as recorder:
            for data in orders[heard:]:
                recorder.feed(data)
            answers = read_answers(recorder, len(orders))
            assert [answer.errno for answer in answers] == [0, 0, 0, 0], f"cut at {count}"
            port = answers[-1].port
            assert port == was_at or count <= results[HostCall.BIND], f"cut at {count}"
            wait_until(partial(is_reached, port))


def answers_of(path: Path) -> list[Answer]:
    """Return the answers of the guest in a journal."""
    events = events_of(path)
    return answers_in(b"".join(event.data for event in events if isinstance(event, StreamWrite)))


def test_a_port_that_is_taken_meanwhile_is_told_and_answered(
    tmp_path: Path, cache_dir: Path
) -> None:
    path = tmp_path / "j"
    with journal.record(REMOTE, path, network=ALL_NETWORK, cache=cache_dir) as recorder:
        fd, port = listen(Remote(recorder))
    with (
        expect_note(f"at 127.0.0.1:{port} .*: Address already in use"),
        socket.create_server(("127.0.0.1", port)) as taken,
        journal.resume(path, network=ALL_NETWORK, cache=cache_dir) as recorder,
    ):
        again = resume_remote(recorder)
        assert again("sock_listen", fd, 5).errno == Errno.ADDRINUSE
        taken.close()
        assert again("sock_listen", fd, 5).errno == 0
        assert is_reached(port)


def record_remote(path: Path, cache: Path) -> Path:
    with journal.record(REMOTE, path, network=ALL_NETWORK, cache=cache) as recorder:
        listen(Remote(recorder))
    return path


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        (SocketOpen, {"ty": SocketType.DGRAM}),
        (SocketBind, {"addr": SocketAddress(ip_address("127.0.0.1"), 1)}),
        (SocketListen, {"backlog": 6}),
    ],
)
def test_a_guest_that_does_something_else_with_a_socket_is_stopped(
    kind: type[journal.Event], changes: dict[str, object], tmp_path: Path, cache_dir: Path
) -> None:
    whole = record_remote(tmp_path / "whole", cache_dir)
    at = next(at for at, event in enumerate(events_of(whole)) if isinstance(event, kind))
    other = alter_event(events_of(whole)[at], **changes)
    target = rewrite(whole, tmp_path / "j", lambda frames: replace_event(frames, at, other))
    with (
        journal.resume(target, network=ALL_NETWORK, cache=cache_dir) as recorder,
        pytest.raises(journal.Divergence) as caught,
    ):
        recorder.wait(DEADLINE_SECONDS)
    assert caught.value.seq == at


NO_ADDRESSES = [
    b"",
    b"\x04",
    b"\xff" * 15,
    b"\x04\x7f\x00\x00\x01" + bytes(11),
    b"\x10" + bytes(26),
]


@pytest.mark.parametrize("call", [HostCall.BIND, HostCall.LISTEN])
@pytest.mark.parametrize("value", NO_ADDRESSES)
def test_an_answer_that_is_no_address_is_refused_in_a_sentence(
    call: HostCall, value: bytes, tmp_path: Path, cache_dir: Path
) -> None:
    whole = record_remote(tmp_path / "whole", cache_dir)
    events = events_of(whole)
    results = {e.call: at for at, e in enumerate(events) if isinstance(e, HostResult)}
    at = results[call]
    other = alter_event(events[at], value=value)
    target = rewrite(whole, tmp_path / "j", lambda frames: replace_event(frames, at, other))
    with (
        journal.resume(target, network=ALL_NETWORK, cache=cache_dir) as recorder,
        pytest.raises(journal.JournalError) as caught,
    ):
        recorder.wait(DEADLINE_SECONDS)
    assert len(str(caught.value).splitlines()) == 1
    if value == NO_ADDRESSES[-1]:
        return  # A valid address, but of another kind of socket.
    with journal.Reader(target) as reader, pytest.raises(journal.JournalError):
        play(reader.frames(), ModelHost())


# -- journals played without a guest ------------------------------------------------------------


def test_a_journal_of_sockets_plays_without_its_guest(guest: Remote) -> None:
    fd, port = listen(guest)
    datagrams = open_socket(guest, kind=DGRAM)
    taken = guest("sock_bind", datagrams, DATA, data=inet4(0, "192.0.2.1"))
    assert taken.errno == Errno.ADDRNOTAVAIL
    guest.recorder.close()
    host = replay_journal(guest.recorder.path)
    listener = host.table.object_of(fd, replayed.SocketState)
    assert listener.bound == SocketBind(fd=fd, addr=SocketAddress(ip_address("127.0.0.1"), port))
    assert listener.listening == SocketListen(fd=fd, backlog=5)
    assert host.table.object_of(datagrams, replayed.SocketState).bound is None


@pytest.mark.parametrize("level", list(journal.engine.RecordingLevel))
def test_a_socket_that_was_refused_is_not_there(
    level: journal.engine.RecordingLevel, tmp_path: Path, cache_dir: Path
) -> None:
    with journal.record(REMOTE, tmp_path / "j", level=level, cache=cache_dir) as recorder:
        guest = Remote(recorder)
        for _ in range(2):
            assert guest("sock_open", INET4, STREAM, 0, DATA).errno == Errno.ACCES
        guest.recorder.stop()
    host = replay_journal(tmp_path / "j")
    assert (FIRST in host.table.entries) is (level is journal.engine.RecordingLevel.STATE), (
        "nobody knows"
    )


def replay_journal(path: Path) -> ModelHost:
    host = ModelHost()
    with journal.Reader(path) as reader:
        play(reader.frames(), host)
    return host


# -- hostile guests -----------------------------------------------------------------------------

ARGUMENTS = st.one_of(
    st.integers(0, 8),
    st.sampled_from([DATA, MEMORY_SIZE - 8, MEMORY_SIZE - 1, 0x7FFFFFFF, 0xFFFFFFFF]),
    st.integers(0, 0xFFFFFFFF),
)
ADDRESSES = st.one_of(
    st.builds(inet4, st.integers(0, 1)),
    st.builds(inet6, st.just(0), st.just("::1"), st.integers(0, 0xFFFFFFFF)),
    st.binary(max_size=DATA_SIZE).map(lambda data: b"\x03" + data[1:]),
)
HOSTILE = sorted({"fd_close", "fd_renumber", *(name for name in CALLS if "sock" in name)})
ORDERS = st.lists(
    st.tuples(st.sampled_from(HOSTILE), st.lists(ARGUMENTS, max_size=6), ADDRESSES), max_size=12
)


@given(orders=ORDERS, allowed=st.booleans())
def test_whatever_a_guest_asks_of_sockets_is_answered_or_its_own_fault(
    orders: list[tuple[str, list[int], bytes]],
    allowed: bool,
    tmp_path_factory: pytest.TempPathFactory,
    cache_dir: Path,
) -> None:
    path = tmp_path_factory.mktemp("hostile") / "j"
    # A call that waits would keep the guest from its end.
    unblock = b"".join(encode_order("fd_fdstat_set_flags", fd, 4) for fd in range(3, 9))
    orders_given = b"".join(
        encode_order(name, *numbers, data=data) + unblock for name, numbers, data in orders
    )
    with journal.record(
        REMOTE,
        path,
        stdin=orders_given + END,
        network=ALL_NETWORK if allowed else NO_NETWORK,
        cache=cache_dir,
    ) as recorder:
        outcome = recorder.wait(DEADLINE_SECONDS)
        assert outcome is not None
        printed = recorder.stdout
    assert {answer.errno for answer in answers_in(printed)} <= ERRNOS
    with journal.resume(path, cache=cache_dir) as again:
        assert again.wait(DEADLINE_SECONDS) == outcome
        assert again.files == {}
        assert again.stdout == printed
    replay_journal(path)
