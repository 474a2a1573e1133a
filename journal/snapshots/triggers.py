"""When a snapshot is to be taken: triggers by name, and what becomes of each when it happens.

No clocks and no threads: time and counts are given. What each trigger is, ``Trigger`` of
:mod:`journal.events.snapshots` says; they are those of Wasmer's journal, and two more.
"""

from collections.abc import Iterable
from math import inf

from journal.errors import OptionError
from journal.events.snapshots import Trigger

PERIOD_SECONDS = 10.0
PERIOD_SECONDS_MAX = 1e9

#: What happens once in the life of a journal. The reference has ``explicit`` here too, with a note
#: that it should not be; ours may be asked for again, as what is asked for is meant.
ONCE = frozenset(
    {Trigger.FIRST_LISTEN, Trigger.FIRST_ENVIRON, Trigger.FIRST_STDIN, Trigger.FIRST_SIGINT}
)

#: What the reference's command line takes where nothing is said.
DEFAULTS = frozenset(
    {
        Trigger.IDLE,
        Trigger.FIRST_ENVIRON,
        Trigger.FIRST_LISTEN,
        Trigger.FIRST_STDIN,
        Trigger.EXPLICIT,
    }
)

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

_SOCKET_CALLS = frozenset(
    f"sock_{name}"
    for name in (
        *("accept", "accept_v2", "addr_local", "addr_peer", "addr_resolve", "bind", "connect"),
        *("get_opt_flag", "get_opt_size", "get_opt_time", "getaddrinfo", "getlocaladdr"),
        *("getpeeraddr", "getsockopt", "listen", "open", "pair", "recv", "recv_from", "send"),
        *("send_file", "send_to", "set_opt_flag", "set_opt_size", "set_opt_time", "setsockopt"),
        *("shutdown", "status"),
    )
)

#: The functions of the host at whose entry a trigger happens, before they have any effect;
#: FIRST_STDIN only where the descriptor is 0.
CALLS_BY_TRIGGER = {
    Trigger.FIRST_ENVIRON: frozenset({"environ_get", "environ_sizes_get"}),
    Trigger.FIRST_LISTEN: frozenset({"sock_listen"}),
    Trigger.FIRST_STDIN: frozenset({"fd_read", "fd_pread"}),
    Trigger.EXPLICIT: frozenset({"proc_snapshot"}),
    Trigger.NON_DETERMINISTIC_CALL: _SOCKET_CALLS
    | {"clock_res_get", "clock_time_get", "poll_oneoff", "random_get"},
}


def format_trigger(trigger: Trigger) -> str:
    """Its name as users write it, such as ``first-stdin``."""
    return trigger.name.lower().replace("_", "-")


_BY_NAME = {format_trigger(trigger): trigger for trigger in Trigger}
assert not _BY_NAME.keys() & _ALIASES.keys()


def parse_trigger(name: str) -> Trigger:
    """The trigger of a name, or of another name that the reference knows it by.

    Raises ``OptionError``, which lists the names.
    """
    lowered = name.lower()
    trigger = _BY_NAME.get(lowered, _ALIASES.get(lowered))
    if trigger is None:
        raise OptionError(f"{name!r} is no trigger: there are {', '.join(sorted(_BY_NAME))}")
    return trigger


class TriggerState:
    """Decides whether a snapshot is to be taken; not safe from several threads.

    ``on`` are the triggers; numbers of events and of bytes arm two more. ``fired`` are those that
    a journal has snapshots of already: what happens once does not happen again. Raises
    ``OptionError``.
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
                f"a period is more than 0 and at most {PERIOD_SECONDS_MAX:.0f} seconds, "
                f"not {period_seconds}"
            )
        self._armed = set(triggers) - (ONCE & set(fired))
        self._period = period_seconds if Trigger.PERIODIC_INTERVAL in self._armed else inf
        self._events = self._arm_count(Trigger.EVENT_COUNT, every_events, "events")
        self._bytes = self._arm_count(Trigger.JOURNAL_SIZE, every_bytes, "bytes")
        self._counting_from: tuple[float, int, int] | None = None

    def _arm_count(self, trigger: Trigger, count: int | None, what: str) -> float:
        if count is None:
            if trigger in self._armed:
                raise OptionError(f"{format_trigger(trigger)} needs a number: how many {what}")
            return inf
        if count < 1:
            raise OptionError(f"a snapshot is taken every so many {what}, at least 1, not {count}")
        self._armed.add(trigger)
        return count

    def is_armed(self, trigger: Trigger) -> bool:
        """Whether a snapshot would be taken if it happened now."""
        return trigger in self._armed

    def fire(self, trigger: Trigger) -> bool:
        """Whether a snapshot is to be taken for what has happened; if that is once, it is used."""
        if trigger not in self._armed:
            return False
        if trigger in ONCE:
            self._armed.remove(trigger)
        return True

    def find_due(self, now: float, events: int, size: int) -> Trigger | None:
        """Say what has come about by itself since the last snapshot, until ``taken`` is called.

        ``now`` is in seconds, of any clock that does not go back; ``events`` and ``size`` are how
        many events, and bytes, were written so far. The first call is where counting begins.
        """
        if self._counting_from is None:
            self._counting_from = (now, events, size)
        time_then, events_then, size_then = self._counting_from
        if now - time_then >= self._period:
            return Trigger.PERIODIC_INTERVAL
        if events - events_then >= self._events:
            return Trigger.EVENT_COUNT
        if size - size_then >= self._bytes:
            return Trigger.JOURNAL_SIZE
        return None

    def reset(self, now: float, events: int, size: int) -> None:
        """A snapshot was taken, whatever for: counting begins anew."""
        self._counting_from = (now, events, size)
