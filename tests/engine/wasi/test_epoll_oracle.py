"""Epoll sets inside a guest against those of Linux, over random histories."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from hypothesis import given
from hypothesis import strategies as st

from tests.support.epoll_machines import (
    ADD,
    DELETE,
    EDGE,
    ERR,
    IN,
    MODIFY,
    ONESHOT,
    OUT,
    RDHUP,
    Events,
    GuestMachine,
    LinuxMachine,
)

T = TypeVar("T")

FDS = 12
PAGE, PIPE_SIZE = 4096, 65536


class Pair:
    """Both machines. Each operation is made on both, and its outcome compared."""

    def __init__(self) -> None:
        self.guest, self.linux = GuestMachine(), LinuxMachine()
        self.kinds: dict[int, Any] = {}  # What a descriptor refers to: "counter", or a pipe.

    def both(self, name: str, *arguments: Any) -> Any:
        outcomes = [getattr(each, name)(*arguments) for each in (self.guest, self.linux)]
        if name == "wait":
            outcomes = [settle(events) for events in outcomes]
        assert outcomes[0] == outcomes[1], (name, arguments)
        return outcomes[0]

    @property
    def free(self) -> list[int]:
        return [fd for fd in range(FDS) if fd not in self.kinds]

    def forget(self, fd: int) -> Any:
        """Remove a descriptor; the bytes of a pipe are lost with its last reading end."""
        state, kind = self.kinds.pop(fd)
        if kind == "r" and (state, "r") not in self.kinds.values():
            state.size = 0
        return state, kind

    def end(self) -> None:
        self.guest.end()
        self.linux.end()


class PipeState:
    """Bytes in a pipe. Linux counts pages, so a pipe has few bytes or whole pages."""

    def __init__(self) -> None:
        self.size = 0


Choices = tuple[int, int, int]
"""Numbers from which a step chooses; each is reduced to the count of possibilities."""


def choose(values: Sequence[T], choice: int) -> T:
    return values[choice % len(values)]


def create(pair: Pair, fd: int, choices: Choices) -> None:
    free = pair.free
    if len(free) > 1 and choices[1] % 2:
        pair.both("pipe", *free[:2])
        state = PipeState()
        pair.kinds[free[0]], pair.kinds[free[1]] = (state, "r"), (state, "w")
    elif free:
        pair.both("counter", free[0], choose([0, 0, 1, 1 << 30], choices[2]))
        pair.kinds[free[0]] = (None, "counter")


def transfer(pair: Pair, fd: int, choices: Choices) -> None:
    state, kind = pair.kinds[fd]
    if kind == "counter":
        if choices[1] % 2:
            number = choose([1, 2, (1 << 64) - 2], choices[2])
            pair.both("write", fd, number.to_bytes(8, "little"))
        else:
            pair.both("read", fd, 8)
    elif kind == "w":
        if not state.size and choices[1] % 2:
            if not pair.both("write", fd, bytes(PIPE_SIZE)):
                state.size = PIPE_SIZE
        elif state.size < PAGE - 100 and not pair.both("write", fd, b"x" * 50):
            state.size += 50  # On Linux a write that fails, for a full pipe, is an edge too.
    else:
        size = choose([PAGE, PIPE_SIZE] if state.size >= PAGE else [10, PAGE], choices[1])
        if not pair.both("read", fd, size):
            state.size = max(state.size - size, 0)


def close(pair: Pair, fd: int, choices: Choices) -> None:
    pair.both("close", fd)
    pair.forget(fd)


def copy(pair: Pair, fd: int, choices: Choices) -> None:
    if pair.free:
        copied = pair.free[-1]
        pair.both("duplicate", fd, copied)
        pair.kinds[copied] = pair.kinds[fd]


def move(pair: Pair, fd: int, choices: Choices) -> None:
    moved = choose(sorted(pair.kinds), choices[1])
    if fd != moved:
        pair.both("renumber", fd, moved)
        pair.forget(moved)
        pair.kinds[moved] = pair.kinds.pop(fd)


EPOLLS = (FDS, FDS + 1)
EVENTS = (IN, OUT, IN | OUT, IN | RDHUP, 0)
MODES = (0, EDGE, ONESHOT, EDGE, 0, EDGE | ONESHOT)
OPERATIONS = (ADD, ADD, MODIFY, DELETE)


def control(pair: Pair, fd: int, choices: Choices) -> None:
    events = choose(EVENTS, choices[1]) | choose(MODES, choices[1] // len(EVENTS))
    epfd = choose(EPOLLS, choices[2])
    pair.both("control", epfd, choose(OPERATIONS, choices[2] // 2), fd, events)


def wait(pair: Pair, fd: int, choices: Choices) -> None:
    pair.both("wait", choose(EPOLLS, choices[1]))


def settle(events: Events) -> Events:
    """Return events without OUT beside ERR: Linux says of a broken pipe whether it was full."""
    return [(fd, mask & ~OUT if mask & ERR else mask) for fd, mask in events]


STEPS = (create, transfer, transfer, transfer, close, copy, move, control, control, wait, wait)
NUMBERS = st.integers(0, 255)
HISTORIES = st.lists(st.tuples(st.sampled_from(STEPS), NUMBERS, NUMBERS, NUMBERS), max_size=150)
History = list[tuple[Callable[[Pair, int, Choices], None], int, int, int]]


def try_history(history: History) -> None:
    pair = Pair()
    try:
        for epfd in EPOLLS:
            pair.both("epoll", epfd)
        for step, *choices in history:
            if pair.kinds or step is create:
                fd = choose(sorted(pair.kinds) or [-1], choices[0])
                step(pair, fd, (choices[0], choices[1], choices[2]))
        for epfd in EPOLLS:
            pair.both("wait", epfd)
    finally:
        pair.end()


@given(history=HISTORIES)
def test_a_set_reports_what_linux_reports(history: History) -> None:
    try_history(history)


NESTED = st.lists(st.tuples(*[NUMBERS] * 4), max_size=80)


@given(history=NESTED)
def test_sets_that_watch_sets_report_what_linux_reports(history: list[tuple[int, ...]]) -> None:
    """Watches are level-triggered: an edge of a set is reported at least as often as on Linux."""
    pair, counters, epolls = Pair(), range(3), range(3, 10)
    try:
        for fd in counters:
            pair.both("counter", fd, 0)
        for fd in epolls:
            pair.both("epoll", fd)
        for kind, one, two, three in history:
            if kind % 3 == 0:
                fd = choose([*counters, *epolls], one)
                pair.both("control", choose(epolls, two), choose(OPERATIONS, three), fd, IN)
            elif kind % 3 == 1:
                if two % 2:
                    pair.both("write", choose(counters, one), (1).to_bytes(8, "little"))
                else:
                    pair.both("read", choose(counters, one), 8)
            else:
                pair.both("wait", choose(epolls, one))
    finally:
        pair.end()


def test_all_watches_have_their_turn() -> None:
    machine = GuestMachine()
    machine.epoll(0)
    for fd in range(1, 6):
        machine.counter(fd, 1)
        machine.control(0, ADD, fd, IN)
    turns = [machine.wait(0, 2) for _ in range(5)]
    machine.end()
    assert sorted(fd for turn in turns for fd, _ in turn) == sorted([*range(1, 6)] * 2)
