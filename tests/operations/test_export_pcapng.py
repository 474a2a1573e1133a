"""The traffic of sockets as packets: read back by a plain reader, and by tshark where it exists."""

from __future__ import annotations

import json
import shutil
import subprocess
from io import BytesIO
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from journal import Event
from journal.errors import OptionError
from journal.events import descriptors, inputs, sockets
from journal.events.inputs import HostCall
from journal.events.sockets import Shutdown, SocketType
from journal.events.wire_types import SocketAddress
from journal.export import Secret, export_pcapng
from journal.wasi_abi import Errno
from tests.support.compaction_histories import START, preamble, write_events
from tests.support.network_histories import address_value
from tests.support.plain_pcapng import (
    ACK,
    FIN,
    RST,
    SYN,
    UDP,
    Packet,
    follow_streams,
    read_packets,
)
from tests.support.sample_events import host_result
from tests.support.server_events import (
    ANSWER,
    HERE,
    HERE_6,
    REQUEST,
    SESSION,
    THERE,
    THERE_6,
    accept,
    close,
    connect,
    listen,
    open_socket,
    receive,
    send,
)

PSH = 8
HANDSHAKE = [SYN, SYN | ACK, ACK]


def export(path: Path, *events: Event, redact: tuple[Secret, ...] = ()) -> bytes:
    """Return the pcapng file of a journal."""
    write_events(path, [*preamble(), *events])
    out = BytesIO()
    found = export_pcapng(path, out, redact=redact)
    packets = read_packets(out.getvalue())
    assert found.packets == len(packets)
    assert found.connections == len(follow_streams(packets))
    return out.getvalue()


def packets_of(tmp_path: Path, *events: Event, redact: tuple[Secret, ...] = ()) -> list[Packet]:
    return read_packets(export(tmp_path / "journal", *events, redact=redact))


@pytest.mark.parametrize(
    ("here", "there"), [(HERE, THERE), (HERE_6, THERE_6)], ids=["IPv4", "IPv6"]
)
def test_an_accepted_connection_is_a_conversation_with_both_directions(
    tmp_path: Path, here: SocketAddress, there: SocketAddress
) -> None:
    events = [
        *listen(here),
        *accept(here, there),
        receive(REQUEST[:5]),
        receive(b"", Errno.AGAIN),
        receive(REQUEST[5:], flags=inputs.PEEKED),
        receive(REQUEST[5:]),
        *send(ANSWER, count=4),
        *send(ANSWER[4:], errno=Errno.AGAIN),
        *send(ANSWER[4:]),
        receive(b""),
        close(6),
    ]
    packets = packets_of(tmp_path, *events)
    (stream,) = follow_streams(packets)
    assert stream.client == (str(there.address), there.port)
    assert stream.server == (str(here.address), here.port)
    assert (stream.sent, stream.received) == (REQUEST, ANSWER)
    data, end = PSH | ACK, [FIN | ACK, ACK]
    assert stream.flags == [*HANDSHAKE, data, data, data, data, *end, *end]
    seq = len(preamble()) + events.index(accept(here, there)[1])
    assert (packets[0].comment, packets[0].time) == (f"event {seq}", START + seq)


def test_a_requested_connection_begins_with_its_request(tmp_path: Path) -> None:
    outcome = connect()[1:]
    later = [*open_socket(), *connect(Errno.INPROGRESS), SESSION, *outcome, *send(b"abc", fd=5)]
    for events in ([*open_socket(), *connect(), *send(b"abc", fd=5)], later):
        (stream,) = follow_streams(packets_of(tmp_path, *events))
        assert stream.client == (str(THERE.address), THERE.port)
        assert (stream.flags, stream.sent) == ([*HANDSHAKE, PSH | ACK], b"abc")
        (tmp_path / "journal").unlink()
    packets = packets_of(
        tmp_path,
        *open_socket(),
        *connect(Errno.INPROGRESS),
        host_result(HostCall.CONNECT, 5, b"", Errno.CONNREFUSED),
    )
    assert [packet.flags for packet in packets] == [SYN, RST | ACK]


def test_a_connection_that_the_policy_refused_has_no_packets(tmp_path: Path) -> None:
    request = sockets.SocketConnect(fd=5, addr=HERE)
    refused = host_result(HostCall.CONNECT, 5, b"", Errno.ACCES)
    assert packets_of(tmp_path, *open_socket(), request, refused) == []


def test_a_lost_connection_is_reset_once(tmp_path: Path) -> None:
    lost = [receive(b"", Errno.CONNRESET), receive(b""), close(6)]
    (stream,) = follow_streams(packets_of(tmp_path, *listen(), *accept(), *lost))
    assert stream.flags == [*HANDSHAKE, RST | ACK]
    (tmp_path / "journal").unlink()
    (stream,) = follow_streams(packets_of(tmp_path, *listen(), *accept(), SESSION, *lost))
    assert stream.flags == [*HANDSHAKE, RST | ACK], "the resume ended it"


def test_ports_that_are_used_again_begin_another_conversation(tmp_path: Path) -> None:
    events = [*listen(), *accept(), *send(b"one"), close(6), *accept(), *send(b"two")]
    streams = follow_streams(packets_of(tmp_path, *events))
    assert [stream.received for stream in streams] == [b"one", b"two"]


def test_both_ends_in_the_guest_make_one_conversation(tmp_path: Path) -> None:
    client = [
        *open_socket(7),
        sockets.SocketConnect(fd=7, addr=HERE),
        host_result(HostCall.CONNECT, 7, address_value(THERE, HERE)),
        sockets.SocketConnected(fd=7, local_addr=THERE, peer_addr=HERE),
    ]
    talk = [
        *send(b"question", fd=7),
        *accept(),
        receive(b"question"),
        *send(b"answer"),
        receive(b"answer", fd=7),
        sockets.SocketShutdown(fd=7, how=Shutdown.WRITE),
        host_result(HostCall.SHUTDOWN, 7),
        receive(b""),
        close(6),
        close(7),
    ]
    (stream,) = follow_streams(packets_of(tmp_path, *listen(), *client, *talk))
    assert (stream.sent, stream.received) == (b"question", b"answer")
    assert stream.flags.count(FIN | ACK) == 2


def test_duplicates_of_a_socket_are_one_end(tmp_path: Path) -> None:
    copied = descriptors.DuplicateFileDescriptor(original_fd=6, copied_fd=7)
    moved = descriptors.RenumberFileDescriptor(old_fd=7, new_fd=9)
    events = [*accept(), copied, close(6), moved, *send(b"abc", fd=9), close(9)]
    (stream,) = follow_streams(packets_of(tmp_path, *listen(), *events))
    assert (stream.received, stream.flags[-2:]) == (b"abc", [FIN | ACK, ACK])


def test_long_sends_are_split_and_bytes_of_files_leave_a_gap(tmp_path: Path) -> None:
    data = bytes(range(256)) * 400
    file = sockets.SocketSendFile(socket_fd=6, file_fd=3, offset=0, count=1000)
    sent = [file, host_result(HostCall.SEND, 6, (600).to_bytes(4, "little")), close(6)]
    (stream,) = follow_streams(packets_of(tmp_path, *listen(), *accept(), *send(data)))
    assert stream.received == data
    path, out = tmp_path / "with a file", BytesIO()
    write_events(path, [*preamble(), *listen(), *accept(), *send(data), *sent])
    export_pcapng(path, out)
    *_, last, end, _ = read_packets(out.getvalue())
    assert last.data == data[-len(last.data) :]
    assert end.seq == last.seq + len(last.data) + 600


def test_datagrams_have_the_addresses_of_both_ends(tmp_path: Path) -> None:
    there = SocketAddress(IPv4Address("198.51.100.9"), 53)
    sending = sockets.SocketSendTo(fd=5, flags=0, addr=there, data=b"question")
    events = [
        *open_socket(ty=SocketType.DGRAM),
        sending,
        host_result(HostCall.SEND, 5, b"\x08\0\0\0"),
        host_result(HostCall.ADDRESS, 5, address_value(HERE)),
        inputs.BytesReceived(fd=5, errno=0, flags=0, sender=there, data=b"answer"),
        inputs.BytesReceived(fd=5, errno=0, flags=0, sender=there, data=b""),
    ]
    far, near = (str(there.address), there.port), (str(HERE.address), HERE.port)
    found = [packet[2:5] + packet[-1:] for packet in packets_of(tmp_path, *events)]
    assert found == [
        (UDP, ("0.0.0.0", 0), far, b"question"),
        (UDP, far, near, b"answer"),
        (UDP, far, near, b""),
    ]


def test_contents_and_addresses_are_redacted(tmp_path: Path) -> None:
    events = [*listen(), *accept(), receive(REQUEST), *send(ANSWER), close(6)]
    secrets = (Secret.INPUT, Secret.OUTPUT, Secret.ADDRESSES)
    (stream,) = follow_streams(packets_of(tmp_path, *events, redact=secrets))
    assert (len(stream.sent), len(stream.received)) == (len(REQUEST), len(ANSWER))
    assert (stream.sent, stream.received) != (REQUEST, ANSWER)
    assert {stream.client[0][:3], stream.server[0][:3]} == {"10."}
    assert (stream.client[1], stream.server[1]) == (THERE.port, HERE.port)
    (tmp_path / "journal").unlink()
    (stream,) = follow_streams(packets_of(tmp_path, *events, redact=(Secret.INPUT,)))
    assert stream.received == ANSWER
    assert stream.server == (str(HERE.address), HERE.port)


def test_a_journal_without_sockets_has_no_packets(tmp_path: Path) -> None:
    assert packets_of(tmp_path) == []
    with pytest.raises(OptionError):
        export_pcapng(tmp_path / "journal", "not a file")  # type: ignore[arg-type]


@pytest.mark.deep
@pytest.mark.skipif(shutil.which("tshark") is None, reason="tshark is not installed")
def test_tshark_reads_the_file_without_complaints(tmp_path: Path) -> None:
    first = [*listen(), *accept(), receive(REQUEST), *send(ANSWER), receive(b""), close(6)]
    second = [*accept(HERE_6, THERE_6), *send(b"six"), receive(b"", Errno.CONNRESET), close(6)]
    datagram = [
        *open_socket(8, SocketType.DGRAM),
        sockets.SocketSendTo(fd=8, flags=0, addr=THERE, data=b"datagram"),
        host_result(HostCall.SEND, 8, b"\x08\0\0\0"),
    ]
    path = tmp_path / "traffic.pcapng"
    path.write_bytes(export(tmp_path / "journal", *first, *second, *datagram))
    strict = (
        "-o",
        "tcp.check_checksum:TRUE",
        "-o",
        "ip.check_checksum:TRUE",
        "-o",
        "udp.check_checksum:TRUE",
    )

    def tshark(*arguments: str) -> str:
        command = ["tshark", "-r", str(path), *strict, *arguments]
        return subprocess.run(command, check=True, capture_output=True, timeout=120).stdout.decode()

    packets = json.loads(tshark("-T", "json"))
    layers = [packet["_source"]["layers"] for packet in packets]
    assert len(packets) == len(read_packets(path.read_bytes()))
    assert {one["tcp"]["tcp.checksum.status"] for one in layers if "tcp" in one} == {"1"}
    problems = "_ws.expert.severity >= 6291456 or _ws.malformed or tcp.analysis.flags"
    assert tshark("-Y", f"({problems}) and not tcp.flags.reset == 1") == ""
    followed = tshark("-q", "-z", "follow,tcp,raw,0")
    hexes = [line.strip() for line in followed.splitlines()]
    assert REQUEST.hex() in hexes
    assert ANSWER.hex() in hexes
