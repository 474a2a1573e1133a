"""Events whose payloads are not decoded, because only an application knows their meaning."""

from typing import Any, Self

from journal.events.definition import Event, Group, Keep, Role


class OpaqueEvent(Event):
    """An event of an application: its tag, and its payload as bytes. Importable from ``journal``.

    A reader returns it for an application tag whose kind is not declared, and for a payload that
    does not fit the declared fields.
    """

    __slots__ = ("payload", "tag")
    tag: int  # type: ignore[misc]
    payload: bytes
    group = Group.APPLICATION
    role = Role.RECORDING
    rule = Keep()
    names = ("tag", "payload")

    def __new__(cls, *, tag: int, payload: bytes) -> Self:
        """Create the event."""
        created = super().__new__(cls)
        object.__setattr__(created, "tag", tag)
        object.__setattr__(created, "payload", payload)
        return created

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"cannot change field {name}: OpaqueEvent events are frozen")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"cannot delete field {name}: OpaqueEvent events are frozen")
