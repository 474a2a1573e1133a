"""Where a guest can be held up: at the calls it makes of its host, before they have an effect."""

from collections.abc import Callable, Iterable


class SuspendCall(BaseException):
    """A call has had no effect yet, and would wait: hold the guest up, and call again after."""


class InterceptedCall:
    """One function of the host. ``is_active``: who calls it is held up; ``is_always``: always."""

    __slots__ = ("is_active", "is_always", "name")

    def __init__(self, name: str) -> None:
        self.name = name
        self.is_active = False
        self.is_always = False


class CallInterceptor:
    """Counts the calls of a guest, and holds it up at those that are is_active.

    ``hold(name, arguments)`` is called in the guest's thread; when it gives True, the guest's
    stack is being unwound, and the call will be made again. ``pause(name)`` is called instead
    when a call raised ``SuspendCall``.
    """

    __slots__ = ("_calls", "calls", "on_call", "on_suspend")

    def __init__(self) -> None:
        self.calls = 0
        self.on_call: Callable[[str, tuple[int, ...]], bool] = lambda name, arguments: False
        self.on_suspend: Callable[[str], None] = lambda name: None
        self._calls: dict[str, InterceptedCall] = {}

    def find_call(self, name: str) -> InterceptedCall:
        """The function called ``name``."""
        return self._calls.setdefault(name, InterceptedCall(name))

    @property
    def names(self) -> set[str]:
        """The names of all functions."""
        return set(self._calls)

    def set_always(self, names: Iterable[str]) -> None:
        """Close these functions for good, and open all others."""
        wanted = set(names)
        for call in self._calls.values():
            call.is_always = call.is_active = call.name in wanted

    def intercept_all(self) -> None:
        """Hold the guest up at its next call, whichever it is. From any thread."""
        for call in self._calls.values():
            call.is_active = True

    def intercept_selected(self) -> None:
        """Hold it up no longer, but where it is is_always."""
        for call in self._calls.values():
            call.is_active = call.is_always
