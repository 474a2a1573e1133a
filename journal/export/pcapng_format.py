"""Blocks of a pcapng file, and packets of IP, TCP and UDP.

See the IETF draft "PCAP Next Generation (pcapng) Capture File Format". The link type is raw IP:
each packet begins with its IPv4 or IPv6 header. Checksums are those of RFC 1071.
"""

import struct
from collections.abc import Sequence
from enum import IntFlag
from typing import NamedTuple

import construct as cs

from journal.events.wire_types import SocketAddress

LINKTYPE_RAW = 101
SEGMENT_SIZE_MAX = 1 << 15
"""Most bytes of a stream in one packet."""
DATAGRAM_SIZE_MAX = 65_507
"""Most bytes in a UDP datagram over IPv4."""
PACKET_SIZE_MAX = (1 << 16) + 40

_SECTION, _INTERFACE, _PACKET = 0x0A0D0D0A, 1, 6
_END, _COMMENT, _APPLICATION, _RESOLUTION = 0, 1, 4, 9
_MICROSECONDS = b"\x06"  # The power of 10 below a second.
_TCP, _UDP = 6, 17
_HOP_LIMIT, _WINDOW = 64, 0xFFFF
_DONT_FRAGMENT = 0x4000
_SEQ_MASK = 0xFFFFFFFF

OPTION = cs.Struct(
    "code" / cs.Int16ul,
    "size" / cs.Rebuild(cs.Int16ul, lambda this: len(this.value)),
    "value" / cs.Aligned(4, cs.Bytes(cs.this.size)),
)
SECTION_HEADER = cs.Struct(
    "magic" / cs.Const(0x1A2B3C4D, cs.Int32ul),
    "major" / cs.Const(1, cs.Int16ul),
    "minor" / cs.Const(0, cs.Int16ul),
    "section_size" / cs.Const(-1, cs.Int64sl),  # Unknown: the section ends with the file.
    "options" / cs.GreedyRange(OPTION),
)
INTERFACE_DESCRIPTION = cs.Struct(
    "link_type" / cs.Const(LINKTYPE_RAW, cs.Int16ul),
    "reserved" / cs.Const(0, cs.Int16ul),
    "packet_size_max" / cs.Const(PACKET_SIZE_MAX, cs.Int32ul),
    "options" / cs.GreedyRange(OPTION),
)
BLOCK = cs.Struct(
    "type" / cs.Int32ul,
    "size" / cs.Rebuild(cs.Int32ul, lambda this: 12 + len(this.body)),
    "body" / cs.Bytes(cs.this.size - 12),
    "size_again" / cs.Rebuild(cs.Int32ul, cs.this.size),
)
# A packet is written for each call of the guest, so its block is packed without construct.
_PACKET_HEAD = struct.Struct("<IIIIIII")  # Type, size, interface, time (two halves), two sizes.
_OPTION_HEAD = struct.Struct("<HH")
_SIZE = struct.Struct("<I")

_IPV4 = struct.Struct("!BBHHHBBH4s4s")
_IPV6 = struct.Struct("!IHBB16s16s")
_TCP_HEADER = struct.Struct("!HHIIBBHHH")
_UDP_HEADER = struct.Struct("!HHHH")
_PSEUDO_4, _PSEUDO_6 = struct.Struct("!4s4sBBH"), struct.Struct("!16s16sIxxxB")


class TcpFlag(IntFlag):
    """Flags of a TCP segment."""

    FIN = 1
    SYN = 2
    RST = 4
    PSH = 8
    ACK = 16


class TcpSegment(NamedTuple):
    """A TCP segment besides its addresses. ``seq`` and ``ack`` are taken modulo 2^32."""

    seq: int
    ack: int
    flags: TcpFlag
    data: bytes = b""


# -- blocks ---------------------------------------------------------------------------------------


def pack_file_header(application: str) -> bytes:
    """Return the section header and the description of the one interface: times are in µs."""
    named = {"code": _APPLICATION, "value": application.encode()}
    resolution = {"code": _RESOLUTION, "value": _MICROSECONDS}
    end = {"code": _END, "value": b""}
    section = SECTION_HEADER.build({"options": [named, end]})
    interface = INTERFACE_DESCRIPTION.build({"options": [resolution, end]})
    blocks = ((_SECTION, section), (_INTERFACE, interface))
    return b"".join(BLOCK.build({"type": type_, "body": body}) for type_, body in blocks)


def pack_packet(packet: bytes, time: int, comment: str) -> bytes:
    """Return the Enhanced Packet Block of a packet; ``time`` is in µs since the epoch."""
    text = comment.encode()
    options = _OPTION_HEAD.pack(_COMMENT, len(text)) + _pad(text) + _OPTION_HEAD.pack(_END, 0)
    size = _PACKET_HEAD.size + len(packet) + -len(packet) % 4 + len(options) + _SIZE.size
    time = max(0, time)
    head = _PACKET_HEAD.pack(
        _PACKET, size, 0, time >> 32 & _SEQ_MASK, time & _SEQ_MASK, len(packet), len(packet)
    )
    return b"".join((head, _pad(packet), options, _SIZE.pack(size)))


def _pad(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)


# -- packets --------------------------------------------------------------------------------------


def pack_tcp(source: SocketAddress, target: SocketAddress, segment: TcpSegment) -> bytes:
    """Return the IP packet of a TCP segment."""
    seq, ack, flags, data = segment
    ack = ack & _SEQ_MASK if flags & TcpFlag.ACK else 0
    header = _TCP_HEADER.pack(
        source.port, target.port, seq & _SEQ_MASK, ack, 5 << 4, flags, _WINDOW, 0, 0
    )
    total = compute_checksum(
        (pack_pseudo_header(source, target, _TCP, len(header + data)), header, data)
    )
    return _pack_ip(source, target, _TCP, header[:16] + total.to_bytes(2, "big") + bytes(2) + data)


def pack_udp(source: SocketAddress, target: SocketAddress, data: bytes) -> bytes:
    """Return the IP packet of a UDP datagram."""
    size = _UDP_HEADER.size + len(data)
    header = _UDP_HEADER.pack(source.port, target.port, size, 0)
    total = compute_checksum((pack_pseudo_header(source, target, _UDP, size), header, data))
    # 0 would mean that there is no checksum.
    return _pack_ip(source, target, _UDP, header[:6] + (total or 0xFFFF).to_bytes(2, "big") + data)


def _pack_ip(source: SocketAddress, target: SocketAddress, protocol: int, payload: bytes) -> bytes:
    if source.address.version == 6:
        flow = source.flow & 0xFFFFF
        addresses = source.address.packed, target.address.packed
        return _IPV6.pack(6 << 28 | flow, len(payload), protocol, _HOP_LIMIT, *addresses) + payload
    fields = (0x45, 0, _IPV4.size + len(payload), 0, _DONT_FRAGMENT, _HOP_LIMIT, protocol)
    addresses = source.address.packed, target.address.packed
    total = compute_checksum((_IPV4.pack(*fields, 0, *addresses),))
    return _IPV4.pack(*fields, total, *addresses) + payload


def pack_pseudo_header(
    source: SocketAddress, target: SocketAddress, protocol: int, size: int
) -> bytes:
    """Return the pseudo header that the checksum of a TCP or UDP packet covers first."""
    addresses = source.address.packed, target.address.packed
    if source.address.version == 6:
        return _PSEUDO_6.pack(*addresses, size, protocol)
    return _PSEUDO_4.pack(*addresses, 0, protocol, size)


def compute_checksum(parts: Sequence[bytes]) -> int:
    """Return the complement of the sum of 16-bit words. All parts but the last have even sizes.

    The sum of words in ones' complement is the whole number modulo 2^16 - 1.
    """
    whole = b"".join(parts)
    number = int.from_bytes(whole + bytes(len(whole) % 2), "big")
    total = number % 0xFFFF
    return ~(total or (0xFFFF if number else 0)) & 0xFFFF
