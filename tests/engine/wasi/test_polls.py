"""``poll_oneoff`` and other waits over channels: sizes, flags, and many descriptors."""

from __future__ import annotations

import os
import select
import socket
import struct
import time
from collections.abc import Iterator

import pytest

from journal.engine.wasi.channel import (
    ByteChannel,
    ChannelWait,
    Readiness,
    from_poll_mask,
    to_poll_mask,
)
from journal.engine.wasi.stdio.stdin import Interrupter
from journal.wasi_abi import EVENT, HANGUP, SUBSCRIPTION, Errno
from tests.support.guest_epolls import write
from tests.support.local_guest import LocalGuest
from tests.support.remote_guest import DATA

CLOCK, READ, WRITE = 0, 1, 2
MONOTONIC = 1
_EVENTS, _COUNT = 8192, 4000


@pytest.fixture
def guest() -> Iterator[LocalGuest]:
    local = LocalGuest()
    yield local
    local.end()


def subscribe(kind: int, source: int, timeout: int = 0) -> bytes:
    """Return a subscription whose user data is its kind and its source."""
    return SUBSCRIPTION.pack(kind << 32 | source, kind, source, timeout, 0, 0)


def poll(
    guest: LocalGuest, *subscriptions: bytes
) -> tuple[int, list[tuple[int, int, int, int, int]]]:
    """Return the errno, and kind, source, error, size and flags of each event."""
    view = guest.context.memory.view
    data = b"".join(subscriptions)
    view[1024 : 1024 + len(data)] = data
    errno: int = guest("poll_oneoff", 1024, _EVENTS, len(subscriptions), _COUNT).errno
    (count,) = struct.unpack_from("<I", view, _COUNT)
    found = []
    for at in range(count if not errno else 0):
        user, error, kind, size, flags = EVENT.unpack_from(view, _EVENTS + at * EVENT.size)
        found.append((kind, user & 0xFFFFFFFF, error, size, flags))
    return errno, found


def test_a_descriptor_can_be_polled_twice(guest: LocalGuest) -> None:
    counter = guest("fd_event", 1, 0, DATA).number
    subscriptions = [subscribe(READ, counter), subscribe(WRITE, counter), subscribe(READ, counter)]
    errno, events = poll(guest, *subscriptions)
    assert errno == 0
    assert [event[:2] for event in events] == [(READ, counter), (WRITE, counter), (READ, counter)]


def test_events_have_the_size_and_the_end_of_a_stream(guest: LocalGuest) -> None:
    reader, writer = struct.unpack_from("<2I", guest("fd_pipe", DATA, DATA + 4).data)
    clock = subscribe(CLOCK, MONOTONIC, 0)
    assert poll(guest, subscribe(READ, reader), clock) == (0, [(CLOCK, MONOTONIC, 0, 0, 0)])
    assert write(guest, writer, b"12345") == 0
    assert poll(guest, subscribe(READ, reader)) == (0, [(READ, reader, 0, 5, 0)])
    assert poll(guest, subscribe(WRITE, writer)) == (0, [(WRITE, writer, 0, 1, 0)])
    assert guest("fd_close", writer).errno == 0
    assert poll(guest, subscribe(READ, reader)) == (0, [(READ, reader, 0, 5, HANGUP)])
    assert guest("fd_read", reader, DATA, 1, DATA + 8, data=struct.pack("<II", 300, 9)).errno == 0
    assert poll(guest, subscribe(READ, reader)) == (0, [(READ, reader, 0, 0, HANGUP)])
    assert poll(guest, subscribe(READ, reader), subscribe(READ, writer)) == (Errno.BADF, [])


class HostChannel(ByteChannel):
    """A channel of a descriptor of the host, which counts the questions for its state."""

    def __init__(self, fd: int) -> None:
        self.fd, self.asked = fd, 0

    def readiness(self) -> Readiness:
        raise AssertionError("one poll tells the state of all")

    def poll_events(self, wanted: Readiness) -> list[tuple[int, int]]:
        self.asked += 1
        return [(self.fd, to_poll_mask(wanted))]


def test_a_wait_watches_hundreds_of_descriptors_without_asking_again() -> None:
    pairs = [socket.socketpair() for _ in range(300)]
    try:
        channels = [HostChannel(ours.fileno()) for ours, _ in pairs]
        wait = ChannelWait([(channel, Readiness.READABLE) for channel in channels])
        interrupter = Interrupter()
        calls: list[bool] = []
        assert not interrupter.wait(wait, 20_000_000, calls.append)
        assert len(calls) <= 2, "it did not wake up"
        assert max(channel.asked for channel in channels) <= 8
        pairs[-1][1].send(b"x")
        assert interrupter.wait(wait, None)
        assert [events for events in wait.find_events() if events] == [Readiness.READABLE]
        interrupter.close()
    finally:
        for pair in pairs:
            for each in pair:
                each.close()


def test_one_descriptor_is_watched_for_all_its_events() -> None:
    reader, writer = os.pipe()
    channel = HostChannel(writer)
    wait = ChannelWait([(channel, Readiness.READABLE), (channel, Readiness.WRITABLE)])
    assert wait.find_events() == [Readiness(0), Readiness.WRITABLE]
    os.close(reader)
    assert all(events & Readiness.ERROR for events in wait.find_events())
    os.close(writer)
    assert all(events == Readiness.ERROR for events in wait.find_events()), "a wait would not end"


def test_a_short_wait_works_above_a_thousand_descriptors() -> None:
    """``select`` fails with a descriptor of 1024 or more."""
    interrupter = Interrupter()
    high = os.dup2(interrupter._event, 1500)
    interrupter._event, low = high, interrupter._event
    os.close(low)
    start = time.monotonic_ns()
    assert not interrupter.wait(None, 500_000)
    assert time.monotonic_ns() - start >= 500_000
    interrupter.close()


@pytest.mark.parametrize("mask", [select.POLLIN, select.POLLOUT, select.POLLRDHUP])
def test_events_of_the_host_have_a_name(mask: int) -> None:
    assert to_poll_mask(from_poll_mask(mask)) == mask
