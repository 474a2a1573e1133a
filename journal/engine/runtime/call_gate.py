"""Interception of host calls, so that a guest can be suspended before a call has an effect."""

from collections.abc import Callable, Iterable


class SuspendCall(BaseException):
    """Request of a host function to suspend the guest before the call has an effect."""


class InterceptedCall:
    """One host function: intercepted now if ``is_active``, and always if ``is_always``."""

    __slots__ = ("is_active", "is_always", "name")

    def __init__(self, name: str) -> None:
        self.name = name
        self.is_active = False
        self.is_always = False


class CallInterceptor:
    """Counter and interceptor of a guest's host calls.

    ``on_call(name, arguments)`` runs in the guest's thread before an intercepted call. If it
    returns True, the guest's stack is being unwound and the call will be made again.
    ``on_suspend(name)`` runs if the call raised ``SuspendCall``.
    """

    __slots__ = ("_calls", "calls", "on_call", "on_suspend")

    def __init__(self) -> None:
        self.calls = 0
        self.on_call: Callable[[str, tuple[int, ...]], bool] = lambda name, arguments: False
        self.on_suspend: Callable[[str], None] = lambda name: None
        self._calls: dict[str, InterceptedCall] = {}

    def find_call(self, name: str) -> InterceptedCall:
        """Return the host function ``name``."""
        return self._calls.setdefault(name, InterceptedCall(name))

    @property
    def names(self) -> set[str]:
        """Names of all host functions."""
        return set(self._calls)

    def set_always(self, names: Iterable[str]) -> None:
        """Intercept these functions always, and no others."""
        selected = set(names)
        for call in self._calls.values():
            call.is_always = call.is_active = call.name in selected

    def intercept_all(self) -> None:
        """Intercept the next call of any function. Thread-safe."""
        for call in self._calls.values():
            call.is_active = True

    def intercept_selected(self) -> None:
        """Intercept only the functions of ``set_always``."""
        for call in self._calls.values():
            call.is_active = call.is_always
