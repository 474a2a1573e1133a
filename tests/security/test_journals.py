"""Malicious journals: a clear error or the right result, in bounded memory and time."""

import json
import os
import re
import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import zstandard
from xxhash import xxh3_64_intdigest

from journal.errors import JournalError, LimitExceeded, MalformedEvent, NotAJournal
from journal.log import RecoveryMode
from journal.log.reader import Reader
from journal.log.writer import Writer
from tests.support.budget import Budget
from tests.support.deadlines import DEADLINE_SECONDS
from tests.support.forged_journals import (
    CREATED,
    SALT,
    Forge,
    block,
    hash_of,
    lay,
    rolled,
    segment_header,
    segment_name,
    u32,
)
from tests.support.plain_reader import BLOCK_MAGIC, BLOCK_SIZE, SEGMENT_SIZE, reading
from tests.support.reader_fuzz_calls import check_message, continue_writing, query_reader
from tests.support.reader_oracle import outcome

ROOT = Path(__file__).parents[2]
HUGE = ((1 << 63) - 2, (1 << 63) - 1, 1 << 63, (1 << 64) - 1)
U64 = ("first_seq", "tag_bitmap", "time_first", "time_last", "offset", "previous_end")
U64_MORE = ("previous_hash", "durable_upto", "body_hash")
U32 = ("count", "payload_size", "payload_raw_size", "columns_size", "mask")
MEMORY_MIB = 160
"""Memory limit of a process beyond its imports: a few of the largest blocks, for any file."""
DEADLINE = int(DEADLINE_SECONDS)
Case = bytes | list[bytes]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.journal"


def query_in_process(paths: list[Path], deadline: int = DEADLINE) -> list[dict[str, Any]]:
    """Query journals in a process with little memory, and check that it ends well and in time."""
    command = [
        sys.executable,
        "-m",
        "tests.support.reader_fuzz_calls",
        str(MEMORY_MIB),
        str(deadline),
    ]
    done = subprocess.run(
        [*command, *map(str, paths)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    reached = paths[min(len(answers), len(paths) - 1)]
    assert done.returncode == 0, f"{reached.name}: {done.returncode}\n{done.stderr[-2000:]}"
    return answers


def query_all_cases(folder: Path, cases: Iterator[tuple[str, Case]]) -> dict[str, dict[str, Any]]:
    """Query cases by name, all in one process, because its imports take long."""
    paths = []
    for name, case in cases:
        path = folder / name
        if isinstance(case, bytes):
            path.write_bytes(case)
        else:
            lay(path, case)
        paths.append(path)
    return {path.name: answer for path, answer in zip(paths, query_in_process(paths), strict=True)}


# -- fields ---------------------------------------------------------------------------------


def absurd_fields() -> Iterator[tuple[str, Case]]:
    """Yield block headers with one field at its limit, with and without a block after them."""
    for name in (*U64, *U64_MORE):
        for value in HUGE:
            yield f"{name}-{value}", _with_field(name, value, True)
    for name in U32:
        for value in ((1 << 31) - 1, 1 << 31, (1 << 32) - 1):
            yield f"{name}-{value}", _with_field(name, value, False)


def _with_field(name: str, value: int, behind: bool) -> bytes:
    forge = Forge()
    forge.add((1, b"before"))
    absurd: dict[str, Any] = {name: value}
    forge.add((2, b"absurd"), **absurd)
    if behind:
        forge.add((3, b"behind"))
    return forge.data


def absurd_segments() -> Iterator[tuple[str, Case]]:
    """Yield segment headers with one integer at its limit, in the first and a later segment."""
    before = Forge().mark().data
    for name in ("first_seq", "previous_end", "previous_hash", "created"):
        for value in HUGE:
            forge = Forge(SALT + 1, **{name: value})
            forge.add((1, b"x"), first_seq=forge.seq & ((1 << 63) - 1))
            yield f"{name}-{value}", forge.data
            yield f"second-{name}-{value}", before + forge.data
            yield f"file-{name}-{value}", [before, forge.data, forge.data]
    yield "size", segment_header(header_size=1 << 31) + bytes(500)
    yield "features", segment_header(incompatible=2) + bytes(500)
    yield "version", segment_header(major=2) + bytes(500)
    yield "minor", segment_header(minor=65_535, compatible=(1 << 32) - 1)


@pytest.mark.deep
def test_absurd_fields_are_clear_errors_in_bounded_memory(tmp_path: Path) -> None:
    answers = query_all_cases(tmp_path, absurd_fields())
    # A bitmap is only a hint, each mask gives some payload, and the forge computes each body hash.
    harmless = re.compile("tag_bitmap|mask|body_hash")
    wrong = {name: answer["errors"] for name, answer in answers.items() if not harmless.match(name)}
    assert all(wrong.values()), [name for name, errors in wrong.items() if not errors]


@pytest.mark.deep
def test_absurd_segment_headers_are_clear_errors_in_bounded_memory(tmp_path: Path) -> None:
    answers = query_all_cases(tmp_path, absurd_segments())
    for name in ("size", "features", "version"):
        assert answers[name]["errors"]
    assert not answers["minor"]["errors"]


@pytest.mark.parametrize("first", HUGE[:2])
def test_numbers_that_run_out_are_refused_and_never_wrap(path: Path, first: int) -> None:
    forge = Forge(first_seq=first - 1)
    forge.add((1, b"one before the last"))
    forge.mark().write(path)
    with pytest.raises(LimitExceeded, match="have run out") as caught:
        Writer(path)
    check_message(caught.value)
    rows, refused = outcome(path, RecoveryMode.STRICT)
    assert not refused
    assert [row.seq for row in rows] == [first - 1]
    assert rows == reading(path.read_bytes()).rows


# -- payloads -------------------------------------------------------------------------------


def _packed(stored: bytes, raw_size: int) -> bytes:
    """Return a compressed payload that contains one event."""
    forge = Forge()
    columns = u32([raw_size]) + b"\1"
    columns += bytes(-(len(stored) + len(columns)) % 8)
    sizes: dict[str, Any] = {"payload_size": len(stored), "payload_raw_size": raw_size}
    forge.add((1, b""), body=stored + columns, codec=1, columns_size=len(columns), **sizes)
    return forge.mark().data


def bombs() -> Iterator[tuple[str, Case]]:
    """Yield compressed payloads whose real size differs from their header."""
    size = 1 << 28
    bomb = zstandard.ZstdCompressor(level=3).compress(bytes(size))
    hidden = zstandard.ZstdCompressor(write_content_size=False).compress(bytes(size))
    small = zstandard.compress(bytes(1 << 16))
    yield "more than it may", _packed(bomb, size)
    yield "more than it says", _packed(bomb, 1 << 20)
    yield "hidden size", _packed(hidden, 1 << 20)
    yield "two frames", _packed(small + small, 1 << 16)
    yield "a frame behind", _packed(small + bomb, 1 << 16)
    yield (
        "a frame to skip in front",
        _packed(b"\x50\x2a\x4d\x18" + u32([8]) + bytes(8) + small, 1 << 16),
    )
    yield "only a frame to skip", _packed(b"\x50\x2a\x4d\x18" + u32([200]) + bytes(200), 1 << 16)
    # Magic, a descriptor with 8 bytes of size (and a window of 2 GiB), 2^63, a block of one byte.
    yield (
        "size of 2^63",
        _packed(b"\x28\xb5\x2f\xfd\xe0" + struct.pack("<Q", 1 << 63) + b"\x03\x00\x00", 1 << 20),
    )
    yield (
        "window of 2 TiB",
        _packed(b"\x28\xb5\x2f\xfd\xc0\xf8" + struct.pack("<Q", 1 << 20) + small[9:], 1 << 20),
    )
    yield (
        "a run of one byte",
        _packed(b"\x28\xb5\x2f\xfd\xa0" + u32([1 << 24]) + b"\x03\x00\x10\x00" * 300, 1 << 24),
    )
    yield "a dictionary", _packed(b"\x28\xb5\x2f\xfd\x23\x01\x02\x03\x04\x10" + bytes(40), 16)
    yield "cut", _packed(small[:-2], 1 << 16)
    yield "nothing", _packed(b"", 1 << 16)


@pytest.mark.deep
def test_bombs_take_no_more_than_they_may(tmp_path: Path) -> None:
    answers = query_all_cases(tmp_path, bombs())
    for name, answer in answers.items():
        assert answer["errors"].get("tolerate-tail: frames"), name


def lying_columns() -> Iterator[tuple[str, Case]]:
    """Yield blocks with valid hashes and impossible ends, tags, times or sequence numbers."""
    raw = b"payload!" * 3
    ends = {"fall": [16, 8, 24], "far": [8, 1 << 31, 24], "short": [1, 2, 3], "over": [8, 16, 25]}
    for name, values in ends.items():
        yield f"ends-{name}", _with_columns(raw, ends=values)
    yield "even-rest", _with_columns(raw[:23], ends=[], flags=4)
    yield "even-and-ends", _with_columns(raw, flags=4)
    yield "even-none", _with_columns(b"", ends=[], tags=b"", flags=4, tag_bitmap=0)
    yield "tags-0", _with_columns(raw, tags=b"\1\0\1")
    yield "tags-255", _with_columns(raw, tags=b"\1\xff\1")
    yield "bitmap-none", _with_columns(raw, tag_bitmap=0)
    yield "bitmap-other", _with_columns(raw, tag_bitmap=1 << 9)
    yield "times-fall", _with_columns(raw, times=[5, 3, 6])
    yield "times-late", _with_columns(raw, times=[0, 3, (1 << 32) - 1])
    yield "times-not-first", _with_columns(raw, times=[6, 6, 6], time_first=CREATED - 6)
    yield "numbers-fall", _with_columns(raw, numbers=[0, 5, 4])
    yield "numbers-twice", _with_columns(raw, numbers=[0, 5, 5])
    yield "numbers-not-from-0", _with_columns(raw, numbers=[3, 5, 6])
    yield "numbers-over", _with_columns(raw, numbers=[0, 1, 1 << 31], first_seq=(1 << 63) - 9)


def _with_columns(raw: bytes, **lies: Any) -> bytes:
    forge = Forge()
    count = 3
    ends = lies.pop("ends", [8, 16, 24])
    tags = lies.pop("tags", b"\1\2\3")
    times, numbers = lies.pop("times", None), lies.pop("numbers", None)
    body = raw + u32(ends) + tags
    body += (u32(times) if times else b"") + (u32(numbers) if numbers else b"")
    padding = -len(body) % 8
    fields = {
        "flags": bool(times) + 2 * bool(numbers),
        "count": count,
        "payload_size": len(raw),
        "payload_raw_size": len(raw),
        "columns_size": len(body) - len(raw) + padding,
        "first_seq": 0,
        "tag_bitmap": sum(1 << (tag & 63) for tag in set(tags)),
        "time_first": CREATED,
        "time_last": CREATED + (6 if times else 0),
    }
    forge.add(body=body + bytes(padding), **(fields | lies))
    return forge.data


@pytest.mark.deep
def test_columns_that_lie_are_errors_and_verify_finds_them_all(tmp_path: Path) -> None:
    answers = query_all_cases(tmp_path, lying_columns())
    for name in answers:
        with Reader(tmp_path / name) as reader:
            assert list(reader.verify(decode=False)), name


# -- blocks ---------------------------------------------------------------------------------


def marks(count: int, salt: int = SALT, claim: bool = False) -> Iterator[bytes]:
    """Yield a segment header and many empty blocks; with ``claim`` all are recovery links."""
    head = segment_header(salt)
    yield head
    pack, offset, link = struct.Struct("<8sBBHIIIIIQQQQQQQQQ").pack, SEGMENT_SIZE, hash_of(head)
    empty = xxh3_64_intdigest(b"", salt)
    for number in range(count):
        end, digest = (128, number) if claim else (offset, link)
        times = (0, 0, CREATED, CREATED)
        unhashed = pack(BLOCK_MAGIC, *(0,) * 8, *times, offset, end, digest, offset, empty)
        link = xxh3_64_intdigest(unhashed, salt)
        yield unhashed + link.to_bytes(8, "little")
        offset += BLOCK_SIZE


def self_references() -> Iterator[tuple[str, Case]]:
    """Yield blocks and segments that refer to themselves, to later ones, and to one another."""
    head = segment_header()
    own = hash_of(head)
    at = SEGMENT_SIZE
    links = {
        "own-offset": (at, own),
        "own-end": (at + BLOCK_SIZE, own),
        "inside-itself": (at + 8, own),
        "later": (1 << 40, own),
        "nothing": (0, 0),
    }
    for name, (end, digest) in links.items():
        made = block(offset=at, previous_end=end, previous_hash=digest)
        again = block(offset=at + BLOCK_SIZE, previous_end=at, previous_hash=hash_of(made))
        back = block(
            offset=at + 2 * BLOCK_SIZE, previous_end=at + BLOCK_SIZE, previous_hash=hash_of(made)
        )
        yield name, head + made + again + back
        yield f"{name}-twice", head + made + made + back
    # A chain of recovery links to the beginning, each before its predecessor.
    yield "claims-of-the-first", b"".join(marks(300, claim=True))
    once = segment_header(previous_end=SEGMENT_SIZE, previous_hash=1)
    yield "segment-itself", once
    yield "segment-itself-twice", once + once
    yield "segments-in-a-circle", _circle(3)
    yield "segments-alike", [once] * 5
    names_itself = Forge(SALT + 9, previous_end=SEGMENT_SIZE, previous_hash=own)
    yield "segment-of-another-place", [head, names_itself.mark().data, head]


def _circle(count: int) -> list[bytes]:
    forges: list[Forge] = []
    for number in range(count):
        link = forges[-1].link if forges else (SEGMENT_SIZE, 7)
        seq = {"first_seq": number, "previous_end": link[0], "previous_hash": link[1]}
        forge = Forge(SALT + number, **seq)
        forge.add((1, b"%d" % number))
        forges.append(forge)
    return [forge.data for forge in (*forges, *forges)]


def overlapping(count: int, size: int) -> bytes:
    """Return sound blocks, each inside the body of the previous one."""
    body = bytes(size)
    for number in reversed(range(count)):
        offset = SEGMENT_SIZE + number * BLOCK_SIZE
        payload = len(body)
        raw = body + u32([payload]) + b"\1"
        raw += bytes(-len(raw) % 8)
        body = block(
            body=raw,
            count=1,
            payload_size=payload,
            payload_raw_size=payload,
            columns_size=len(raw) - payload,
            first_seq=number,
            tag_bitmap=2,
            offset=offset,
            previous_end=SEGMENT_SIZE,
            previous_hash=number,
        )
    return segment_header() + body


@pytest.mark.deep
def test_references_in_circles_end(tmp_path: Path) -> None:
    query_all_cases(tmp_path, self_references())


def test_blocks_inside_one_another_are_judged_in_bounded_time(tmp_path: Path) -> None:
    # Time that grows with the square of the blocks would exceed the deadline of the process.
    assert len(query_all_cases(tmp_path, iter([("nested", overlapping(60, 3000))]))) == 1


def test_thirty_thousand_blocks_of_nothing_take_no_memory(path: Path) -> None:
    count_marks(path, 30_000)


@pytest.mark.deep
def test_many_blocks_of_nothing_take_no_memory(path: Path, budget: Budget) -> None:
    count_marks(path, 500_000 if budget.seconds else 2_000_000)


COUNTING = """
import resource, sys, time
from journal.log.reader import Reader
from tests.support.reader_fuzz_calls import _limit_memory
with Reader(sys.argv[1]) as reader:
    _limit_memory(int(sys.argv[2]))
    assert reader.summary().blocks == int(sys.argv[3])
    assert list(reader.frames()) == []
    assert list(reader.backward()) == []
"""


def count_marks(path: Path, count: int) -> None:
    with path.open("wb") as file:
        file.writelines(marks(count))
    command = [sys.executable, "-c", COUNTING, str(path), "64", str(count)]
    subprocess.run(command, cwd=ROOT, check=True)  # The time limit of the test stops a hang.


@pytest.mark.deep
def test_as_many_claims_as_may_be_are_read(path: Path) -> None:
    path.write_bytes(b"".join(marks((1 << 16) + 1, claim=True)))
    assert outcome(path) == ([], False)


def test_one_claim_more_than_may_be_is_refused(path: Path) -> None:
    path.write_bytes(b"".join(marks((1 << 16) + 2, claim=True)))  # The first link is in its place.
    with pytest.raises(LimitExceeded), Reader(path) as reader:
        list(reader.frames())


# -- indices --------------------------------------------------------------------------------


def false_indexes() -> dict[str, dict[str, Any]]:
    """Return false statements of a segment index."""
    forge = rolled()[0]
    offsets, seqs, times, bitmaps = (list(c) for c in zip(*forge.index[:2], strict=True))
    true = {"columns": (offsets, seqs, times, bitmaps)}
    changed: dict[str, dict[str, Any]] = {
        "no-rows": {"columns": ((),) * 4, "rows": 0},
        "too-many-rows": {"rows": 1 << 40},
        "rows-of-2^63": {"rows": 1 << 63},
        "fewer-events": {"events": 1},
        "more-events": {"events": 1 << 62},
        "next-low": {"next_seq": 1},
        "next-high": {"next_seq": 1 << 40},
        "next-2^63": {"next_seq": 1 << 63},
        "time-low": {"time_last": 0},
        "time-high": {"time_last": (1 << 64) - 1},
        "magic": {"magic": b"nothing!"},
        "trailer": {"trailer": b"nothing!"},
        "at-0": {"at": 0},
        "at-2^63": {"at": 1 << 63},
        "at-the-first": {"at": SEGMENT_SIZE},
        "at-itself": {"at": len(forge.data) - 16},
        "offsets-off": {"columns": ([o + 8 for o in offsets], seqs, times, bitmaps)},
        "offsets-huge": {"columns": ([offsets[0], 1 << 63], seqs, times, bitmaps)},
        "offsets-same": {"columns": ([offsets[0]] * 2, seqs, times, bitmaps)},
        "offsets-late": {"columns": (offsets[1:], seqs[:1], times[:1], bitmaps[:1]), "rows": 1},
        "numbers-shifted": {"columns": (offsets, [n + 1 for n in seqs], times, bitmaps)},
        "numbers-huge": {"columns": (offsets, [0, (1 << 63) - 1], times, bitmaps)},
        "times-late": {"columns": (offsets, seqs, [1 << 62] * 2, bitmaps)},
        "bitmaps-none": {"columns": (offsets, seqs, times, [0, 0])},
        "bitmaps-all": {"columns": (offsets, seqs, times, [(1 << 64) - 1] * 2)},
    }
    return {"true": true, **changed}


def write_false_index(lie: dict[str, Any]) -> list[bytes]:
    """Return a journal of two segments; the index of the first contains a false statement."""
    first = Forge(SALT + 10)
    first.add((1, b"first"), (2, b"second"))
    first.add((70, b"third"))
    first.seal(**lie)
    second = first.next(SALT + 11)
    second.add((3, b"fourth"))
    return [first.data, second.mark().data]


@pytest.mark.parametrize("name", false_indexes())
def test_an_index_that_lies_is_found_out_or_does_not_matter(path: Path, name: str) -> None:
    files = write_false_index(false_indexes()[name])
    lay(path, files)
    whole = reading(*files).rows
    assert outcome(path) == (whole, False)
    for verify in (True, False):
        errors = query_reader(path, [RecoveryMode.TOLERATE_TAIL], verify)
        assert name != "true" or all(type(error) is MalformedEvent for error in errors.values())
        with Reader(path, verify=verify) as reader:
            for row in whole:
                try:
                    found = tuple(reader.frame(row.seq, verify=verify))
                except JournalError as error:
                    check_message(error)
                else:
                    assert found == row
    with Reader(path) as reader:
        found_out = list(reader.verify(decode=False))
        matters = (
            [tuple(frame) for frame in reader.backward()] != whole[::-1]
            or [tuple(frame) for frame in reader.frames(tags={70})] != whole[2:3]
            or [tuple(frame) for frame in reader.frames(since=whole[1].time)] != whole[1:]
        )
    assert found_out or not matters
    continue_writing(path)


# -- directories ----------------------------------------------------------------------------


def _fifo(place: Path) -> None:
    os.mkfifo(place)


def _socket(place: Path) -> None:
    folder = os.open(place.parent, os.O_RDONLY)
    try:  # Keeps the name short, whatever the folder is called.
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(f"/proc/self/fd/{folder}/{place.name}")
    finally:
        os.close(folder)


STRANGERS: dict[str, Callable[[Path], object]] = {
    "fifo": _fifo,
    "socket": _socket,
    "directory": Path.mkdir,
    "link to itself": lambda place: place.symlink_to(place.name),
    "link to nothing": lambda place: place.symlink_to("nothing"),
    "link to a device": lambda place: place.symlink_to("/dev/zero"),
    "link to another": lambda place: place.symlink_to(segment_name(0)),
    "empty": Path.touch,
    "text": lambda place: place.write_text("no journal\n" * 50),
    "zeros": lambda place: place.write_bytes(bytes(4096)),
    "half a header": lambda place: place.write_bytes(segment_header()[:60]),
}


@pytest.mark.parametrize("stranger", STRANGERS)
@pytest.mark.parametrize("index", [0, 1, 3])
def test_what_is_no_segment_file_is_told_and_never_waited_for(
    path: Path, stranger: str, index: int
) -> None:
    files = [forge.data for forge in rolled()]
    lay(path, files)
    place = path / segment_name(index)
    place.unlink(missing_ok=True)
    STRANGERS[stranger](place)
    query_reader(path)
    rows, _ = outcome(path, RecoveryMode.SALVAGE)
    whole = reading(*files).rows
    assert [row[1:4] for row in rows] == [
        row[1:4] for row in whole if index == 3 or not _stands_in(files, index, row.seq)
    ]
    assert outcome(path, RecoveryMode.STRICT)[1]
    for mode in (RecoveryMode.STRICT, RecoveryMode.POINT_IN_TIME):
        with suppress(JournalError):
            Writer(path, mode=mode).close()


def _stands_in(files: list[bytes], index: int, seq: int) -> bool:
    blocks = reading(*files).blocks
    return any(block.file == index and any(r.seq == seq for r in block.rows) for block in blocks)


NAMES = (
    "99999999999.journal",
    "000000000.journal",
    "0000000000.journal.bak",
    "0000000001.JOURNAL",
    "-000000001.journal",
    "+000000001.journal",
    "0x00000001.journal",
    "٠٠٠٠٠٠٠٠٠٤.journal",
    "¹¹¹¹¹¹¹¹¹¹.journal",
    " 000000001.journal",
    ".0000000009.journal.1f2e3d.tmp",
    ".journal",
    "journal",
)


def test_names_that_are_no_segments_are_passed_over(path: Path) -> None:
    files = [forge.data for forge in rolled()]
    lay(path, files)
    whole = reading(*files).rows
    for name in NAMES:
        (path / name).write_bytes(files[0])
    (path / os.fsdecode(b"\xff\xfe.journal")).write_bytes(files[0])
    assert outcome(path, RecoveryMode.STRICT) == (whole, False)
    assert all(
        type(error) is MalformedEvent
        for error in query_reader(path, [RecoveryMode.STRICT]).values()
    )
    with Writer(path) as writer:
        assert writer.append_frame(1, b"more") == whole[-1].seq + 1


def test_the_last_name_there_is_can_be_written_to_and_not_rolled_from(path: Path) -> None:
    files = [forge.data for forge in rolled()]
    lay(path, files)
    (path / segment_name(2)).rename(path / segment_name(10**10 - 1))
    whole = reading(*files).rows
    assert outcome(path, RecoveryMode.STRICT) == (whole, False)
    with Writer(path) as writer:
        assert writer.append_frame(1, b"more") == whole[-1].seq + 1
    assert len(outcome(path, RecoveryMode.STRICT)[0]) == len(whole) + 1


def test_a_directory_of_no_segments_is_no_journal_to_a_reader(path: Path) -> None:
    path.mkdir()
    for name in (None, ".0000000000.journal.ab.tmp", "notes.txt"):
        if name:
            (path / name).write_bytes(segment_header())
        for mode in RecoveryMode:
            with pytest.raises(JournalError), Reader(path, mode=mode) as reader:
                list(reader.frames())


def test_what_is_neither_file_nor_directory_is_no_journal(tmp_path: Path) -> None:
    for name in ("fifo", "socket", "link to itself"):
        place = tmp_path / name
        STRANGERS[name](place)
        for use in (Reader, Writer):
            with pytest.raises((NotAJournal, OSError)):
                use(place)


def test_more_segment_files_than_a_process_may_open_are_read(path: Path) -> None:
    count, files = 120, []
    forge = Forge(SALT)
    for number in range(count):
        forge.add((1, b"%d" % number))
        files.append(forge.seal().data)
        forge = forge.next(SALT + number + 1)
    lay(path, [*files, forge.mark().data])
    code = (
        "import resource, sys; from journal.log.reader import Reader; "
        "resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40)); r = Reader(sys.argv[1]); "
        "assert len(list(r.frames())) == len(list(r.backward())) == int(sys.argv[2]); "
        "assert r.frame(70).payload == b'70'; assert r.summary().segments == int(sys.argv[2]) + 1; "
        "assert not list(r.verify(decode=False)); from journal.log.writer import Writer; "
        "Writer(sys.argv[1]).close()"
    )
    command = [sys.executable, "-c", code, str(path), str(count)]
    subprocess.run(command, cwd=ROOT, check=True, timeout=DEADLINE)
