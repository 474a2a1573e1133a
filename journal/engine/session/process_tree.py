"""The processes of one run: the first one, and those that it and its children start.

Each process is a guest with a thread and a journal of its own. The journals of the others are in a
directory beside that of the first process.
"""

import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from journal.engine.program.module import GuestModule, load_module
from journal.engine.program.prepared import PreparedModule, prepare_new_run
from journal.engine.session import preamble
from journal.engine.session.child_state import (
    keep_secret,
    list_files,
    list_mounts,
    make_child_config,
    make_child_streams,
)
from journal.engine.session.own_paths import find_own_files
from journal.engine.session.process import Process
from journal.engine.session.recorded_options import make_pairs
from journal.engine.session.recorder import Recorder
from journal.engine.session.replay import Replay
from journal.engine.session.run_config import SessionConfig
from journal.engine.session.run_result import ExitKind, RunResult
from journal.engine.session.session_builder import close_on_error
from journal.engine.session.tree_journals import (
    RecordedTree,
    find_directory,
    find_path,
    make_room,
)
from journal.engine.snapshot.forked_state import ForkedState
from journal.engine.wasi.call_context import CallContext
from journal.engine.wasi.filesystem.own_files import OwnFiles
from journal.engine.wasi.objects.shared_pipe import PipeId, SharedPipe
from journal.engine.wasi.objects.waits import Condition
from journal.engine.wasi.processes import FIRST_PID, ChildEnd, StartRequest
from journal.engine.wasi.stdio.stdin import Interrupter
from journal.errors import ModuleRefused
from journal.events.process import RecordingLevel
from journal.events.processes import ChildStart, EndKind
from journal.log.writer import Writer
from journal.wasi_abi import Errno, WasiError

if TYPE_CHECKING:
    pass

TRAP_SIGNAL = 6
"""Signal by which a parent learns that a child trapped: SIGABRT, as of a failed assertion."""


@dataclass(slots=True, eq=False)
class Member:
    """A process of a run besides the first one.

    ``end`` is None while it runs. ``is_joined`` says whether its parent knows its end, or there is
    no parent that could ask.
    """

    pid: int
    parent: int
    image: int
    recorder: Recorder | None = None
    process: Process | None = None
    result: RunResult | None = None
    end: ChildEnd | None = None
    is_joined: bool = False


class ProcessTree:
    """The processes of one run, and the pipes between them. Thread-safe.

    ``path`` is the journal of the first process, and ``config`` has the options of its session.
    ``error`` is the first error that ended a process; then the whole run ends.
    """

    def __init__(self, path: Path, config: SessionConfig) -> None:
        self.path, self.directory, self._config = path, find_directory(path), config
        self.error: BaseException | None = None
        self._lock = threading.RLock()
        self._prepare_lock = threading.Lock()
        self._members: dict[int, Member] = {}
        self._pipes: dict[PipeId, SharedPipe] = {}
        self._modules: dict[str, GuestModule] = {}
        self._programs: dict[bytes, PreparedModule] = {}
        self._next_pid = FIRST_PID + 1
        self._replaying: set[tuple[int, int]] = set()
        self._retired: list[Recorder] = []
        self._is_stopping = False
        self._root: Process | None = None
        self._root_recorder: Recorder | None = None

    # -- the first process -------------------------------------------------------------------------

    def set_path(self, path: Path) -> None:
        """Set the path of the journal of the first process, before it starts."""
        self.path, self.directory = path, find_directory(path)
        self._protect()

    def _protect(self) -> None:
        """Let no process reach the journals of the others through its mounts."""
        if self._root is not None:
            self._root.mounts.own_files.add(self.directory)

    def set_root(self, process: Process, recorder: Recorder) -> None:
        """Set the first process and its recorder."""
        self._root, self._root_recorder = process, recorder
        self._protect()
        if process.tape.replaying:
            self._replaying.add((FIRST_PID, 0))

    def load(self, recorded: RecordedTree) -> None:
        """Take over the pipes and the ended processes of a recorded run."""
        self._next_pid = recorded.last_pid + 1
        for pipe_id, contents in recorded.pipes.items():
            self.find_pipe(pipe_id).load(contents.parts, contents.end)
        for each in recorded.members.values():
            end = None if each.result is None else _make_end(each.pid, each.result)
            is_joined = each.is_joined or not recorded.has_running(each.parent)
            member = Member(each.pid, each.parent, each.image, None, None, each.result, end)
            member.is_joined = is_joined
            self._members[each.pid] = member

    def add_resumed(self, pid: int, recorder: Recorder, process: Process) -> None:
        """Add a process that is resumed."""
        member = self._members[pid]
        member.recorder, member.process = recorder, process
        self._replaying.add((pid, member.image))

    def start_resumed(self) -> None:
        """Start the processes that are resumed."""
        for pid, member in list(self._members.items()):
            if member.recorder is not None:
                self._start(pid, member.recorder)

    # -- pipes -------------------------------------------------------------------------------------

    def find_pipe(self, pipe_id: PipeId) -> SharedPipe:
        """Return a pipe; make it if it does not exist."""
        with self._lock:
            return self._pipes.setdefault(pipe_id, SharedPipe())

    # -- starts ------------------------------------------------------------------------------------

    def create_child(self, parent: int, request: StartRequest) -> int:
        """Create the journal of a child, which does not run yet, and return its number."""
        program = self._prepare(request.command)
        starter = self._find_process(parent)
        pid = self._reserve_pid(starter)
        start = self._make_start(starter, request, pid, parent, 0)
        recorder, process = self._build(find_path(self.path, pid), starter, program, request, start)
        with self._lock:
            self._members[pid] = Member(pid, parent, 0, recorder, process)
        return pid

    def start_child(self, pid: int) -> None:
        """Start a child that was created."""
        with self._lock:
            recorder = self._members[pid].recorder
        assert recorder is not None, "the child was created"
        self._start(pid, recorder)

    def fork(self, parent: int, take_copy: Callable[[], ForkedState]) -> int:
        """Create the journal of a child with a copy of its parent's state; return its number."""
        from journal.engine.session.forking import Family  # Most runs have no forks.

        starter = self._find_process(parent)
        with take_copy() as state:
            pid = self._reserve_pid(starter)
            family = Family(
                path=self._find_journal(parent),
                writer=self._find_recorder(parent)._writer,
                process=starter,
                config=make_child_config(self._config),
                state=state,
                reseeds=False,
                host=self,
            )
            recorder = family.make_child(find_path(self.path, pid), forked_as=(pid, parent))
            recorder._writer.sync()
        process = recorder._process
        assert process is not None, "the child has not started"
        process.context.processes.hold_ends(starter.context.processes)
        with self._lock:
            self._members[pid] = Member(pid, parent, 0, recorder, process)
        return pid

    def _find_journal(self, pid: int) -> Path:
        member = self._members.get(pid)
        return self.path if member is None else find_path(self.path, pid, member.image)

    def _find_recorder(self, pid: int) -> Recorder:
        member = self._members.get(pid)
        recorder = self._root_recorder if member is None else member.recorder
        assert recorder is not None, "a process that runs has a recorder"
        return recorder

    def _reserve_pid(self, starter: Process) -> int:
        """Return the number of a new process. Raises ``WasiError`` if there are too many."""
        self.directory.mkdir(exist_ok=True)
        self._close_ended()
        with self._lock:
            unjoined = sum(not member.is_joined for member in self._members.values())
            if self._is_stopping or unjoined + 1 >= self._config.processes_max:
                raise WasiError(Errno.AGAIN)
            while not make_room(find_path(self.path, self._next_pid), starter.journal_id):
                self._next_pid += 1
            self._next_pid += 1
            return self._next_pid - 1

    def create_successor(self, pid: int, image: int, request: StartRequest) -> None:
        """Create the journal in which a process continues with another program, its ``image``."""
        program = self._prepare(request.command)
        replaced, path = self._find_process(pid), find_path(self.path, pid, image)
        self.directory.mkdir(exist_ok=True)
        if not make_room(path, replaced.journal_id):
            raise WasiError(Errno.EXIST)
        start = self._make_start(replaced, request, pid, replaced.context.processes.parent, image)
        recorder, process = self._build(path, replaced, program, request, start)
        with self._lock:
            member = self._members.setdefault(pid, Member(pid, 0, image))
            if member.recorder is not None:
                self._retired.append(member.recorder)
            member.image, member.recorder, member.process = image, recorder, process

    def start_successor(self, pid: int) -> None:
        """Start the program that replaces that of a process."""
        self.start_child(pid)

    def _make_start(
        self, starter: Process, request: StartRequest, pid: int, parent: int, image: int
    ) -> ChildStart:
        return ChildStart(
            journal=starter.journal_id,
            pid=pid,
            parent=parent,
            image=image,
            directory=request.directory,
            ignored=request.ignored,
            descriptors=request.descriptors,
            files=request.files,
        )

    def _start(self, pid: int, recorder: Recorder) -> None:
        image = self._members[pid].image
        recorder.call_at_end(partial(self._note_end, pid, image, recorder))
        recorder.start()

    def _find_process(self, pid: int) -> Process:
        member = self._members.get(pid)
        process = self._root if member is None else member.process
        assert process is not None, "a process that runs starts others"
        return process

    def _prepare(self, command: str) -> PreparedModule:
        """Return the compiled program of a command; raise ``WasiError`` if there is none."""
        source = (self._config.commands or {}).get(command)
        if source is None:
            raise WasiError(Errno.NOENT)
        root, config = self._root, self._config
        assert root is not None, "a process that runs starts others"
        with self._prepare_lock:
            try:
                module = self._modules.get(command)
                if module is None:
                    module = self._modules[command] = load_module(source)
                program = self._programs.get(module.hash)
                if program is None:
                    program = self._programs[module.hash] = prepare_new_run(
                        module,
                        config.snapshots,
                        replace(root.identity.configuration, instrumentation=""),
                        config.cache,
                        config.note,
                        config.progress,
                        config.allocation,
                    )
            except ModuleRefused as error:
                config.note(f"the command {command} cannot be started: {error}")
                raise WasiError(Errno.NOEXEC) from error
            return program

    def _build(
        self,
        path: Path,
        starter: Process,
        program: PreparedModule,
        request: StartRequest,
        start: ChildStart,
    ) -> tuple[Recorder, Process]:
        """Return the recorder of a new process, whose journal is durable, and the process."""
        config, interrupter = make_child_config(self._config), Interrupter()
        writer = Writer(path, publish=False)
        with close_on_error(writer, interrupter):
            identity = preamble.write(
                writer,
                program.variant.original,
                program.configuration,
                make_pairs(replace(config, commands=None), None),
                arguments=request.arguments,
                environment=keep_secret(request.environment, starter.identity),
                mounts=list_mounts(starter),
                copies=(),
                level=RecordingLevel.FULL,
                embed=True,
                instrumented=program.variant.instrumented,
                child=start,
                placed=list_files(starter),
            )
            process = Process(
                program,
                identity,
                writer,
                make_child_streams(),
                interrupter,
                config,
                replay=Replay(access=starter.access),
                own=self._find_own_files(path),
                host=self,
            )
            process.begin_session()
            writer.publish()
            writer.sync()
        return Recorder(writer, process.streams, interrupter, config, process=process), process

    def _find_own_files(self, path: Path) -> OwnFiles:
        """Return the files that a process does not reach: those of all processes."""
        own = find_own_files(path, self._config.cache, self._config.approvals)
        self.protect(own)
        return own

    def protect(self, own: OwnFiles) -> None:
        """Add the journals of all processes to the files that a guest does not reach."""
        own.add(self.directory)
        own.add_journal(self.path)

    # -- ends --------------------------------------------------------------------------------------

    def _note_end(self, pid: int, image: int, recorder: Recorder) -> None:
        """Note the end of a program of a process, in its thread."""
        try:
            result = recorder._get_result()
        except BaseException as error:
            self._fail(error)
            return
        assert result is not None, "the program has ended"
        self._leave_replay(pid, image)
        if result.kind in (ExitKind.STOPPED, ExitKind.REPLACED):
            return
        with self._lock:
            member = self._members[pid]
            assert member.process is not None, "the process ran"
            signal = member.process.context.signals.ended_by
            member.result, member.end = result, _make_end(pid, result, signal)
            for each in self._members.values():
                if each.parent == pid and each.end is not None:
                    each.is_joined = True  # Nobody asks any more.
            parent = self._find_parent(member)
            member.is_joined = parent is None
        if parent is not None:
            parent.note_child_end()
        if pid == FIRST_PID and self._root is not None:
            self._root.context.processes.wake()

    def _find_parent(self, member: Member) -> Process | None:
        """Return the process that can join a member, None if there is none."""
        parent = self._members.get(member.parent)
        if parent is None:
            return self._root if member.parent == FIRST_PID else None
        return parent.process if parent.end is None else None

    def find_end(self, pid: int) -> ChildEnd | None:
        """Return the end of a process, None while it runs."""
        with self._lock:
            member = self._members.get(pid)
            return None if member is None else member.end

    def find_result(self, pid: int) -> RunResult:
        """Return the result of a process that has ended."""
        return self._members[pid].result or RunResult(ExitKind.STOPPED)

    def send_signal(self, pid: int, signal: int) -> None:
        """Send a signal to a process. Raises ``WasiError`` if that is impossible."""
        with self._lock:
            member = self._members.get(pid)
            is_known = pid == FIRST_PID if member is None else not member.is_joined
            if not is_known:
                raise WasiError(Errno.SRCH)
            process = self._root if member is None else member.process
            if process is None or (member is not None and member.end is not None):
                return  # It has ended, and nobody has joined it.
        signals = process.context.signals
        if signal and not signals.is_enabled:
            raise WasiError(Errno.NOTSUP)
        if signal:
            signals.send(signal)

    def _fail(self, error: BaseException) -> None:
        """End the run because of an error in one process."""
        with self._lock:
            self.error = self.error or error
        self.stop()
        if self._root_recorder is not None:
            self._root_recorder.stop(compact=False)

    def check_error(self) -> None:
        """Raise the error that ended a process besides the first one, if any."""
        if self.error is not None:
            raise self.error

    def find_ended(self, parent: int, wanted: int) -> ChildEnd | None:
        """Return a child that has ended and was not joined, ``wanted`` or any for 0; else None."""
        with self._lock:
            children = [
                member
                for member in self._members.values()
                if member.parent == parent and not member.is_joined and wanted in (0, member.pid)
            ]
            if not children:
                raise WasiError(Errno.CHILD)
            return next((member.end for member in children if member.end is not None), None)

    def join(self, pid: int) -> None:
        """Forget a child that has ended."""
        with self._lock:
            self._members[pid].is_joined = True
        self._close_ended()

    def _close_ended(self) -> None:
        """Close the recorders of processes that have ended and are joined."""
        with self._lock:
            ended = [each for each in self._members.values() if each.is_joined and each.recorder]
            recorders, self._retired = self._retired, []
            for member in ended:
                if member.end is not None and member.recorder is not None:
                    recorders.append(member.recorder)
                    member.recorder = member.process = None
        for recorder in recorders:
            recorder.close()

    # -- the whole run -----------------------------------------------------------------------------

    def wait_until_live(self, context: CallContext) -> None:
        """Wait until all processes have been replayed to the ends of their journals.

        Before that, a process could find the end of a pipe whose writer is not there yet.
        """
        self._leave_replay(context.processes.pid, context.processes.image)
        context.interrupter.wait(Condition(lambda: not self._replaying), None)

    def _leave_replay(self, pid: int, image: int) -> None:
        with self._lock:
            self._replaying.discard((pid, image))
            is_complete = not self._replaying
            processes = [self._root, *(each.process for each in self._members.values())]
        if is_complete:
            for process in processes:
                if process is not None:
                    process.context.processes.wake()

    def stop(self) -> None:
        """Request all processes besides the first one to stop. Safe from signal handlers."""
        self._is_stopping = True
        for member in list(self._members.values()):
            recorder = member.recorder
            if recorder is not None:
                recorder.stop(compact=False)

    def end_run(self) -> None:
        """Stop all other processes and wait for their threads: the first process has ended."""
        self.stop()
        for member in list(self._members.values()):
            if member.recorder is not None:
                with suppress(BaseException):
                    member.recorder.wait()

    def close(self) -> None:
        """Stop the processes and close their journals."""
        self.end_run()
        with self._lock:
            recorders = [each.recorder for each in self._members.values() if each.recorder]
            recorders += self._retired
        for recorder in recorders:
            recorder.close()


def _make_end(pid: int, result: RunResult, signal: int = 0) -> ChildEnd:
    if signal:
        return ChildEnd(pid, EndKind.KILLED, signal)
    if result.kind is ExitKind.TRAPPED:
        return ChildEnd(pid, EndKind.KILLED, TRAP_SIGNAL)
    return ChildEnd(pid, EndKind.EXITED, result.code or 0)
