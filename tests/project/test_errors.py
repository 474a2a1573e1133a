"""Exceptions: each can be copied and pickled with its data, and names the file it concerns."""

import copy
import inspect
import pickle
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

import journal
from journal.errors import JournalError, JournalLocked, NotAJournal, StorageError
from journal.log.reader import Reader
from journal.log.scan import RecoveryMode
from journal.log.writer import Writer
from tests.support.programs import ROOT

VALUES: dict[str, Any] = {"int": 7, "Errno": 44}


def exceptions() -> Iterator[type[BaseException]]:
    """Yield the exception classes of all modules of the library."""
    for path in sorted((ROOT / "journal").rglob("*.py")):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        if "__init__" in name or "_native" in name or "class " not in path.read_text():
            continue
        for found in vars(import_module(name)).values():
            if (
                isinstance(found, type)
                and issubclass(found, BaseException)
                and found.__module__ == name
            ):
                yield found


def make(kind: type[BaseException]) -> BaseException:
    """Return an exception whose arguments all differ from their defaults."""
    if "__init__" not in vars(kind) and kind.__init__ in (Exception.__init__, OSError.__init__):
        return kind("a reason")
    positional, named = [], {}
    for parameter in list(inspect.signature(kind.__init__).parameters.values())[1:]:
        value = VALUES.get(
            str(getattr(parameter.annotation, "__name__", parameter.annotation)), "x"
        )
        if parameter.kind is parameter.KEYWORD_ONLY:
            named[parameter.name] = value
        else:
            positional.append(value)
    return kind(*(positional or ["a reason"]), **named)


@pytest.mark.parametrize("kind", list(exceptions()), ids=lambda kind: kind.__name__)
def test_an_exception_can_be_copied_and_pickled_with_its_data(kind: type[BaseException]) -> None:
    error = make(kind)
    error.add_note("a note")
    for twin in (copy.copy(error), copy.deepcopy(error), pickle.loads(pickle.dumps(error))):
        assert type(twin) is kind
        assert (str(twin), twin.args, vars(twin)) == (str(error), error.args, vars(error))
        if issubclass(kind, JournalError):
            assert "\n" not in str(twin)


def test_an_error_names_the_file_it_concerns(tmp_path: Path) -> None:
    path = tmp_path / "a.journal"
    with Writer(path) as writer:
        writer.append_frame(7, b"x")
        with pytest.raises(JournalLocked, match="by this process") as locked:
            Writer(path)
    (tmp_path / "no.journal").write_bytes(b"no journal" * 100)
    with pytest.raises(NotAJournal) as reading:
        Reader(tmp_path / "no.journal")
    with pytest.raises(NotAJournal) as writing:
        Writer(tmp_path / "no.journal")
    path.write_bytes(path.read_bytes() + b"torn")
    with (
        Reader(path, mode=RecoveryMode.STRICT) as reader,
        pytest.raises(journal.FormatError) as torn,
    ):
        list(reader.frames())
    with pytest.raises(StorageError) as refused:
        Writer(tmp_path / "none" / "a.journal")
    for caught in (locked, reading, writing, torn, refused):
        assert Path(caught.value.path).parent in (tmp_path, tmp_path / "none"), caught
        assert str(caught.value).count(caught.value.path) == 1
