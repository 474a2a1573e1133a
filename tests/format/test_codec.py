"""The codec gives the results of construct, and accepts arbitrary bytes safely."""

import struct
import tracemalloc

import construct as cs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from journal.errors import LimitExceeded, MalformedEvent, UnknownEvent
from journal.events import (
    BY_TAG,
    codec,
    core,
    descriptors,
    inputs,
    paths,
    process,
    snapshots,
    threads,
)
from journal.events.definition import Event, field_dict, field_values
from journal.events.wire_types import LIST_COUNT_MAX, PAYLOAD_SIZE_MAX
from tests.support.strategies import events_of, every_event

KINDS = [pytest.param(cls, id=cls.__name__) for cls in BY_TAG.values()]
ORACLE_ERRORS = (cs.ConstructError, ValueError)


def parse_with_construct(cls: type[Event], payload: bytes) -> dict[str, object] | None:
    """Return the fields that construct parses from all of ``payload``, or None."""
    whole = cs.Struct("event" / cls.layout, cs.Terminated)
    try:
        found = whole.parse(payload)["event"]
    except ORACLE_ERRORS:
        return None
    return {name: found[name] for name in cls.names}


@given(every_event())
def test_an_event_survives_its_own_encoding(event: Event) -> None:
    assert codec.decode(event.tag, codec.encode(event)) == event


@given(every_event())
def test_a_payload_may_come_as_a_view(event: Event) -> None:
    assert codec.decode(event.tag, memoryview(codec.encode(event))) == event


@given(every_event())
def test_the_codec_encodes_like_construct(event: Event) -> None:
    assert codec.encode(event) == event.layout.build(field_dict(event))


@given(every_event())
def test_the_codec_decodes_like_construct(event: Event) -> None:
    payload = event.layout.build(field_dict(event))
    assert field_dict(codec.decode(event.tag, payload)) == parse_with_construct(
        type(event), payload
    )


@pytest.mark.parametrize("cls", KINDS)
@given(st.data())
def test_every_kind_survives_its_own_encoding(cls: type[Event], data: st.DataObject) -> None:
    event = data.draw(events_of(cls))
    payload = codec.encode(event)
    assert codec.decode(cls.tag, payload) == event
    assert payload == cls.layout.build(field_dict(event))
    assert codec.make_packer(cls)(*field_values(event)) == payload
    assert codec.make_unpacker(cls)(payload) == field_values(event)


@given(every_event())
def test_every_truncated_payload_is_malformed(event: Event) -> None:
    payload = codec.encode(event)
    for size in range(len(payload)):
        with pytest.raises(MalformedEvent) as caught:
            codec.decode(event.tag, payload[:size], 4096)
        assert caught.value.offset == 4096


@given(every_event(), st.binary(min_size=1))
def test_left_over_bytes_are_malformed(event: Event, extra: bytes) -> None:
    with pytest.raises(MalformedEvent):
        codec.decode(event.tag, codec.encode(event) + extra)


@given(st.integers(0, 255), st.binary(), st.integers(0, 2**63))
def test_any_bytes_are_an_event_or_a_format_error(tag: int, payload: bytes, offset: int) -> None:
    encoded, error_offset = payload, offset
    try:
        encoded = codec.encode(codec.decode(tag, payload, offset))
    except (MalformedEvent, UnknownEvent) as error:
        error_offset = error.offset
    assert (encoded, error_offset) == (payload, offset)


@given(every_event(), st.data())
def test_a_damaged_payload_decodes_like_construct(event: Event, data: st.DataObject) -> None:
    damaged = bytearray(codec.encode(event))
    if not damaged:
        return
    damaged[data.draw(st.integers(0, len(damaged) - 1))] ^= data.draw(st.integers(1, 255))
    expected = parse_with_construct(type(event), bytes(damaged))
    if expected is None:
        with pytest.raises(MalformedEvent):
            codec.decode(event.tag, bytes(damaged))
        with pytest.raises(MalformedEvent):
            codec.make_unpacker(type(event))(bytes(damaged))
    else:
        found = codec.decode(event.tag, bytes(damaged))
        assert field_dict(found) == expected
        assert codec.encode(found) == damaged


@pytest.mark.parametrize("tag", [0, 8, 65, 127, 223, 255])
def test_an_unknown_tag_is_named_with_its_offset(tag: int) -> None:
    with pytest.raises(UnknownEvent, match=f"unknown event tag {tag} at offset 77") as caught:
        codec.decode(tag, b"", 77)
    assert caught.value.offset == 77


def test_an_unknown_member_is_malformed() -> None:
    payload = codec.encode(snapshots.Snapshot(when=0, trigger=snapshots.Trigger.IDLE))
    damaged = payload.replace(b"\0", b"\xc8")
    seek = codec.encode(
        descriptors.FileDescriptorSeek(fd=1, offset=2, whence=descriptors.Whence.END)
    )
    with pytest.raises(MalformedEvent):
        codec.decode(snapshots.Snapshot.tag, damaged)
    with pytest.raises(MalformedEvent, match="9 is not a value of Whence"):
        codec.decode(descriptors.FileDescriptorSeek.tag, seek[:-1] + b"\x09")


def test_a_flag_is_zero_or_one() -> None:
    payload = struct.pack("<IQBI", 3, 0, 2, 0)
    with pytest.raises(MalformedEvent, match="2 is not a value of flag"):
        codec.decode(descriptors.FileDescriptorWrite.tag, payload)


def test_text_is_utf8() -> None:
    with pytest.raises(MalformedEvent):
        codec.decode(process.ProcessTrap.tag, struct.pack("<I2sI", 2, b"\xff\xff", 0))


def test_a_path_of_a_guest_may_be_any_bytes() -> None:
    event = paths.CreateDirectory(fd=3, path="caf\udce9")
    payload = codec.encode(event)
    assert payload.endswith(b"caf\xe9")
    assert codec.decode(paths.CreateDirectory.tag, payload) == event


def test_a_host_path_may_be_any_bytes() -> None:
    mount = process.Mount(fd=3, kind=process.MountKind.HOST, guest="/", host="/\udcff")
    payload = codec.encode(mount)
    assert payload.endswith(b"/\xff")
    assert codec.decode(130, payload) == mount


@pytest.mark.parametrize(
    ("tag", "payload"),
    [
        (inputs.RandomBytes.tag, struct.pack("<I", 0xFFFFFFFF)),
        (threads.TableSet.tag, struct.pack("<III", 0, 0, 0xFFFFFFFF)),
        (threads.TableSet.tag, struct.pack("<III", 0, 0, LIST_COUNT_MAX + 1)),
        (threads.GlobalsSet.tag, struct.pack("<I", 0xFFFFFFFF) + bytes(100)),
        (threads.GlobalsSet.tag, struct.pack("<I", LIST_COUNT_MAX + 1)),
    ],
)
def test_a_payload_with_claimed_sizes_fails_before_memory_is_allocated(
    tag: int, payload: bytes
) -> None:
    with pytest.raises(MalformedEvent):
        codec.decode(tag, payload)  # The first call builds the codec, which must not be measured.
    tracemalloc.start()
    try:
        with pytest.raises(MalformedEvent):
            codec.decode(tag, payload)
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()


def test_a_list_has_a_limit() -> None:
    full = threads.TableSet(table=0, start=0, functions=(threads.TABLE_NULL,) * LIST_COUNT_MAX)
    assert codec.decode(full.tag, codec.encode(full)) == full
    with pytest.raises(MalformedEvent, match="65537 items"):
        codec.encode(threads.TableSet(table=0, start=0, functions=(0,) * (LIST_COUNT_MAX + 1)))


def test_a_payload_has_a_limit() -> None:
    full = inputs.RandomBytes(data=bytes(PAYLOAD_SIZE_MAX - 4))
    payload = codec.encode(full)
    assert len(payload) == PAYLOAD_SIZE_MAX
    assert codec.decode(full.tag, payload) == full
    over = bytes(PAYLOAD_SIZE_MAX - 3)
    with pytest.raises(LimitExceeded):
        codec.encode(inputs.RandomBytes(data=over))
    with pytest.raises(LimitExceeded):
        codec.make_packer(inputs.RandomBytes)(over)
    with pytest.raises(MalformedEvent):
        codec.decode(full.tag, struct.pack("<I", len(over)) + over)


@pytest.mark.parametrize(
    "event",
    [
        core.SetClockTime(clock_id=core.Clock.REALTIME, time=2**64),
        core.ProcessExit(exit_code=2**31),
        descriptors.CloseFileDescriptor(fd=-1),
        process.ParentLink(journal=b"short", seq=0, hash=0),
        threads.GlobalsSet(globals=((0, 0x7F, b"short"),)),
        process.ProcessTrap(kind="\ud800", message=""),
    ],
)
def test_a_value_that_does_not_fit_its_field_is_not_written(event: Event) -> None:
    with pytest.raises(MalformedEvent, match=type(event).__name__):
        codec.encode(event)


def test_a_packer_of_fixed_fields_is_that_of_struct() -> None:
    pack = codec.make_packer(inputs.ClockRead)
    assert getattr(pack, "__self__", None).__class__ is struct.Struct
    assert pack(1, 2) == codec.encode(inputs.ClockRead(clock=1, time=2))
