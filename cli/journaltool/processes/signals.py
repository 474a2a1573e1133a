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


class Watch:
    """What signals do, as long as there is a guest; ``caught`` is the first that stopped it.

    > Why a thread? Python calls handlers in the main thread alone. That one waits for the guest,
    and when a process goes on after a stop, the system may give the signal to another thread.
    """

    def __init__(self, recorder: "Recorder", snapshots: "SnapshotOptions") -> None:
        self._recorder = recorder
        self._snapshots = snapshots
        self._suspends = False
        self._has_suspended = False
        self.over = False
        self.caught = 0

    def deeds(self) -> dict[int, Callable[[], object]]:
        """What is to be done for which signal."""
        on = self._snapshots.on
        found: dict[int, Callable[[], object]] = {
            signal.SIGINT: self._interrupt,
            signal.SIGTERM: lambda: self._stop(signal.SIGTERM),
            signal.SIGHUP: lambda: self._stop(signal.SIGHUP),
        }
        if self._recorder.takes_snapshots:
            found[signal.SIGUSR1] = self._ask
        if Trigger.SIGALRM in on:
            found[signal.SIGALRM] = lambda: self._recorder.notify(Trigger.SIGALRM)
        if Trigger.SIGTSTP in on:
            found[signal.SIGTSTP] = self._suspend
        if Trigger.SIGSTOP in on:
            found[signal.SIGCONT] = self._go_on
        return found

    def work(self, descriptor: int) -> None:
        """Do what is to be done for the signals whose numbers can be read there, to its end."""
        deeds = self.deeds()
        while numbers := os.read(descriptor, _READ_SIZE):
            for number in numbers:
                if number in deeds and (not self.over or number == signal.SIGTSTP):
                    with suppress(JournalError):  # the main thread tells of it
                        deeds[number]()

    def _interrupt(self) -> None:
        triggers = (Trigger.FIRST_SIGINT, Trigger.SIGINT)
        if not any(map(self._recorder.notify, triggers)):
            self._stop(signal.SIGINT)

    def _stop(self, number: int) -> None:
        self.caught = self.caught or number
        self._recorder.stop()

    def _ask(self) -> None:
        self._recorder.snapshot(Trigger.EXPLICIT, 0)

    def _suspend(self) -> None:
        if not self._suspends:
            self._suspends = True
            threading.Thread(target=self._suspended, name="journal-suspend", daemon=True).start()

    def _suspended(self) -> None:
        """Have the snapshot taken, and stop this process as Ctrl-Z would."""
        with suppress(JournalError):
            if not self.over:
                self._recorder.snapshot(Trigger.SIGTSTP, SUSPEND_SECONDS)
        self._suspends = False
        if not self._snapshots.stop_after:  # else it ends now
            self._has_suspended = True
            os.kill(os.getpid(), signal.SIGSTOP)

    def _go_on(self) -> None:
        if self._has_suspended:
            self._has_suspended = False  # we stopped ourselves, with a snapshot taken
        else:
            self._recorder.notify(Trigger.SIGSTOP)


@contextmanager
def watching(recorder: "Recorder", snapshots: "SnapshotOptions") -> Iterator[Watch]:
    """Handle signals for a guest that is about to run."""
    watch = Watch(recorder, snapshots)
    with ExitStack() as stack:
        source, sink = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(sink, False)
        thread = threading.Thread(
            target=watch.work, args=(source,), name="journal-signals", daemon=True
        )
        stack.callback(os.close, source)
        stack.callback(thread.join)
        stack.callback(os.close, sink)
        thread.start()
        before = signal.set_wakeup_fd(sink, warn_on_full_buffer=False)
        stack.callback(signal.set_wakeup_fd, before)
        for number in watch.deeds():
            _handle(number, stack)
        yield watch


def _handle(number: int, stack: ExitStack) -> None:
    """Have the number of a signal told, until the end of the stack."""
    before = signal.getsignal(number)
    if before == signal.SIG_IGN and number != signal.SIGUSR1:
        return  # nohup, or a job in the background, asked for that
    signal.signal(number, _told_by_number)
    # who asks for a snapshot may be late, and must not end us for it
    after = signal.SIG_IGN if number == signal.SIGUSR1 else before
    stack.callback(signal.signal, number, after)


def _told_by_number(*_: object) -> None:
    """Nothing is left to do."""
