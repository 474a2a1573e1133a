# mypy: disable-error-code="arg-type"
"""Arguments of record, resume and the recorder: a wrong one is refused before anything changes."""

from pathlib import Path
from typing import Any

import pytest

import journal
from journal.engine import FileCopy, RunConfig, SnapshotOptions
from journal.errors import OptionError
from tests.support.programs import guest

WRONG_OPTIONS: list[tuple[str, Any]] = [
    ("args", "a b"),
    ("args", [7]),
    ("args", ["a\0b"]),
    ("env", ["A=b"]),
    ("env", {"A": 7}),
    ("env", {"A=B": "c"}),
    ("mounts", ["/a::/b"]),
    ("mounts", "/a"),
    ("mounts", [None]),
    ("mounts", [journal.HostMount("a\0b", "/a")]),
    ("mounts", [journal.HostMount(None, "/a")]),
    ("mounts", [journal.HostMount(".", "/a", "yes")]),
    ("mounts", [journal.MemoryMount(None)]),
    ("copies", [FileCopy(7, "/a")]),
    ("copies", [FileCopy("a", 7)]),
    ("copies", ["a"]),
    ("level", "bogus"),
    ("embed", "yes"),
    ("configuration", "x"),
    ("roll", 7),
    ("stdin", "text"),
    ("stdin", -1),
    ("stdout", b"x"),
    ("stderr", True),
    ("durability", "bogus"),
    ("cache", 7),
    ("network", 1),
    ("snapshots", {"idle"}),
    ("compaction", "x"),
    ("note", "x"),
    ("config", {}),
]


@pytest.mark.parametrize(("name", "value"), WRONG_OPTIONS)
def test_a_wrong_option_of_record_is_refused(tmp_path: Path, name: str, value: Any) -> None:
    with pytest.raises(OptionError) as caught:
        journal.record(guest("cat"), tmp_path / "a.journal", **{name: value})
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("options", [{"on": {"bogus"}}, {"stacks": "x"}, {"every_events": 0}])
def test_wrong_options_of_snapshots_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(OptionError):
        SnapshotOptions(**options)


def test_an_enum_may_be_given_as_its_value() -> None:
    assert RunConfig(durability="none") == RunConfig(durability=journal.engine.Durability.NONE)
    assert SnapshotOptions(stacks="never").stacks is journal.engine.Stacks.NEVER


def test_a_text_cannot_be_fed(tmp_path: Path) -> None:
    with journal.record(guest("cat"), tmp_path / "a.journal") as run:
        for call in (
            lambda: run.feed("text"),
            lambda: run.wait("x"),
            lambda: run.notify("bogus"),
            lambda: run.read_file(7),
        ):
            with pytest.raises(OptionError):
                call()
        run.feed(b"bytes")
        run.close_stdin()
        run.wait()
        assert run.stdout == b"bytes"
