"""Objects inside the guest: pipes, event counters, socket pairs and duplicated descriptors."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

import journal
from journal.wasi_abi import Errno
from tests.support.deadlines import DEADLINE_SECONDS
from tests.support.guest_objects import (
    DATAGRAM,
    NONBLOCK,
    SEQPACKET,
    GuestObjects,
    Outcome,
    fd_of,
    fds,
)
from tests.support.remote_guest import DATA, REMOTE, Remote

AGAIN = Outcome(Errno.AGAIN, None)
RIGHTS = 0x1FFFFFFF
ROOT_FD = 3


class Run:
    """A guest that is recorded, and what to compare after a resume."""

    def __init__(self, path: Path, cache: Path) -> None:
        self.path, self.cache = path, cache
        self.recorder = journal.record(
            REMOTE, path, mounts=[journal.engine.MemoryMount("/")], cache=cache
        )
        self.recorder.start()
        self.guest = GuestObjects(Remote(self.recorder))

    def stop(self) -> None:
        self.recorder.stop()
        self.recorder.wait(DEADLINE_SECONDS)
        self.recorder.close()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, cache_dir: Path) -> Iterator[Run]:
    """Run one guest for all quick tests: each makes objects of its own."""
    run = Run(tmp_path_factory.mktemp("objects") / "j", cache_dir)
    yield run
    run.stop()


@pytest.fixture
def guest(run: Run) -> GuestObjects:
    return run.guest


# -- pipes --------------------------------------------------------------------------------------


def test_a_pipe_moves_bytes_from_its_writer_to_its_reader(guest: GuestObjects) -> None:
    reader, writer = fds(guest.pipe())
    assert writer == reader + 1
    assert guest.write(writer, b"hello world").value == 11
    assert guest.read(reader, 5).value == b"hello"
    assert guest.read(reader, 100).value == b" world"
    assert guest.read(writer, 1).errno == Errno.BADF
    assert guest.write(reader, b"x").errno == Errno.BADF
    assert guest.write(writer, b"last").value == 4
    guest.close(writer)
    assert guest.read(reader, 100).value == b"last"
    assert guest.read(reader, 100).value == b"", "the stream has ended"
    guest.close(reader)


def test_a_pipe_that_does_not_block_is_empty_or_full_at_once(guest: GuestObjects) -> None:
    reader, writer = fds(guest.pipe())
    for fd in (reader, writer):
        assert guest.set_flags(fd, NONBLOCK).errno == 0
    assert guest.read(reader, 1) == AGAIN
    assert guest.write_zeros(writer, 100_000).value == 65536
    assert guest.write(writer, b"x") == AGAIN
    assert guest.read(reader, 113).value == 113
    assert guest.write_zeros(writer, 4096) == AGAIN, "a short write is not divided"
    assert guest.write_zeros(writer, 5000).value == 113
    guest.close(reader)
    assert guest.write(writer, b"x").errno == Errno.PIPE
    assert guest.write(writer, b"").value == 0
    guest.close(writer)


# -- counters -----------------------------------------------------------------------------------


def number(value: int) -> bytes:
    return struct.pack("<Q", value)


def test_a_counter_adds_what_is_written_until_it_is_read(guest: GuestObjects) -> None:
    fd = fd_of(guest.event(3))
    guest.set_flags(fd, NONBLOCK)
    assert guest.write(fd, number(5)).value == 8
    assert guest.read(fd, 4).errno == Errno.INVAL
    assert guest.read(fd, 100).value == number(8)
    assert guest.read(fd, 8) == AGAIN
    assert guest.write(fd, number(2**64 - 1)).errno == Errno.INVAL
    assert guest.write(fd, number(2**64 - 2)).value == 8
    assert guest.write(fd, number(1)) == AGAIN
    assert guest.write(fd, b"1234567").errno == Errno.INVAL
    guest.close(fd)


def test_a_read_takes_one_from_a_semaphore(guest: GuestObjects) -> None:
    fd = fd_of(guest.event(2, 1 | NONBLOCK))
    assert [guest.read(fd, 8).value for _ in range(2)] == [number(1)] * 2
    assert guest.read(fd, 8) == AGAIN
    guest.close(fd)


# -- socket pairs -------------------------------------------------------------------------------


def test_a_stream_pair_joins_bytes_in_both_directions(guest: GuestObjects) -> None:
    one, other = fds(guest.pair())
    for data in (b"from ", b"one"):
        guest.write(one, data)
    assert guest.read(other, 100).value == b"from one"
    assert guest.write(other, b"back").value == 4
    guest.close(other)
    assert guest.read(one, 100).value == b"back"
    assert guest.read(one, 100).value == b""
    assert guest.write(one, b"x").errno == Errno.PIPE
    guest.close(one)


@pytest.mark.parametrize("kind", [DATAGRAM, SEQPACKET])
def test_a_pair_of_messages_keeps_their_boundaries(guest: GuestObjects, kind: int) -> None:
    one, other = fds(guest.pair(kind))
    for data in (b"first", b"", b"third"):
        assert guest.write(one, data).value == len(data)
    assert [guest.read(other, size).value for size in (2, 10, 10)] == [b"fi", b"", b"third"]
    guest.close(one)
    guest.close(other)


def test_a_peer_that_did_not_read_resets_a_stream(guest: GuestObjects) -> None:
    one, other = fds(guest.pair())
    guest.write(one, b"unread")
    guest.close(other)
    assert guest.read(one, 10).errno == Errno.CONNRESET
    assert guest.read(one, 10).value == b"", "an error is reported once"
    guest.close(one)


# -- duplicates ---------------------------------------------------------------------------------


def test_a_copy_is_the_lowest_free_number_and_shares_its_object(guest: GuestObjects) -> None:
    reader, writer = fds(guest.pipe())
    copy = fd_of(guest.dup(writer))
    assert copy == writer + 1
    assert fd_of(guest.dup_from(writer, 20)) == 20
    assert fd_of(guest.dup_from(writer, 20, cloexec=True)) == 21
    assert [guest.fd_flags(fd).value for fd in (20, 21)] == [0, 1]
    assert guest.set_flags(copy, NONBLOCK).errno == 0
    guest.close(writer)
    guest.close(copy)
    guest.set_flags(reader, NONBLOCK)
    assert guest.read(reader, 1) == AGAIN, "two copies of the writer are open"
    assert guest.write(20, b"shared").value == 6
    assert guest.renumber(20, 21).errno == 0
    assert guest.fd_flags(21).value == 0
    guest.close(21)
    assert guest.read(reader, 100).value == b"shared"
    assert guest.read(reader, 100).value == b""
    guest.close(reader)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("fd_dup", (50, DATA)),
        ("fd_dup2", (50, 0, 0, DATA)),
        ("fd_fdflags_get", (50, DATA)),
        ("fd_fdflags_set", (50, 1)),
    ],
)
def test_a_descriptor_that_is_not_open_has_no_copy(
    guest: GuestObjects, name: str, arguments: tuple[int, ...]
) -> None:
    assert guest.call(name, *arguments).errno == Errno.BADF


def test_a_copy_has_no_number_above_all_numbers(guest: GuestObjects) -> None:
    assert guest.dup_from(0, 65536).errno == Errno.INVAL


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("fd_pipe", (DATA, 0xFFFFFFFF)),
        ("fd_event", (0, 0, 0xFFFFFFFF)),
        ("sock_pair", (3, 1, 0, 0xFFFFFFFF, DATA)),
        ("fd_dup", (0, 0xFFFFFFFF)),
        ("getcwd", (DATA, 0xFFFFFFFF)),
        ("chdir", (0xFFFFFFFF, 5)),
        ("tty_get", (0xFFFFFFFF,)),
    ],
)
def test_a_bad_pointer_is_an_error_without_an_effect(
    guest: GuestObjects, name: str, arguments: tuple[int, ...]
) -> None:
    before = fds(guest.pipe())
    for fd in before:
        guest.close(fd)
    assert guest.call(name, *arguments).errno == Errno.MEMVIOLATION
    after = fds(guest.pipe())
    for fd in after:
        guest.close(fd)
    assert after == before


@pytest.mark.parametrize(
    ("name", "arguments", "errno"),
    [
        ("fd_seek", (0, 0, DATA), Errno.SPIPE),
        ("fd_tell", (DATA,), Errno.SPIPE),
        ("fd_pread", (DATA, 0, 0, DATA), Errno.SPIPE),
        ("fd_pwrite", (DATA, 0, 0, DATA), Errno.SPIPE),
        ("fd_advise", (0, 0, 0), Errno.SPIPE),
        ("fd_allocate", (0, 1), Errno.SPIPE),
        ("fd_sync", (), Errno.INVAL),
        ("fd_datasync", (), Errno.INVAL),
        ("fd_filestat_set_size", (0,), Errno.INVAL),
        ("fd_readdir", (DATA, 8, 0, DATA), Errno.NOTDIR),
        ("fd_prestat_get", (DATA,), Errno.BADF),
        ("path_create_directory", (DATA, 1), Errno.NOTDIR),
    ],
)
def test_a_pipe_refuses_the_calls_of_a_file_as_on_linux(
    guest: GuestObjects, name: str, arguments: tuple[int, ...], errno: int
) -> None:
    reader, writer = fds(guest.pipe())
    assert guest.call(name, reader, *arguments).errno == errno
    guest.close(reader)
    guest.close(writer)
