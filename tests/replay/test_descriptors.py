"""Effects of events on descriptors: files, pipes, sockets, and the network."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address

from journal.events import (
    descriptors,
    ports,
    process,
    sockets,
)
from journal.events.descriptors import EpollEvent, EpollOperation, Whence
from journal.events.inputs import HostCall
from journal.events.paths import FileType
from journal.events.process import RecordingLevel
from journal.events.sockets import AddressFamily, Shutdown, SocketOption, SocketType, TimeType
from journal.events.wire_types import Network, SocketAddress
from journal.replay import ModelHost
from tests.support.sample_events import (
    host_mount,
    host_result,
    memory_mount,
    open_path,
    play_events,
    process_start,
    refusal,
    seek,
    write,
)

HERE = SocketAddress(ip_address("127.0.0.1"), 80)
THERE = SocketAddress(ip_address("10.0.0.1"), 4711)


# -- descriptors --------------------------------------------------------------------------------


def test_the_streams_are_open_from_the_start() -> None:
    assert sorted(ModelHost().descriptors) == [0, 1, 2]


def test_duplicates_share_position_and_flags_until_the_last_is_closed() -> None:
    host = play_events(
        memory_mount(),
        open_path(4, 3, "a", 1),
        descriptors.DuplicateFileDescriptor(original_fd=4, copied_fd=5),
        descriptors.DuplicateFileDescriptorWithFlags(original_fd=5, copied_fd=6, cloexec=True),
        write(5, 0, b"abc"),
        descriptors.FileDescriptorSetFlags(fd=6, flags=1),
        descriptors.FileDescriptorSetFdFlags(fd=5, flags=1),
        descriptors.FileDescriptorSetRights(fd=4, fs_rights_base=1, fs_rights_inheriting=2),
        descriptors.CloseFileDescriptor(fd=4),
        write(6, 3, b"def"),
    )
    fifth, sixth = host.descriptors[5], host.descriptors[6]
    assert fifth.description_id == sixth.description_id
    assert (fifth.position, fifth.flags) == (sixth.position, sixth.flags) == (6, 1)
    assert (fifth.fd_flags, sixth.fd_flags) == (1, 1)
    assert fifth.rights == (66, 0)
    assert host.files == {"/a": b"abcdef"}


def test_renumbering_closes_the_target_descriptor() -> None:
    events = [memory_mount(), open_path(4, 3, "a", 1), open_path(5, 3, "b", 1)]
    host = play_events(
        *events, descriptors.RenumberFileDescriptor(old_fd=5, new_fd=4), write(4, 0, b"x")
    )
    assert sorted(host.descriptors) == [0, 1, 2, 3, 4]
    assert host.files == {"/a": b"", "/b": b"x"}
    same = play_events(*events, descriptors.RenumberFileDescriptor(old_fd=5, new_fd=5))
    assert same.state() == play_events(*events).state()


def test_seek_events_move_the_position() -> None:
    opened = [memory_mount(), open_path(4, 3, "a", 1), write(4, 0, b"abcdef")]
    for whence, offset, position in (
        (Whence.SET, 2, 2),
        (Whence.CURRENT, -1, 5),
        (Whence.END, -2, 4),
        (Whence.CURRENT, -7, None),
        (Whence.UNKNOWN, 0, None),
    ):
        host = play_events(*opened, seek(4, offset, whence))
        assert host.descriptors[4].position == position
    assert (
        play_events(*opened, seek(4, -7, Whence.CURRENT), seek(4, 1, Whence.CURRENT))
        .descriptors[4]
        .position
        is None
    )


def test_an_allocation_extends_a_file_and_never_truncates_it() -> None:
    opened = [memory_mount(), open_path(4, 3, "a", 1), write(4, 0, b"abc")]
    for offset, size, content in ((0, 2, b"abc"), (2, 3, b"abc\0\0")):
        allocated = descriptors.FileDescriptorAllocate(fd=4, offset=offset, len=size)
        assert play_events(*opened, allocated).files == {"/a": content}


def test_an_event_for_another_type_of_descriptor_is_refused() -> None:
    opened = [memory_mount(), open_path(4, 3, "a", 1)]
    assert "descriptor 9 is not open" in refusal(*opened, write(9, 0, b""))
    assert "descriptor 4 is already open" in refusal(*opened, open_path(4, 3, "b", 1))
    assert "descriptor 3 is a directory, not a file" in refusal(*opened, write(3, 0, b""))
    assert "descriptor 4 is a file, not a directory" in refusal(*opened, open_path(5, 4, "b", 1))
    assert "descriptor 4 is a file, not a socket" in refusal(
        *opened, sockets.SocketListen(fd=4, backlog=1)
    )
    advised = descriptors.FileDescriptorAdvise(
        fd=9, offset=0, len=0, advice=descriptors.Advice.NORMAL
    )
    assert "descriptor 9 is not open" in refusal(advised)


def test_pipes_event_counters_and_epolls_are_recorded() -> None:
    watched = EpollEvent(events=1, pointer=0, fd=4, data1=0, data2=0)
    control = descriptors.EpollCtl(epfd=7, op=EpollOperation.ADD, fd=4, event=watched)
    opened = [
        descriptors.CreatePipe(read_fd=4, write_fd=5),
        descriptors.CreateEvent(initial_val=3, flags=1, fd=6),
        descriptors.EpollCreate(fd=7),
        control,
        write(5, 0, b"abc"),
        write(6, 0, bytes(8)),
    ]
    found = play_events(*opened).descriptors
    assert found[4].object == ("pipe", 0, False, 3)
    assert found[5].object == ("pipe", 0, True, 3)
    assert (found[6].object.initial, found[6].object.flags) == (3, 1)
    assert found[7].object.watched == {(4, found[4].description_id): watched}
    removal = descriptors.EpollCtl(epfd=7, op=EpollOperation.DELETE, fd=4, event=None)
    assert play_events(*opened, removal).descriptors[7].object.watched == {}


# -- directories of the former host -------------------------------------------------------------


def test_a_request_to_a_host_directory_takes_effect_with_its_result() -> None:
    requests = [process_start(), host_mount(), open_path(4, 3, "a", 1)]
    assert 4 not in play_events(*requests).descriptors
    assert 4 not in play_events(*requests, host_result(HostCall.OPEN, 3, errno=44)).descriptors
    node = bytes([FileType.REGULAR_FILE]) + bytes(16) + b"a"
    session = process.SessionStart(
        realtime=0, monotonic=0, engine_version="", journal_version="", platform=""
    )
    opened = [*requests, session, host_result(HostCall.OPEN, 3, node)]
    host = play_events(
        *opened, write(4, 10, b"abcdef"), host_result(HostCall.WRITE, 4, b"\4\0\0\0")
    )
    assert host.descriptors[4].object.kind is FileType.REGULAR_FILE
    assert host.descriptors[4].position == 14
    assert host.files == {}
    assert play_events(*opened, write(4, 10, b"abc")).descriptors[4].position == 0
    sized = host_result(HostCall.SIZE, 4, (100).to_bytes(8, "little"))
    host = play_events(*opened, sized, seek(4, -1, Whence.END))
    assert host.descriptors[4].position == 99


def test_without_recorded_results_requests_take_effect_at_once() -> None:
    start = [process_start(RecordingLevel.STATE), host_mount(3), memory_mount(4, "/m")]
    host = play_events(*start, open_path(5, 3, "a", 1), write(5, 0, b"abc"))
    assert host.descriptors[5].position == 3
    host = play_events(*start, open_path(5, 3, "it was not there", 0), open_path(5, 4, "b", 1))
    assert host.files == {"/m/b": b""}


def test_an_invalid_host_result_is_refused() -> None:
    requests = [process_start(), host_mount(), open_path(4, 3, "a", 1)]
    for value in (b"", b"\0", b"\xff" * 17):
        assert "open has no type of file or directory" in refusal(
            *requests, host_result(HostCall.OPEN, 3, value)
        )


# -- sockets and ports --------------------------------------------------------------------------


def socket(fd: int) -> sockets.SocketOpen:
    return sockets.SocketOpen(af=AddressFamily.INET4, ty=SocketType.STREAM, pt=6, fd=fd)


def test_a_socket_has_the_effects_of_its_events() -> None:
    bound = sockets.SocketBind(fd=4, addr=HERE)
    listening = sockets.SocketListen(fd=4, backlog=5)
    accepted = sockets.SocketAccepted(
        listen_fd=4, fd=5, fd_flags=4, non_blocking=True, local_addr=HERE, peer_addr=THERE
    )
    option = sockets.SocketSetOptFlag(fd=5, opt=SocketOption.NO_DELAY, flag=True)
    timeout = sockets.SocketSetOptTime(fd=5, ty=TimeType.READ, time=7)
    host = play_events(
        memory_mount(),
        socket(4),
        bound,
        listening,
        accepted,
        sockets.SocketSetOptFlag(fd=5, opt=SocketOption.NO_DELAY, flag=False),
        option,
        timeout,
        sockets.SocketSend(fd=5, flags=0, data=b"abc"),
        sockets.SocketSendTo(fd=5, flags=0, addr=THERE, data=b"de"),
        sockets.SocketSendFile(socket_fd=5, file_fd=3, offset=0, count=10),
        sockets.SocketShutdown(fd=5, how=Shutdown.BOTH),
    )
    first, second = host.descriptors[4].object, host.descriptors[5].object
    assert (first.created_by, first.bound, first.listening) == (socket(4), bound, listening)
    assert (second.created_by, second.sent, host.descriptors[5].flags) == (accepted, 15, 4)
    assert sorted(second.options.values(), key=repr) == [option, timeout]
    assert second.shut == {Shutdown.READ, Shutdown.WRITE}


def test_a_socket_is_in_its_joined_groups() -> None:
    group, interface = IPv4Address("224.0.0.1"), IPv4Address("10.0.0.2")
    six = IPv6Address("ff02::1")
    joined = [
        socket(4),
        sockets.SocketJoinIpv4Multicast(fd=4, multiaddr=group, iface=interface),
        sockets.SocketJoinIpv6Multicast(fd=4, multiaddr=six, iface=2),
    ]
    leave = sockets.SocketLeaveIpv4Multicast(fd=4, multiaddr=group, iface=interface)
    assert set(play_events(*joined).descriptors[4].object.groups) == {(group, interface), (six, 2)}
    assert set(play_events(*joined, leave).descriptors[4].object.groups) == {(six, 2)}


def test_a_network_has_added_and_not_removed_entries() -> None:
    one, two = (Network(ip_address(f"10.0.{n}.1"), 24) for n in (1, 2))
    routes = [
        ports.PortRouteAdd(cidr=cidr, via_router=one.address, preferred_until=None, expires_at=None)
        for cidr in (one, two)
    ]
    added = [ports.PortAddAddr(cidr=one), ports.PortAddAddr(cidr=two), *routes]
    bridge = ports.PortBridge(security=ports.Security.UNENCRYPTED, network="net", token="secret")
    host = play_events(
        *added,
        ports.PortDelAddr(addr=one.address),
        ports.PortRouteDel(ip=two.address),
        ports.PortGatewaySet(ip=two.address),
        ports.PortDhcpAcquire(),
        bridge,
    )
    network = host.network
    assert set(network.addresses) == {two}
    assert network.routes == {one: routes[0]}
    assert (network.gateway, network.bridge, network.has_requested_dhcp) == (
        two.address,
        bridge,
        True,
    )
    empty = play_events(
        *added, ports.PortAddrClear(), ports.PortRouteClear(), bridge, ports.PortUnbridge()
    )
    assert (empty.network.addresses, empty.network.routes, empty.network.bridge) == ({}, {}, None)
