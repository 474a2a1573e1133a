"""What signals do while a guest runs: they stop it, or have a snapshot taken, or both.

SIGINT, SIGTERM and SIGHUP stop the guest; SIGINT only if no snapshot is taken for it. SIGUSR1 asks
for a snapshot, if there can be one. SIGALRM, SIGTSTP and SIGCONT are left alone unless a snapshot
is wanted for them. Nothing can be done before a SIGSTOP: its snapshot is taken when the process
goes on, and so it is for a SIGCONT that nothing had been stopped before.
"""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING

from journal import JournalError
from journal.events.snapshots import Trigger

if TYPE_CHECKING:
    from journal import Recorder, SnapshotOptions

#: How long Ctrl-Z waits for its snapshot: a guest that computes may not come to a safe point.
SUSPEND_SECONDS = 5.0

_READ_SIZE = 512


class SignalWatcher:
    """What signals do, as long as there is a guest; ``stop_signal`` is the first that stopped it.

    > Why a thread? Python calls handlers in the main thread alone. That one waits for the guest,
    and when a process goes on after a stop, the system may give the signal to another thread.
    """

    def __init__(self, recorder: "Recorder", snapshots: "SnapshotOptions") -> None:
        self._recorder = recorder
        self._snapshots = snapshots
        self._suspends = False
        self._has_suspended = False
        self.is_over = False
        self.stop_signal = 0

    def actions(self) -> dict[int, Callable[[], object]]:
        """What is to be done for which signal."""
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
        return found

    def run(self, descriptor: int) -> None:
        """Do what is to be done for the signals whose numbers can be read there, to its end."""
        actions = self.actions()
        while numbers := os.read(descriptor, _READ_SIZE):
            for number in numbers:
                if number in actions and (not self.is_over or number == signal.SIGTSTP):
                    with suppress(JournalError):  # the main thread tells of it
                        actions[number]()

    def _interrupt(self) -> None:
        triggers = (Trigger.FIRST_SIGINT, Trigger.SIGINT)
        if not any(map(self._recorder.notify, triggers)):
            self._stop(signal.SIGINT)

    def _stop(self, number: int) -> None:
        self.stop_signal = self.stop_signal or number
        self._recorder.stop()

    def _request_snapshot(self) -> None:
        self._recorder.snapshot(Trigger.EXPLICIT, 0)

    def _suspend(self) -> None:
        if not self._suspends:
            self._suspends = True
            threading.Thread(
                target=self._take_and_stop, name="journal-suspend", daemon=True
            ).start()

    def _take_and_stop(self) -> None:
        """Have the snapshot taken, and stop this process as Ctrl-Z would."""
        with suppress(JournalError):
            if not self.is_over:
                self._recorder.snapshot(Trigger.SIGTSTP, SUSPEND_SECONDS)
        self._suspends = False
        if not self._snapshots.stop_after:  # else it ends now
            self._has_suspended = True
            os.kill(os.getpid(), signal.SIGSTOP)

    def _continue(self) -> None:
        if self._has_suspended:
            self._has_suspended = False  # we stopped ourselves, with a snapshot taken
        else:
            self._recorder.notify(Trigger.SIGSTOP)


@contextmanager
def watch_signals(recorder: "Recorder", snapshots: "SnapshotOptions") -> Iterator[SignalWatcher]:
    """Handle signals for a guest that is about to run."""
    watcher = SignalWatcher(recorder, snapshots)
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
    """Have the number of a signal told, until the end of the stack."""
    before = signal.getsignal(number)
    if before == signal.SIG_IGN and number != signal.SIGUSR1:
        return  # nohup, or a job in the background, asked for that
    signal.signal(number, _wake_watcher)
    # who asks for a snapshot may be late, and must not end us for it
    after = signal.SIG_IGN if number == signal.SIGUSR1 else before
    stack.callback(signal.signal, number, after)


def _wake_watcher(*_: object) -> None:
    """Nothing is left to do."""
