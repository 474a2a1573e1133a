"""Kinds of events that a journal declares: every tool reads their fields, and none trusts them."""

from __future__ import annotations

import io
import json
import pickle
from ipaddress import ip_address
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import journal
from journal import Event, OpaqueEvent, Query, Reader, Verifier, Writer, application_event
from journal.errors import ExpressionError, OptionError
from journal.events import APPLICATION_TAGS, codec
from journal.events.application import ApplicationKind
from journal.events.declared_kinds import (
    FIELDS_COUNT_MAX,
    NAME_SIZE_MAX,
    declaration_of,
    explain_void,
    make_class,
)
from journal.events.wire_types import I64, U8, Cidr, PublicBytes, Text, U32s
from journal.export import Secret, export_lines, import_lines
from journal.export.parquet import export_parquet, import_parquet
from journal.log import RollPolicy
from tests.support.application_events import check_operations, frames_of
from tests.support.command_line import run_inside


@application_event(tag=230)
class Reading(Event):
    """A temperature that a sensor measured."""

    sensor: Text
    celsius: I64
    flags: U32s = ()


@application_event(tag=231)
class Alarm(Event):
    """An alarm."""

    level: U8


ROOF, CELLAR = Reading(sensor="roof", celsius=-3, flags=(1, 2)), Reading(sensor="cellar", celsius=9)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """A log with declared events, one undeclared event and one that does not fit."""
    path = tmp_path / "log.journal"
    with Writer(path, kinds=[Reading]) as writer:
        writer.append(ROOF)
        writer.append(CELLAR)
        writer.append_frame(Reading.tag, b"misfit")
        writer.append_frame(240, b"undeclared")
    return path


# -- any declaration and any payload --------------------------------------------------------------

VALUES: dict[str, st.SearchStrategy[Any]] = {
    "u8": st.integers(0, 2**8 - 1),
    "u16": st.integers(0, 2**16 - 1),
    "u32": st.integers(0, 2**32 - 1),
    "u64": st.integers(0, 2**64 - 1),
    "i32": st.integers(-(2**31), 2**31 - 1),
    "i64": st.integers(-(2**63), 2**63 - 1),
    "flag": st.booleans(),
    "text": st.text(max_size=9),
    "blob": st.binary(max_size=9),
    "duration": st.integers(0, 2**64),
    "ip": st.ip_addresses(),
}
TYPES = st.builds(
    "{}{}".format, st.sampled_from(["", "maybe ", "list of "]), st.sampled_from(sorted(VALUES))
)
FIELD_NAMES = st.from_regex(r"f[a-z0-9_]{0,5}", fullmatch=True)


def values_of(type_text: str) -> st.SearchStrategy[Any]:
    """Return a strategy for the values of a type."""
    if type_text.startswith("maybe "):
        return st.none() | VALUES[type_text.removeprefix("maybe ")]
    if type_text.startswith("list of "):
        return st.lists(VALUES[type_text.removeprefix("list of ")], max_size=3).map(tuple)
    return VALUES[type_text]


@st.composite
def declared_journals(draw: st.DrawFn) -> tuple[list[ApplicationKind], list[tuple[int, bytes]]]:
    """Return declarations, and frames that fit them or not."""
    tags = draw(
        st.lists(st.sampled_from(sorted(APPLICATION_TAGS)), min_size=1, max_size=3, unique=True)
    )
    declarations, frames = [], []
    for tag in tags:
        fields = draw(st.dictionaries(FIELD_NAMES, TYPES, max_size=4))
        name = draw(st.from_regex(r"[A-Z][A-Za-z0-9_]{0,9}", fullmatch=True))
        one = ApplicationKind(number=tag, name=name, fields=tuple(fields.items()))
        declarations.append(one)
        cls = make_class(one)
        for _ in range(draw(st.integers(0, 4))):
            chosen = {field: draw(values_of(kind)) for field, kind in fields.items()}
            frames.append((tag, codec.encode(cls(**chosen))))
        frames += draw(st.lists(st.tuples(st.just(tag), st.binary(max_size=9)), max_size=2))
    return declarations, frames


@given(declared_journals(), st.sampled_from(["inspect", "tail", "info", "stats", "verify"]))
def test_every_operation_copies_declared_events(
    story: tuple[list[ApplicationKind], list[tuple[int, bytes]]], command: str
) -> None:
    declarations, frames = story
    with TemporaryDirectory() as name:
        path = Path(name) / "a.journal"
        with Writer(path) as writer:
            for one in declarations:
                writer.append(one)
            for tag, payload in frames:
                writer.append_frame(tag, payload)
        whole = frames_of(path)
        check_operations(path, whole)
        with Reader(path) as reader:
            events = list(reader)
            assert [(event.tag, codec.encode(event)) for event in events] == whole
            assert pickle.loads(pickle.dumps(events)) == events
        done = run_inside(command, "--json", "a.journal", at=Path(name))
        assert done.returncode == 0, done.stderr
        if command == "inspect":
            shown = [json.loads(line)["tag"] for line in done.stdout.splitlines()]
            assert shown == [tag for tag, _ in whole]


# -- Python ---------------------------------------------------------------------------------------


def test_a_reader_returns_named_fields_without_the_class(log: Path) -> None:
    with Reader(log) as reader:
        declaration, roof, cellar, misfit, undeclared = reader
    assert declaration == declaration_of(Reading)
    assert repr(roof) == repr(ROOF)
    assert (cellar.sensor, cellar.celsius, cellar.flags) == ("cellar", 9, ())  # type: ignore[attr-defined]
    assert misfit == OpaqueEvent(tag=Reading.tag, payload=b"misfit")
    assert undeclared == OpaqueEvent(tag=240, payload=b"undeclared")
    with pytest.raises(AttributeError, match="frozen"):
        roof.celsius = 1  # type: ignore[attr-defined]


def test_a_reader_returns_the_class_that_it_is_given(log: Path) -> None:
    with Reader(log, kinds=[Reading]) as reader:
        assert [event for event in reader if isinstance(event, Reading)] == [ROOF, CELLAR]


def test_a_class_that_differs_from_the_declaration_is_not_used(log: Path) -> None:
    @application_event(tag=Reading.tag)
    class Other(Event):
        """Another kind with the same tag."""

        data: PublicBytes

    with Reader(log, kinds=[Other]) as reader:
        assert [type(event).__name__ for event in reader][1] == "Reading"


def test_a_writer_declares_a_kind_once(log: Path) -> None:
    with Writer(log, kinds=[Reading]) as writer:
        assert writer.next_seq == 5
        writer.declare(Reading, Alarm, Alarm)
        writer.declare(Alarm)
        assert writer.next_seq == 6
        writer.append(Alarm(level=3))
    with Reader(log, kinds=[Alarm]) as reader:
        assert list(reader)[-1] == Alarm(level=3)


def test_a_writer_refuses_another_declaration_of_a_tag(log: Path) -> None:
    @application_event(tag=Reading.tag)
    class Measured(Event):
        """Another kind with the same tag."""

        kelvin: U8

    expected = r"tag 230 is declared already, as Reading\(.*\); choose another tag for Measured\("
    with pytest.raises(OptionError, match=expected):
        Writer(log, kinds=[Alarm, Measured])
    with Writer(log) as writer:
        assert writer.next_seq == 5


@pytest.mark.parametrize("tag", [7, 255])
def test_a_tag_that_is_not_reserved_is_refused(tag: int) -> None:
    with pytest.raises(OptionError, match=f"tag must be an integer from 224 to 254, got {tag}"):
        application_event(tag=tag)


def test_a_class_that_cannot_be_declared_is_refused() -> None:
    class Bad(Event):
        """A kind that cannot be declared."""

        value: Cidr

    with pytest.raises(TypeError, match="field value has the unknown type ''"):
        application_event(tag=230)(Bad)


def test_a_class_without_the_decorator_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="expected a class with @application_event, got"):
        Writer(tmp_path / "a.journal", kinds=[int])  # type: ignore[list-item]


# -- tools ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("where", "seqs"),
    [
        ("celsius < 0", [1]),
        ('sensor == "cellar"', [2]),
        ("flags == 2", [1]),
        ('kind == "Reading"', [1, 2, 3]),
        ("celsius < 0 or tag == 240", [1, 4]),
        ("celsius > 100", []),
    ],
)
def test_a_query_names_declared_fields(log: Path, where: str, seqs: list[int]) -> None:
    journal.filter(log, log.parent / "kept.journal", Query(where=where), keep_preamble=False)
    with Reader(log.parent / "kept.journal") as reader:
        assert [frame.seq for frame in reader.frames()] == seqs
    journal.filter(
        log, log.parent / "rest.journal", Query(where=where), keep=False, keep_preamble=False
    )
    with Reader(log.parent / "rest.journal") as reader:
        assert [frame.seq for frame in reader.frames()] == sorted({*range(5)} - {*seqs})


def test_a_query_refuses_a_field_that_no_kind_of_the_journal_has(log: Path) -> None:
    with pytest.raises(ExpressionError, match="kelvin"):
        journal.filter(log, None, Query(where="kelvin > 1"))
    done = run_inside("inspect", "--where", "kelvin > 1", log, at=log.parent)
    assert done.returncode == 2


def test_a_filter_keeps_declarations_with_the_preamble(log: Path) -> None:
    kept = log.parent / "kept.journal"
    done = run_inside("filter", log, "-o", kept, "--kind", "reading", at=log.parent)
    assert b"2 Reading" not in done.stdout
    assert b"3 Reading, 1 ApplicationKind" in done.stdout, done.stderr
    with Reader(kept, kinds=[Reading]) as reader:
        assert ROOF in list(reader)


def test_an_export_has_named_fields_and_an_import_reads_them(log: Path) -> None:
    out = io.BytesIO()
    export_lines(log, out)
    rows = [json.loads(line) for line in out.getvalue().splitlines()[1:-1]]
    assert rows[1]["kind"] == "Reading"
    assert rows[1]["fields"] == {"sensor": "roof", "celsius": -3, "flags": [1, 2]}
    assert rows[3]["kind"] is rows[4]["kind"] is None
    changed = out.getvalue().replace(b'"celsius":-3', b'"celsius":-4')
    import_lines(io.BytesIO(changed), log.parent / "made.journal")
    with Reader(log.parent / "made.journal", kinds=[Reading]) as reader:
        assert list(reader)[1] == Reading(sensor="roof", celsius=-4, flags=(1, 2))


def test_an_event_before_its_declaration_is_exported_as_bytes(tmp_path: Path) -> None:
    path = tmp_path / "a.journal"
    with Writer(path) as writer:
        writer.append(ROOF)
        writer.declare(Reading)
        writer.append(CELLAR)
    out = io.BytesIO()
    export_lines(path, out)
    kinds = [json.loads(line)["kind"] for line in out.getvalue().splitlines()[1:-1]]
    assert kinds == [None, "ApplicationKind", "Reading"]
    out.seek(0)
    import_lines(out, tmp_path / "b.journal")
    assert frames_of(tmp_path / "b.journal") == frames_of(path)
    with Reader(path, kinds=[Reading]) as reader:
        assert next(iter(reader)) == ROOF  # A declaration applies to the whole journal.


def test_a_redacted_export_hides_all_fields(log: Path) -> None:
    out = io.BytesIO()
    export_lines(log, out, redact=[Secret.FILES])
    assert b"roof" not in out.getvalue()


@pytest.fixture(scope="module")
def arrow() -> Any:
    return pytest.importorskip("pyarrow.parquet")


def test_a_table_has_the_fields_of_declared_kinds(arrow: Any, log: Path) -> None:
    with (log.parent / "log.parquet").open("wb") as out:
        export_parquet(log, out)
    table = arrow.read_table(log.parent / "log.parquet").to_pydict()
    assert table["kind"] == ["ApplicationKind", "Reading", "Reading", None, None]
    assert table["group"][1:] == ["application", "application", None, None]
    assert json.loads(table["fields"][1]) == {"sensor": "roof", "celsius": -3, "flags": [1, 2]}
    assert table["fields"][3:] == [None, None]
    assert table["payload"][3:] == [b"misfit", b"undeclared"]
    import_parquet(log.parent / "log.parquet", log.parent / "again.journal")
    assert frames_of(log.parent / "again.journal") == frames_of(log)


@given(declared_journals(), st.sets(st.sampled_from(Secret)))
def test_a_table_of_declared_events_imports_as_the_lines_do(
    arrow: Any, story: tuple[list[ApplicationKind], list[tuple[int, bytes]]], redact: set[Secret]
) -> None:
    declarations, frames = story
    with TemporaryDirectory() as name:
        folder = Path(name)
        with Writer(folder / "a.journal") as writer:
            for one in declarations:
                writer.append(one)
            for tag, payload in frames:
                writer.append_frame(tag, payload)
        table, lines = folder / "a.parquet", io.BytesIO()
        with table.open("wb") as out:
            export_parquet(folder / "a.journal", out, redact=redact)
        export_lines(folder / "a.journal", lines, redact=redact)
        lines.seek(0)
        import_parquet(table, folder / "table.journal")
        import_lines(lines, folder / "lines.journal")
        imported = frames_of(folder / "table.journal")
        if redact:  # The hashes of redacted contents differ from export to export.
            tags = [tag for tag, _ in imported]
            assert tags == [tag for tag, _ in frames_of(folder / "lines.journal")]
        else:
            assert (
                imported == frames_of(folder / "lines.journal") == frames_of(folder / "a.journal")
            )


def test_info_lists_declared_kinds(log: Path) -> None:
    text = run_inside("info", log, at=log.parent).stdout
    assert b"kind       Reading(sensor: text, celsius: i64, flags: list of u32), tag 230" in text
    found = json.loads(run_inside("info", "--json", log, at=log.parent).stdout)
    assert found["kinds"] == [
        {
            "tag": 230,
            "name": "Reading",
            "fields": [["sensor", "text"], ["celsius", "i64"], ["flags", "list of u32"]],
        }
    ]


def test_each_part_of_a_self_contained_split_has_the_declarations(log: Path) -> None:
    result = journal.split(log, log.parent / "parts", at=[2, 3], self_contained=True)
    assert len(result.parts) == 3
    for part in result.parts:
        with Reader(part.path) as reader:
            assert list(reader.declarations().classes) == [230]


def test_a_directory_of_segments_has_its_declarations_once(tmp_path: Path) -> None:
    roll = RollPolicy(size_bytes=1 << 16)
    with Writer(tmp_path / "d", kinds=[Reading], roll=roll, compress=False) as writer:
        for number in range(9):
            writer.append(Reading(sensor="x" * 40000, celsius=number))
            writer.sync()
    with Reader(tmp_path / "d", kinds=[Reading]) as reader:
        assert len([event for event in reader if isinstance(event, Reading)]) == 9
    last = max((tmp_path / "d").iterdir())
    with Reader(last) as reader:
        assert {type(event) for event in reader} == {OpaqueEvent}
    assert list(Verifier(last).run()) == []


# -- hostile declarations -------------------------------------------------------------------------


def kind(number: int = 230, name: str = "Kind", *fields: tuple[str, str]) -> ApplicationKind:
    return ApplicationKind(number=number, name=name, fields=fields)


HOSTILE = [
    (kind(7), "tags of applications are 224 to 254, got 7"),
    (kind(0), "tags of applications are 224 to 254, got 0"),
    (kind(230, ""), "'' is not a name"),
    (kind(230, "a b"), "'a b' is not a name"),
    (kind(230, "\x1b[31m"), "is not a name"),
    (kind(230, "é"), "is not a name"),
    (kind(230, "K%s\n"), "is not a name"),
    (kind(230, "K" * (NAME_SIZE_MAX + 1)), "is not a name"),
    (kind(230, "K" * 1_000_000), "is not a name"),
    (kind(230, "K", ("x", "u8"), ("x", "u8")), "two fields have the same name"),
    (kind(230, "K", ("__class__", "u8")), "is not a name"),
    (kind(230, "K", ("tag", "u8")), "no field can have the name tag"),
    (kind(230, "K", ("layout", "u8")), "no field can have the name layout"),
    (kind(230, "K", ("x", "K")), "field x has the unknown type 'K'"),
    (kind(230, "K", ("x", "__import__('os')")), "field x has the unknown type"),
    (kind(230, "K", ("x", "list of " * 100_000 + "u8")), "field x has the unknown type"),
    (kind(230, "K", ("x", "list of list of u8")), "field x has the unknown type"),
    (kind(230, "K", ("x", "u8\n")), "field x has the unknown type"),
    (kind(230, "K", *((f"x{n}", "u8") for n in range(300))), "at most 64 fields, got 300"),
]


@pytest.mark.parametrize(("declaration", "reason"), HOSTILE)
def test_a_void_declaration_is_one_sentence_and_its_events_are_bytes(
    declaration: ApplicationKind, reason: str, tmp_path: Path
) -> None:
    assert FIELDS_COUNT_MAX == 64
    assert reason in explain_void(declaration)
    path = tmp_path / "a.journal"
    with Writer(path) as writer:
        writer.append(declaration)
        writer.append_frame(230, b"\1")
    with Reader(path) as reader:
        assert list(reader)[1] == OpaqueEvent(tag=230, payload=b"\1")
        (void,) = reader.declarations().void
        assert len(void) < 300
        assert void.isprintable()
    check_operations(path, frames_of(path))
    assert run_inside("inspect", path, at=tmp_path).returncode == 0
    text = run_inside("info", path, at=tmp_path).stdout.decode()
    assert len([line for line in text.splitlines() if line.startswith("void ")]) == 1


def test_a_tag_with_two_declarations_has_none(tmp_path: Path) -> None:
    path = tmp_path / "a.journal"
    with Writer(path) as writer:
        for one in (kind(230, "A", ("x", "u8")), kind(230, "B", ("y", "u8"))):
            writer.append(one)
            writer.append_frame(230, b"\1")
    with Reader(path) as reader:
        assert [type(event) for event in reader][1::2] == [OpaqueEvent, OpaqueEvent]
        expected = "tag 230 is declared in two different ways, so its events are bytes"
        assert reader.declarations().void == [expected]
    check_operations(path, frames_of(path))


def test_many_declarations_are_read_in_bounded_memory(tmp_path: Path) -> None:
    path = tmp_path / "a.journal"
    with Writer(path) as writer:
        for number in range(20_000):
            writer.append(kind(230 + number % 5, f"K{number}"))
            writer.append(kind(number % 200, "x" * (number % 90)))
    with Reader(path) as reader:
        found = reader.declarations()
    assert (len(found.classes), len(found.first)) == (0, 5)
    assert len(found.void) < 50


def test_a_count_beyond_the_payload_is_a_misfit() -> None:
    cls = make_class(kind(230, "K", ("x", "list of u8"), ("y", "text")))
    kinds = {230: cls}
    for payload in (b"\xff\xff\0\0", b"\xff\xff\xff\xff", b"\0\0\0\0\xff\xff\xff\xff", b""):
        assert codec.decode(230, payload, kinds=kinds) == OpaqueEvent(tag=230, payload=payload)


def test_all_types_of_addresses_are_read() -> None:
    cls: Any = make_class(kind(230, "K", ("x", "list of ip"), ("y", "maybe ip")))
    event = cls(x=(ip_address("::1"), ip_address("192.0.2.1")), y=None)
    assert codec.decode(230, codec.encode(event), kinds={230: cls}) == event
