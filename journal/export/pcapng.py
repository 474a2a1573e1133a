"""Export of the traffic of sockets as a pcapng file, for Wireshark and tshark.

A journal has what the guest sent and received, and no packets. The packets here are made from it: a
handshake for each connection, segments of the bytes with the right numbers, and the end. Both ends
of a connection of the guest with itself become one conversation.
"""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import BinaryIO, NamedTuple

from journal._arguments import check_output, check_path
from journal._version import VERSION
from journal.events.wire_types import Secret, SocketAddress
from journal.export.pcapng_format import (
    DATAGRAM_SIZE_MAX,
    SEGMENT_SIZE_MAX,
    TcpFlag,
    TcpSegment,
    pack_file_header,
    pack_packet,
    pack_tcp,
    pack_udp,
)
from journal.export.redaction import Redaction
from journal.replay.traffic import TrackedSocket, Traffic, TrafficKind, follow_traffic
from journal.rewrite.block_stream import BlockStream
from journal.rewrite.progress import ProgressCallback, check_progress
from journal.wasi_abi import Errno

_FIRST_SEQ_STEP = 0x9E3779B1
"""Difference of the first sequence numbers of two connections, so that they rarely are alike."""
_ON_NETWORK = {Errno.CONNREFUSED, Errno.CONNRESET}
"""Errors of a request that the peer has caused."""

Ends = tuple[SocketAddress, SocketAddress]
"""The sender and the receiver of a packet."""


class ExportPcapngResult(NamedTuple):
    """Result of an export of packets; ``size`` is that of the journal in bytes.

    ``connections`` counts the connections of streams.
    """

    journal_id: bytes
    packets: int
    connections: int
    size: int
    torn_size: int
    redacted: tuple[Secret, ...]


def export_pcapng(
    source: str | os.PathLike[str],
    out: BinaryIO,
    *,
    redact: Iterable[Secret] = (),
    progress: ProgressCallback | None = None,
) -> ExportPcapngResult:
    """Write the traffic of the sockets in ``source`` to ``out`` as a pcapng file.

    With ``redact``, received bytes (INPUT), sent bytes (OUTPUT) and addresses are replaced by
    others of the same size. Damage raises the errors of reading the journal.
    """
    path = check_path("source", source)
    check_output("out", out)
    packets = _PacketMaker(Redaction(redact))
    stream = BlockStream(path, check_progress(progress), "exporting")
    out.write(pack_file_header(f"wasm-journal {VERSION}"))
    count = 0
    for timed in follow_traffic(stream.blocks()):
        for packet in packets.make(timed.traffic):
            out.write(pack_packet(packet, timed.time, f"event {timed.seq}"))
            count += 1
    return ExportPcapngResult(
        stream.journal_id,
        count,
        packets.connection_count,
        stream.size,
        stream.torn_size,
        packets.redaction.secrets,
    )


@dataclass(slots=True)
class _Conversation:
    """A TCP connection: the next sequence number of each end, and the ends that sent FIN."""

    next_seqs: dict[SocketAddress, int]
    ended: set[SocketAddress] = field(default_factory=set)
    is_established: bool = False
    is_over: bool = False

    def make_segment(self, ends: Ends, flags: TcpFlag, data: bytes = b"") -> bytes:
        """Return the next packet from the first of ``ends``."""
        source, target = ends
        seq = self.next_seqs[source]
        packet = pack_tcp(source, target, TcpSegment(seq, self.next_seqs[target], flags, data))
        self.next_seqs[source] += len(data) + bool(flags & (TcpFlag.SYN | TcpFlag.FIN))
        return packet


class _PacketMaker:
    """Maker of the packets of all sockets. Closed connections are forgotten."""

    def __init__(self, redaction: Redaction) -> None:
        self.redaction = redaction
        self.connection_count = 0
        self._conversations: dict[Ends, _Conversation] = {}
        # Connections whose other end belongs to the guest too.
        self._shared: set[Ends] = set()

    def make(self, traffic: Traffic) -> Iterator[bytes]:
        """Yield the packets of what happened to a socket."""
        ends = self._find_ends(traffic)
        if ends is None:
            return
        if traffic.socket.is_datagram:
            yield from self._make_datagrams(traffic, ends)
        elif traffic.kind in _BEGINNINGS:
            yield from self._begin(traffic, ends)
        else:
            yield from self._continue(traffic, ends)

    def _find_ends(self, traffic: Traffic) -> Ends | None:
        """Return the addresses of a socket and its peer; None without two of one family."""
        local, peer = _local_address(traffic.socket, traffic.peer), traffic.peer
        if local is None or peer is None or local.address.version != peer.address.version:
            return None
        if Secret.ADDRESSES in self.redaction.secrets:
            return self.redaction.redact_value(local), self.redaction.redact_value(peer)
        return local, peer

    def _payload(self, data: bytes, secret: Secret) -> bytes:
        if secret not in self.redaction.secrets:
            return data
        return self.redaction.redact(data).make_filler()

    # -- UDP --------------------------------------------------------------------------------------

    def _make_datagrams(self, traffic: Traffic, ends: Ends) -> Iterator[bytes]:
        data = traffic.data[:DATAGRAM_SIZE_MAX]
        if traffic.kind is TrafficKind.SENT:
            yield pack_udp(*ends, self._payload(data, Secret.OUTPUT))
        elif traffic.kind is TrafficKind.RECEIVED:
            yield pack_udp(ends[1], ends[0], self._payload(data, Secret.INPUT))

    # -- TCP --------------------------------------------------------------------------------------

    def _begin(self, traffic: Traffic, ends: Ends) -> Iterator[bytes]:
        """Yield the handshake, or the part of it that is known now."""
        if traffic.kind is TrafficKind.ACCEPTED:
            ends = ends[1], ends[0]  # The peer sends the first segment.
        conversation = self._conversations.get(ends)
        if traffic.kind is TrafficKind.ACCEPTED and conversation is not None:
            self._shared.add(ends)
        elif conversation is None or conversation.is_over:
            conversation = self._add_conversation(ends)
            yield conversation.make_segment(ends, TcpFlag.SYN)
        if traffic.kind is not TrafficKind.REQUESTED and not conversation.is_established:
            conversation.is_established = True
            yield conversation.make_segment((ends[1], ends[0]), TcpFlag.SYN | TcpFlag.ACK)
            yield conversation.make_segment(ends, TcpFlag.ACK)

    def _add_conversation(self, ends: Ends) -> _Conversation:
        first = self.connection_count * _FIRST_SEQ_STEP & 0xFFFFFFFF
        self.connection_count += 1
        conversation = _Conversation({ends[0]: first, ends[1]: first ^ 0x55555555})
        self._conversations[ends] = conversation
        return conversation

    def _continue(self, traffic: Traffic, ends: Ends) -> Iterator[bytes]:
        """Yield the packets of an established connection, or of its end."""
        other = ends[1], ends[0]
        key = ends if ends in self._conversations else other
        conversation = self._conversations.get(key)
        if conversation is None or conversation.is_over:
            return
        kind, is_shared = traffic.kind, key in self._shared
        if kind is TrafficKind.SENT:
            yield from self._make_segments(conversation, ends, traffic, Secret.OUTPUT)
        elif kind is TrafficKind.RECEIVED and not is_shared:
            yield from self._make_segments(conversation, other, traffic, Secret.INPUT)
        elif kind is TrafficKind.ENDED and not is_shared:
            yield from _end_direction(conversation, other)
        elif kind is TrafficKind.SHUT:
            yield from _end_direction(conversation, ends)
        elif kind is TrafficKind.CLOSED:
            yield from _end_direction(conversation, ends)
            if not is_shared or len(conversation.ended) == len(ends):
                self._forget(key, conversation)
        elif kind is TrafficKind.LOST or (
            kind is TrafficKind.REFUSED and traffic.errno in _ON_NETWORK
        ):
            yield conversation.make_segment(other, TcpFlag.RST | TcpFlag.ACK)
            self._forget(key, conversation)

    def _make_segments(
        self, conversation: _Conversation, ends: Ends, traffic: Traffic, secret: Secret
    ) -> Iterator[bytes]:
        """Yield segments of bytes. The bytes of a file that the journal lacks leave a gap."""
        data = self._payload(traffic.data, secret)
        for start in range(0, len(data), SEGMENT_SIZE_MAX):
            part = data[start : start + SEGMENT_SIZE_MAX]
            yield conversation.make_segment(ends, TcpFlag.PSH | TcpFlag.ACK, part)
        conversation.next_seqs[ends[0]] += traffic.size - len(data)

    def _forget(self, key: Ends, conversation: _Conversation) -> None:
        conversation.is_over = True
        self._conversations.pop(key, None)
        self._shared.discard(key)


_BEGINNINGS = (TrafficKind.REQUESTED, TrafficKind.CONNECTED, TrafficKind.ACCEPTED)


def _end_direction(conversation: _Conversation, ends: Ends) -> Iterator[bytes]:
    """Yield FIN from the first end, once, and its acknowledgement."""
    if conversation.is_established and ends[0] not in conversation.ended:
        conversation.ended.add(ends[0])
        yield conversation.make_segment(ends, TcpFlag.FIN | TcpFlag.ACK)
        yield conversation.make_segment((ends[1], ends[0]), TcpFlag.ACK)


def _local_address(socket: TrackedSocket, peer: SocketAddress | None) -> SocketAddress | None:
    """Return the local address; that of an unbound datagram socket is the unspecified one."""
    if socket.local is not None or peer is None or not socket.is_datagram:
        return socket.local
    return SocketAddress(type(peer.address)(0), 0)
