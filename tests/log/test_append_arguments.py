# mypy: disable-error-code="arg-type, list-item, misc, no-untyped-call"
"""Arguments of the append methods: a rejected call changes nothing, and its neighbours survive."""

from array import array
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from journal.errors import JournalError, OptionError
from journal.events import core, streams
from journal.format.frame import PAYLOAD_SIZE_MAX
from journal.log.reader import Reader
from journal.log.writer import Writer
from tests.support.journals import read_rows

GOOD = [b"good"] * 20_000
"""Payloads of several blocks."""
MANY = GOOD[:300]
LARGE = bytes(PAYLOAD_SIZE_MAX + 1)
FEW = GOOD[:3]


def failing_rows() -> Iterator[tuple[int]]:
    yield from [(1,)] * 20_000
    raise KeyError("a caller's own error")


def failing_frames() -> Iterator[tuple[int, bytes]]:
    yield (7, b"x")
    raise KeyError("a caller's own error")


WRONG_PAYLOADS: list[Any] = ["text", None, 3, 1.5, object(), ["x"]]
WRONG_TAGS: list[Any] = ["x", None, b"\7", 7.0, float("nan"), 0, 255, -1, 1 << 70, [], object()]

Call = Callable[[Writer], object]
REJECTED: dict[str, Call] = {}
for payload in WRONG_PAYLOADS:
    name = type(payload).__name__
    REJECTED |= {
        f"append_frame: {name}": lambda w, p=payload: w.append_frame(7, p),
        f"append_many: {name}": lambda w, p=payload: w.append_many([(7, b"x"), (7, p)]),
        f"append_payloads, few: {name}": lambda w, p=payload: w.append_payloads(7, [*FEW, p]),
        f"append_payloads, many: {name}": lambda w, p=payload: w.append_payloads(7, [*MANY, p]),
        f"append_payloads, blocks: {name}": lambda w, p=payload: w.append_payloads(7, [*GOOD, p]),
        f"append_payloads, itself: {name}": lambda w, p=payload: w.append_payloads(7, p),
        f"append_columns: {name}": lambda w, p=payload: w.append_columns([7], [*GOOD, p]),
    }
for number, tag in enumerate(WRONG_TAGS):
    REJECTED |= {
        f"append_frame: tag {number}": lambda w, t=tag: w.append_frame(t, b"x"),
        f"append_payloads: tag {number}": lambda w, t=tag: w.append_payloads(t, GOOD),
        f"append_columns: tag {number}": lambda w, t=tag: w.append_columns([7, t], [b"x", b"y"]),
        f"append_many: tag {number}": lambda w, t=tag: w.append_many([(7, b"x"), (t, b"x")]),
    }
REJECTED |= {
    "append_frame: large": lambda w: w.append_frame(7, LARGE),
    "append_payloads, few: large": lambda w: w.append_payloads(7, [LARGE]),
    "append: no event": lambda w: w.append("x"),
    "append: a class": lambda w: w.append(core.ProcessExit),
    "append: a wrong field": lambda w: w.append(core.ProcessExit(exit_code="x")),
    "append: wrong bytes": lambda w: w.append(streams.StreamWrite(stream=1, offset=0, data="text")),
    "append: a missing field": lambda w: w.append(core.ProcessExit.draft()),
    "append_many: no pairs": lambda w: w.append_many([7]),
    "append_many: short pairs": lambda w: w.append_many([(7,)]),
    "append_many: None": lambda w: w.append_many(None),
    "append_many: a generator that fails": lambda w: w.append_many(failing_frames()),
    "append_columns: other counts": lambda w: w.append_columns([7, 7], [b"x"]),
    "append_payloads: a flag as tag": lambda w: w.append_payloads(True, FEW),
    "append_columns: a flag as tag": lambda w: w.append_columns([7, True, 7], FEW),
    "append_many: a flag as tag": lambda w: w.append_many([(True, b"x")]),
    "append_payloads, blocks: large": lambda w: w.append_payloads(7, [*GOOD, LARGE]),
    "append_payloads, blocks: large in between": lambda w: w.append_payloads(
        7, [*GOOD, LARGE, *GOOD]
    ),
    "append_columns, blocks: large": lambda w: w.append_columns([7], [*GOOD, LARGE, b"x"]),
    "append_many, blocks: large": lambda w: w.append_many([(7, b"x")] * 20_000 + [(7, LARGE)]),
    "append_columns: None": lambda w: w.append_columns(None, [b"x"]),
    "append_rows: no kind": lambda w: w.append_rows("x", [(1,)]),
    "append_rows: a wrong value": lambda w: w.append_rows(
        core.ProcessExit, [(1,)] * 20000 + [("x",)]
    ),
    "append_rows: a short row": lambda w: w.append_rows(core.ProcessExit, [(1,), ()]),
    "append_rows: no rows": lambda w: w.append_rows(core.ProcessExit, [7]),
    "append_rows: None": lambda w: w.append_rows(core.ProcessExit, None),
    "append_rows: a generator that fails": lambda w: w.append_rows(
        core.ProcessExit, failing_rows()
    ),
    "append_block: no block": lambda w: w.append_block(b"x"),
}


@pytest.mark.parametrize("case", REJECTED)
def test_a_rejected_append_changes_nothing(tmp_path: Path, case: str) -> None:
    path = tmp_path / "a.journal"
    with Writer(path) as writer:
        writer.append_frame(7, b"before")
        state = (writer.next_seq, writer.size, writer.time)
        with pytest.raises((JournalError, KeyError)) as caught:
            REJECTED[case](writer)
        assert caught.type is not KeyError or "generator" in case
        assert "\n" not in str(caught.value)
        assert (writer.next_seq, writer.size, writer.time) == state
        assert writer.append_frame(7, b"after") == 1
        writer.sync()
    assert read_rows(path) == [(7, b"before"), (7, b"after")]


@pytest.mark.parametrize("count", [1, 3, 300, 20_000])
def test_a_buffer_is_stored_as_it_was_when_it_was_appended(tmp_path: Path, count: int) -> None:
    buffer, words = bytearray(b"first"), array("I", [1, 2])
    with Writer(tmp_path / "a.journal") as writer:
        writer.append_frame(7, buffer)
        writer.append_frame(7, memoryview(words))
        writer.append_payloads(7, [buffer] * count)
        writer.append_many([(7, memoryview(words))] * count)
        buffer[:] = b"a longer second"
        words[0] = 9
    expected = [b"first", b"\1\0\0\0\2\0\0\0", *[b"first"] * count]
    expected += [b"\1\0\0\0\2\0\0\0"] * count
    assert [payload for _, payload in read_rows(tmp_path / "a.journal")] == expected


@pytest.mark.parametrize("count", [1, 255, 256, 257, 511, 600, 20_000, 20_100])
@pytest.mark.parametrize("place", [0, 0.5, 1])
def test_a_buffer_among_bytes_is_stored_as_it_was(tmp_path: Path, count: int, place: float) -> None:
    buffer, others = bytearray(b"first"), [b"%d" % n for n in range(count - 1)]
    index = int(place * (count - 1))
    payloads = [*others[:index], buffer, *others[index:]]
    with Writer(tmp_path / "a.journal") as writer:
        writer.append_payloads(7, payloads)
        buffer[:] = b"other"
    expected = [*others[:index], b"first", *others[index:]]
    assert [payload for _, payload in read_rows(tmp_path / "a.journal")] == expected


def test_rows_may_come_from_a_generator_that_appends(tmp_path: Path) -> None:
    with Writer(tmp_path / "a.journal") as writer:

        def rows() -> Iterator[tuple[int]]:
            writer.append_frame(7, b"inside")
            yield (1,)

        assert writer.append_rows(core.ProcessExit, rows()) == range(1, 2)
    with Reader(tmp_path / "a.journal") as reader:
        assert [frame.tag for frame in reader.frames()] == [7, core.ProcessExit.tag]


def test_a_message_cuts_a_long_value(tmp_path: Path) -> None:
    with Writer(tmp_path / "a.journal") as writer, pytest.raises(OptionError) as caught:
        writer.append_frame(7, "long\n" * 1000)
    assert len(str(caught.value)) < 200
