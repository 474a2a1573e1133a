"""Periodic interruption of a computing guest."""

import threading
import time
from collections.abc import Callable

#: Delays of output, so that several lines share one sync. Output that comes less than
#: STREAM_PAUSE_SECONDS after the last tick belongs to a stream and has the longer delay.
OUTPUT_DELAY_SECONDS = 0.002
STREAM_DELAY_SECONDS = 0.02
STREAM_PAUSE_SECONDS = 0.1
#: Longest time between flushes of the journal to the kernel, and between syncs.
INTERVAL_SECONDS = 1.0


class EpochTicker:
    """A thread that interrupts the guest's thread: soon after output, and once per interval."""

    def __init__(
        self, tick: Callable[[], None], interval_seconds: float = INTERVAL_SECONDS
    ) -> None:
        self._tick = tick
        self._interval = interval_seconds
        self._request = threading.Event()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="journal-ticker", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def arm(self) -> None:
        """Request a tick soon."""
        self._request.set()

    def close(self) -> None:
        """Stop the thread."""
        self._closed = True
        self._request.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        last_tick = 0.0
        while not self._closed:
            if self._request.wait(self._interval):
                self._request.clear()
                is_stream = time.monotonic() - last_tick < STREAM_PAUSE_SECONDS
                time.sleep(STREAM_DELAY_SECONDS if is_stream else OUTPUT_DELAY_SECONDS)
                last_tick = time.monotonic()
            if not self._closed:
                self._tick()
