"""The states of a writer: what each call does in each state, as ``WriterState`` documents it."""

import errno
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from journal.errors import JournalError, OptionError, StorageError
from journal.format.block import BLOCK_SIZE_TARGET
from journal.log import CommitPolicy, Reader, Writer, switchover
from journal.log.pending_block import WriterState
from tests.support.deadlines import DEADLINE_SECONDS
from tests.support.failing_calls import fail
from tests.support.journals import read_rows

LARGE = bytes(BLOCK_SIZE_TARGET // 2)
ACCEPTED = (1, b"accepted")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.journal"


def open_with_event(path: Path) -> Writer:
    writer = Writer(path, compress=False, commit=CommitPolicy.NONE)
    writer.append_frame(*ACCEPTED)
    writer.flush()
    return writer


def append_large(writer: Writer, count: int) -> None:
    for _ in range(count):
        writer.append_frame(2, LARGE)


def fill_disk(writer: Writer, patch: pytest.MonkeyPatch) -> None:
    """Fill the disk, append until an event is refused, and use the reserve."""
    patch.setattr(os, "posix_fallocate", fail(errno.ENOSPC))
    with pytest.raises(StorageError, match="no space left to write"):
        append_large(writer, 1000)
    writer.flush()


def fail_disk(writer: Writer, patch: pytest.MonkeyPatch) -> None:
    """Let a sync fail. Later syncs would succeed."""
    with patch.context() as failing:
        failing.setattr(os, "fdatasync", fail(errno.EIO))
        with pytest.raises(StorageError):
            writer.sync()


def do_nothing(writer: Writer, patch: pytest.MonkeyPatch) -> None:
    del writer, patch


def close(writer: Writer, patch: pytest.MonkeyPatch) -> None:
    del patch
    writer.close()


def append_frame(writer: Writer) -> None:
    writer.append_frame(2, b"x")


def append_many(writer: Writer) -> None:
    writer.append_many([(2, b"x")] * 3)


def append_payloads(writer: Writer) -> None:
    writer.append_payloads(2, [LARGE] * 3)


APPENDS = (append_frame, append_many, append_payloads)
ENTER = {
    WriterState.OPEN: do_nothing,
    WriterState.DISK_FULL: fill_disk,
    WriterState.FAILED: fail_disk,
    WriterState.CLOSED: close,
}
ERRORS: dict[WriterState, tuple[type[JournalError] | None, ...]] = {
    WriterState.OPEN: (None, None, None, None),
    WriterState.DISK_FULL: (StorageError, None, None, None),
    WriterState.FAILED: (StorageError, StorageError, StorageError, StorageError),
    WriterState.CLOSED: (OptionError, OptionError, OptionError, None),
}
"""Errors of append, flush, sync and close."""


def error_of(call: Callable[[], object]) -> type[BaseException] | None:
    try:
        call()
    except JournalError as error:
        return type(error)
    return None


@pytest.mark.parametrize("append", APPENDS)
@pytest.mark.parametrize("state", ENTER)
def test_each_call_does_in_each_state_what_is_documented(
    path: Path,
    monkeypatch: pytest.MonkeyPatch,
    state: WriterState,
    append: Callable[[Writer], None],
) -> None:
    writer = open_with_event(path)
    ENTER[state](writer, monkeypatch)
    assert writer._pending.state is state
    calls = (lambda: append(writer), writer.flush, writer.sync, writer.close)
    count = writer.next_seq
    errors = tuple(error_of(call) for call in calls)
    assert errors == ERRORS[state]
    assert (writer.next_seq == count) == (errors[0] is not None), "a refused event has no number"
    writer.close()
    if state is not WriterState.FAILED:
        assert read_rows(path)[0] == ACCEPTED
        assert len(read_rows(path)) == writer.next_seq
    assert error_of(lambda: append(writer)) is (
        StorageError if state is WriterState.FAILED else OptionError
    )


@pytest.mark.parametrize("append", APPENDS)
def test_appends_are_refused_while_another_thread_closes_and_its_sync_still_works(
    path: Path, monkeypatch: pytest.MonkeyPatch, append: Callable[[Writer], None]
) -> None:
    writer = open_with_event(path)
    sync_file = os.fdatasync
    found: list[object] = []

    def sync_slowly(descriptor: int) -> None:
        monkeypatch.setattr(os, "fdatasync", sync_file)
        with ThreadPoolExecutor(1) as pool:
            found.append(writer._pending.state)
            refused = pool.submit(error_of, lambda: append(writer))
            flushed = pool.submit(error_of, writer.flush)
            found.append(refused.result(DEADLINE_SECONDS))
            found.append(flushed.result(DEADLINE_SECONDS))
        sync_file(descriptor)

    monkeypatch.setattr(os, "fdatasync", sync_slowly)
    writer.close()
    assert found == [WriterState.CLOSING, OptionError, None]
    assert read_rows(path) == [ACCEPTED]


def test_events_accepted_before_the_disk_was_full_survive_a_failed_append(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = open_with_event(path)
    fill_disk(writer, monkeypatch)
    count = writer.next_seq
    for _ in range(3):
        with pytest.raises(StorageError):
            writer.append_frame(3, b"refused")
    writer.close()
    assert len(read_rows(path)) == count
    assert (3, b"refused") not in read_rows(path)


def test_after_a_full_disk_the_pending_block_is_filled_as_if_nothing_had_happened(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full, roomy = path.with_name("full"), path.with_name("roomy")
    with open_with_event(full) as writer:
        with monkeypatch.context() as patch:
            patch.setattr(os, "posix_fallocate", fail(errno.ENOSPC))
            with pytest.raises(StorageError):
                append_large(writer, 1000)
        count = writer.next_seq - 1
        append_large(writer, 7)
    with open_with_event(roomy) as writer:
        append_large(writer, count + 7)
    assert count_events(full) == count_events(roomy)


def count_events(path: Path) -> list[int]:
    """Return the number of events of each block."""
    with Reader(path) as reader:
        return [block.count for block in reader.blocks()]


def test_an_interrupt_before_a_switchover_changes_a_name_changes_nothing(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Interrupt(BaseException):
        def __init__(self, *_: object) -> None:
            raise KeyboardInterrupt

    beside = path.with_name("beside")
    with open_with_event(path) as writer:
        writer.sync()
        beside.write_bytes(path.read_bytes())
        monkeypatch.setattr(switchover, "InterruptedError", Interrupt, raising=False)
        with pytest.raises(KeyboardInterrupt):
            writer.switch_to(beside)
        monkeypatch.undo()
        writer.append_frame(1, b"after")
        writer.sync()
        assert not beside.exists()
    assert read_rows(path) == [ACCEPTED, (1, b"after")]


def test_a_failed_writer_closes_its_files(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = open_with_event(path)
    fail_disk(writer, monkeypatch)
    with suppress(StorageError):
        writer.close()
    assert writer._pending.state is WriterState.FAILED, "later calls report the failure"
    Writer(path).close()  # The lock is free.
