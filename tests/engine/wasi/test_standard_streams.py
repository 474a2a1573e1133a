"""Errors of the host's standard streams: what the guest is told, and what a replay tells it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

import journal
from journal.engine import SnapshotOptions
from journal.engine.wasi.stdio.stdin import DescriptorSource
from journal.events.inputs import HostCall, HostResult, StreamRead
from journal.events.snapshots import Snapshot
from journal.events.streams import StreamWrite
from journal.wasi_abi import Errno
from tests.support import wat
from tests.support.guest_runs import wait_for_end
from tests.support.rewrites import events_of, keep_first, rewrite

#: The guest exits with the error number of its one call.
READ = wat.program(
    """(i32.store (i32.const 0) (i32.const 64)) (i32.store (i32.const 4) (i32.const 16))
    (call $exit (call $fd_read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 32)))"""
)
#: The guest writes to both outputs, and exits with the error number of standard output.
WRITE = wat.program(
    """(i32.store (i32.const 0) (i32.const 16)) (i32.store (i32.const 4) (i32.const 3))
    (drop (call $fd_write (i32.const 2) (i32.const 0) (i32.const 1) (i32.const 32)))
    (call $exit (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 32)))""",
    data="abc",
)

#: As ``WRITE``, with calls after the refused write.
WRITE_OFTEN = wat.program(
    f"""(i32.store (i32.const 0) (i32.const 16)) (i32.store (i32.const 4) (i32.const 3))
    {
        wat.times(
            5,
            '''
        (local.set $e (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 32)))
        (drop (call $fd_write (i32.const 2) (i32.const 0) (i32.const 1) (i32.const 32)))''',
        )
    }
    (call $exit (local.get $e))""",
    data="abc",
)

#: The guest writes 2000 buffers of one byte with one call.
WRITE_MANY = wat.program(
    f"""{
        wat.times(
            2000,
            '''(i32.store (i32.shl (local.get $i) (i32.const 3)) (i32.const 40000))
        (i32.store offset=4 (i32.shl (local.get $i) (i32.const 3)) (i32.const 1))''',
        )
    }
    (call $exit (call $fd_write (i32.const 1) (i32.const 0) (i32.const 2000) (i32.const 50000)))""",
    data="x",
    at=40000,
)

OpenStream = Callable[[ExitStack], int]


@pytest.fixture
def descriptors() -> Iterator[ExitStack]:
    """Yield the owner of the descriptors of a test, which closes them at its end."""
    with ExitStack() as stack:
        yield stack


def opened(path: str, flags: int) -> OpenStream:
    def open_stream(stack: ExitStack) -> int:
        fd = os.open(path, flags)
        stack.callback(os.close, fd)
        return fd

    return open_stream


def file_opened(flags: int) -> OpenStream:
    def open_stream(stack: ExitStack) -> int:
        fd = os.memfd_create("stream")
        stack.callback(os.close, fd)
        return opened(f"/proc/self/fd/{fd}", flags)(stack)

    return open_stream


def end_of_a_pipe(index: int) -> OpenStream:
    def open_stream(stack: ExitStack) -> int:
        ends = os.pipe()  # Both ends stay open, so that neither is in error.
        for end in ends:
            stack.callback(os.close, end)
        return ends[index]

    return open_stream


def test_one_call_writes_many_buffers(tmp_path: Path, cache_dir: Path) -> None:
    with journal.record(WRITE_MANY, tmp_path / "j", cache=cache_dir) as recorder:
        assert wait_for_end(recorder).code == 0
        assert recorder.stdout == b"x" * 2000


@pytest.mark.parametrize(
    ("open_input", "errno"),
    [
        pytest.param(opened(os.devnull, os.O_WRONLY), Errno.BADF, id="a device"),
        pytest.param(file_opened(os.O_WRONLY), Errno.BADF, id="a file"),
        pytest.param(end_of_a_pipe(1), Errno.BADF, id="the write end of a pipe"),
        pytest.param(opened("/", os.O_PATH), Errno.BADF, id="a path"),
        pytest.param(opened("/", os.O_RDONLY), Errno.ISDIR, id="a directory"),
    ],
)
def test_a_read_that_the_host_refuses_is_an_error_of_the_call(
    tmp_path: Path, cache_dir: Path, descriptors: ExitStack, open_input: OpenStream, errno: Errno
) -> None:
    path = tmp_path / "j"
    with journal.record(READ, path, stdin=open_input(descriptors), cache=cache_dir) as recorder:
        assert wait_for_end(recorder).code == errno
    results = [event for event in events_of(path) if isinstance(event, HostResult)]
    assert results == [HostResult(call=HostCall.READ, fd=0, errno=errno, value=b"")]
    assert journal.verify_replay(path, cache=cache_dir).matches


@pytest.mark.parametrize(
    "open_output",
    [
        pytest.param(opened(os.devnull, os.O_RDONLY), id="a device"),
        pytest.param(file_opened(os.O_RDONLY), id="a file"),
        pytest.param(end_of_a_pipe(0), id="the read end of a pipe"),
    ],
)
def test_a_write_to_a_target_that_is_not_writable_is_an_error_of_the_call(
    tmp_path: Path, cache_dir: Path, descriptors: ExitStack, open_output: OpenStream
) -> None:
    path, stdout = tmp_path / "j", open_output(descriptors)
    with journal.record(WRITE, path, stdout=stdout, cache=cache_dir) as recorder:
        assert wait_for_end(recorder).code == Errno.BADF
        assert recorder.stderr == b"abc"
    results = [event for event in events_of(path) if isinstance(event, HostResult)]
    assert results == [HostResult(call=HostCall.WRITE, fd=1, errno=Errno.BADF, value=b"")]
    assert journal.verify_replay(path, cache=cache_dir).matches


def test_a_resume_answers_with_the_recorded_error_though_the_stream_is_better_now(
    tmp_path: Path, cache_dir: Path, descriptors: ExitStack
) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    stdout = opened(os.devnull, os.O_RDONLY)(descriptors)
    with journal.record(WRITE, whole, stdout=stdout, cache=cache_dir) as recorder:
        wait_for_end(recorder)
    count = [type(event) for event in events_of(whole)].index(HostResult)
    rewrite(whole, cut, keep_first(count + 1))
    with journal.resume(cut, cache=cache_dir) as again:
        assert wait_for_end(again).code == Errno.BADF
        assert again.stdout == b""
    rewrite(whole, tmp_path / "before", keep_first(count))
    with journal.resume(tmp_path / "before", cache=cache_dir) as again:
        assert wait_for_end(again).code == 0
        assert again.stdout == b"abc"


def test_an_accepted_output_that_cannot_be_delivered_waits_for_a_resume(
    tmp_path: Path, cache_dir: Path, descriptors: ExitStack
) -> None:
    path, full = tmp_path / "j", opened("/dev/full", os.O_WRONLY)(descriptors)
    with (
        pytest.raises(journal.OutputLost, match="No space left on device"),
        journal.record(WRITE, path, stdout=full, cache=cache_dir) as recorder,
    ):
        wait_for_end(recorder)
    assert StreamWrite(stream=1, offset=0, data=b"abc") in events_of(path)
    with journal.resume(path, cache=cache_dir) as again:
        assert wait_for_end(again).code == 0
        assert again.stdout == b"abc"


def test_a_journal_with_a_refused_output_can_be_compacted_and_resumed_from_a_snapshot(
    tmp_path: Path, cache_dir: Path, descriptors: ExitStack
) -> None:
    path, small = tmp_path / "j", tmp_path / "small"
    after_each_call = SnapshotOptions(every_events=1)
    with journal.record(
        WRITE_OFTEN,
        path,
        stdout=opened(os.devnull, os.O_RDONLY)(descriptors),
        snapshots=after_each_call,
        cache=cache_dir,
    ) as recorder:
        assert wait_for_end(recorder).code == Errno.BADF
    assert journal.verify_replay(path, cache=cache_dir).matches
    events = events_of(path)
    refused = [index for index, event in enumerate(events) if isinstance(event, HostResult)]
    assert refused[0] < [type(event) for event in events].index(Snapshot, refused[0])
    journal.compact(path, small)
    for resumed in (path, small):
        with journal.resume(resumed, cache=cache_dir) as again:
            assert wait_for_end(again).code == Errno.BADF


def test_input_that_another_process_took_is_waited_for_again(
    tmp_path: Path, cache_dir: Path, descriptors: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader, writer = os.pipe2(os.O_NONBLOCK)
    for fd in (reader, writer):
        descriptors.callback(os.close, fd)
    is_ready, answers = DescriptorSource.is_ready, iter([True])

    def claim_once(source: DescriptorSource) -> bool:
        if next(answers, False):
            return True  # The input is there, but the read will not find it.
        os.write(writer, b"late")
        return is_ready(source)

    monkeypatch.setattr(DescriptorSource, "is_ready", claim_once)
    with journal.record(READ, tmp_path / "j", stdin=reader, cache=cache_dir) as recorder:
        assert wait_for_end(recorder).code == 0
    assert next(e for e in events_of(tmp_path / "j") if isinstance(e, StreamRead)).data == b"late"
