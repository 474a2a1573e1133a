"""Signals of a process that runs a guest: stop the guest, take a snapshot, or both.

SIGINT, SIGTERM and SIGHUP stop the guest, and a second one ends the process. SIGINT takes a
snapshot instead, if a trigger is set for it. SIGUSR1 requests a snapshot, if the recorder can take
snapshots. SIGALRM, SIGTSTP and SIGCONT are only handled if a trigger is set for them. A process
cannot handle SIGSTOP, so its snapshot is taken at the next SIGCONT. A SIGCONT without a stop takes
a snapshot too.

A forwarded signal goes to the guest instead, if the guest has a handler and has handled the last
one of this kind. Otherwise it does the same as one that is not forwarded, or the system's default:
it stops the guest, suspends this process, or does nothing.
"""

import os
import signal
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from math import inf
from typing import TYPE_CHECKING

from journal import JournalError
from journal.events.snapshots import Trigger
from journaltool import exit_codes

if TYPE_CHECKING:
    from journal import Recorder
    from journal.engine import SnapshotOptions

#: Seconds that Ctrl-Z waits for its snapshot. A computing guest may not reach a safe point.
SUSPEND_SECONDS = 5.0

#: Seconds after which a second signal counts. A shell may pass on the signal of one Ctrl-C again.
AGAIN_SECONDS = 1.0

#: Signals that matter after the end of the guest, while the journal is closed and compacted.
_HEARD_TO_THE_END = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGTSTP)

_ENDING = frozenset(
    (
        *(signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM),
        *(signal.SIGVTALRM, signal.SIGPROF),
    )
)
"""Signals that the watcher handles only if they are forwarded, and that end a process by default.
"""

_READ_SIZE = 512


class SignalWatcher:
    """Actions of signals while a guest runs. ``stop_signal`` is the first signal that stopped it.

    A thread performs the actions, because Python runs handlers only in the main thread, and the
    main thread waits for the guest. When a stopped process continues, the system may also deliver
    the signal to another thread.
    """

    def __init__(
        self,
        recorder: "Recorder",
        snapshots: "SnapshotOptions",
        forwarded: Collection[signal.Signals] = (),
    ) -> None:
        self._recorder = recorder
        self._snapshots = snapshots
        # Each forwarded signal, and the time when the guest got the last one.
        self._forwarded_at = dict.fromkeys(forwarded, -inf)
        self._suspends = False
        self._has_suspended = False
        self.is_over = False
        self.stop_signal = 0
        self._stopped_at = 0.0

    def actions(self) -> dict[int, Callable[[], object]]:
        """Return the action of each handled signal."""
        on = self._snapshots.on
        found: dict[int, Callable[[], object]] = {
            signal.SIGINT: self._interrupt,
            signal.SIGTERM: lambda: self._stop(signal.SIGTERM),
            signal.SIGHUP: lambda: self._stop(signal.SIGHUP),
        }
        if self._recorder.takes_snapshots:
            found[signal.SIGUSR1] = self._request_snapshot
        if Trigger.SIGALRM in on:
            found[signal.SIGALRM] = lambda: self._recorder.notify(Trigger.SIGALRM)
        if Trigger.SIGTSTP in on:
            found[signal.SIGTSTP] = self._suspend
        if Trigger.SIGSTOP in on:
            found[signal.SIGCONT] = self._continue
        for number in self._forwarded_at:
            found[number] = partial(self._forward, number, found.get(number))
        return found

    def run(self, descriptor: int) -> None:
        """Perform the action of each signal number read from a descriptor, until its end."""
        actions = self.actions()
        while numbers := os.read(descriptor, _READ_SIZE):
            for number in numbers:
                if number in actions and (not self.is_over or number in _HEARD_TO_THE_END):
                    with suppress(JournalError):  # The main thread reports it.
                        actions[number]()

    def _forward(self, number: signal.Signals, otherwise: Callable[[], object] | None) -> None:
        """Send a signal to the guest, or act as without forwarding if the guest does not take it.

        A signal of the same keystroke as the last one does nothing.
        """
        now = time.monotonic()
        if not self.is_over and self._recorder.signal(number):
            self._forwarded_at[number] = now
        elif now - self._forwarded_at[number] >= AGAIN_SECONDS:
            if otherwise is not None:
                otherwise()
            elif number in _ENDING:
                self._stop(number)
            elif number == signal.SIGTSTP:
                os.kill(os.getpid(), signal.SIGSTOP)

    def _interrupt(self) -> None:
        triggers = () if self.is_over else (Trigger.FIRST_SIGINT, Trigger.SIGINT)
        if not any(map(self._recorder.notify, triggers)):
            self._stop(signal.SIGINT)

    def _stop(self, number: int) -> None:
        """Stop the guest. A later signal that is not the same keystroke ends this process at once.

        A guest may be in a long instruction, such as a fill of its whole memory. The journal is as
        after a kill then, and a resume continues.
        """
        now = time.monotonic()
        if self.stop_signal and now - self._stopped_at >= AGAIN_SECONDS:
            os._exit(exit_codes.code_for_signal(number))
        if not self.stop_signal:
            self.stop_signal, self._stopped_at = number, now
        self._recorder.stop(compact=False)

    def _request_snapshot(self) -> None:
        self._recorder.snapshot(Trigger.EXPLICIT, 0)

    def _suspend(self) -> None:
        if not self._suspends:
            self._suspends = True
            threading.Thread(
                target=self._take_and_stop, name="journal-suspend", daemon=True
            ).start()

    def _take_and_stop(self) -> None:
        """Take the snapshot, and stop this process as Ctrl-Z does."""
        with suppress(JournalError):
            if not self.is_over:
                self._recorder.snapshot(Trigger.SIGTSTP, SUSPEND_SECONDS)
        self._suspends = False
        if not self._snapshots.stop_after:  # Otherwise the process ends now.
            self._has_suspended = True
            os.kill(os.getpid(), signal.SIGSTOP)

    def _continue(self) -> None:
        if self._has_suspended:
            self._has_suspended = False  # This process stopped itself and has its snapshot.
        else:
            self._recorder.notify(Trigger.SIGSTOP)


@contextmanager
def watch_signals(
    recorder: "Recorder",
    snapshots: "SnapshotOptions",
    forwarded: Collection[signal.Signals] = (),
) -> Iterator[SignalWatcher]:
    """Handle signals in the block, in which a guest runs."""
    watcher = SignalWatcher(recorder, snapshots, forwarded)
    with ExitStack() as stack:
        source, sink = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(sink, False)
        thread = threading.Thread(
            target=watcher.run, args=(source,), name="journal-signals", daemon=True
        )
        stack.callback(os.close, source)
        stack.callback(thread.join)
        stack.callback(os.close, sink)
        thread.start()
        before = signal.set_wakeup_fd(sink, warn_on_full_buffer=False)
        stack.callback(signal.set_wakeup_fd, before)
        for number in watcher.actions():
            _install_handler(number, stack)
        yield watcher


def _install_handler(number: int, stack: ExitStack) -> None:
    """Send the number of a signal to the watcher, until the end of the stack."""
    before = signal.getsignal(number)
    if before == signal.SIG_IGN and number != signal.SIGUSR1:
        return  # nohup and background jobs ignore the signal.
    signal.signal(number, _wake_watcher)
    # A late request for a snapshot must not end the process.
    after = signal.SIG_IGN if number == signal.SIGUSR1 else before
    stack.callback(signal.signal, number, after)


def _wake_watcher(*_: object) -> None:
    """Do nothing: the wakeup descriptor has passed the number on to the watcher."""
