"""Calls about processes with wrong pointers, counts, names and descriptors: no child starts."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

import journal
from journal.wasi_abi import Errno
from tests.support.programs import guest
from tests.support.remote_guest import DATA, MEMORY_SIZE, REMOTE, Remote

ACTION = struct.Struct("<B3x5IH6xQQHH4x")
FAR = 0xFFFF_FFF0
NAME = b"exit7"


@pytest.fixture(scope="module")
def remote(tmp_path_factory: pytest.TempPathFactory, cache_dir: Path) -> Iterator[Remote]:
    """A guest that makes any call, and may start one program."""
    path = tmp_path_factory.mktemp("remote") / "a.journal"
    with journal.record(
        REMOTE, path, cache=cache_dir, commands={"exit7": guest("exit7")}, processes_max=2
    ) as recorder:
        yield Remote(recorder)
        assert not path.with_suffix(".children").exists() or _has_one_child(path)


def _has_one_child(path: Path) -> bool:
    return len(list(path.with_suffix(".children").iterdir())) == 1


def spawn(
    remote: Remote,
    *,
    name: tuple[int, int] = (DATA, len(NAME)),
    arguments: tuple[int, int] = (0, 0),
    environment: tuple[int, int] = (0, 0),
    actions: tuple[int, int] = (0, 0),
    signals: tuple[int, int] = (0, 0),
    path: tuple[int, int] = (0, 0),
    result: int = DATA + 120,
    data: bytes = NAME,
) -> int:
    """Return the errno of a proc_spawn2."""
    values = (*name, *arguments, *environment, *actions, *signals, 1, *path, result)
    return remote("proc_spawn2", *values, data=data).errno


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": (FAR, 5)},
        {"arguments": (FAR, 100)},
        {"arguments": (0, MEMORY_SIZE + 1)},
        {"environment": (FAR, 1)},
        {"actions": (FAR, 2)},
        {"signals": (FAR, 3)},
        {"path": (FAR, 4)},
        {"result": FAR},
    ],
    ids=lambda wrong: f"{next(iter(wrong))} {next(iter(wrong.values()))}",
)
def test_a_pointer_outside_the_memory_is_refused(
    wrong: dict[str, tuple[int, int]], remote: Remote
) -> None:
    assert spawn(remote, **wrong) == Errno.MEMVIOLATION  # type: ignore[arg-type]


@pytest.mark.parametrize("count", [1025, 1 << 31, 0xFFFF_FFFF])
def test_too_many_actions_and_signals_are_refused(count: int, remote: Remote) -> None:
    assert spawn(remote, actions=(DATA, count)) == Errno.TOO_BIG
    assert spawn(remote, signals=(DATA, count)) == Errno.TOO_BIG


@pytest.mark.parametrize(
    ("name", "errno"),
    [
        (b"", Errno.NOENT),
        (b"/", Errno.NOENT),
        (b"/exit7", Errno.NOENT),
        (b"../exit7", Errno.NOENT),
        (b"/bin/../exit7", Errno.NOENT),
        (b"\xff\xfe", Errno.NOENT),
        (b"exit7\0", Errno.NOENT),
    ],
)
def test_only_commands_are_found(name: bytes, errno: Errno, remote: Remote) -> None:
    assert spawn(remote, name=(DATA, len(name)), data=name) == errno


@pytest.mark.parametrize(
    ("kind", "fd", "source", "errno"),
    [
        (1, 3, 77, Errno.BADF),
        (1, 1 << 31, 1, Errno.BADF),
        (1, 4, 3, Errno.NOTSUP),  # The descriptor of a mount.
        (2, 1 << 20, 0, Errno.BADF),
        (4, 3, 0, Errno.NOTSUP),
        (5, 0, 0, Errno.INVAL),
        (255, 0, 0, Errno.INVAL),
    ],
)
def test_an_impossible_action_is_refused(
    kind: int, fd: int, source: int, errno: Errno, remote: Remote
) -> None:
    action = ACTION.pack(kind, fd, source, DATA, 1, 0, 0, 0, 0, 0, 0)
    data = NAME.ljust(8, b"\0") + action
    assert spawn(remote, actions=(DATA + 8, 1), data=data) == errno


def test_other_calls_check_their_pointers_and_numbers(remote: Remote) -> None:
    for name in ("proc_id", "proc_fork_env"):
        assert remote(name, FAR).errno == Errno.MEMVIOLATION
    assert remote("proc_parent", 1, FAR).errno == Errno.MEMVIOLATION
    assert remote("proc_parent", 2, DATA).errno == Errno.SRCH
    assert remote("proc_fork", 1, FAR).errno == Errno.MEMVIOLATION
    assert remote("proc_join", FAR, 1, DATA).errno == Errno.MEMVIOLATION
    assert remote("proc_join", DATA, 1, FAR).errno == Errno.MEMVIOLATION
    assert remote("proc_join", DATA, 1, DATA + 8).errno == Errno.CHILD
    assert remote("proc_signal", 2, 9).errno == Errno.SRCH
    assert remote("proc_exec3", FAR, 9, 0, 0, 0, 0, 0, 0, 0).errno == Errno.MEMVIOLATION
    assert remote("proc_exec3", DATA, 4, 0, 0, 0, 0, 0, 0, 0, data=b"none").errno == Errno.NOENT


def test_a_child_that_is_not_joined_counts(remote: Remote) -> None:
    silence = b"".join(ACTION.pack(0, stream, *[0] * 9) for stream in (1, 2))
    started = {"actions": (DATA + 8, 2), "data": NAME.ljust(8, b"\0") + silence}
    assert spawn(remote, **started) == Errno.SUCCESS  # type: ignore[arg-type]
    assert spawn(remote, **started) == Errno.AGAIN  # type: ignore[arg-type]
    option = struct.pack("<B3xI", 1, 2)
    joined = remote("proc_join", DATA, 0, DATA + 8, data=option)
    assert joined.errno == Errno.SUCCESS
    assert struct.unpack_from("<BxHB", joined.data, 8) == (1, 7, 0)
