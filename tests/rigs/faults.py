"""Faults of a disk and the calls that they affect, for all rigs."""

from __future__ import annotations

import errno
from collections import Counter
from typing import NamedTuple


class Fault(NamedTuple):
    """From the ``nth`` call of a kind on, counted from 1, ``times`` calls fail with ``error``.

    With ``error`` 0 a write is short: it writes ``kept`` bytes and returns that number.
    """

    call: str
    nth: int
    times: int = 1
    error: int = errno.EIO
    kept: int = 1

    def __str__(self) -> str:
        what = errno.errorcode.get(self.error, f"only {self.kept} bytes")
        return f"{what} at {self.call} {self.nth} to {self.nth + self.times - 1}"


class Faults:
    """Counter of calls, which decides whether a call fails."""

    def __init__(self, *faults: Fault) -> None:
        self.faults = faults
        self.calls: Counter[str] = Counter()

    def of(self, call: str) -> Fault | None:
        """Count one call; return its fault."""
        self.calls[call] += 1
        number = self.calls[call]
        for fault in self.faults:
            if fault.call == call and fault.nth <= number < fault.nth + fault.times:
                return fault
        return None

    def strike(self, call: str) -> Fault | None:
        """Count one call; raise its error, or return a short write."""
        fault = self.of(call)
        if fault is not None and fault.error:
            raise OSError(fault.error, f"{fault} (on purpose)")
        return fault
