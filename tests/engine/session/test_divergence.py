"""A replay that differs from its journal raises Divergence and does not change the journal."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import journal
from journal import Divergence, Event, Frame, HostMount
from journal.engine import FileCopy, HostDiffers
from journal.events.core import ProcessExit
from journal.events.descriptors import FileDescriptorWrite
from journal.events.inputs import (
    ClockRead,
    HostCall,
    HostResult,
    PollResult,
    RandomBytes,
    StreamRead,
)
from journal.events.paths import PathRename
from journal.events.process import SessionStart
from journal.events.streams import StreamDelivered, StreamOpened, StreamWrite
from tests.support.deadlines import DEADLINE_SECONDS
from tests.support.guest_runs import wait_for_end
from tests.support.programs import guest
from tests.support.rewrites import Change, alter_event, events_of, frames_of, replace_event, rewrite

LINES = b"".join(b"line %d\n" % number for number in range(6))
MARKS = {cls.tag for cls in (SessionStart, StreamOpened, StreamDelivered)}
STEPS = "4"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, cache_dir: Path) -> tuple[Path, bytes]:
    """The journal of a worker with in-memory files, and its output."""
    folder = tmp_path_factory.mktemp("worker")
    (folder / "empty").mkdir()
    with journal.record(
        guest("worker"),
        folder / "journal",
        args=["worker", "/work", STEPS],
        copies=[FileCopy(str(folder / "empty"), "/work")],
        stdin=LINES,
        cache=cache_dir,
    ) as recorder:
        assert wait_for_end(recorder).code == 0
        return folder / "journal", recorder.stdout


@pytest.fixture(scope="module")
def on_host(tmp_path_factory: pytest.TempPathFactory, cache_dir: Path) -> Path:
    """The journal of a worker with files in a host directory."""
    folder = tmp_path_factory.mktemp("worker")
    (folder / "work").mkdir()
    with journal.record(
        guest("worker"),
        folder / "journal",
        args=["worker", "/work", STEPS],
        mounts=[HostMount(str(folder / "work"), "/work")],
        stdin=LINES,
        cache=cache_dir,
    ) as recorder:
        assert wait_for_end(recorder).code == 0
    return folder / "journal"


def unfinished(frames: list[Frame]) -> list[Frame]:
    """Return the frames without the exit, because an ended program is not replayed to resume it."""
    return [frame for frame in frames if frame.tag != ProcessExit.tag]


def replace_at(at: int, event: Event) -> Change:
    """Return a change that replaces an event."""
    return lambda frames: replace_event(unfinished(frames), at, event)


def remove_at(at: int) -> Change:
    """Return a change that removes an event."""
    return lambda frames: unfinished(frames[:at] + frames[at + 1 :])


def swap_at(at: int) -> Change:
    """Return a change that swaps an event with its successor."""
    return lambda frames: unfinished([*frames[:at], frames[at + 1], frames[at], *frames[at + 2 :]])


def place_of(path: Path, kind: type[Event], nth: int = 0) -> int:
    """Return the sequence number of the ``nth`` event of a kind after the first stream events."""
    found = [frame.seq for frame in frames_of(path) if frame.tag == kind.tag]
    return found[nth]


def resume_until_divergence(path: Path, cache: Path) -> Divergence:
    """Resume a journal and return the divergence that ends it."""
    with journal.resume(path, stdin=LINES, strict=False, cache=cache) as again:
        with pytest.raises(Divergence) as caught:
            again.wait(DEADLINE_SECONDS)
        return caught.value


def kinds(frames: list[Frame]) -> list[int]:
    """Return the tags of the frames that a replay reads."""
    return [frame.tag for frame in frames if frame.tag not in MARKS]


WAYS: list[tuple[str, type[Event], Callable[[Event], Event]]] = [
    ("a write", FileDescriptorWrite, lambda e: alter_event(e, data=b"\0" * 8)),
    ("its offset", FileDescriptorWrite, lambda e: alter_event(e, offset=1)),
    ("a rename", PathRename, lambda e: alter_event(e, new_path="elsewhere")),
    ("an output", StreamWrite, lambda e: alter_event(e, data=b"never said\n")),
    ("a stream", StreamWrite, lambda e: alter_event(e, stream=2)),
]


@pytest.mark.parametrize(("what", "kind", "alter"), WAYS, ids=[way[0] for way in WAYS])
def test_what_the_guest_did_is_compared_with_the_journal(
    what: str,
    kind: type[Event],
    alter: Callable[[Event], Event],
    whole: tuple[Path, bytes],
    tmp_path: Path,
    cache_dir: Path,
) -> None:
    path, _ = whole
    at = place_of(path, kind, 2)
    event = events_of(path)[at]
    other = alter(event)
    target = rewrite(path, tmp_path / "j", replace_at(at, other))
    found = resume_until_divergence(target, cache_dir)
    assert (found.seq, found.expected, found.actual) == (at, repr(other), repr(event)), what
    assert "wasm function" in found.backtrace
    assert str(found).startswith(f"replay diverged at event {at}: the journal has ")


@pytest.mark.filterwarnings("ignore::journal.engine.HostDiffers")  # The input is another one.
@pytest.mark.parametrize(("kind", "nth"), [(ClockRead, 1), (RandomBytes, 1), (StreamRead, 0)])
def test_what_the_guest_was_told_changes_what_it_does(
    kind: type[Event], nth: int, whole: tuple[Path, bytes], tmp_path: Path, cache_dir: Path
) -> None:
    path, _ = whole
    at = place_of(path, kind, nth)
    event = events_of(path)[at]
    if isinstance(event, ClockRead):
        other = alter_event(event, time=event.time + 1)
    else:
        assert isinstance(event, RandomBytes | StreamRead)
        other = alter_event(event, data=b"~" + event.data[1:])
    target = rewrite(path, tmp_path / "j", replace_at(at, other))
    found = resume_until_divergence(target, cache_dir)
    assert found.seq > at
    assert found.expected != found.actual


def test_an_event_that_is_missing_is_noticed_where_it_was(
    whole: tuple[Path, bytes], tmp_path: Path, cache_dir: Path
) -> None:
    path, _ = whole
    frames = unfinished(frames_of(path))
    begin = place_of(path, SessionStart) + 1
    places = [f.seq for f in frames[:-1] if f.seq >= begin and f.tag not in MARKS]
    assert len(places) > 40
    for at in places[:: len(places) // 20]:
        target = tmp_path / f"{at}"
        rewrite(path, target, remove_at(at))
        found = resume_until_divergence(target, cache_dir)
        assert at <= found.seq <= at + 2, "a mark may have moved up"


def test_two_events_that_are_swapped_are_noticed(
    whole: tuple[Path, bytes], tmp_path: Path, cache_dir: Path
) -> None:
    path, _ = whole
    frames = frames_of(path)
    begin = place_of(path, SessionStart) + 5
    pairs = [
        at
        for at in range(begin, len(frames) - 2)
        if frames[at].tag not in MARKS
        and frames[at + 1].tag not in MARKS
        and frames[at].payload != frames[at + 1].payload
    ]
    for at in pairs[:: len(pairs) // 15]:
        target = rewrite(path, tmp_path / f"{at}", swap_at(at))
        assert resume_until_divergence(target, cache_dir).seq == at


def test_other_arguments_are_noticed(
    whole: tuple[Path, bytes], tmp_path: Path, cache_dir: Path
) -> None:
    path, _ = whole
    other = alter_event(events_of(path)[0], arguments=(b"worker", b"/work", b"2"))
    target = rewrite(path, tmp_path / "j", replace_at(0, other))
    assert resume_until_divergence(target, cache_dir).seq > place_of(target, StreamWrite, 1)


def test_a_divergence_leaves_the_journal_as_it_was_and_it_can_be_put_right(
    whole: tuple[Path, bytes], tmp_path: Path, cache_dir: Path
) -> None:
    path, printed = whole
    at = place_of(path, StreamWrite, 2)
    event = events_of(path)[at]
    wrong = alter_event(event, data=b"never said\n")
    target = rewrite(path, tmp_path / "j", replace_at(at, wrong))
    before = frames_of(target)
    output = tmp_path / "output"
    for _ in range(3):
        with (
            output.open("ab") as stdout,
            journal.resume(target, stdin=LINES, stdout=stdout, cache=cache_dir) as again,
            pytest.raises(Divergence),
        ):
            again.wait(DEADLINE_SECONDS)
        said = output.read_bytes()
        assert printed.startswith(said), "nothing that is in doubt may leave"
        after = frames_of(target)
        assert after[: len(before)] == before
        assert kinds(after) == kinds(before)
    right = rewrite(target, tmp_path / "right", lambda frames: replace_event(frames, at, event))
    with (
        output.open("ab") as stdout,
        journal.resume(right, stdin=LINES, stdout=stdout, cache=cache_dir) as again,
    ):
        assert wait_for_end(again).code == 0
    assert output.read_bytes() == printed


def test_an_event_of_an_unknown_kind_is_not_passed_over(
    whole: tuple[Path, bytes], tmp_path: Path, cache_dir: Path
) -> None:
    path, _ = whole
    at = place_of(path, StreamWrite, 2)
    unknown = Frame(at, 223, b"from the future", 0, 0)
    target = rewrite(
        path, tmp_path / "j", lambda frames: unfinished([*frames[:at], unknown, *frames[at:]])
    )
    with (
        journal.resume(target, stdin=LINES, cache=cache_dir) as again,
        pytest.raises(journal.NotResumable, match="of the unknown kind 223"),
    ):
        again.wait(DEADLINE_SECONDS)


@pytest.mark.parametrize("value", [b"", b"\x01", b"\xff" * 7, b"\xff" * 300])
def test_an_answer_that_no_host_gives_is_refused_in_a_sentence(
    value: bytes, on_host: Path, tmp_path: Path, cache_dir: Path
) -> None:
    events = events_of(on_host)
    places: dict[HostCall, int] = {}
    for at, event in enumerate(events):
        if isinstance(event, HostResult) and event.value:
            places.setdefault(event.call, at)
    assert len(places) >= 6
    refused: dict[HostCall, str] = {}
    for call, at in places.items():
        other = alter_event(events[at], value=value)
        target = rewrite(
            on_host,
            tmp_path / call.name,
            replace_at(at, other),
        )
        try:
            with journal.resume(target, stdin=LINES, cache=cache_dir) as again:
                wait_for_end(again)
        except journal.JournalError as error:
            refused[call] = str(error)
    assert not any("\n" in told for told in refused.values()), refused
    assert len(refused) >= 3, "an answer that has no form is contents, all others have one"


@pytest.mark.parametrize("size", [0, 31, 33, 64, 4096])
def test_a_poll_result_that_no_host_gives_is_refused_in_a_sentence(
    size: int, tmp_path: Path, cache_dir: Path
) -> None:
    with journal.record(
        guest("sleepy"), tmp_path / "whole", args=["sleepy", "1", "10"], cache=cache_dir
    ) as recorder:
        assert wait_for_end(recorder).code == 0
    at = place_of(tmp_path / "whole", PollResult)
    target = rewrite(
        tmp_path / "whole",
        tmp_path / "j",
        replace_at(at, PollResult(events=b"\xff" * size)),
    )
    with (
        journal.resume(target, cache=cache_dir) as again,
        pytest.raises(journal.JournalError) as caught,
    ):
        again.wait(DEADLINE_SECONDS)
    assert len(str(caught.value).splitlines()) == 1


def test_input_that_is_longer_than_was_asked_for_is_refused_in_a_sentence(
    whole: tuple[Path, bytes], tmp_path: Path, cache_dir: Path
) -> None:
    path, _ = whole
    at = place_of(path, StreamRead)
    longer = alter_event(events_of(path)[at], data=b"x" * 100_000)
    target = rewrite(path, tmp_path / "j", replace_at(at, longer))
    with (
        pytest.warns(HostDiffers),
        journal.resume(target, stdin=LINES, strict=False, cache=cache_dir) as again,
        pytest.raises(journal.JournalError) as caught,
    ):
        again.wait(DEADLINE_SECONDS)
    assert len(str(caught.value).splitlines()) == 1
