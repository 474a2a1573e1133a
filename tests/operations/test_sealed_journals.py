"""Operations on sealed journals keep the seal, and leave nothing in plain text."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import journal
from journal import Query, Reader, Verifier, Writer
from journal.errors import FormatError, OptionError, UnexpectedHead, WrongKey
from journal.export import export_lines, import_lines
from journal.format import segment_header
from journal.log import Head, RollPolicy, check_head, read_head, using_key
from journal.pages.page_index import PageIndex
from tests.support.application_events import check_operations
from tests.support.sealed_journals import KEY, OTHER_KEY, SECRET, blocks_of, flip, process_key

EVENTS = [SECRET * (1 + number % 3 * 40) + b"%d" % number for number in range(9)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "a.journal"
    with Writer(path, key=KEY) as writer:
        for number, event in enumerate(EVENTS):
            writer.append_frame(224 + number % 2, event)
            writer.sync()
    return path


def frames_of(path: Path, key: journal.SealKey | None = KEY) -> list[bytes]:
    with Reader(path, key=key) as reader:
        return [frame.payload for frame in reader.frames()]


def files_with_secrets(folder: Path) -> list[str]:
    return [
        file.name for file in folder.rglob("*") if file.is_file() and SECRET in file.read_bytes()
    ]


def test_every_operation_copies_a_sealed_journal_to_a_sealed_one(path: Path) -> None:
    with Reader(path, key=KEY) as reader:
        rows = [(frame.tag, frame.payload) for frame in reader.frames()]
    with process_key():
        check_operations(path, rows)
    made = [file for file in path.parent.rglob("*.journal") if file.is_file()]
    assert len(made) >= 7
    assert all(segment_header.read(file.read_bytes(), 0).is_sealed for file in made)
    assert not files_with_secrets(path.parent)


OPERATIONS: dict[str, Callable[[Path, Path], object]] = {
    "compact": journal.compact,
    "concat": lambda source, target: journal.concat([source], target),
    "cut": lambda source, target: journal.cut(source, target, at=5),
    "filter": lambda source, target: journal.filter(source, target, Query()),
    "filter by kind": lambda source, target: journal.filter(
        source, target, Query(tags=frozenset({225}))
    ),
    "fork": lambda source, target: journal.fork(source, target, at=5),
    "salvage": journal.salvage,
    "split": lambda source, target: journal.split(source, target, at=[4]),
}


@pytest.mark.parametrize("name", sorted({*OPERATIONS} - {"salvage"}))
def test_an_operation_without_the_key_leaves_no_file(path: Path, tmp_path: Path, name: str) -> None:
    target = tmp_path / "target"
    with pytest.raises(WrongKey):
        OPERATIONS[name](path, target)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_can_seal_with_another_key(path: Path, tmp_path: Path, name: str) -> None:
    target = tmp_path / "target"
    with using_key(KEY, writing=OTHER_KEY):
        OPERATIONS[name](path, target)
    files = [target] if target.is_file() else sorted(target.iterdir())
    for file in files:
        if file.suffix != ".json":
            assert frames_of(file, OTHER_KEY)
            with pytest.raises(WrongKey):
                Reader(file, key=KEY)
    assert not files_with_secrets(tmp_path)


def test_an_old_journal_is_sealed_by_a_copy(tmp_path: Path) -> None:
    plain, sealed = tmp_path / "plain", tmp_path / "sealed"
    with Writer(plain) as writer:
        writer.append_frame(224, SECRET)
    with using_key(None, writing=KEY):
        journal.concat([plain], sealed)
    assert frames_of(sealed) == [SECRET]
    assert SECRET not in sealed.read_bytes()


def test_a_journal_is_compacted_in_place_and_online(path: Path, tmp_path: Path) -> None:
    with using_key(KEY):
        journal.compact_in_place(path)
    assert frames_of(path) == EVENTS
    with Writer(path, key=KEY) as writer:
        writer.append_frame(224, SECRET)
        journal.compact_online(writer)
        writer.append_frame(224, SECRET)
    assert frames_of(path) == [*EVENTS, SECRET, SECRET]
    assert not files_with_secrets(tmp_path)


def test_a_verification_needs_the_key_only_for_the_seal(path: Path) -> None:
    with pytest.raises(WrongKey):
        list(Verifier(path).run())
    without_key = Verifier(path, headers=True)
    assert not list(without_key.run())
    assert without_key.counts.events == len(EVENTS)
    with process_key():
        assert not list(Verifier(path, decode=False).run())
    stored = blocks_of(path.read_bytes())[3].header
    at = stored.offset + 112
    path.write_bytes(flip(path.read_bytes(), 8 * at))
    assert list(Verifier(path, headers=True).run())


@pytest.fixture(params=[None, RollPolicy(1500)], ids=["file", "directory"])
def rolled(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / "rolled"
    with Writer(path, key=KEY, roll=request.param, compress=False) as writer:
        for number in range(8):
            writer.append_frame(224, SECRET * 9 + b"%d" % number)
            writer.sync()
    return path


def test_recovery_without_the_key_repairs_a_copy(rolled: Path, tmp_path: Path) -> None:
    expected = frames_of(rolled)
    file = rolled if rolled.is_file() else sorted(rolled.iterdir())[0]
    data = file.read_bytes()
    stored = [one.header for one in blocks_of(data)]
    spots = [100, stored[0].offset + 150, stored[0].offset + 40, stored[1].offset + 130]
    for number, at in enumerate([*spots, stored[2].offset + 60]):
        file.write_bytes(flip(data, 8 * at + 3))
        for key in (None, KEY):
            target = tmp_path / f"copy {number} {key}"
            with using_key(key):
                result = journal.salvage(rolled, target)
            assert result.is_whole, (at, key)
            assert len(result.repairs) == 1
            assert result.events == len(expected)
            assert frames_of(target) == expected
    assert not files_with_secrets(tmp_path)


def test_recovery_without_the_key_keeps_all_other_bytes(path: Path, tmp_path: Path) -> None:
    data = bytearray(path.read_bytes())
    at = blocks_of(bytes(data))[4].header.offset + 112
    data[at : at + 8] = b"\xff" * 8
    path.write_bytes(data)
    result = journal.salvage(path, tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == data
    assert result.lost_events == 1
    with using_key(KEY):
        assert journal.salvage(path, tmp_path / "saved").lost_events == 1
    assert frames_of(tmp_path / "saved") == EVENTS[:3] + EVENTS[4:]


def test_an_export_is_imported_with_a_seal(path: Path, tmp_path: Path) -> None:
    exported, target = io.BytesIO(), tmp_path / "imported"
    with using_key(KEY):
        export_lines(path, exported)
        exported.seek(0)
    with using_key(None, writing=OTHER_KEY):
        import_lines(exported, target)
    assert frames_of(target, OTHER_KEY) == EVENTS


# -- heads ---------------------------------------------------------------------------------------


def test_a_head_accepts_only_what_continues_it(rolled: Path, tmp_path: Path) -> None:
    before = tmp_path / "before"
    (shutil.copy2 if rolled.is_file() else shutil.copytree)(rolled, before)
    old = read_head(rolled)
    assert old == read_head(rolled, key=KEY)
    assert old.next_seq == 8
    with Writer(rolled, key=KEY) as writer:
        writer.append_frame(224, SECRET)
    new = read_head(rolled)
    assert check_head(rolled, old) == check_head(rolled, new, key=KEY) == new
    assert check_head(before, old) == old
    with pytest.raises(UnexpectedHead, match="cut, set back or replaced"):
        check_head(before, new)
    with pytest.raises(UnexpectedHead):
        check_head(rolled, Head(9, bytes(32)))


def test_a_head_shows_each_cut_between_blocks(path: Path) -> None:
    data, head = path.read_bytes(), read_head(path)
    for stored in blocks_of(data):
        path.write_bytes(data[: stored.header.offset])
        with pytest.raises(UnexpectedHead):
            check_head(path, head)
    path.write_bytes(data)
    check_head(path, head)
    path.write_bytes(flip(data, 8 * 1000))
    with pytest.raises(FormatError):
        check_head(path, head)


def test_a_head_survives_cat(rolled: Path, tmp_path: Path) -> None:
    files = [rolled] if rolled.is_file() else sorted(rolled.iterdir())
    joined = tmp_path / "joined"
    joined.write_bytes(b"".join(file.read_bytes() for file in files))
    assert read_head(joined) == read_head(rolled)


def test_a_journal_without_a_seal_has_a_head_too(tmp_path: Path) -> None:
    path = tmp_path / "plain"
    with Writer(path) as writer:
        writer.append_frame(224, b"x")
    head = read_head(path)
    assert Head.parse(str(head)) == head
    assert check_head(path, head) == head


@pytest.mark.parametrize(
    "text", ["", "3", "3-ab", "-" + "0" * 64, "1-" + "G" * 64, "1-" + "٣" * 64]
)
def test_another_text_is_no_head(text: str) -> None:
    with pytest.raises(OptionError, match="is not a head"):
        Head.parse(text)


def test_a_page_index_is_not_opened_beside_a_sealed_journal(path: Path, tmp_path: Path) -> None:
    with using_key(KEY), PageIndex(path) as index:
        with pytest.raises(OptionError, match="no page index"):
            index.rebuild()
        assert not index.save()
    assert list(tmp_path.iterdir()) == [path]
