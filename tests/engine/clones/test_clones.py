"""Clones of one snapshot: each session begins there, whatever the session before has done."""

from __future__ import annotations

import gc
import os
import signal
import socket
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import journal
from journal.engine import (
    NO_NETWORK,
    Configuration,
    DirtyPageTracking,
    Durability,
    Ending,
    NetworkPolicy,
    Reply,
    SessionLimits,
    SnapshotOptions,
    Stacks,
)
from journal.engine.clones.clone import Clone
from journal.engine.clones.session_journal import MEMORY, SessionJournal
from journal.engine.clones.template import CloneTemplate
from journal.engine.clones.watchdog import MEMORY_PERIOD_SECONDS, PERIOD_SECONDS, Watchdog
from journal.errors import OptionError, WrongProcess
from journal.events.snapshots import Trigger
from journal.snapshots import list_snapshots
from journal.wasi_abi import Errno
from tests.support.deadlines import DEADLINE_SECONDS
from tests.support.guest_objects import DATAGRAM, STREAM, UNIX, GuestObjects, Script
from tests.support.obedient_guest import make_module, record_waiting
from tests.support.remote_guest import (
    ANSWER_SIZE,
    DATA,
    REMOTE,
    REMOTE_ALONE,
    Remote,
    encode_order,
    parse_answer,
)
from tests.support.wat import program

ENDINGS: list[tuple[bytes, SessionLimits, Ending]] = [
    (b"c", SessionLimits(), Ending.WAITING),
    (b"cfm", SessionLimits(), Ending.WAITING),
    (b"mfx", SessionLimits(), Ending.EXITED),
    (b"mft", SessionLimits(), Ending.TRAPPED),
    (b"ml", SessionLimits(seconds_max=0.05), Ending.TIMED_OUT),
    (b"mg", SessionLimits(), Ending.EXITED),
    (b"mg", SessionLimits(memory_size_max=1 << 20), Ending.OUT_OF_MEMORY),
    (b"mo", SessionLimits(output_size_max=100), Ending.OUTPUT_LIMIT),
    (b"cf", SessionLimits(files_size_max=0), Ending.FILES_LIMIT),
]
"""Commands of a session, its limits, and how it ends."""


def test_a_clone_forgets_the_network_of_its_session(
    tmp_path: Path, cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = [(0, 0, 0, "", ("8.8.8.8", 0))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    path, name, policy = tmp_path / "j", b"www.example.org", NetworkPolicy.parse(["resolve"])
    resolve = ("resolve", DATA, len(name), 80, DATA + 64, 1, DATA + 56)
    address = b"\1\0\x0a\0\0\7\x18".ljust(28, b"\0")
    orders = encode_order(*resolve, data=name)
    orders += encode_order("port_addr_list", DATA + 8, DATA, data=b"\x04")
    orders += encode_order("port_addr_add", DATA, data=address)
    snapshots = SnapshotOptions(on=frozenset({Trigger.EXPLICIT}), stacks=Stacks.ALWAYS)
    with journal.record(
        REMOTE_ALONE, path, network=policy, cache=cache_dir, snapshots=snapshots
    ) as recorder:
        assert recorder.snapshot(timeout_seconds=DEADLINE_SECONDS) is not None
    for network, errno in ((None, 0), (NO_NETWORK, Errno.ACCES)):
        with (
            CloneTemplate.load(path, network=network, cache=cache_dir) as template,
            template.make_clone() as clone,
        ):
            for _ in range(2):
                printed = clone.run(orders).stdout
                answers = [printed[at:][:ANSWER_SIZE] for at in range(0, len(printed), ANSWER_SIZE)]
                assert parse_answer(answers[0]).errno == errno
                assert parse_answer(answers[1]).number == 0, "no address of the last session"
                clone.reset()
                clone.check()


@pytest.fixture(scope="module")
def warm(tmp_path_factory: pytest.TempPathFactory, cache_dir: Path) -> Path:
    """Return the journal of a guest that waits for its first command."""
    return record_waiting(tmp_path_factory.mktemp("clones") / "warm.journal", cache_dir)


@pytest.fixture(scope="module", params=[DirtyPageTracking.AUTO, DirtyPageTracking.COMPARE])
def template(
    warm: Path, cache_dir: Path, request: pytest.FixtureRequest
) -> Iterator[CloneTemplate]:
    with CloneTemplate.load(warm, cache=cache_dir, tracking=request.param) as template:
        yield template


@pytest.fixture
def clone(template: CloneTemplate) -> Iterator[Clone]:
    with template.make_clone() as clone:
        yield clone


def test_every_end_of_a_session_leaves_the_snapshot(clone: Clone) -> None:
    for commands, limits, ending in ENDINGS * 2:
        clone.begin(limits=limits)
        assert clone.run(commands).ending is ending, commands
        clone.reset()
        clone.check()
        assert clone.run(b"c").stdout == b"1\n", commands
        assert clone.files == {}, commands
        clone.reset()


def test_an_output_above_the_limit_is_cut_there(clone: Clone) -> None:
    clone.begin(limits=SessionLimits(output_size_max=5))
    assert clone.run(b"o").stdout == b"0\n0\n0"


def test_a_session_goes_on_where_it_waited(clone: Clone) -> None:
    assert [clone.run(b"c").stdout for _ in range(3)] == [b"1\n", b"2\n", b"3\n"]
    assert clone.run(b"cc", end_input=True) == Reply(Ending.EXITED, b"4\n5\n", b"", 0)
    with pytest.raises(OptionError, match="its session has ended"):
        clone.run(b"c")


def test_clones_of_one_template_do_not_see_each_other(template: CloneTemplate) -> None:
    with template.make_clone() as one, template.make_clone() as other:
        one.run(b"cfm")
        assert other.run(b"c").stdout == b"1\n"
        assert (list(one.files), list(other.files)) == (["/mark"], [])


def test_a_session_in_a_file_has_the_state_of_its_resume(
    clone: Clone, tmp_path: Path, cache_dir: Path
) -> None:
    path = tmp_path / "session.journal"
    clone.begin(journal=path)
    clone.run(b"cfm")
    digest = clone.compute_digest()
    clone.reset()
    snapshots = SnapshotOptions(on=frozenset({Trigger.EXPLICIT}))
    with journal.resume(path, cache=cache_dir, snapshots=snapshots) as recorder:
        seq = recorder.snapshot(timeout_seconds=DEADLINE_SECONDS)
        assert list(recorder.files) == ["/mark"]
    with journal.Reader(path) as reader:
        assert {info.seq: info.digest for info in list_snapshots(reader)}[seq or 0] == digest


def test_a_session_in_memory_can_be_saved_after_it(
    clone: Clone, tmp_path: Path, cache_dir: Path
) -> None:
    clone.begin(journal=MEMORY)
    clone.run(b"cc")
    kept = clone.journal
    clone.reset()
    assert isinstance(kept, SessionJournal)
    kept.save(tmp_path / "session.journal")
    with journal.resume(tmp_path / "session.journal", cache=cache_dir) as recorder:
        recorder.feed(b"cx")
        result = recorder.wait(DEADLINE_SECONDS)
        assert (result and result.code, recorder.stdout) == (7, b"1\n2\n3\n")


def test_a_session_that_cannot_begin_leaves_a_clean_clone(clone: Clone, tmp_path: Path) -> None:
    path = tmp_path / "exists"
    path.write_bytes(b"")
    with pytest.raises(OptionError, match="exists"):
        clone.begin(limits=SessionLimits(files_size_max=0), journal=path)
    clone.check()
    assert clone.run(b"f").ending is Ending.WAITING


def test_a_thread_with_a_small_stack_can_use_a_clone(clone: Clone) -> None:
    replies: list[Reply] = []
    thread = threading.Thread(target=lambda: replies.append(clone.run(b"c")))
    thread.start()
    thread.join()
    assert replies == [Reply(Ending.WAITING, b"1\n", b"")]


def test_another_thread_can_stop_a_guest(clone: Clone) -> None:
    clone.begin()
    timer = threading.Timer(0.02, clone.stop)
    timer.start()
    assert clone.run(b"l").ending is Ending.STOPPED
    timer.join()
    clone.reset()
    clone.check()


@pytest.mark.parametrize("commands", [b"l", b"o"], ids=["computing", "calling the host"])
def test_an_exception_of_a_signal_handler_ends_the_guest(clone: Clone, commands: bytes) -> None:
    class Interrupted(BaseException):
        pass

    def interrupt(*_: object) -> None:
        raise Interrupted

    old = signal.signal(signal.SIGALRM, interrupt)
    try:
        for _ in range(3):
            clone.begin(limits=SessionLimits(seconds_max=DEADLINE_SECONDS))
            signal.setitimer(signal.ITIMER_REAL, 0.01)
            with pytest.raises(Interrupted):
                clone.run(commands)
            assert not clone.is_waiting
            clone.reset()
            clone.check()
            assert clone.run(b"c").stdout == b"1\n"
            clone.reset()
    finally:
        signal.signal(signal.SIGALRM, old)


def test_an_exception_while_a_call_is_handed_over_ends_the_guest(
    clone: Clone, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Interrupted(BaseException):
        pass

    submit = ThreadPoolExecutor.submit

    def submit_and_raise(executor: ThreadPoolExecutor, function: Callable[[], None]) -> None:
        submit(executor, function)
        raise Interrupted

    for _ in range(5):
        clone.begin()
        with monkeypatch.context() as patch:
            patch.setattr(ThreadPoolExecutor, "submit", submit_and_raise)
            with pytest.raises(Interrupted):
                clone.run(b"ml")
        clone.reset()
        clone.check()
        assert clone.run(b"c").stdout == b"1\n"
        clone.reset()


def test_a_forked_child_cannot_use_a_clone(clone: Clone) -> None:
    clone.run(b"c")
    child = os.fork()
    if child == 0:
        refused = 0
        for use in (clone.run, clone.begin, clone.reset, clone.check, lambda: clone.files):
            try:
                use()
            except WrongProcess:
                refused += 1
        clone.close()
        os._exit(refused)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 5
    assert clone.run(b"c").stdout == b"2\n"


def test_a_template_that_nobody_closed_is_closed_with_a_warning(
    warm: Path, cache_dir: Path
) -> None:
    gc.collect()
    descriptors = Path("/proc/self/fd")
    before = len(list(descriptors.iterdir()))
    CloneTemplate.load(warm, cache=cache_dir).make_clone().run(b"c")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        gc.collect()
    assert "the template of clones of" in " ".join(str(warning.message) for warning in caught)
    assert len(list(descriptors.iterdir())) == before


def test_a_call_is_checked_as_often_beside_one_that_needs_it_less() -> None:
    class Call:
        def __init__(self, period_seconds: float, deadline: float) -> None:
            self.period_seconds, self.deadline = period_seconds, deadline
            self.times: list[float] = []
            self.is_checked = threading.Event()

        def interrupt(self) -> None:
            self.times.append(time.monotonic())
            if len(self.times) >= 20:
                self.is_checked.set()

    watchdog = Watchdog()
    now = time.monotonic()
    often = Call(MEMORY_PERIOD_SECONDS, float("inf"))
    seldom = Call(PERIOD_SECONDS, now + MEMORY_PERIOD_SECONDS / 4)
    watchdog.enter(often, now)
    watchdog.enter(seldom, now)
    assert often.is_checked.wait(DEADLINE_SECONDS)
    watchdog.close()
    gaps = [later - time for time, later in zip(often.times, often.times[1:], strict=False)]
    assert min(gaps) < PERIOD_SECONDS / 2


def test_a_guest_that_waits_in_its_start_function_goes_on_to_its_entry(
    tmp_path: Path, cache_dir: Path
) -> None:
    read = "(call $check (call $fd_read (i32.const 0) (i32.const 32) (i32.const 1) (i32.const 8)))"
    module = program(
        f"""{read} (i32.store8 (i32.const 65) (i32.const 10))
        (call $check (call $fd_write (i32.const 1) (i32.const 48) (i32.const 1) (i32.const 8)))""",
        data="",
        more=f"""(data (i32.const 32) "\\40\\00\\00\\00\\01\\00\\00\\00")
        (data (i32.const 48) "\\40\\00\\00\\00\\02\\00\\00\\00")
        (func $begin {read}) (start $begin)""",
    )
    path = tmp_path / "start.journal"
    _record(module, path, cache_dir, Trigger.FIRST_STDIN)
    with CloneTemplate.load(path, cache=cache_dir) as template, template.make_clone() as clone:
        for _ in range(2):
            assert clone.run(b"a").ending is Ending.WAITING
            assert clone.run(b"b") == Reply(Ending.EXITED, b"b\n", b"", 0)
            clone.reset()
            clone.check()


def test_a_guest_without_a_stack_is_cloned_before_its_start(
    tmp_path: Path, cache_dir: Path
) -> None:
    path = tmp_path / "stackless.journal"
    _record(make_module(), path, cache_dir, Trigger.BOOTSTRAP, Stacks.NEVER)
    with CloneTemplate.load(path, cache=cache_dir) as template, template.make_clone() as clone:
        assert clone.run(b"cfc", end_input=True) == Reply(Ending.EXITED, b"1\n1\n2\n", b"", 0)
        clone.reset()
        clone.check()
        reply = clone.run(b"c")
        assert (reply.ending, reply.stdout) == (Ending.STOPPED, b"1\n")
        assert "no stack" in reply.message


def test_a_table_of_a_clone_grows_as_far_as_in_the_recording(
    tmp_path: Path, cache_dir: Path
) -> None:
    module = program(
        """(call $exit (i32.add
            (i32.mul (i32.const 16) (table.grow $t (ref.null func) (i32.const 2)))
            (i32.eq (table.grow $t (ref.null func) (i32.const 1)) (i32.const -1))))""",
        more='(table $t (export "table") 1 funcref)',
    )
    path = tmp_path / "table.journal"
    limits = Configuration(table_elements_max=3)
    _record(module, path, cache_dir, Trigger.BOOTSTRAP, Stacks.NEVER, limits)
    with CloneTemplate.load(path, cache=cache_dir) as template, template.make_clone() as clone:
        assert clone.run().exit_code == 17
    with journal.resume(path, cache=cache_dir, snapshots=SnapshotOptions()) as guest:
        result = guest.wait(DEADLINE_SECONDS)
        assert result is not None
        assert result.code == 17


def _record(
    module: bytes,
    path: Path,
    cache: Path,
    trigger: Trigger,
    stacks: Stacks = Stacks.AUTO,
    configuration: Configuration | None = None,
) -> None:
    snapshots = SnapshotOptions(on=frozenset({trigger}), stacks=stacks, stop_after=True)
    with journal.record(
        module,
        path,
        cache=cache,
        configuration=configuration,
        durability=Durability.NONE,
        snapshots=snapshots,
    ) as recorder:
        assert recorder.wait(DEADLINE_SECONDS) is not None


def make_objects(recorder: journal.Recorder) -> None:
    """Let the guest make objects 4 to 9 with contents, and wait."""
    guest = GuestObjects(Remote(recorder))
    guest.pipe()
    guest.write(5, b"in the pipe")
    guest.event(7)
    guest.pair(DATAGRAM)
    guest.write(7, b"message")
    guest.call("path_create_directory", 3, DATA, 3, data=b"dir")
    guest.chdir(b"dir")
    guest.call("clock_time_set", 0, 1_000_000)


def use_objects() -> bytes:
    """Return orders that change each object."""
    script = Script()
    guest = script.guest
    guest.read(4, 6)
    guest.write(5, b" and more")
    guest.read(4, 100)
    guest.read(6, 8)
    guest.read(8, 100)
    guest.dup(8)
    guest.close(5)
    guest.read(4, 100)
    guest.getcwd()
    guest.chdir(b"/")
    guest.call("clock_time_set", 0, 2_000_000)
    return script.orders


def test_a_clone_returns_to_the_contents_of_its_objects(tmp_path: Path, cache_dir: Path) -> None:
    path = tmp_path / "objects.journal"
    with journal.record(
        REMOTE_ALONE,
        path,
        cache=cache_dir,
        snapshots=SnapshotOptions(on=frozenset({Trigger.EXPLICIT}), stacks=Stacks.ALWAYS),
    ) as recorder:
        make_objects(recorder)
        assert recorder.snapshot(timeout_seconds=DEADLINE_SECONDS) is not None
    with CloneTemplate.load(path, cache=cache_dir) as template, template.make_clone() as clone:
        printed, digests = [], set()
        for _ in range(3):
            printed.append(clone.run(use_objects()).stdout)
            digests.add(clone.compute_digest())
            clone.reset()
            clone.check()
    assert printed == printed[:1] * 3
    assert len(digests) == 1
    assert b"in the" in printed[0]
    assert b"/dir" in printed[0]


def test_a_name_of_a_socket_is_free_in_the_next_session(tmp_path: Path, cache_dir: Path) -> None:
    path, name = tmp_path / "names.journal", bytes([UNIX, 0]) + b"name".ljust(108, b"\0")
    explicit = SnapshotOptions(on=frozenset({Trigger.EXPLICIT}), stacks=Stacks.ALWAYS)
    with journal.record(REMOTE_ALONE, path, cache=cache_dir, snapshots=explicit) as recorder:
        assert recorder.snapshot(timeout_seconds=DEADLINE_SECONDS) is not None
    orders = encode_order("sock_open", UNIX, STREAM, 0, DATA)
    orders += encode_order("sock_bind", 4, DATA, data=name)
    with CloneTemplate.load(path, cache=cache_dir) as template, template.make_clone() as clone:
        for _ in range(2):
            printed = clone.run(orders).stdout
            answers = [parse_answer(printed[:ANSWER_SIZE]), parse_answer(printed[ANSWER_SIZE:])]
            assert [answer.errno for answer in answers] == [0, 0]
            clone.reset()
            clone.check()


def test_a_clone_starts_no_process_and_has_pipes_of_its_own(
    tmp_path: Path, cache_dir: Path
) -> None:
    path, kept = tmp_path / "remote.journal", tmp_path / "kept.journal"
    explicit = SnapshotOptions(on=frozenset({Trigger.EXPLICIT}), stacks=Stacks.ALWAYS)
    with journal.record(REMOTE, path, cache=cache_dir, snapshots=explicit) as recorder:
        assert recorder.snapshot(timeout_seconds=DEADLINE_SECONDS) is not None
    buffers = (DATA + 8).to_bytes(4, "little") + (4).to_bytes(4, "little")
    orders = [
        encode_order("fd_pipe", DATA, DATA + 4),
        encode_order("fd_write", 5, DATA, 1, DATA + 16, data=buffers + b"sent"),
        encode_order("fd_read", 4, DATA, 1, DATA + 16, data=buffers),
        encode_order("proc_spawn2", DATA, 3, *[0] * 11, DATA + 8, data=b"cmd"),
        encode_order("proc_fork", 1, DATA),
    ]
    with CloneTemplate.load(path, cache=cache_dir) as template, template.make_clone() as clone:
        for target in (None, kept):
            clone.begin(journal=target)
            printed = clone.run(b"".join(orders)).stdout
            answers = [
                parse_answer(printed[at : at + ANSWER_SIZE])
                for at in range(0, len(printed), ANSWER_SIZE)
            ]
            assert [answer.errno for answer in answers] == [0, 0, 0, Errno.NOTSUP, Errno.NOTSUP]
            assert answers[2].data[8:12] == b"sent"
            clone.reset()
            clone.check()
    assert journal.engine.verify_replay(kept, cache=cache_dir).matches
