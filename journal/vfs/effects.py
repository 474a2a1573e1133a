"""The recorder of effects, through which a file operation passes before it changes anything."""

from typing import Protocol

from journal.events.definition import Event


class EffectRecorder(Protocol):
    """Receiver of the effects of file operations.

    An operation checks everything that can be refused, records its effect, and then makes the
    change with the time of the effect. While a guest runs, the recorder appends events to the
    journal. In a replay the events exist, and the recorder only returns their times.
    """

    @property
    def seq(self) -> int:
        """Sequence number of the latest effect."""

    def record(self, kind: type[Event], *values: object) -> int:
        """Record an effect whose fields have ``values``, in wire order.

        Return its time in nanoseconds since the epoch.
        """

    def record_write(self, fd: int, offset: int, data: bytes) -> int:
        """Record a FileDescriptorWrite, the most frequent effect, and return its time."""
