"""Messages between a pool and its workers: what is sent arrives, and what is wrong is refused."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from journal import errors
from journal.engine.pool.messages import (
    HEADER_SIZE,
    MESSAGE_SIZE_MAX,
    Kind,
    MalformedMessage,
    Message,
    MessageBuffer,
    decode_error,
    decode_files,
    decode_reply,
    encode_error,
    encode_files,
    encode_reply,
    frame,
)
from journal.engine.session.reply import Ending, Reply
from journal.errors import EngineError, GrantsMissing, JournalError, TornBlock

REPLIES = st.builds(
    Reply,
    st.sampled_from(Ending),
    st.binary(max_size=40),
    st.binary(max_size=40),
    st.none() | st.integers(0, (1 << 32) - 1),
    st.text(st.characters(codec="utf-8"), max_size=20),
)


@given(REPLIES)
def test_a_reply_arrives_as_it_was(reply: Reply) -> None:
    assert decode_reply(encode_reply(reply)) == reply


@given(st.dictionaries(st.text(st.characters(codec="utf-8")), st.binary(max_size=40), max_size=4))
def test_files_arrive_as_they_were(files: dict[str, bytes]) -> None:
    assert decode_files(encode_files(files)) == files


def test_a_name_that_is_not_utf_8_arrives() -> None:
    files = {"/\udcff": b"data"}
    assert decode_files(encode_files(files)) == files


@given(st.lists(st.integers(1, 60), max_size=8))
def test_messages_arrive_whole_whatever_the_parts(sizes: list[int]) -> None:
    sent = [Message(Kind.RUN, number, bytes(number * 7)) for number in range(5)]
    data = b"".join(frame(Kind(each.kind), each.session, each.body) for each in sent)
    buffer, received = MessageBuffer(), []
    for size in [*sizes, len(data)]:
        part, data = data[:size], data[size:]
        message = buffer.add(part)
        while message is not None:
            received.append(message)
            message = buffer.take()
    assert received == sent


def test_a_body_that_is_too_large_is_neither_sent_nor_awaited() -> None:
    header = bytearray(frame(Kind.DATA, 1))
    header[HEADER_SIZE - 4 :] = (MESSAGE_SIZE_MAX + 1).to_bytes(4, "little")
    with pytest.raises(MalformedMessage, match=str(MESSAGE_SIZE_MAX)):
        MessageBuffer().add(bytes(header))
    with pytest.raises(EngineError, match=str(MESSAGE_SIZE_MAX)):
        frame(Kind.DATA, 1, bytes(MESSAGE_SIZE_MAX + 1))


@given(st.binary(max_size=60))
def test_wrong_bytes_are_malformed_or_a_value(body: bytes) -> None:
    for decode in (decode_reply, decode_files, decode_error):
        try:
            decode(body)
        except MalformedMessage:
            continue


@pytest.mark.parametrize(
    "error",
    [
        GrantsMissing("the journal asks for more", ("/host",), ("--grant", "/host")),
        TornBlock("block is cut", 7, "file"),
        errors.JournalLocked("locked", "a.journal"),
        FileNotFoundError(2, "No such file"),
        PermissionError(13, "not here"),
    ],
)
def test_an_error_arrives_with_its_class_and_its_data(error: Exception) -> None:
    received = decode_error(encode_error(error))
    assert type(received) is type(error)
    assert str(received) == str(error)
    assert vars(received) == vars(error)


def test_every_error_of_the_library_arrives() -> None:
    for kind in vars(errors).values():
        if isinstance(kind, type) and issubclass(kind, JournalError):
            error = kind.__new__(kind)
            error.args = ("a reason",)
            error.__dict__.update(
                reason="a reason", offset=0, file="", next_seq=1, text="", position=0, path="p",
                owner=1, process=2,
            )  # fmt: skip
            received = decode_error(encode_error(error))
            assert (type(received), str(received)) == (kind, str(error))


def test_an_error_of_another_class_becomes_one_of_the_engine() -> None:
    received = decode_error(encode_error(ValueError("a\x00b" * 100_000)))
    assert type(received) is EngineError
    assert str(received).startswith("'ValueError: a")
    assert len(str(received)) <= 400


@pytest.mark.parametrize("name", ["Exception", "SystemExit", "Any", "no such class"])
def test_a_worker_chooses_no_class_outside_the_library(name: str) -> None:
    body = json.dumps({"class": name, "args": ["x"], "values": {}}).encode()
    assert type(decode_error(body)) is EngineError
