"""State machine of the snapshot triggers: it decides when a snapshot is due.

The caller passes in times and counts; there are no clocks and no threads here. ``Trigger`` of
:mod:`journal.events.snapshots` describes each trigger: those of Wasmer's journal, and two more.
"""

from collections.abc import Iterable
from math import inf

from journal.errors import OptionError
from journal.events.snapshots import Trigger
from journal.wasi_abi import Signal

PERIOD_SECONDS = 10.0
PERIOD_SECONDS_MAX = 1e9

ONCE = frozenset(
    {Trigger.FIRST_LISTEN, Trigger.FIRST_ENVIRON, Trigger.FIRST_STDIN, Trigger.FIRST_SIGINT}
)
"""Triggers that fire once per journal.

Wasmer's journal also lists ``explicit``, with a note that it should not. Here ``explicit`` may fire
again, because each request asks for a snapshot.
"""

DEFAULTS = frozenset(
    {
        Trigger.IDLE,
        Trigger.FIRST_ENVIRON,
        Trigger.FIRST_LISTEN,
        Trigger.FIRST_STDIN,
        Trigger.EXPLICIT,
    }
)
"""Triggers that Wasmer's command line selects by default."""

_ALIASES = {
    "first-intr": Trigger.FIRST_SIGINT,
    "first-ctrlc": Trigger.FIRST_SIGINT,
    "first-ctrl-c": Trigger.FIRST_SIGINT,
    "intr": Trigger.SIGINT,
    "ctrlc": Trigger.SIGINT,
    "ctrl-c": Trigger.SIGINT,
    "alarm": Trigger.SIGALRM,
    "timer": Trigger.SIGALRM,
    "ctrlz": Trigger.SIGTSTP,
    "ctrl-z": Trigger.SIGTSTP,
    "stop": Trigger.SIGSTOP,
}

_CALLS_WITH_INPUTS = frozenset(
    (
        *("clock_res_get", "clock_time_get", "random_get", "tty_get", "resolve"),
        *("poll_oneoff", "epoll_wait", "proc_raise_interval"),
        *("proc_join", "proc_fork", "proc_fork_env"),
        *("proc_spawn", "proc_spawn2", "proc_spawn3"),
        *("proc_exec", "proc_exec2", "proc_exec3", "proc_exec4"),
        *("sock_accept", "sock_accept_v2", "sock_addr_local", "sock_addr_peer", "sock_bind"),
        *("sock_connect", "sock_get_opt_flag", "sock_get_opt_size", "sock_get_opt_time"),
        *("sock_join_multicast_v4", "sock_join_multicast_v6", "sock_leave_multicast_v4"),
        *("sock_leave_multicast_v6", "sock_listen", "sock_open", "sock_pair", "sock_recv"),
        *("sock_recv_from", "sock_send", "sock_send_file", "sock_send_to", "sock_set_opt_flag"),
        *("sock_set_opt_size", "sock_set_opt_time", "sock_shutdown", "sock_status"),
    )
)
"""Host functions whose result comes from outside, or may do so: each function of sockets."""

CALLS_BY_TRIGGER = {
    Trigger.FIRST_ENVIRON: frozenset({"environ_get", "environ_sizes_get"}),
    Trigger.FIRST_LISTEN: frozenset({"sock_listen"}),
    Trigger.FIRST_STDIN: frozenset({"fd_read", "fd_pread"}),
    Trigger.EXPLICIT: frozenset({"proc_snapshot"}),
    Trigger.NON_DETERMINISTIC_CALL: _CALLS_WITH_INPUTS,
}
"""Host functions whose entry fires a trigger, before the function has any effect.

FIRST_STDIN fires for descriptors of standard input only, and so does NON_DETERMINISTIC_CALL for the
functions that read.
"""

CALLS_AT_LISTENER = frozenset({"sock_accept", "sock_accept_v2", "poll_oneoff", "epoll_wait"})
"""Host functions that fire FIRST_LISTEN if they wait at a listening socket that the guest has had
from its start. Such a guest never calls sock_listen.
"""


TRIGGERS_BY_SIGNAL = {
    Signal.INT: (Trigger.FIRST_SIGINT, Trigger.SIGINT),
    Signal.ALRM: (Trigger.SIGALRM,),
    Signal.TSTP: (Trigger.SIGTSTP,),
}
"""Triggers that fire when a signal from outside reaches a guest that handles it."""


def format_trigger(trigger: Trigger) -> str:
    """Return the name of a trigger as users write it, such as ``first-stdin``."""
    return trigger.name.lower().replace("_", "-")


_BY_NAME = {format_trigger(trigger): trigger for trigger in Trigger}
assert not _BY_NAME.keys() & _ALIASES.keys()


def parse_trigger(name: str) -> Trigger:
    """Return the trigger with a name, or with another name that Wasmer's journal accepts.

    Raises an OptionError that lists the names.
    """
    lowered = name.lower()
    trigger = _BY_NAME.get(lowered, _ALIASES.get(lowered))
    if trigger is None:
        raise OptionError(
            f"unknown snapshot trigger {name!r}; known triggers: {', '.join(sorted(_BY_NAME))}"
        )
    return trigger


class TriggerState:
    """State of the selected snapshot triggers. Not thread-safe.

    ``every_events`` and ``every_bytes`` arm the triggers of the same kind. ``fired`` are the
    triggers of snapshots that the journal has already: a trigger that fires once per journal does
    not fire again. Raises OptionError.
    """

    __slots__ = ("_armed", "_bytes", "_counting_from", "_events", "_period")

    def __init__(
        self,
        triggers: Iterable[Trigger],
        *,
        period_seconds: float = PERIOD_SECONDS,
        every_events: int | None = None,
        every_bytes: int | None = None,
        fired: Iterable[Trigger] = (),
    ) -> None:
        if not 0 < period_seconds <= PERIOD_SECONDS_MAX:
            raise OptionError(
                "snapshot period must be greater than 0 and at most "
                f"{PERIOD_SECONDS_MAX:.0f} seconds, got {period_seconds}"
            )
        self._armed = set(triggers) - (ONCE & set(fired))
        self._period = period_seconds if Trigger.PERIODIC_INTERVAL in self._armed else inf
        self._events = self._arm_count(Trigger.EVENT_COUNT, every_events, "events")
        self._bytes = self._arm_count(Trigger.JOURNAL_SIZE, every_bytes, "bytes")
        self._counting_from: tuple[float, int, int] | None = None

    def _arm_count(self, trigger: Trigger, count: int | None, what: str) -> float:
        if count is None:
            if trigger in self._armed:
                raise OptionError(
                    f"{format_trigger(trigger)} needs the number of {what} between snapshots"
                )
            return inf
        if count < 1:
            raise OptionError(f"number of {what} between snapshots must be at least 1, got {count}")
        self._armed.add(trigger)
        return count

    def is_armed(self, trigger: Trigger) -> bool:
        """Return whether a trigger would cause a snapshot now."""
        return trigger in self._armed

    def fire(self, trigger: Trigger) -> bool:
        """Return whether a trigger causes a snapshot. Disarm it if it fires once per journal."""
        if trigger not in self._armed:
            return False
        if trigger in ONCE:
            self._armed.remove(trigger)
        return True

    def find_due(self, now: float, events: int, size: int) -> Trigger | None:
        """Return the periodic or counting trigger that is due since the last ``reset``, or None.

        ``now`` is in seconds of any monotonic clock. ``events`` and ``size`` are the events and
        bytes written so far. The first call starts counting.
        """
        if self._counting_from is None:
            self._counting_from = (now, events, size)
        time_start, events_start, size_start = self._counting_from
        if now - time_start >= self._period:
            return Trigger.PERIODIC_INTERVAL
        if events - events_start >= self._events:
            return Trigger.EVENT_COUNT
        if size - size_start >= self._bytes:
            return Trigger.JOURNAL_SIZE
        return None

    def reset(self, now: float, events: int, size: int) -> None:
        """Start counting again after a snapshot, whatever triggered it."""
        self._counting_from = (now, events, size)
