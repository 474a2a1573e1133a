"""Snapshot triggers: the table of the reference runtime, and a state machine with a model."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from journal.errors import OptionError
from journal.events.snapshots import Trigger
from journal.snapshots.triggers import (
    CALLS_AT_LISTENER,
    CALLS_BY_TRIGGER,
    DEFAULTS,
    ONCE,
    PERIOD_SECONDS_MAX,
    TriggerState,
    format_trigger,
    parse_trigger,
)

#: Each name on the command line of the reference, its trigger, and whether it fires only once.
REFERENCE = [
    ("idle", "IDLE", False),
    ("first-listen", "FIRST_LISTEN", True),
    ("first-stdin", "FIRST_STDIN", True),
    ("first-environ", "FIRST_ENVIRON", True),
    ("first-sigint", "FIRST_SIGINT", True),
    ("first-intr", "FIRST_SIGINT", True),
    ("first-ctrlc", "FIRST_SIGINT", True),
    ("first-ctrl-c", "FIRST_SIGINT", True),
    ("periodic-interval", "PERIODIC_INTERVAL", False),
    ("sigint", "SIGINT", False),
    ("intr", "SIGINT", False),
    ("ctrlc", "SIGINT", False),
    ("ctrl-c", "SIGINT", False),
    ("sigalrm", "SIGALRM", False),
    ("alarm", "SIGALRM", False),
    ("timer", "SIGALRM", False),
    ("sigtstp", "SIGTSTP", False),
    ("ctrlz", "SIGTSTP", False),
    ("ctrl-z", "SIGTSTP", False),
    ("sigstop", "SIGSTOP", False),
    ("stop", "SIGSTOP", False),
    ("non-deterministic-call", "NON_DETERMINISTIC_CALL", False),
    ("bootstrap", "BOOTSTRAP", False),
    ("transaction", "TRANSACTION", False),
    ("explicit", "EXPLICIT", False),  # The reference fires it once, and marks that as wrong.
]
OWN_NAMES = {"journal-size", "event-count"}
NUMERIC_TRIGGERS = {Trigger.PERIODIC_INTERVAL, Trigger.EVENT_COUNT, Trigger.JOURNAL_SIZE}

TRIGGERS = st.sampled_from(Trigger)
SETS = st.frozensets(st.sampled_from(sorted(set(Trigger) - NUMERIC_TRIGGERS)))


@pytest.mark.parametrize(("name", "trigger", "once"), REFERENCE)
def test_names_of_the_reference_have_the_same_meaning(name: str, trigger: str, once: bool) -> None:
    assert parse_trigger(name) is Trigger[trigger]
    assert parse_trigger(name.upper()) is Trigger[trigger]
    assert (Trigger[trigger] in ONCE) == once


def test_every_trigger_has_a_name_of_the_reference_or_its_own() -> None:
    names = {format_trigger(trigger) for trigger in Trigger}
    reference_triggers = {parse_trigger(name) for name, _, _ in REFERENCE}
    assert names == {format_trigger(trigger) for trigger in reference_triggers} | OWN_NAMES


def test_the_defaults_are_those_of_the_reference() -> None:
    names = {"idle", "first-environ", "first-listen", "first-stdin", "explicit"}
    assert {format_trigger(trigger) for trigger in DEFAULTS} == names


@given(TRIGGERS)
def test_a_trigger_is_found_by_its_name(trigger: Trigger) -> None:
    assert parse_trigger(format_trigger(trigger)) is trigger


@given(st.text() | st.sampled_from(["", "first", "sig int", "first_stdin", " idle", "idle "]))
def test_an_unknown_name_is_refused_with_a_list_of_names(name: str) -> None:
    assume(name.lower() not in {known for known, _, _ in REFERENCE} | OWN_NAMES)
    with pytest.raises(OptionError) as caught:
        parse_trigger(name)
    assert all(format_trigger(trigger) in str(caught.value) for trigger in Trigger)


@pytest.mark.parametrize(
    ("function", "triggers"),
    [
        ("environ_get", {Trigger.FIRST_ENVIRON}),
        ("environ_sizes_get", {Trigger.FIRST_ENVIRON}),
        ("sock_listen", {Trigger.FIRST_LISTEN, Trigger.NON_DETERMINISTIC_CALL}),
        ("fd_read", {Trigger.FIRST_STDIN}),
        ("fd_pread", {Trigger.FIRST_STDIN}),
        ("proc_snapshot", {Trigger.EXPLICIT}),
        ("clock_time_get", {Trigger.NON_DETERMINISTIC_CALL}),
        ("random_get", {Trigger.NON_DETERMINISTIC_CALL}),
        ("poll_oneoff", {Trigger.NON_DETERMINISTIC_CALL}),
        ("fd_write", set()),
    ],
)
def test_each_call_fires_its_triggers(function: str, triggers: set[Trigger]) -> None:
    assert {trigger for trigger, names in CALLS_BY_TRIGGER.items() if function in names} == triggers


def test_the_calls_of_triggers_exist() -> None:
    calls = pytest.importorskip("journal.engine.wasi.functions")
    named = CALLS_AT_LISTENER.union(*CALLS_BY_TRIGGER.values())
    sockets = {name for name in calls.WASIX if name.startswith("sock_")}
    assert sockets <= CALLS_BY_TRIGGER[Trigger.NON_DETERMINISTIC_CALL]
    assert named <= calls.WASIX.keys()


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"period_seconds": 0}, "period"),
        ({"period_seconds": -1.0}, "period"),
        ({"period_seconds": math.nan}, "period"),
        ({"period_seconds": math.inf}, "period"),
        ({"period_seconds": PERIOD_SECONDS_MAX * 2}, "period"),
        ({"every_events": 0}, "events"),
        ({"every_events": -3}, "events"),
        ({"every_bytes": 0}, "bytes"),
        ({"triggers": [Trigger.EVENT_COUNT]}, "event-count"),
        ({"triggers": [Trigger.JOURNAL_SIZE], "every_events": 5}, "journal-size"),
    ],
)
def test_invalid_options_are_refused(options: dict[str, object], word: str) -> None:
    with pytest.raises(OptionError, match=word):
        TriggerState(**{"triggers": (), **options})  # type: ignore[arg-type]


@given(SETS, SETS)
def test_a_trigger_that_fires_once_does_not_fire_again(
    on: frozenset[Trigger], fired: frozenset[Trigger]
) -> None:
    triggers = TriggerState(on, fired=fired)
    for trigger in Trigger:
        first = trigger in on and not (trigger in ONCE and trigger in fired)
        assert triggers.is_armed(trigger) == first
        assert triggers.fire(trigger) == first
        assert triggers.fire(trigger) == (first and trigger not in ONCE)


def test_no_trigger_is_armed_without_options() -> None:
    triggers = TriggerState([])
    assert not any(map(triggers.is_armed, Trigger))
    assert triggers.find_due(0.0, 0, 0) is None
    assert triggers.find_due(1e8, 1 << 60, 1 << 60) is None


@given(st.integers(1, 1000), st.integers(1, 1000))
def test_a_count_or_size_arms_its_trigger(events: int, size: int) -> None:
    assert TriggerState([], every_events=events).is_armed(Trigger.EVENT_COUNT)
    assert TriggerState([], every_bytes=size).is_armed(Trigger.JOURNAL_SIZE)
    assert not TriggerState([], every_bytes=size).is_armed(Trigger.EVENT_COUNT)


@given(st.floats(0.001, 1000), st.floats(0, 1e6), st.integers(0, 1000))
def test_a_periodic_trigger_is_due_only_after_its_period(
    period: float, start: float, snapshots: int
) -> None:
    triggers = TriggerState([Trigger.PERIODIC_INTERVAL], period_seconds=period)
    now = start
    assert triggers.find_due(now, 0, 0) is None
    for _ in range(snapshots % 7):
        assert triggers.find_due(now + period * 0.99, 0, 0) is None
        now += period * 1.01
        assert triggers.find_due(now, 0, 0) is Trigger.PERIODIC_INTERVAL
        assert triggers.find_due(now, 0, 0) is Trigger.PERIODIC_INTERVAL
        triggers.reset(now, 0, 0)
        assert triggers.find_due(now, 0, 0) is None


@dataclass
class SinceSnapshot:
    """Each wait and event size since the last snapshot."""

    seconds: list[int] = field(default_factory=list)
    events: list[int] = field(default_factory=list)


class Machine(RuleBasedStateMachine):
    """A writer of events over time; the model recomputes its sums at each check."""

    @initialize(
        on=st.frozensets(st.sampled_from(sorted(set(Trigger) - {*NUMERIC_TRIGGERS}))),
        periodic=st.booleans(),
        period=st.integers(1, 5),
        every_events=st.none() | st.integers(1, 5),
        every_bytes=st.none() | st.integers(1, 5),
        begin=st.tuples(st.integers(0, 99), st.integers(0, 99), st.integers(0, 99)),
    )
    def begin(
        self,
        on: frozenset[Trigger],
        periodic: bool,
        period: int,
        every_events: int | None,
        every_bytes: int | None,
        begin: tuple[int, int, int],
    ) -> None:
        self.on = on | ({Trigger.PERIODIC_INTERVAL} if periodic else set())
        self.limits = (period if periodic else None, every_events, every_bytes)
        self.now, self.count, self.size = begin
        self.since, self.used = SinceSnapshot(), set[Trigger]()
        self.triggers = TriggerState(
            self.on, period_seconds=period, every_events=every_events, every_bytes=every_bytes
        )
        self.triggers.find_due(*begin)

    @rule(seconds=st.integers(0, 3))
    def wait(self, seconds: int) -> None:
        self.now += seconds
        self.since.seconds.append(seconds)

    @rule(size=st.integers(0, 3))
    def write(self, size: int) -> None:
        self.count += 1
        self.size += size
        self.since.events.append(size)

    @rule()
    def take(self) -> None:
        self.triggers.reset(self.now, self.count, self.size)
        self.since = SinceSnapshot()

    @rule(trigger=TRIGGERS)
    def happen(self, trigger: Trigger) -> None:
        armed = trigger in self.on | self.numeric_triggers() and trigger not in self.used
        assert self.triggers.fire(trigger) == armed
        if armed and trigger.name.startswith("FIRST_"):
            self.used.add(trigger)

    @invariant()
    def find_due_agrees_with_the_model(self) -> None:
        if not hasattr(self, "triggers"):
            return
        found = (sum(self.since.seconds), len(self.since.events), sum(self.since.events))
        order = (Trigger.PERIODIC_INTERVAL, Trigger.EVENT_COUNT, Trigger.JOURNAL_SIZE)
        reached = [
            trigger
            for trigger, limit, value in zip(order, self.limits, found, strict=True)
            if limit is not None and value >= limit
        ]
        due = self.triggers.find_due(self.now, self.count, self.size)
        assert due == (reached[0] if reached else None)

    def numeric_triggers(self) -> set[Trigger]:
        """Return the triggers that are armed by a count or a size."""
        _, events, size = self.limits
        return {Trigger.EVENT_COUNT for _ in [events] if events} | {
            Trigger.JOURNAL_SIZE for _ in [size] if size
        }


TestMachine = Machine.TestCase
