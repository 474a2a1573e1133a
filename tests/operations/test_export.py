"""Exports: JSON lines and tables that import as the same journal, and redaction."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from ipaddress import ip_address, ip_network
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import journal
from journal import (
    EngineError,
    Event,
    Frame,
    LimitExceeded,
    LostAcknowledged,
    MalformedEvent,
    NotAJournal,
    OptionError,
    Reader,
    UnsupportedVersion,
    Writer,
    decode,
    encode,
    play,
)
from journal.events import BY_TAG
from journal.events.core import ProcessExit
from journal.events.inputs import ClockRead, HostCall, HostResult, RandomBytes
from journal.events.memory import MemoryPages
from journal.events.paths import FilePlaced, FileType
from journal.events.ports import PortBridge, Security
from journal.events.process import ProcessStart
from journal.events.sockets import SocketAccepted, SocketBind
from journal.events.streams import StreamWrite
from journal.events.wire_types import SocketAddress
from journal.export import (
    Redaction,
    Secret,
    export_lines,
    export_parquet,
    import_lines,
    import_parquet,
)
from journal.format.block import BLOCK_HEADER_SIZE
from journal.operations.verify import Verifier
from journal.replay import ModelHost
from journal.rewrite.block_builder import BlockBuilder
from tests.support.journals import write_stories
from tests.support.network_histories import address_value
from tests.support.rewrites import frames_without_offsets
from tests.support.server_events import HERE_6, THERE_6, accept, listen
from tests.support.strategies import events_of, every_event
from tests.support.worker_journal import recorded, snapshot_seqs

__all__ = ["recorded"]

Lines = list[dict[str, Any]]


def export(path: Path, *redact: Secret) -> bytes:
    out = io.BytesIO()
    export_lines(path, out, redact=redact)
    return out.getvalue()


def event_lines(path: Path, *redact: Secret) -> Lines:
    """Export a journal and return the parsed lines of its events."""
    return [json.loads(line) for line in export(path, *redact).splitlines()[1:-1]]


def import_to_frames(lines: bytes, target: Path) -> list[Frame]:
    import_lines(io.BytesIO(lines), target)
    return frames_without_offsets(target)


def write_journal(path: Path, rows: list[tuple[int, int, int, bytes]]) -> None:
    """Write a journal; each row has the gap before it, the delay, the tag and the payload."""
    with Writer(path, first_seq=rows[0][0] if rows else 0) as writer:
        builder, seq, time = BlockBuilder(writer), 0, 1_000_000
        for gap, delay, tag, payload in rows:
            seq, time = seq + gap, time + delay
            builder.add(seq, tag, payload, max(time, 0))
            seq += 1
        builder.flush()


gaps = st.sampled_from([0, 0, 0, 1, 1 << 20, 1 << 33])
delays = st.sampled_from([0, 0, 1, 1000, 1 << 33, -5000])
payloads = st.one_of(
    every_event().map(lambda event: (event.tag, encode(event))),
    st.tuples(st.integers(1, 254), st.binary(max_size=20)),
)
rows = st.lists(
    st.tuples(gaps, delays, payloads).map(lambda row: (row[0], row[1], *row[2])), max_size=20
)


@given(rows)
def test_an_exported_and_imported_journal_has_the_same_frames(
    story: list[tuple[int, int, int, bytes]],
) -> None:
    with TemporaryDirectory() as name:
        source, target = Path(name) / "a", Path(name) / "b"
        write_journal(source, story)
        lines = export(source)
        assert import_to_frames(lines, target) == frames_without_offsets(source)
        with Reader(source) as before, Reader(target) as after:
            before_import, after_import = before.summary(), after.summary()
        assert (after_import.journal_id, after_import.created) == (
            before_import.journal_id,
            before_import.created,
        )
        assert list(Verifier(target, decode=False).run()) == []
        assert export(target) == lines, "the export of the import has the same bytes"


@pytest.mark.parametrize("tag", sorted(BY_TAG))
def test_every_kind_is_exported_by_field_and_imported_unchanged(tag: int) -> None:
    kind = BY_TAG[tag]

    @settings(max_examples=max(settings().max_examples // 6, 5))  # There are many kinds.
    @given(st.lists(events_of(kind), min_size=1, max_size=3))
    def check(events: list[Event]) -> None:
        with TemporaryDirectory() as name:
            source = Path(name) / "a"
            with Writer(source) as writer:
                for event in events:
                    writer.append(event)
            lines = event_lines(source)
            assert all(line["kind"] == kind.__name__ for line in lines)
            assert all(list(line["fields"]) == list(kind.names) for line in lines)
            assert import_to_frames(export(source), Path(name) / "b") == frames_without_offsets(
                source
            )

    check()


def test_numbers_beyond_the_precision_of_javascript_are_strings(tmp_path: Path) -> None:
    values = [2**53 - 1, 2**53, 2**63, 2**64 - 1, 0]
    with Writer(tmp_path / "a") as writer:
        for value in values:
            writer.append(ClockRead(clock=0, time=value))
    times = [line["fields"]["time"] for line in event_lines(tmp_path / "a")]
    assert times == [2**53 - 1, str(2**53), str(2**63), str(2**64 - 1), 0]


def test_readable_bytes_are_text_and_other_bytes_base64(tmp_path: Path) -> None:
    with Writer(tmp_path / "a") as writer:
        for data in (b"plain\n", "schön".encode(), b"\xff\x00", b"\x1b[2J", b""):
            writer.append(StreamWrite(stream=1, offset=0, data=data))
    assert [line["fields"]["data"] for line in event_lines(tmp_path / "a")] == [
        {"text": "plain\n"},
        {"text": "schön"},
        {"base64": "/wA="},
        {"base64": "G1sySg=="},
        {"text": ""},
    ]
    assert export(tmp_path / "a").isascii()


def test_unknown_kinds_and_malformed_payloads_stay_unchanged(tmp_path: Path) -> None:
    write_stories(tmp_path / "a", [(254, b"\x00new"), (ProcessExit.tag, b"\x02")])
    lines = event_lines(tmp_path / "a")
    assert [(line["kind"], line["payload"]) for line in lines] == [
        (None, {"base64": "AG5ldw=="}),
        (None, {"base64": "Ag=="}),
    ]
    assert import_to_frames(export(tmp_path / "a"), tmp_path / "b") == frames_without_offsets(
        tmp_path / "a"
    )


def test_a_journal_in_use_is_exported_up_to_its_last_flush(tmp_path: Path) -> None:
    with Writer(tmp_path / "a") as writer:
        writer.append(ClockRead(clock=0, time=1))
        writer.flush()
        lines = export(tmp_path / "a")
        writer.append(ClockRead(clock=0, time=2))
    assert [frame.seq for frame in import_to_frames(lines, tmp_path / "b")] == [0]


def test_an_imported_recording_has_the_same_states_and_replays(
    recorded: Path, tmp_path: Path, cache_dir: Path
) -> None:
    target = tmp_path / "b"
    assert import_to_frames(export(recorded), target) == frames_without_offsets(recorded)
    for seq in (snapshot_seqs(recorded)[-1] + 1, None):
        states = []
        for path in (recorded, target):
            host = ModelHost()
            with Reader(path) as reader:
                play(reader.frames(), host, upto=seq)
            states.append(host.state())
        assert states[0] == states[1]
    assert journal.verify_replay(target, cache=cache_dir).matches


# -- malformed exports -----------------------------------------------------------------------------


@pytest.fixture
def lines(tmp_path: Path) -> list[bytes]:
    with Writer(tmp_path / "a") as writer:
        writer.append(ClockRead(clock=0, time=5))
        writer.append(StreamWrite(stream=1, offset=0, data=b"hello"))
        writer.append_frame(222, b"\x00")
    return export(tmp_path / "a").splitlines(keepends=True)


def change_line(line: bytes, **changes: object) -> bytes:
    return json.dumps({**json.loads(line), **changes}).encode() + b"\n"


MALFORMED: dict[str, Callable[[list[bytes]], list[bytes]]] = {
    "nothing": lambda lines: [],
    "no line": lambda lines: [b"{"],
    "no head": lambda lines: lines[1:],
    "no end": lambda lines: lines[:-1],
    "a last line cut short": lambda lines: [*lines[:-1], lines[-1][:-1]],
    "a line lost": lambda lines: [*lines[:2], *lines[3:]],
    "a line twice": lambda lines: [*lines[:2], *lines[1:]],
    "something after the end": lambda lines: [*lines, b"\n"],
    "an empty line": lambda lines: [lines[0], b"\n", *lines[1:]],
    "no object": lambda lines: [lines[0], b"[]\n", *lines[1:]],
    "too deep": lambda lines: [lines[0], b"[" * 100_000 + b"\n", *lines[1:]],
    "a key twice": lambda lines: [lines[0], lines[1].replace(b"{", b'{"seq":0,', 1), *lines[2:]],
    "a key more": lambda lines: [lines[0], change_line(lines[1], more=1), *lines[2:]],
    "another tag": lambda lines: [lines[0], change_line(lines[1], tag=2), *lines[2:]],
    "an unknown kind": lambda lines: [lines[0], change_line(lines[1], kind="What"), *lines[2:]],
    "a fraction": lambda lines: [lines[0], change_line(lines[1], time=1.5), *lines[2:]],
    "a flag": lambda lines: [lines[0], change_line(lines[1], time=True), *lines[2:]],
    "digits without end": lambda lines: [
        lines[0],
        change_line(lines[1], time="9" * 5000),
        *lines[2:],
    ],
    "a time too late": lambda lines: [lines[0], change_line(lines[1], time=1 << 63), *lines[2:]],
    "a number too high": lambda lines: [lines[0], change_line(lines[1], seq=1 << 64), *lines[2:]],
    "a value too high": lambda lines: [
        lines[0],
        change_line(lines[1], fields={"clock": 256, "time": 5}),
        *lines[2:],
    ],
    "a field less": lambda lines: [
        lines[0],
        change_line(lines[1], fields={"clock": 0}),
        *lines[2:],
    ],
    "no fields": lambda lines: [lines[0], change_line(lines[1], fields=[]), *lines[2:]],
    "no base64": lambda lines: [
        lines[0],
        change_line(lines[3], payload={"base64": "?"}),
        *lines[4:],
    ],
    "hidden without saying so": lambda lines: [
        *lines[:3],
        change_line(lines[3], payload={"size": 1, "hash": "00"}),
        *lines[4:],
    ],
    "hidden behind escapes": lambda lines: [
        *lines[:3],
        change_line(lines[3], payload={"size": 1, "hash": "00"}).replace(b"hash", b"h\\u0061sh"),
        *lines[4:],
    ],
    "no UTF-8": lambda lines: [lines[0], lines[1].replace(b"ClockRead", b"\xff"), *lines[2:]],
    "a surrogate": lambda lines: [
        *lines[:2],
        change_line(lines[2], fields={"stream": 1, "offset": 0, "data": {"text": "\ud800"}}),
        *lines[3:],
    ],
    "an id too short": lambda lines: [change_line(lines[0], id="00"), *lines[1:]],
    "a secret of no kind": lambda lines: [change_line(lines[0], redacted=["all"]), *lines[1:]],
    "another count": lambda lines: [
        *lines[:-1],
        change_line(lines[-1], end={"events": 4, "next_seq": 3}),
    ],
}


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_export_is_refused_and_leaves_nothing(
    name: str, lines: list[bytes], tmp_path: Path
) -> None:
    with pytest.raises(MalformedEvent):
        import_lines(io.BytesIO(b"".join(MALFORMED[name](lines))), tmp_path / "b")
    assert [one.name for one in tmp_path.iterdir()] == ["a"]


def test_the_error_of_a_line_has_its_number_and_offset(lines: list[bytes], tmp_path: Path) -> None:
    malformed = b"".join([lines[0], lines[1], change_line(lines[2], tag=9), *lines[3:]])
    with pytest.raises(MalformedEvent, match="line 3: tag 9 has no kind") as caught:
        import_lines(io.BytesIO(malformed), tmp_path / "b")
    assert caught.value.offset == len(lines[0] + lines[1])


def test_a_later_version_is_refused_as_such(lines: list[bytes], tmp_path: Path) -> None:
    malformed = b"".join([change_line(lines[0], export=2), *lines[1:]])
    with pytest.raises(UnsupportedVersion):
        import_lines(io.BytesIO(malformed), tmp_path / "b")


def test_a_line_without_end_is_not_read_to_its_end(
    lines: list[bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("journal.export.importer.LINE_SIZE_MAX", 1000)
    with pytest.raises(LimitExceeded):
        import_lines(io.BytesIO(lines[0] + b"x" * 2000), tmp_path / "b")


@given(st.binary(max_size=200), st.integers(0, 3))
def test_any_inserted_bytes_are_refused_with_a_format_error(noise: bytes, at: int) -> None:
    with TemporaryDirectory() as name:
        source = Path(name) / "a"
        with Writer(source) as writer:
            writer.append(ClockRead(clock=0, time=5))
        lines = export(source).splitlines(keepends=True)
        if noise not in (b"", b"\n"):
            lines.insert(at, noise + b"\n")
            with pytest.raises(journal.FormatError):
                import_lines(io.BytesIO(b"".join(lines)), Path(name) / "b")


def test_a_damaged_journal_is_not_exported(tmp_path: Path) -> None:
    data = bytearray(write_stories(tmp_path / "a", [(1, b"x")], [(2, b"y")], [(3, b"z")]))
    with Reader(tmp_path / "a") as reader:
        block = list(reader.blocks())[1]
    data[block.offset + BLOCK_HEADER_SIZE] ^= 0xFF
    (tmp_path / "a").write_bytes(data)
    with pytest.raises(LostAcknowledged):
        export(tmp_path / "a")
    (tmp_path / "empty").write_bytes(b"")
    with pytest.raises(NotAJournal):
        export(tmp_path / "empty")


# -- redaction ------------------------------------------------------------------------------------

SECRET = b"the secret of the guest"


def secret_events() -> list[tuple[Secret | None, Event]]:  # long: one event for each place
    """Return events with the secret and the redaction that hides it; None means any redaction."""
    from journal.events.descriptors import FileDescriptorWrite
    from journal.events.inputs import BytesReceived, Resolved, StreamRead
    from journal.events.memory import UpdateMemoryRegion
    from journal.events.process import RecordingLevel
    from journal.events.snapshots import DescriptorContents
    from journal.events.sockets import SocketSend
    from journal.events.threads import GlobalsSet, SetThread

    start = ProcessStart(
        module_hash=bytes(32),
        module_size=0,
        embedded=True,
        level=RecordingLevel.FULL,
        host_revision=0,
        realtime=0,
        module_path="",
        arguments=(b"program", SECRET),
        environment=(b"TOKEN=" + SECRET, SECRET),
        engine="wasmtime",
        engine_version="",
        journal_version="",
        platform="",
        configuration=(),
    )
    thread = SetThread(
        id=0,
        start_pointer=None,
        stack_upper=0,
        stack_lower=0,
        guard_size=0,
        stack_size=0,
        call_stack=SECRET,
        memory_stack=SECRET,
        store_data=SECRET,
    )
    placed = FilePlaced(kind=FileType.REGULAR_FILE, offset=0, path="/a", data=SECRET)
    page = (SECRET + bytes(4096))[:4096]
    whole = MemoryPages(memory=0, size=65536, numbers=(3,), kinds=b"\x01", data=page)
    patched = MemoryPages(
        memory=0,
        size=65536,
        numbers=(0,),
        kinds=b"\x02",
        data=b"\x01\x00\x05\x00" + len(SECRET).to_bytes(2, "little") + SECRET,
    )
    return [
        (Secret.ENVIRONMENT, start),
        (Secret.FILES, placed),
        (Secret.FILES, FileDescriptorWrite(fd=4, offset=0, data=SECRET)),
        (Secret.FILES, HostResult(call=HostCall.READ, fd=4, errno=0, value=SECRET)),
        (Secret.INPUT, StreamRead(stream=0, offset=0, data=SECRET)),
        (Secret.INPUT, RandomBytes(data=SECRET)),
        (Secret.OUTPUT, StreamWrite(stream=1, offset=0, data=SECRET)),
        (Secret.OUTPUT, SocketSend(fd=4, flags=0, data=SECRET)),
        (Secret.INPUT, BytesReceived(fd=4, errno=0, flags=0, sender=None, data=SECRET)),
        (Secret.ADDRESSES, Resolved(host=SECRET.decode(), port=1, errno=0, addresses=())),
        (Secret.MEMORY, DescriptorContents(fd=4, value=0, flags=0, parts=(b"", SECRET))),
        (Secret.MEMORY, whole),
        (Secret.MEMORY, patched),
        (Secret.MEMORY, UpdateMemoryRegion(start=0, end=len(SECRET), data=SECRET)),
        (Secret.MEMORY, thread),
        (Secret.MEMORY, GlobalsSet(globals=((0, 0x7B, SECRET[:16]),))),
        (None, PortBridge(security=Security.UNKNOWN, network="n", token=SECRET.decode())),
    ]


@pytest.mark.parametrize("secret", Secret)
def test_redacted_contents_are_exported_as_size_and_hash(secret: Secret, tmp_path: Path) -> None:
    with Writer(tmp_path / "a") as writer:
        for _, event in secret_events():
            writer.append(event)
        writer.append_frame(253, SECRET)
        writer.append_frame(ProcessExit.tag, SECRET)
    lines = export(tmp_path / "a", secret).splitlines()
    assert json.loads(lines[0])["redacted"] == [secret.value]
    marks = [SECRET[:12], SECRET[:12].hex().encode()]
    plain = export(tmp_path / "a").splitlines()
    shown = {
        index
        for index, line in enumerate(lines[1:-1])
        if any(mark in line for mark in marks) or (b'"base64"' in line and line == plain[index + 1])
    }
    assert shown == {
        index
        for index, (redaction, _) in enumerate(secret_events())
        if redaction not in (secret, None)
    }
    frames = import_to_frames(b"\n".join(lines) + b"\n", tmp_path / "b")
    before = frames_without_offsets(tmp_path / "a")
    assert [frame[:2] for frame in frames] == [frame[:2] for frame in before]
    sizes = [len(frame.payload) for frame in frames]
    assert sizes[1:] == [len(frame.payload) for frame in before][1:], "the sizes stay"
    for index, frame in enumerate(before):
        if index in shown and index > 0:
            assert frames[index] == frame


@given(every_event(), st.sets(st.sampled_from(list(Secret)), min_size=1))
def test_every_event_can_be_redacted_and_imported(event: Event, secrets: set[Secret]) -> None:
    with TemporaryDirectory() as name:
        with Writer(Path(name) / "a") as writer:
            writer.append(event)
        (frame,) = import_to_frames(export(Path(name) / "a", *secrets), Path(name) / "b")
        if event.tag not in (ProcessStart.tag, journal.events.snapshots.Snapshot.tag):
            assert len(frame.payload) == len(encode(event))
        assert frame.tag == event.tag


def test_other_addresses_stand_in_place_of_redacted_ones(tmp_path: Path) -> None:
    with Writer(tmp_path / "a") as writer:
        for event in (*listen(HERE_6), *accept(HERE_6, THERE_6), *accept()):
            writer.append(event)
    frames = import_to_frames(export(tmp_path / "a", Secret.ADDRESSES), tmp_path / "b")
    events = [decode(frame.tag, frame.payload) for frame in frames]
    six, four = (event for event in events if isinstance(event, SocketAccepted))
    assert six.local_addr.address != HERE_6.address
    assert six.local_addr.address in ip_network("fc00::/8")
    assert (six.local_addr.port, six.peer_addr.port) == (HERE_6.port, THERE_6.port)
    assert four.peer_addr.address in ip_network("10.0.0.0/8")
    results = [event for event in events if isinstance(event, HostResult)]
    accepted = [event for event in results if event.call is HostCall.ACCEPT]
    assert accepted[0].value == address_value(six.local_addr, six.peer_addr)
    bound = next(event for event in events if isinstance(event, SocketBind))
    assert bound.addr == six.local_addr
    loopback = SocketAddress(ip_address("127.0.0.1"), 80)
    assert Redaction([Secret.ADDRESSES]).redact_value(loopback) == loopback


def test_equal_contents_stay_equal_in_one_export_and_not_across_two(tmp_path: Path) -> None:
    with Writer(tmp_path / "a") as writer:
        for data in (b"one", b"two", b"one"):
            writer.append(StreamWrite(stream=1, offset=0, data=data))
    hashes = [line["fields"]["data"]["hash"] for line in event_lines(tmp_path / "a", Secret.OUTPUT)]
    assert hashes[0] == hashes[2] != hashes[1]
    other_hashes = [
        line["fields"]["data"]["hash"] for line in event_lines(tmp_path / "a", Secret.OUTPUT)
    ]
    assert not set(hashes) & set(other_hashes)


def test_a_redacted_journal_is_replayed_and_listed_but_never_resumed(
    recorded: Path, tmp_path: Path, cache_dir: Path
) -> None:
    target = tmp_path / "b"
    before, frames = (
        frames_without_offsets(recorded),
        import_to_frames(export(recorded, *Secret), target),
    )
    assert [frame[:2] for frame in frames] == [frame[:2] for frame in before]
    assert [len(frame.payload) for frame in frames if frame.tag == MemoryPages.tag] == [
        len(frame.payload) for frame in before if frame.tag == MemoryPages.tag
    ]
    hosts = []
    for path in (recorded, target):
        host = ModelHost()
        with Reader(path) as reader:
            play(reader.frames(), host)
        hosts.append(host)
    original_sizes, redacted_sizes = (
        {name: len(data) for name, data in host.files.items()} for host in hosts
    )
    assert original_sizes == redacted_sizes
    assert hosts[0].files != hosts[1].files
    with Reader(target) as reader:
        infos = list(journal.list_snapshots(reader))
    assert infos
    assert not any(info.resumable for info in infos)
    assert (
        "redacted contents: addresses, environment, files, input, memory, output" in infos[0].reason
    )
    with pytest.raises(
        EngineError, match="export with redacted contents: addresses, environment, files"
    ):
        journal.resume(target, cache=cache_dir)
    assert import_to_frames(export(target), tmp_path / "c") == frames_without_offsets(target)
    with pytest.raises(EngineError, match="export with redacted contents"):
        journal.resume(tmp_path / "c", cache=cache_dir)


# -- Parquet --------------------------------------------------------------------------------------


@pytest.fixture
def arrow() -> Any:
    return pytest.importorskip("pyarrow.parquet")


def write_parquet(path: Path, target: Path, *redact: Secret) -> None:
    with target.open("wb") as out:
        export_parquet(path, out, redact=redact)


def test_a_table_has_a_row_for_each_event(arrow: Any, tmp_path: Path) -> None:
    with Writer(tmp_path / "a") as writer:
        writer.append(ClockRead(clock=0, time=5))
        writer.append_frame(222, b"new")
    write_parquet(tmp_path / "a", tmp_path / "a.parquet")
    table = arrow.read_table(tmp_path / "a.parquet").to_pydict()
    assert table["seq"] == [0, 1]
    assert table["tag"] == [ClockRead.tag, 222]
    assert table["kind"] == ["ClockRead", None]
    assert table["group"] == ["inputs", None]
    assert table["fields"] == ['{"clock":0,"time":5}', None]
    assert table["payload"] == [encode(ClockRead(clock=0, time=5)), b"new"]
    assert table["size"] == [9, 3]


def test_an_exported_table_imports_as_the_same_journal(
    arrow: Any, recorded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("journal.export.parquet.BATCH_SIZE", 5000)
    write_parquet(recorded, tmp_path / "a.parquet")
    assert arrow.ParquetFile(tmp_path / "a.parquet").num_row_groups > 3
    import_parquet(tmp_path / "a.parquet", tmp_path / "b")
    assert frames_without_offsets(tmp_path / "b") == frames_without_offsets(recorded)


def test_a_redacted_table_has_no_payloads_and_makes_a_journal_that_cannot_be_resumed(
    arrow: Any, recorded: Path, tmp_path: Path, cache_dir: Path
) -> None:
    write_parquet(recorded, tmp_path / "a.parquet", Secret.MEMORY, Secret.INPUT)
    assert set(arrow.read_table(tmp_path / "a.parquet").to_pydict()["payload"]) == {None}
    import_parquet(tmp_path / "a.parquet", tmp_path / "b")
    numbers = [frame[:2] for frame in frames_without_offsets(recorded)]
    assert [frame[:2] for frame in frames_without_offsets(tmp_path / "b")] == numbers
    with pytest.raises(EngineError, match="export with redacted contents: input, memory"):
        journal.resume(tmp_path / "b", cache=cache_dir)


def test_a_file_that_is_no_exported_table_is_refused(arrow: Any, tmp_path: Path) -> None:
    import pyarrow

    (tmp_path / "gif").write_bytes(b"GIF89a" * 20)
    arrow.write_table(pyarrow.table({"seq": [1]}), tmp_path / "other")
    for name in ("gif", "other"):
        with pytest.raises(MalformedEvent, match="not an export of a journal"):
            import_parquet(tmp_path / name, tmp_path / "b")
    assert not (tmp_path / "b").exists()


def test_without_pyarrow_tables_are_refused_in_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    write_stories(tmp_path / "a", [(1, b"x")])
    with pytest.raises(OptionError, match=r"pip install 'wasm-journal\[arrow\]'"):
        export_parquet(tmp_path / "a", io.BytesIO())
