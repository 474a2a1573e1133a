"""A plain reader of pcapng files, and of the TCP and UDP packets in them.

It knows nothing of the writer: it checks every size and every checksum by summing words.
"""

from __future__ import annotations

from ipaddress import ip_address
from typing import NamedTuple

TCP, UDP = 6, 17
FIN, SYN, RST, ACK = 1, 2, 4, 16

End = tuple[str, int]


class Packet(NamedTuple):
    """A packet. ``seq`` and ``ack`` are 0 for UDP."""

    time: int
    comment: str
    protocol: int
    source: End
    target: End
    flags: int
    seq: int
    ack: int
    data: bytes


def read_blocks(data: bytes) -> list[tuple[int, bytes]]:
    """Return the type and the body of each block."""
    blocks, at = [], 0
    while at < len(data):
        kind, size = (int.from_bytes(data[at + n : at + n + 4], "little") for n in (0, 4))
        assert size % 4 == 0
        assert int.from_bytes(data[at + size - 4 : at + size], "little") == size
        blocks.append((kind, data[at + 8 : at + size - 4]))
        at += size
    assert at == len(data)
    return blocks


def read_options(data: bytes) -> dict[int, bytes]:
    """Return the options of a block by code."""
    options, at = {}, 0
    while at < len(data):
        code, size = (int.from_bytes(data[at + n : at + n + 2], "little") for n in (0, 2))
        at += 4
        if code == 0:
            break
        options[code] = data[at : at + size]
        at += size + -size % 4
    assert at == len(data)
    return options


def read_packets(data: bytes) -> list[Packet]:
    """Return the packets of a file with one section and one interface of link type raw IP."""
    section, interface, *rest = read_blocks(data)
    assert section[0] == 0x0A0D0D0A
    assert section[1][:8] == bytes.fromhex("4d3c2b1a01000000")
    assert read_options(section[1][16:])[4].startswith(b"wasm-journal ")
    assert interface[0] == 1
    assert int.from_bytes(interface[1][:2], "little") == 101
    assert read_options(interface[1][8:]) == {9: b"\6"}
    size_max = int.from_bytes(interface[1][4:8], "little")
    return [read_packet(kind, body, size_max) for kind, body in rest]


def read_packet(kind: int, body: bytes, size_max: int) -> Packet:
    """Return the packet of an Enhanced Packet Block."""
    number, high, low, captured, original = (
        int.from_bytes(body[at : at + 4], "little") for at in range(0, 20, 4)
    )
    assert (kind, number, captured) == (6, 0, original)
    assert captured <= size_max
    packet, options = body[20 : 20 + captured], body[20 + captured + -captured % 4 :]
    comment = read_options(options)[1].decode()
    if packet[0] >> 4 == 4:
        assert packet[0] == 0x45
        assert int.from_bytes(packet[2:4], "big") == len(packet)
        assert sum_words(packet[:20]) == 0xFFFF
        protocol, names, payload = packet[9], (packet[12:16], packet[16:20]), packet[20:]
        pseudo = packet[12:20] + bytes([0, protocol]) + len(payload).to_bytes(2, "big")
    else:
        assert packet[0] >> 4 == 6
        protocol, names, payload = packet[6], (packet[8:24], packet[24:40]), packet[40:]
        assert int.from_bytes(packet[4:6], "big") == len(payload)
        pseudo = packet[8:40] + len(payload).to_bytes(4, "big") + bytes([0, 0, 0, protocol])
    assert sum_words(pseudo + payload) == 0xFFFF
    ports = (int.from_bytes(payload[at : at + 2], "big") for at in (0, 2))
    source, target = zip([str(ip_address(name)) for name in names], ports, strict=True)
    time = high << 32 | low
    if protocol == UDP:
        assert int.from_bytes(payload[4:6], "big") == len(payload)
        return Packet(time, comment, UDP, source, target, 0, 0, 0, payload[8:])
    assert (protocol, payload[12]) == (TCP, 0x50)
    seq, ack = (int.from_bytes(payload[at : at + 4], "big") for at in (4, 8))
    return Packet(time, comment, TCP, source, target, payload[13], seq, ack, payload[20:])


def sum_words(data: bytes) -> int:
    """Return the sum in ones' complement of the words of ``data``: 0xFFFF for right bytes."""
    data += bytes(len(data) % 2)
    total = 0
    for at in range(0, len(data), 2):
        total += int.from_bytes(data[at : at + 2], "big")
        total = (total & 0xFFFF) + (total >> 16)
    return total


class Stream(NamedTuple):
    """A TCP connection: its ends, the client first, and the bytes of each direction."""

    client: End
    server: End
    sent: bytes
    received: bytes
    flags: list[int]


def follow_streams(packets: list[Packet]) -> list[Stream]:
    """Return the connections, after a check of each sequence number."""
    current: dict[frozenset[End], list[Packet]] = {}
    found: list[list[Packet]] = []
    for packet in packets:
        if packet.protocol != TCP:
            continue
        key = frozenset((packet.source, packet.target))
        if packet.flags & (SYN | ACK) == SYN:
            current[key] = []
            found.append(current[key])
        current[key].append(packet)
    return [check_stream(stream) for stream in found]


def check_stream(packets: list[Packet]) -> Stream:
    """Return a connection, after a check of its handshake and its numbers."""
    client, server = packets[0].source, packets[0].target
    nexts: dict[End, int] = {}
    data = {client: b"", server: b""}
    for packet in packets:
        expected = nexts.setdefault(packet.source, packet.seq)
        assert packet.seq == expected, "a segment follows the one before"
        if packet.flags & ACK:
            assert packet.ack == nexts[packet.target]
        size = len(packet.data) + bool(packet.flags & SYN) + bool(packet.flags & FIN)
        nexts[packet.source] = (expected + size) & 0xFFFFFFFF
        data[packet.source] += packet.data
    flags = [packet.flags for packet in packets]
    return Stream(client, server, data[client], data[server], flags)
