"""Functions of the embedder that receive the events and the output of a run."""

from __future__ import annotations

from pathlib import Path

import pytest

import journal
from journal import OptionError, OutputLost
from journal.engine.wasi.stdio.outbox import InFlightPolicy
from journal.events.streams import StreamDelivered
from journal.format.frame import Frame
from tests.support.guest_runs import wait_for_end
from tests.support.programs import guest

COMMANDS = b"set bread rye\nget bread\nwhat\n"


class Receiver:
    """Function for ``on_output`` that fails at its n-th call, if told so."""

    def __init__(self, fails_at: int = 0) -> None:
        self.parts: list[tuple[int, bytes]] = []
        self._calls_left = fails_at

    def __call__(self, stream: int, data: bytes) -> None:
        self._calls_left -= 1
        if self._calls_left == 0:
            raise LookupError("no space")
        self.parts.append((stream, data))

    def read(self, stream: int) -> bytes:
        return b"".join(data for number, data in self.parts if number == stream)


def record_prompt(path: Path, cache: Path, receiver: Receiver | None = None) -> journal.Recorder:
    return journal.record(
        guest("prompt"), path, args=["prompt"], cache=cache, stdin=COMMANDS, on_output=receiver
    )


def test_on_output_receives_both_streams_and_nothing_is_captured(
    tmp_path: Path, cache_dir: Path
) -> None:
    receiver = Receiver()
    with record_prompt(tmp_path / "a.journal", cache_dir, receiver) as recorder:
        wait_for_end(recorder)
        with pytest.raises(OptionError, match="on_output receives it"):
            _ = recorder.stdout
    assert receiver.read(1) == b"1> 2> rye\n3> 4> \nno more commands\n"
    assert receiver.read(2) == b"what is what?\n"


def test_an_ended_run_does_not_repeat_its_output(tmp_path: Path, cache_dir: Path) -> None:
    with record_prompt(tmp_path / "a.journal", cache_dir, Receiver()) as recorder:
        wait_for_end(recorder)
    receiver = Receiver()
    with journal.resume(tmp_path / "a.journal", cache=cache_dir, on_output=receiver) as recorder:
        wait_for_end(recorder)
    assert receiver.parts == []


@pytest.mark.parametrize("fails_at", [1, 2, 4])
def test_a_failing_function_ends_the_run_and_a_resume_passes_the_rest(
    fails_at: int, tmp_path: Path, cache_dir: Path
) -> None:
    path, first = tmp_path / "a.journal", Receiver(fails_at)
    with (
        record_prompt(path, cache_dir, first) as recorder,
        pytest.raises(OutputLost, match=r"on_output raised LookupError") as caught,
    ):
        wait_for_end(recorder)
    assert isinstance(caught.value.__cause__, LookupError)
    assert "\n" not in str(caught.value)
    second = Receiver()
    with journal.resume(path, stdin=COMMANDS, cache=cache_dir, on_output=second) as recorder:
        assert wait_for_end(recorder).code == 0
    assert first.read(1) + second.read(1) == b"1> 2> rye\n3> 4> \nno more commands\n"
    assert first.read(2) + second.read(2) == b"what is what?\n"


def test_the_call_that_a_crash_left_in_doubt_is_repeated_or_dropped(
    tmp_path: Path, cache_dir: Path
) -> None:
    path = tmp_path / "a.journal"
    with record_prompt(path, cache_dir, Receiver()) as recorder:
        wait_for_end(recorder)
    with journal.Reader(path) as reader:
        last = max(frame.seq for frame in reader.frames(tags={StreamDelivered.tag}))
    outputs = {}
    for policy in InFlightPolicy:
        cut = tmp_path / f"{policy.value}.journal"
        journal.cut(path, cut, at=last - 1)  # The record of the last delivery is lost.
        receiver = Receiver()
        with journal.resume(
            cut, stdin=COMMANDS, cache=cache_dir, on_output=receiver, in_flight=policy
        ) as recorder:
            wait_for_end(recorder)
        outputs[policy] = receiver.read(1)
    assert outputs[InFlightPolicy.REPEAT].endswith(b"\nno more commands\n")
    assert outputs[InFlightPolicy.DROP] == b""


def test_on_event_receives_the_events_of_the_journal(tmp_path: Path, cache_dir: Path) -> None:
    path, frames = tmp_path / "a.journal", list[Frame]()
    with journal.record(
        guest("prompt"), path, cache=cache_dir, stdin=COMMANDS, on_event=frames.append
    ) as recorder:
        wait_for_end(recorder)
    with journal.Reader(path) as reader:
        stored = [frame[:4] for frame in reader.frames(frames[0].seq)]
    assert [frame[:4] for frame in frames] == stored
    assert {frame.offset for frame in frames} == {-1}


@pytest.mark.parametrize("fails_at", [1, 3, 8])
def test_an_exception_of_on_event_stops_the_guest_and_the_journal_is_resumed(
    fails_at: int, tmp_path: Path, cache_dir: Path
) -> None:
    path, count = tmp_path / "a.journal", 0

    def fail(frame: Frame) -> None:
        nonlocal count
        count += 1
        if count == fails_at:
            raise ValueError("enough")

    with (
        journal.record(
            guest("prompt"), path, cache=cache_dir, stdin=COMMANDS, on_event=fail
        ) as recorder,
        pytest.raises(ValueError, match="enough"),
    ):
        wait_for_end(recorder)
    assert count == fails_at, "it is not called again"
    with journal.resume(path, stdin=COMMANDS, cache=cache_dir) as recorder:
        assert wait_for_end(recorder).code == 0
        assert recorder.stdout == b"1> 2> rye\n3> 4> \nno more commands\n"


def test_call_at_end_calls_at_once_after_the_end(tmp_path: Path, cache_dir: Path) -> None:
    calls: list[str] = []
    with record_prompt(tmp_path / "a.journal", cache_dir) as recorder:
        recorder.call_at_end(lambda: calls.append("first"))
        wait_for_end(recorder)
        assert calls == ["first"]
        recorder.call_at_end(lambda: calls.append("second"))
        assert calls == ["first", "second"]
