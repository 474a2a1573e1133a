"""Fork of a running guest into children, which start from a copy of its memory.

A child is a journal that begins with the events of its parent, and a guest that continues after
them. Of the parent's journal only the events of files and descriptors are read.
"""

import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from journal.engine.session.guest_descriptors import has_host_mounts
from journal.engine.session.guest_time import InterruptedWait
from journal.engine.session.own_paths import find_own_files
from journal.engine.session.process import Process
from journal.engine.session.recorded_options import parse_options
from journal.engine.session.recorded_run import WRITE_TAGS, unpack_output
from journal.engine.session.recorder import Recorder
from journal.engine.session.replay import Replay
from journal.engine.session.run_config import SessionConfig
from journal.engine.session.session_builder import close_on_error, make_page_index
from journal.engine.session.standard_streams import StandardStreams, capture_outputs
from journal.engine.snapshot.forked_state import ForkedState
from journal.engine.wasi.filesystem.own_files import OwnFiles
from journal.engine.wasi.filesystem.reopening import RecordedTimes
from journal.engine.wasi.stdio.outbox import STDERR, STDOUT, OutputCallback
from journal.engine.wasi.stdio.stdin import FedSource, Interrupter
from journal.errors import JournalError
from journal.log.commit_policy import CommitPolicy
from journal.log.fork_end import find_end
from journal.log.fork_search import ForkPlace, find_fork_place
from journal.log.reader import Reader
from journal.log.writer import Writer
from journal.operations.fork import open_fork
from journal.operations.reseeding import make_reseeded

if TYPE_CHECKING:
    from journal.engine.session.process_tree import ProcessTree


@contextmanager
def copy_guest(
    recorder: Recorder, *, reseed: bool, timeout_seconds: float | None
) -> "Iterator[Family]":
    """Copy the state of a running guest, from which the body makes children.

    Raises the errors of :meth:`Recorder.fork`.
    """
    with recorder._copy_state(timeout_seconds) as state:
        assert recorder._process is not None, "the guest runs"
        yield Family(
            path=recorder.path,
            writer=recorder._writer,
            process=recorder._process,
            config=recorder._config,
            state=state,
            reseeds=reseed,
        )


def fork_guest(family: "Family", paths: Sequence[Path]) -> list[Recorder]:
    """Return running recorders of children of a guest, one for each of ``paths``.

    On an error no child is left.
    """
    with ExitStack() as stack:
        children = []
        for path in paths:
            children.append(family.make_child(path))
            stack.callback(_discard, children[-1])
        for child in children:
            child.start()
        stack.pop_all()
        return children


def _discard(child: Recorder) -> None:
    """Stop a child and remove its journal."""
    with suppress(JournalError):
        child.stop(compact=False)
        child.close()
    shutil.rmtree(child.path, ignore_errors=True)


@dataclass(kw_only=True)
class Family:
    """A running guest and what its children share.

    ``path`` is the journal of the guest, ``writer`` writes it, ``process`` runs it, and ``state``
    is a copy of its state. ``config`` are the options of its session, which hold for the children
    except for the streams.
    ``reseeds`` says whether the children are told that they are some of several. ``host`` has the
    processes of the run if the guest itself forks.
    """

    path: Path
    writer: Writer
    process: Process
    config: SessionConfig
    state: ForkedState
    reseeds: bool
    host: "ProcessTree | None" = None

    def make_child(
        self,
        path: Path,
        source: FedSource | None = None,
        on_output: OutputCallback | None = None,
        forked_as: tuple[int, int] | None = None,
    ) -> Recorder:
        """Return the recorder of a new child with its journal at ``path``. It does not run yet.

        The default of ``source`` is a new one. Without ``on_output`` the output is captured.
        ``forked_as`` has the numbers of a process that its guest forks, and of its parent.
        """
        parent, interrupter = self.process, Interrupter()
        config = replace(
            self.config, stdin=None, stdout=None, stderr=None, on_event=None, on_output=on_output
        )
        writer = self._create_journal(path)
        with close_on_error(writer, interrupter), ExitStack() as stack:
            generation = self._reseed(writer)
            outputs = capture_outputs(on_output)
            streams = StandardStreams(source or FedSource(), outputs, parent.streams.terminals)
            pages = make_page_index(path, config, is_sealed=writer.is_sealed)
            if pages is not None:
                stack.enter_context(pages).open()
            own = self._find_own_files(path)
            process = Process(
                parent.program,
                parent.identity,
                writer,
                streams,
                interrupter,
                config,
                replay=self._make_replay(path, generation),
                pages=pages,
                own=own,
                host=self.host,
                forked_as=forked_as,
            )
            writer.publish()
            if own is not None:
                own.add_journal(path)  # The journal has its files under this name only now.
            stack.pop_all()  # The recorder closes the page index.
        return Recorder(writer, streams, interrupter, config, process=process)

    def _find_own_files(self, path: Path) -> OwnFiles | None:
        """Return the files that a child does not reach through its mounts of the host, if any."""
        if not has_host_mounts(self.process.identity):
            return None
        own = find_own_files(path, self.config.cache, self.config.approvals)
        if self.host is not None:
            self.host.protect(own)
        return own

    def _reseed(self, writer: Writer) -> bytes | None:
        """Mark a new child if it is reseeded, and return its generation."""
        if not self.reseeds:
            return self.process.generation
        mark = make_reseeded()
        writer.append(mark)
        return mark.generation

    def _create_journal(self, path: Path) -> Writer:
        """Create the journal of a child, and return its writer. It is not published yet."""
        roll = parse_options(self.process.identity.start.configuration).roll
        commit = CommitPolicy.EXPLICIT
        return open_fork(self._place, path, commit, reseed=False, roll=roll)

    @cached_property
    def _place(self) -> ForkPlace:
        """Place of the snapshot in the journal of the parent.

        Nothing is synced for a child here: the child does it before its first output.
        """
        seq = self.state.info.seq
        # A guest that waits has no event after its snapshot; any other is found by its number.
        place = find_end(self.writer, seq)
        return place or find_fork_place(self.path, seq, durable=False)

    def _make_replay(self, path: Path, generation: bytes | None) -> Replay:
        """Return the replay of a child, which has no events: it begins at the copied state."""
        parent, now = self.process, time.time_ns()
        history = parent.file_history.read(self.path, self.state.info.seq, path)
        return Replay(
            batches=iter(()),
            start=self.state.make_start(lambda _: history),
            fired=parent.fired,
            delivered_sizes=self._output_sizes,
            access=parent.access,
            times=RecordedTimes(parent.identity.start.realtime, now, now),
            wait=self._find_wait(),
            counts_pause=self.reseeds,
            generation=generation,
        )

    def _find_wait(self) -> InterruptedWait | None:
        """Return the wait in which the children begin, which has begun in their parent."""
        info, waited = self.state.info, self.state.waited
        if waited is None:
            return None
        return InterruptedWait(info.time * 1000 - waited, info.monotonic - waited)

    @cached_property
    def _output_sizes(self) -> dict[int, int]:
        """Return the size of the output to each stream, which the parent delivers."""
        if self.host is not None:  # Its output is that of the first process of the run.
            return {}
        sizes = dict(self.state.output_sizes)
        for stream in {STDOUT, STDERR} - sizes.keys():  # The guest has closed it.
            sizes[stream] = _find_output_size(self.path, stream, self.state.info.seq)
        return sizes


def _find_output_size(path: Path, stream: int, upto: int) -> int:
    """Return how many bytes the guest had written to a stream before event ``upto``."""
    with Reader(path) as reader:
        for frame in reader.backward(upto, tags=WRITE_TAGS):
            found, offset, data = unpack_output(frame)
            if found == stream:
                return int(offset + len(data))
    return 0
