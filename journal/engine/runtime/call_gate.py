"""Where a guest can be held up: at the calls it makes of its host, before they have an effect."""

from collections.abc import Callable, Iterable


class SuspendCall(BaseException):
    """A call has had no effect yet, and would wait: hold the guest up, and call again after."""


class InterceptedCall:
    """One function of the host. ``closed``: who calls it is held up; ``watched``: always."""

    __slots__ = ("closed", "name", "watched")

    def __init__(self, name: str) -> None:
        self.name = name
        self.closed = False
        self.watched = False


class CallInterceptor:
    """Counts the calls of a guest, and holds it up at those that are closed.

    ``hold(name, arguments)`` is called in the guest's thread; when it gives True, the guest's
    stack is being unwound, and the call will be made again. ``pause(name)`` is called instead
    when a call raised ``SuspendCall``.
    """

    __slots__ = ("_spots", "calls", "hold", "pause")

    def __init__(self) -> None:
        self.calls = 0
        self.hold: Callable[[str, tuple[int, ...]], bool] = lambda name, arguments: False
        self.pause: Callable[[str], None] = lambda name: None
        self._spots: dict[str, InterceptedCall] = {}

    def spot(self, name: str) -> InterceptedCall:
        """The function called ``name``."""
        return self._spots.setdefault(name, InterceptedCall(name))

    @property
    def names(self) -> set[str]:
        """The names of all functions."""
        return set(self._spots)

    def watch(self, names: Iterable[str]) -> None:
        """Close these functions for good, and open all others."""
        wanted = set(names)
        for spot in self._spots.values():
            spot.watched = spot.closed = spot.name in wanted

    def close(self) -> None:
        """Hold the guest up at its next call, whichever it is. From any thread."""
        for spot in self._spots.values():
            spot.closed = True

    def open(self) -> None:
        """Hold it up no longer, but where it is watched."""
        for spot in self._spots.values():
            spot.closed = spot.watched
