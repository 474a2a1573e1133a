"""Journals that are not files: each adapter does one thing, and all can be combined."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from journal import LimitExceeded, OptionError, Reader, Writer, concat, decode, encode
from journal.adapters import (
    Adapter,
    AutoClose,
    CombinedJournal,
    ConcatenatedSource,
    CountingSink,
    FilteredSink,
    FilteredSource,
    ForwardingSink,
    MemoryJournal,
    NullJournal,
    PrintingSink,
    RejectingJournal,
    Sink,
    Source,
    Transaction,
    copy,
    pipe,
    split,
)
from journal.events.core import ProcessExit
from journal.events.definition import Event
from journal.events.descriptors import (
    CloseFileDescriptor,
    CreatePipe,
    DuplicateFileDescriptor,
    OpenFileDescriptor,
    RenumberFileDescriptor,
)
from journal.events.sockets import SocketOpen, SocketPair
from journal.format.frame import Frame
from journal.replay import ModelHost, play
from journal.replay.limits import ReplayError
from journal.replay.state.descriptor_table import StandardStream
from tests.support.deadlines import DEADLINE_SECONDS
from tests.support.journals import Story, make_clock, write_stories

rows = st.lists(st.tuples(st.integers(1, 254), st.binary(max_size=30)), max_size=30)


def read_source(source: Source, **wanted: int) -> Story:
    return [(frame.tag, frame.payload) for frame in source.frames(**wanted)]  # type: ignore[arg-type]


def put(sink: Sink, story: Story) -> list[int]:
    return [sink.append_frame(tag, payload) for tag, payload in story]


def in_thread(deed: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=deed, daemon=True)
    thread.start()
    return thread


# -- compositions ---------------------------------------------------------------------------------

LAYERS: dict[str, Callable[[Sink], Sink]] = {
    "counting": CountingSink,
    "printing": lambda inner: PrintingSink(inner, lambda _: None),
    "filtered": lambda inner: FilteredSink(inner, lambda tag, payload: True),
    "filtered by tags": lambda inner: FilteredSink(inner, range(1, 255)),
    "transaction": Transaction,
    "recombined": lambda inner: CombinedJournal(inner, NullJournal()),
    "through": ForwardingSink,
}


def commit_all(sink: Sink) -> None:
    """Commit all transactions in the chain, the outermost first."""
    at: Sink | None = sink
    while at is not None:
        if isinstance(at, Transaction):
            at.commit()
        at = at.inner if isinstance(at, ForwardingSink) else None


@given(rows, st.lists(st.sampled_from(sorted(LAYERS)), max_size=6), st.booleans())
def test_what_passes_through_any_of_them_keeps_events_order_and_numbers(
    story: Story, layers: list[str], to_file: bool
) -> None:
    with TemporaryDirectory() as name:
        path = Path(name) / "journal"
        end: Sink = Writer(path) if to_file else MemoryJournal()
        sink = end
        for layer in layers:
            sink = LAYERS[layer](sink)
        assert put(sink, story) == list(range(len(story)))
        assert sink.next_seq == len(story)
        commit_all(sink)
        sink.sync()
        source: Source = Reader(path) if to_file else end  # type: ignore[assignment]
        assert read_source(source) == story
        assert [frame.seq for frame in source.frames()] == list(range(len(story)))
        end.close()
        source.close()


@given(rows, st.integers(0, 30), st.integers(0, 30), st.sets(st.integers(1, 254)))
def test_every_source_gives_what_is_asked_for(
    story: Story, start: int, stop: int, tags: set[int]
) -> None:
    whole = MemoryJournal()
    put(whole, story)
    sources: list[Source] = [
        whole,
        FilteredSource(whole, range(1, 255)),
        ConcatenatedSource([whole]),
        ConcatenatedSource([NullJournal(), whole, RejectingJournal()]),
        CombinedJournal(NullJournal(), whole),
        split(whole)[1],
    ]
    wanted = [frame for frame in whole.frames() if start <= frame.seq < stop and frame.tag in tags]
    for source in sources:
        assert list(source.frames(start, stop=stop, tags=tags)) == wanted
        assert list(source.frames()) == list(whole.frames())
    sink, source = pipe(size_max=1 << 20)
    put(sink, story)
    sink.close()
    asked = source.frames(start, stop=stop, tags=tags)
    assert [frame[:3] for frame in asked] == [frame[:3] for frame in wanted]


@given(st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=5), min_size=1, max_size=4))
def test_several_journals_read_as_what_concat_makes_of_them(journals: list[list[int]]) -> None:
    with TemporaryDirectory() as name:
        paths = [Path(name) / str(index) for index in range(len(journals))]
        for path, tags in zip(paths, journals, strict=True):
            write_stories(path, [(tag, bytes([tag])) for tag in tags])
        concat(paths, Path(name) / "joined")
        with (
            ConcatenatedSource([Reader(path) for path in paths]) as whole,
            Reader(Path(name) / "joined") as joined,
        ):
            assert [frame[:4] for frame in whole.frames()] == [
                frame[:4] for frame in joined.frames()
            ]


def test_journals_read_as_one_keep_their_holes() -> None:
    def source(*numbers: int) -> Source:
        class Given(Adapter):
            def frames(self, *_: object, **__: object) -> object:
                return (Frame(number, 1, b"", 0, 0) for number in numbers)

        return Given()  # type: ignore[return-value]

    whole = ConcatenatedSource([source(3, 5), source(), source(0, 7), source(4)])
    assert [frame.seq for frame in whole.frames()] == [3, 5, 6, 13, 14]
    assert [frame.seq for frame in whole.frames(6, stop=14)] == [6, 13]


# -- one by one -----------------------------------------------------------------------------------


def test_null_numbers_everything_and_keeps_nothing() -> None:
    null = NullJournal(first_seq=5)
    assert put(null, [(1, b"a"), (2, b"b")]) == [5, 6]
    assert null.time > 0
    assert read_source(null) == []
    with pytest.raises(OptionError):
        null.append_frame(255, b"")


def test_unsupported_reads_as_empty_and_says_why_it_refuses() -> None:
    with RejectingJournal("the disk is mounted read-only") as journal:
        assert read_source(journal) == []
        journal.flush()
        journal.sync()
        with pytest.raises(OptionError, match="cannot be written: the disk is mounted read-only"):
            journal.append(ProcessExit(exit_code=0))


def test_a_buffer_takes_no_more_than_it_may() -> None:
    buffer = MemoryJournal(first_seq=7, size_max=1000, clock=make_clock())
    buffer.append_frame(1, bytes(500))
    with pytest.raises(LimitExceeded):
        buffer.append_frame(1, bytes(500))
    assert buffer.append_frame(2, b"small") == 8
    assert [frame.seq for frame in buffer.frames()] == [7, 8]
    assert [frame.time for frame in buffer.frames()] == [1_000_000, 1_000_007]
    buffer.clear()
    assert (buffer.next_seq, buffer.size, read_source(buffer)) == (9, 0, [])


def test_counting_counts_what_was_taken_alone() -> None:
    sink = CountingSink(MemoryJournal(size_max=1000))
    sink.append_frame(1, b"abc")
    sink.append_frame(1, b"de")
    sink.append_frame(2, b"")
    with pytest.raises(LimitExceeded):
        sink.append_frame(2, bytes(2000))
    assert (sink.events, sink.size) == (3, 5)
    assert (dict(sink.events_of), dict(sink.size_of)) == ({1: 2, 2: 1}, {1: 5, 2: 0})


def test_printing_tells_every_event_on_one_line() -> None:
    lines: list[str] = []
    sink = PrintingSink(NullJournal(), lines.append)
    sink.append(ProcessExit(exit_code=3))
    sink.append_frame(223, b"?")
    sink.append_frame(ProcessExit.tag, b"not one")
    sink.append_frame(254, b"!")
    assert lines == [
        "0  ProcessExit(exit_code=3)",
        "1  an event of tag 223 and 1 bytes",
        "2  an event of tag 2 and 7 bytes",
        "3  OpaqueEvent(tag=254, payload=b'!')",
    ]


@given(rows, st.sets(st.integers(1, 254)))
def test_filtered_passes_on_what_it_keeps_and_a_source_keeps_its_numbers(
    story: Story, tags: set[int]
) -> None:
    whole, kept = MemoryJournal(), MemoryJournal()
    put(whole, story)
    put(FilteredSink(kept, tags), story)
    wanted = [row for row in story if row[0] in tags]
    assert read_source(kept) == wanted
    source = FilteredSource(whole, lambda tag, _: tag in tags)
    assert list(source.frames()) == [frame for frame in whole.frames() if frame.tag in tags]
    by_payload = FilteredSource(whole, lambda _, payload: len(payload) > 9)
    assert read_source(by_payload) == [row for row in story if len(row[1]) > 9]


def test_a_file_split_in_halves_is_closed_with_the_second(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    writer = Writer(path)
    sink, source = split(CombinedJournal(writer, Reader(path)))
    sink.append_frame(1, b"a")
    sink.close()
    assert read_source(source) == [(1, b"a")]
    writer.append_frame(1, b"it is still open")
    source.close()
    with pytest.raises(OptionError):
        writer.append_frame(1, b"b")


# -- pipes ----------------------------------------------------------------------------------------


@given(rows, st.integers(1, 400))
def test_a_pipe_gives_everything_in_order_whatever_its_size(story: Story, size: int) -> None:
    sink, source = pipe(first_seq=3, size_max=size)

    def write() -> None:
        with sink:
            put(sink, story)

    thread = in_thread(write)
    frames = list(source.frames())
    thread.join(DEADLINE_SECONDS)
    assert not thread.is_alive()
    assert [(frame.tag, frame.payload) for frame in frames] == story
    assert [frame.seq for frame in frames] == list(range(3, 3 + len(story)))


def test_a_full_pipe_waits_and_is_told_when_nobody_reads() -> None:
    sink, source = pipe(size_max=200)
    sink.append_frame(1, bytes(100))
    failures: list[BaseException] = []
    waits = threading.Event()

    def write() -> None:
        waits.set()
        try:
            sink.append_frame(1, bytes(100))
            sink.append_frame(1, bytes(100))
        except OptionError as error:
            failures.append(error)

    thread = in_thread(write)
    waits.wait(DEADLINE_SECONDS)
    assert next(source.frames()).seq == 0
    source.close()
    thread.join(DEADLINE_SECONDS)
    assert len(failures) == 1
    assert list(source.frames()) == []
    sink.close()


def test_a_closed_pipe_takes_no_more_and_is_read_to_its_end() -> None:
    sink, source = pipe()
    sink.append_frame(1, b"last")
    sink.close()
    with pytest.raises(OptionError):
        sink.append_frame(1, b"more")
    assert read_source(source) == [(1, b"last")]


# -- transactions ---------------------------------------------------------------------------------


def open_and_fail(sink: ForwardingSink) -> None:
    with sink:
        sink.append(opening(4))
        raise ZeroDivisionError


@given(st.lists(st.tuples(rows, st.booleans()), max_size=5))
def test_a_transaction_comes_whole_or_not_at_all(parts: list[tuple[Story, bool]]) -> None:
    end = MemoryJournal()
    transaction = Transaction(end)
    wanted: Story = []
    for story, commits in parts:
        numbers = put(transaction, story)
        assert read_source(end) == wanted
        if commits:
            wanted += story
            assert list(transaction.commit()) == numbers
        else:
            transaction.rollback()
        assert read_source(end) == wanted
    assert len(transaction) == 0


def test_leaving_a_transaction_commits_and_an_error_rolls_back(tmp_path: Path) -> None:
    with Writer(tmp_path / "journal") as writer:
        with CountingSink(Transaction(writer)) as sink:
            sink.append_frame(1, b"kept")
        with pytest.raises(ZeroDivisionError):
            open_and_fail(CountingSink(Transaction(writer)))
        assert writer.next_seq == 1
        Transaction(writer).close()
        assert writer.append_frame(2, b"it is open") == 1


def test_what_a_commit_could_not_pass_on_is_still_held() -> None:
    end = MemoryJournal(size_max=300)
    transaction = Transaction(end)
    put(transaction, [(1, b"a"), (2, b"b"), (3, b"c")])
    with pytest.raises(LimitExceeded):
        transaction.commit()
    assert read_source(end) == [(1, b"a"), (2, b"b")]
    end.clear()
    transaction.commit()
    assert read_source(end) == [(3, b"c")]


# -- auto-consistent ------------------------------------------------------------------------------


def opening(fd: int) -> OpenFileDescriptor:
    return OpenFileDescriptor(
        fd=fd,
        dirfd=3,
        dirflags=0,
        o_flags=1,
        fs_flags=0,
        fs_rights_base=(1 << 30) - 1,
        fs_rights_inheriting=0,
        path=f"file{fd}",
    )


def test_what_was_opened_inside_is_closed_at_the_end() -> None:
    end = MemoryJournal()
    with AutoClose(Transaction(end)) as sink:
        sink.append(opening(4))
        sink.append(opening(5))
        sink.append(CloseFileDescriptor(fd=4))
        sink.append(CloseFileDescriptor(fd=30))  # This descriptor was open before.
        sink.append(CreatePipe(read_fd=6, write_fd=7))
        sink.append(SocketPair(fd1=8, fd2=9))
        sink.append(SocketOpen(af=1, ty=1, pt=0, fd=10))  # type: ignore[arg-type]
        sink.append(DuplicateFileDescriptor(original_fd=31, copied_fd=11))
        sink.append(RenumberFileDescriptor(old_fd=5, new_fd=12))
        sink.append(RenumberFileDescriptor(old_fd=32, new_fd=9))
        assert sink.open_descriptors == {6, 7, 8, 10, 11, 12}
    closed = [decode(tag, payload) for tag, payload in read_source(end)][10:]
    assert closed == [CloseFileDescriptor(fd=fd) for fd in (6, 7, 8, 10, 11, 12)]


def test_what_is_rolled_back_leaves_nothing_not_even_closings() -> None:
    end = MemoryJournal()
    with pytest.raises(ZeroDivisionError):
        open_and_fail(AutoClose(Transaction(end)))
    assert read_source(end) == []


def test_without_a_transaction_an_error_closes_what_stands_already(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    with pytest.raises(ZeroDivisionError):
        open_and_fail(AutoClose(Writer(path)))
    with Reader(path) as reader:
        assert list(reader) == [opening(4), CloseFileDescriptor(fd=4)]


def test_an_end_of_the_process_has_closed_everything() -> None:
    sink = AutoClose(MemoryJournal())
    sink.append(opening(4))
    sink.append(ProcessExit(exit_code=0))
    sink.append_frame(CloseFileDescriptor.tag, b"malformed")
    assert sink.finish() == 0


fds = st.integers(0, 8)
histories = st.lists(
    st.one_of(
        st.builds(CreatePipe, read_fd=fds, write_fd=fds),
        st.builds(DuplicateFileDescriptor, original_fd=fds, copied_fd=fds),
        st.builds(RenumberFileDescriptor, old_fd=fds, new_fd=fds),
        st.builds(CloseFileDescriptor, fd=fds),
        st.builds(SocketPair, fd1=fds, fd2=fds),
    ),
    max_size=20,
)


@given(histories)
def test_behind_it_the_model_has_open_what_was_open_before_at_most(history: list[Event]) -> None:
    host, end = ModelHost(), MemoryJournal()
    sink = AutoClose(end)
    for event in [CreatePipe(read_fd=4, write_fd=5), *history]:
        try:
            play([Frame(end.next_seq, event.tag, encode(event), 0, 0)], host)
        except ReplayError:
            continue  # No guest does this.
        sink.append(event)
    at = end.next_seq
    sink.finish()
    play(end.frames(at), host)
    left = [opened.object for opened in host.descriptors.values()]
    assert all(isinstance(thing, StandardStream) for thing in left)
    assert len({thing.number for thing in left}) == len(left) <= 3


def test_copying_gives_any_sink_what_any_source_has(tmp_path: Path) -> None:
    whole = MemoryJournal()
    put(whole, [(number % 9 + 1, bytes([number])) for number in range(40)])
    with CountingSink(Writer(tmp_path / "journal")) as sink:
        assert copy(FilteredSource(whole, {2, 3}), sink) == 10
    with Reader(tmp_path / "journal") as reader:
        assert read_source(reader) == [row for row in read_source(whole) if row[0] in {2, 3}]
