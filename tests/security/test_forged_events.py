"""Journals whose hashes are right and whose events make no sense."""

from __future__ import annotations

import random
import re
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

import journal
from journal import Frame, HostMount, JournalError, MemoryMount
from journal.compaction import compact
from journal.engine import Grants, check_resume
from journal.events import codec, process, streams, tag_sets
from journal.events.definition import Event
from journal.operations.extract import extract_files
from journal.operations.verify import Verifier
from journal.replay import ModelHost, play
from tests.support.budget import Budget
from tests.support.command_line import build_environment, run_inside
from tests.support.damage import COMMANDS, DEEP, PROMPT, record_snapshots
from tests.support.deadlines import DEADLINE_SECONDS
from tests.support.guest_runs import wait_for_end
from tests.support.mutated_events import Mutation, mutate_events, write_frames
from tests.support.programs import ROOT, guest
from tests.support.rewrites import alter_event, frames_of

STDIN = b"a line\n"
MESSAGE_SIZE_MAX = 1000
SAMPLE_COUNT = 8
PASSIVE: Sequence[tuple[str, ...]] = (
    ("inspect",),
    ("info",),
    ("stats",),
    ("snapshots",),
    ("verify", "--pages"),
    ("tail",),
    ("index", "--check"),
    ("check-resume",),
    ("replay",),
    ("replay", "--each"),
    ("extract", "--environment"),
    ("extract", "--files", "OUT"),
    ("extract", "--tar", "OUT"),
    ("extract", "--memory", "OUT"),
    ("compact", "-o", "OUT"),
    ("filter", "--group", "inputs", "-o", "OUT"),
    ("export", "-o", "OUT"),
    ("export", "--redact", "all", "-o", "OUT"),
    ("split", "--snapshots", "-o", "OUT"),
    ("cut", "JOURNAL", "OUT"),
    ("concat", "-o", "OUT"),
    ("recover", "JOURNAL", "OUT"),
)


class Workshop:
    """Recorded journals, and the room to write, resume and query forged ones."""

    def __init__(self, folder: Path, cache: Path) -> None:
        self.folder, self.cache = folder, cache
        self.mount = folder / "mount"
        self.mount.mkdir()
        (self.mount / "file").write_bytes(b"content")
        self.grants = Grants(directories=[HostMount(str(self.mount), "/h")])
        self._count = 0

    def record(self, name: str) -> list[Frame]:
        """Return the frames of a run of a guest."""
        path = self.make_path()
        if name in ("prompt", "deep"):
            record_snapshots(PROMPT if name == "prompt" else DEEP, path, self.cache)
            return frames_of(path)
        directory = "/" if name == "memory" else "/h"
        with journal.record(
            guest("worker"),
            path,
            args=["worker", directory, "3"],
            env={"NAME": "value"},
            mounts=[MemoryMount("/"), HostMount(str(self.mount), "/h")],
            stdin=STDIN,
            cache=self.cache,
        ) as run:
            wait_for_end(run)
        return frames_of(path)

    def make_path(self) -> Path:
        self._count += 1
        return self.folder / f"{self._count}.journal"

    def write(self, frames: Sequence[Frame]) -> Path:
        return write_frames(self.make_path(), frames)

    def calls(self, frames: Sequence[Frame]) -> Iterator[tuple[str, Callable[[], object]]]:
        """Yield calls of the library that use a forged journal, by name."""
        path = self.write(frames)
        yield "check_resume", lambda: check_resume(path)
        yield "verify_replay", lambda: journal.verify_replay(path, cache=self.cache)
        yield "each", lambda: journal.verify_replay(path, cache=self.cache, from_each_snapshot=True)
        yield "extract", lambda: extract_files(path, self.make_path())
        yield "play", lambda: self._play(path)
        yield "compact", lambda: compact(path, self.make_path())
        yield "verify", lambda: list(Verifier(path, pages=True).run())
        unended = self.write([frame for frame in frames if frame.tag not in tag_sets.ENDS])
        yield "resume", lambda: self.resume(shutil.copy(unended, self.make_path()))
        yield "resume --dir", lambda: self.resume(unended, grants=self.grants, strict=False)
        yield "resume ended", lambda: self.resume(path)

    def resume(self, path: Path | str, **options: Any) -> None:
        with journal.resume(path, stdin=STDIN + COMMANDS, cache=self.cache, **options) as run:
            wait_for_end(run)

    def _play(self, path: Path) -> None:
        with journal.Reader(path) as reader:
            play(reader.frames(), ModelHost())


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory, cache_dir: Path) -> Workshop:
    return Workshop(tmp_path_factory.mktemp("forged"), cache_dir)


def check_error(name: str, call: Callable[[], object]) -> None:
    """Check that a call succeeds, or raises an error of the library of one short line."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            call()
    except JournalError as error:
        message = str(error)
        assert message, name
        assert message.isprintable(), f"{name}: {message!r}"
        # The options that grant what a journal asks for are never cut.
        is_short = isinstance(error, journal.GrantsMissing) or len(message) <= MESSAGE_SIZE_MAX
        assert is_short, f"{name}: {len(message)} characters"
    except Exception as error:
        raise AssertionError(f"{name}: {error!r}") from error


def apply(mutation: Mutation, frames: Sequence[Frame]) -> list[Frame] | None:
    """Return the frames after a mutation; None if such an event cannot be written."""
    try:
        return mutation.change(frames)
    except JournalError:
        return None


@pytest.mark.parametrize("name", ["memory", "host", "prompt"])
def test_a_sample_of_forged_events_causes_errors_of_the_library(
    name: str, workshop: Workshop
) -> None:
    frames = workshop.record(name)
    mutations = list(mutate_events(frames, per_kind=1))
    for mutation in random.Random(name).sample(mutations, SAMPLE_COUNT):
        forged = apply(mutation, frames)
        for call, action in workshop.calls(forged) if forged else ():
            if call in ("verify_replay", "resume"):
                check_error(f"{call} of {mutation.name}", action)


@pytest.mark.deep
@pytest.mark.parametrize("name", ["memory", "host", "prompt", "deep"])
def test_forged_events_cause_errors_of_the_library_in_every_call(
    name: str, workshop: Workshop, budget: Budget
) -> None:
    frames = workshop.record(name)
    for mutation in budget.spend(list(mutate_events(frames)), minimum=20):
        forged = apply(mutation, frames)
        for call, action in workshop.calls(forged) if forged else ():
            check_error(f"{call} of {mutation.name}", action)


@pytest.mark.deep
@pytest.mark.parametrize("name", ["memory", "host", "prompt"])
def test_every_command_answers_forged_events_with_a_sentence(
    name: str, workshop: Workshop, budget: Budget, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", build_environment()["XDG_CACHE_HOME"])
    frames = workshop.record(name)
    cases = [(mutation, command) for mutation in mutate_events(frames) for command in PASSIVE]
    for mutation, command in budget.spend(cases, minimum=len(PASSIVE)):
        forged = apply(mutation, frames)
        if forged is None:
            continue
        path = workshop.write(forged)
        words = [
            str({"OUT": workshop.make_path(), "JOURNAL": path}.get(word, word)) for word in command
        ]
        if "JOURNAL" not in command:
            words.insert(1, str(path))
        done = run_inside(*words, at=workshop.folder)
        said = done.stderr.decode()
        assert b"Traceback" not in done.stderr, f"{command} of {mutation.name}: {said}"
        assert done.returncode in range(10), f"{command} of {mutation.name}: {said}"
        assert all(map(str.isprintable, said.splitlines())), (command, mutation.name)


RESUME_ALL = """
import sys, warnings, journal
from pathlib import Path
from journal.engine import Grants
from journal import HostMount
cache, mount, *paths = sys.argv[1:]
warnings.simplefilter("ignore")
grants = Grants(directories=[HostMount(mount, "/h")])
for path in paths:
    try:
        options = dict(stdin=b"a line", grants=grants, strict=False, cache=Path(cache))
        with journal.resume(path, **options) as run:
            run.wait(60)
    except journal.JournalError:
        pass
print("done")
"""
OPENED = re.compile(r"open(?:at2?)?\(.*?(O_\w+[^)]*)\)\s+= \d+<(?P<path>[^>]*)>")
CHANGED = re.compile(r"(?:mkdir|unlink|rename|link|symlink)\w*\((.*)\)\s+= 0")


@pytest.mark.deep
@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_a_resume_of_forged_events_touches_nothing_outside_its_grants(
    workshop: Workshop, budget: Budget, tmp_path: Path, cache_dir: Path
) -> None:
    outside = workshop.folder / "outside"
    outside.mkdir()
    (outside / "secret").write_bytes(b"secret")
    for name, target in (("link", "../outside"), ("report", "../outside/secret")):
        (workshop.mount / name).symlink_to(target)
    frames = workshop.record("host")
    mutations = [one for one in mutate_events(frames) if "path" in one.name or "Mount" in one.name]
    paths = []
    for mutation in budget.spend(mutations, minimum=40):
        forged = apply(mutation, [one for one in frames if one.tag not in tag_sets.ENDS])
        if forged:
            paths.append(workshop.write(forged))
    log = tmp_path / "trace"
    traced = ("strace", "-f", "-y", "-s", "4096", "-e", "trace=%file", "-o", str(log))
    arguments = (RESUME_ALL, cache_dir, workshop.mount, *paths)
    done = subprocess.run(
        [*traced, sys.executable, "-c", *map(str, arguments)],
        cwd=ROOT,
        env=build_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "done\n", done.stderr
    lines = log.read_text(errors="replace").splitlines()
    opened = [(found[1], found["path"]) for found in map(OPENED.search, lines) if found]
    assert len(opened) > len(paths), "the trace is read"
    assert not [path for _, path in opened if path.startswith(str(outside))]
    writable = [path for flags, path in opened if re.search("O_WRONLY|O_RDWR|O_CREAT", flags)]
    allowed = (str(workshop.folder), str(cache_dir.parent), "/dev/", "/proc/", "/memfd:", "/tmp/#")
    assert not [path for path in writable if not path.startswith(allowed)]
    changed = [found[1] for found in map(CHANGED.search, lines) if found]
    assert not [arguments for arguments in changed if str(outside) in arguments]
    assert (outside / "secret").read_bytes() == b"secret"
    assert [entry.name for entry in outside.iterdir()] == ["secret"]


START = process.ProcessStart
MOUNT = process.Mount
PREAMBLES: dict[str, tuple[type[Event], dict[str, Any], str]] = {
    "NUL in a directory": (MOUNT, {"host": "/a\0b"}, "host path of mount"),
    "a relative directory": (MOUNT, {"host": "a"}, "host path of mount"),
    "a directory with ..": (MOUNT, {"host": "/a/../b"}, "host path of mount"),
    "a long directory": (MOUNT, {"host": "/" + "x" * 5000}, "host path of mount"),
    "NUL in a name": (MOUNT, {"guest": "a\0b"}, "mount name"),
    "no name": (MOUNT, {"guest": ""}, "mount name"),
    "a long name": (MOUNT, {"guest": "x" * 5000}, "mount name"),
    "a name twice": (MOUNT, {"guest": "//"}, "used twice"),
    "a late descriptor": (MOUNT, {"fd": (1 << 32) - 1}, "it must be 4"),
    "files in memory at a path": (
        MOUNT,
        {"kind": process.MountKind.MEMORY, "host": "/etc"},
        "must be empty",
    ),
    "NUL in the module's path": (START, {"module_path": "/a\0b"}, "path of its module"),
    "a relative module": (START, {"module_path": "../a.wasm"}, "path of its module"),
    "NUL in an argument": (START, {"arguments": (b"a\0b",)}, "each argument"),
    "NUL in a variable": (START, {"environment": (b"A=a\0b",)}, "each variable"),
    "a variable without a name": (START, {"environment": (b"=b",)}, "each variable"),
    "an engine of many lines": (START, {"engine": "a\n" * 9}, "its engine must be"),
    "a long platform": (START, {"platform": "x" * 5000}, "its platform must be"),
    "a large module": (START, {"module_size": 1 << 63}, "size of its module"),
    "a limit of many digits": (
        START,
        {"configuration": (("files_size_max", "9" * 5000),)},
        "unknown value of files_size_max",
    ),
    "a negative limit": (START, {"configuration": (("stack_size", "-1"),)}, "unknown value"),
    "a limit out of range": (START, {"configuration": (("stack_size", "1"),)}, "is invalid"),
    "a limit twice": (START, {"configuration": (("stack_size", "65536"),) * 2}, "twice"),
    "a long option": (START, {"configuration": (("\n" * 5000, ""),)}, "unknown to this version"),
    "a long reason": (
        START,
        {"configuration": (("not-resumable", "\x1b" * 5000),)},
        "cannot be resumed",
    ),
    "an input of another stream": (streams.StreamOpened, {"stream": 7}, "stream 7"),
    "an output to another stream": (streams.StreamDelivered, {"stream": 0}, "stream 0"),
    "an output far away": (streams.StreamDelivered, {"upto": (1 << 64) - 1}, "offset"),
    "a file far away": (streams.StreamOpened, {"position": (1 << 64) - 1}, "offset"),
}


def change_event(frames: Sequence[Frame], cls: type[Event], **values: Any) -> list[Frame]:
    """Return the frames with other values in the last event of a kind."""
    index = max(at for at, frame in enumerate(frames) if frame.tag == cls.tag)
    event = alter_event(codec.decode(cls.tag, frames[index].payload), **values)
    changed = frames[index]._replace(payload=codec.encode(event))
    return [*frames[:index], changed, *frames[index + 1 :]]


@pytest.fixture(scope="module")
def host_frames(workshop: Workshop) -> list[Frame]:
    return workshop.record("host")


@pytest.mark.parametrize("name", PREAMBLES)
def test_a_wrong_preamble_is_refused_with_its_reason(
    name: str, workshop: Workshop, host_frames: list[Frame]
) -> None:
    cls, values, reason = PREAMBLES[name]
    path = workshop.write(change_event(host_frames, cls, **values))
    for call in (
        lambda: workshop.resume(path),
        lambda: journal.verify_replay(path, cache=workshop.cache),
        lambda: check_resume(path),
    ):
        with pytest.raises(JournalError) as caught:
            call()
        message = str(caught.value)
        assert reason in message
        assert message.isprintable()
        assert len(message) <= MESSAGE_SIZE_MAX


def test_a_preamble_is_checked_without_assertions_too(
    workshop: Workshop, host_frames: list[Frame], tmp_path: Path
) -> None:
    """Under ``python -O`` no assertion guards anything."""
    paths = [
        workshop.write(change_event(host_frames, cls, **values))
        for cls, values, _ in PREAMBLES.values()
    ]
    script = """
import sys, journal
from journal.engine import Grants, check_resume
for path in sys.argv[1:]:
    try:
        check_resume(path)
    except journal.JournalError as error:
        print(type(error).__name__)
"""
    done = subprocess.run(
        [sys.executable, "-O", "-c", script, *map(str, paths)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=DEADLINE_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.split()) == len(PREAMBLES)


@pytest.mark.parametrize(
    "pair", [("session." + "\n" * 5000, ""), ("session.durability", "\n" * 5000)]
)
def test_a_wrong_option_of_sessions_is_refused_with_one_line(
    pair: tuple[str, str], workshop: Workshop, host_frames: list[Frame]
) -> None:
    path = workshop.write(change_event(host_frames, START, configuration=(pair,)))
    with pytest.raises(journal.EngineMismatch, match=r"option|unknown value") as caught:
        workshop.resume(path)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) <= MESSAGE_SIZE_MAX


def test_the_number_of_mounts_is_bounded(workshop: Workshop, host_frames: list[Frame]) -> None:
    index = max(at for at, frame in enumerate(host_frames) if frame.tag == MOUNT.tag)
    mounts = [
        host_frames[index]._replace(
            payload=codec.encode(
                MOUNT(fd=5 + number, kind=process.MountKind.MEMORY, guest=f"/{number}", host="")
            )
        )
        for number in range(1100)
    ]
    path = workshop.write([*host_frames[: index + 1], *mounts, *host_frames[index + 1 :]])
    with pytest.raises(journal.NotResumable, match="more than 1024 mounts"):
        workshop.resume(path)


def test_a_directory_that_a_guest_made_a_link_is_not_mounted_again(
    tmp_path: Path, cache_dir: Path
) -> None:
    """A guest with the directory above a mount can replace the mount by a link to anywhere."""
    mount, path = tmp_path / "work" / "mount", tmp_path / "a.journal"
    mount.mkdir(parents=True)
    mounts = [HostMount(str(mount), "/h")]
    with journal.record(guest("cat"), path, mounts=mounts, cache=cache_dir) as run:
        run.stop()
    mount.rename(tmp_path / "elsewhere")
    mount.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(journal.HostMismatch, match="leads through a symbolic link now"):
        journal.resume(path, stdin=b"", cache=cache_dir, strict=False)
    grants = Grants(directories=mounts)
    with journal.resume(path, stdin=b"", grants=grants, cache=cache_dir, strict=False) as run:
        assert wait_for_end(run).code == 0
