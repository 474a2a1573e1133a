import errno
import os
import stat
import subprocess
import sys
from array import array
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from journal.errors import JournalLocked, LimitExceeded, OptionError, StorageError, TornBlock
from journal.format.block import BLOCK_SIZE_TARGET
from journal.format.frame import PAYLOAD_SIZE_MAX
from journal.format.segment_header import SEGMENT_HEADER_SIZE
from journal.fs import atomic_file
from journal.log.reader import Reader
from journal.log.writer import Writer
from tests.support.journals import make_clock, read_rows, write_stories

LOCKER = """
import sys
from journal.errors import JournalLocked
from journal.log.writer import Writer
try:
    Writer(sys.argv[1])
except JournalLocked as error:
    print(error)
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.journal"


def inside(path: Path) -> list[str]:
    return sorted(entry.name for entry in path.parent.iterdir())


def fail(number: int) -> Callable[..., int]:
    def call(*_: object, **__: object) -> int:
        raise OSError(number, os.strerror(number))

    return call


Rows = list[tuple[int, bytes, bool]]


@given(
    st.lists(
        st.lists(st.tuples(st.integers(1, 254), st.binary(max_size=600), st.booleans())),
        max_size=4,
    ),
    st.booleans(),
)
def test_what_is_appended_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, sessions: list[Rows], compress: bool
) -> None:
    path = tmp_path_factory.mktemp("journal") / "a.journal"
    expected = []
    for session in sessions:
        with Writer(path, clock=make_clock(), compress=compress) as writer:
            for tag, payload, flushed in session:
                seq = writer.append_frame(tag, payload)
                expected.append((seq, tag, payload, writer.time))
                if flushed:
                    writer.flush()
    if sessions:
        with Reader(path) as reader:
            assert [tuple(frame[:4]) for frame in reader.frames()] == expected
            assert list(reader.verify(decode=False)) == []
    assert [seq for seq, *_ in expected] == list(range(len(expected)))


def test_a_new_journal_belongs_to_its_owner_alone(path: Path) -> None:
    Writer(path).close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert inside(path) == [path.name]


def test_blocks_close_by_themselves(path: Path) -> None:
    with Writer(path, compress=False) as writer:
        for _ in range(3000):
            writer.append_frame(1, bytes(91))
        size = path.stat().st_size
        assert size >= 3000 * 100 - BLOCK_SIZE_TARGET
    with Reader(path) as reader:
        sizes = [block.size for block in reader.blocks()]
    assert max(sizes) < BLOCK_SIZE_TARGET + 200


def test_events_of_no_bytes_close_blocks_too(path: Path) -> None:
    with Writer(path) as writer:
        for _ in range(20_000):
            writer.append_frame(1, b"")
    with Reader(path) as reader:
        assert max(block.count for block in reader.blocks()) < 1 << 16
        assert reader.summary().events == 20_000


def test_a_flush_or_sync_of_nothing_writes_nothing(path: Path) -> None:
    with Writer(path) as writer:
        writer.flush()
        writer.sync()
        assert not any(path.read_bytes()[SEGMENT_HEADER_SIZE:])
    assert path.stat().st_size == SEGMENT_HEADER_SIZE


def test_opening_and_closing_a_closed_journal_changes_nothing(path: Path) -> None:
    before = write_stories(path, [(1, b"x")])
    Writer(path).close()
    assert path.read_bytes() == before


def test_only_a_sync_makes_events_durable(path: Path) -> None:
    with Writer(path) as writer:
        writer.append_frame(1, b"x")
        writer.flush()
        assert (writer.next_seq, writer.durable_upto) == (1, 0)
        writer.sync()
        assert writer.durable_upto == 1


def test_tags_and_payloads_keep_their_limits(path: Path) -> None:
    with Writer(path, compress=False) as writer:
        for tag in (0, 255, -1, 300):
            with pytest.raises(OptionError, match="1 to 254"):
                writer.append_frame(tag, b"")
        writer.append_frame(1, b"before")
        with pytest.raises(LimitExceeded):
            writer.append_frame(1, bytes(PAYLOAD_SIZE_MAX + 1))
        assert writer.append_frame(2, bytes(PAYLOAD_SIZE_MAX)) == 1
    assert [(tag, len(payload)) for tag, payload in read_rows(path)] == [
        (1, 6),
        (2, PAYLOAD_SIZE_MAX),
    ]


def test_two_writers_in_one_process_exclude_each_other(path: Path) -> None:
    with Writer(path), pytest.raises(JournalLocked, match=r"a\.journal"):
        Writer(path)
    Writer(path).close()


def test_two_writers_in_two_processes_exclude_each_other(path: Path) -> None:
    def second() -> str:
        command = [sys.executable, "-c", LOCKER, str(path)]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    with Writer(path):
        assert second() == f"{path} is being written by another process"
    assert second() == ""


def test_an_unpublished_journal_has_no_name_until_it_is_published(path: Path) -> None:
    with Writer(path, publish=False) as writer:
        writer.append_frame(1, b"x")
        writer.flush()
        assert not path.exists()
        writer.publish()
        assert inside(path) == [path.name]
        writer.append_frame(1, b"y")
        writer.publish()
    assert read_rows(path) == [(1, b"x"), (1, b"y")]


def test_an_unpublished_journal_leaves_nothing_behind(path: Path) -> None:
    with Writer(path, publish=False) as writer:
        writer.append_frame(1, b"x")
    assert inside(path) == []


def test_publishing_replaces_nothing(path: Path) -> None:
    with Writer(path, publish=False) as writer:
        path.write_text("mine")
        with pytest.raises(OptionError, match="already exists"):
            writer.publish()
    assert inside(path) == [path.name]
    assert path.read_text() == "mine"
    with pytest.raises(OptionError, match="already exists"):
        Writer(path, publish=False)


def test_a_journal_keeps_its_id(path: Path) -> None:
    Writer(path, journal_id=b"i" * 16).close()
    with Writer(path) as writer:
        assert writer.journal_id == b"i" * 16
    with pytest.raises(OptionError, match="another journal"):
        Writer(path, journal_id=b"j" * 16)
    with pytest.raises(OptionError, match="16 bytes"):
        Writer(path, journal_id=b"short")


def test_a_closed_writer_says_so(path: Path) -> None:
    writer = Writer(path)
    writer.close()
    writer.close()
    for call in (lambda: writer.append_frame(1, b""), writer.flush, writer.sync, writer.publish):
        with pytest.raises(OptionError, match="is closed"):
            call()


@pytest.mark.parametrize("size", range(SEGMENT_HEADER_SIZE))
def test_a_file_cut_inside_its_header_is_begun_anew(path: Path, size: int) -> None:
    path.write_bytes(write_stories(path.with_name("other"), [(1, b"x")])[:size])
    with Writer(path) as writer:
        assert writer.append_frame(1, b"y") == 0
    assert read_rows(path) == [(1, b"y")]


@pytest.mark.parametrize("content", [b"#!/bin/sh\n", b"x" * 500, bytes(500)])
def test_a_file_that_is_no_journal_is_left_alone(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(Exception, match="at offset 0"):
        Writer(path)
    assert path.read_bytes() == content


@pytest.mark.parametrize("call", ["pwritev", "fdatasync"])
@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC])
def test_a_refused_write_or_sync_poisons_the_writer(
    path: Path, monkeypatch: pytest.MonkeyPatch, call: str, number: int
) -> None:
    writer = Writer(path)
    writer.append_frame(1, b"kept")
    writer.sync()
    writer.append_frame(1, b"lost")
    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail(number))
        with pytest.raises(StorageError) as caught:
            writer.sync()
        assert caught.value.first_seq_lost == 1
        assert str(path) in str(caught.value)
    # A second sync of the descriptor would succeed now, so it must not be tried.
    for again in (writer.flush, writer.sync, lambda: writer.append_frame(1, b"")):
        with pytest.raises(StorageError) as caught:
            again()
        assert caught.value.first_seq_lost == 1
    with pytest.raises(StorageError):
        writer.close()
    writer.close()
    assert read_rows(path)[0] == (1, b"kept")
    with Writer(path) as writer:
        writer.append_frame(1, b"more")
    assert read_rows(path)[-1] == (1, b"more")


def test_short_writes_are_carried_on(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.pwrite
    with Writer(path, compress=False) as writer:
        monkeypatch.setattr(os, "pwrite", lambda fd, data, at: real(fd, data[:1000], at))
        monkeypatch.setattr(
            os, "pwritev", lambda fd, parts, at: real(fd, b"".join(parts)[:1000], at)
        )
        writer.append_frame(1, bytes(range(250)) * 40)
    assert read_rows(path) == [(1, bytes(range(250)) * 40)]


def test_a_write_of_nothing_is_a_failure_and_no_endless_loop(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = Writer(path)
    writer.append_frame(1, b"x")
    monkeypatch.setattr(os, "pwritev", lambda *_: 0)
    monkeypatch.setattr(os, "pwrite", lambda *_: 0)
    with pytest.raises(StorageError):
        writer.flush()
    with pytest.raises(StorageError):
        writer.close()


def test_an_interrupted_write_poisons_and_is_not_swallowed(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> int:
        raise KeyboardInterrupt

    writer = Writer(path)
    writer.append_frame(1, b"x")
    monkeypatch.setattr(os, "pwritev", interrupt)
    with pytest.raises(KeyboardInterrupt):
        writer.flush()
    with pytest.raises(StorageError):
        writer.close()


def test_a_failing_close_does_not_hide_the_error_before_it(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def story() -> None:
        with Writer(path) as writer:
            writer.append_frame(1, b"x")
            monkeypatch.setattr(os, "fdatasync", fail(errno.EIO))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError) as caught:
        story()
    assert "not durable" in caught.value.__notes__[0]


def test_a_close_that_cannot_sync_says_so(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = Writer(path)
    writer.append_frame(1, b"x")
    monkeypatch.setattr(os, "fdatasync", fail(errno.EIO))
    with pytest.raises(StorageError, match="events from sequence number 0 on are not durable"):
        writer.close()


@pytest.mark.parametrize("call", ["pwrite", "fdatasync", "posix_fallocate", "link"])
def test_a_journal_that_cannot_be_created_leaves_nothing_behind(
    path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    monkeypatch.setattr(os, call, fail(errno.ENOSPC))
    with pytest.raises(StorageError, match=r"a\.journal"):
        Writer(path)
    assert inside(path) == []


def test_replacing_a_file_is_all_or_nothing(path: Path) -> None:
    path.write_bytes(b"old")

    def half(file: object) -> None:
        raise RuntimeError

    with pytest.raises(RuntimeError):
        atomic_file.replace(path, half)
    assert path.read_bytes() == b"old"
    atomic_file.replace(path, b"new")
    assert path.read_bytes() == b"new"
    atomic_file.replace(path, lambda file: file.write(b"newer"))
    assert path.read_bytes() == b"newer"
    assert inside(path) == [path.name]


def test_an_empty_file_is_no_journal_to_a_reader(path: Path) -> None:
    path.touch()
    with pytest.raises(Exception, match="is an empty file"):
        Reader(path)
    path.write_bytes(write_stories(path.with_name("other"))[:100])
    with pytest.raises(TornBlock):
        Reader(path)


def test_a_block_is_refused_whose_number_another_thread_has_taken(path: Path) -> None:
    write_stories(path.with_name("other"), [(1, b"block")])
    with Reader(path.with_name("other")) as reader:
        (block,) = reader.blocks()
    with Writer(path) as writer:
        writer.append_frame(2, b"first")
        with pytest.raises(OptionError, match="first event must be at least 1, got 0"):
            writer.append_block(block)
        writer.append_frame(2, b"second")
    assert read_rows(path) == [(2, b"first"), (2, b"second")]


def test_tags_may_come_in_any_sequence(path: Path) -> None:
    with Writer(path) as writer:
        writer.append_columns(array("H", [3, 254]), [b"a", b"b"])
        writer.append_columns(bytearray(b"\5"), [b"c", b"d"])
        writer.append_columns(range(6, 8), [b"e", b"f"])
        for tags in (array("H", [0x0201, 3]), [0, 1], [1, 255], [1, -1], [1, 2, 3]):
            with pytest.raises(OptionError):
                writer.append_columns(tags, [b"x", b"y"])
    assert [tag for tag, _ in read_rows(path)] == [3, 254, 5, 5, 6, 7]


def test_events_added_at_once_share_one_time(path: Path) -> None:
    with Writer(path) as writer:
        writer.append_many([(1, b"x" * 60)] * 2100)
    with Reader(path) as reader:
        assert len({frame.time for frame in reader.frames()}) == 1
