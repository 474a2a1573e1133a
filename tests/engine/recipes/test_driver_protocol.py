"""Replies of drivers: what the host makes of them, also if the guest is hostile."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from journal.engine.recipes import driver_protocol
from journal.engine.recipes.conversation import Conversation
from journal.engine.recipes.evaluation import Evaluation
from journal.engine.session.reply import Ending, Reply
from journal.errors import EngineError, OptionError

NONCE = "0123456789abcdef"


def decode(stdout: bytes, ending: Ending = Ending.WAITING, **others: object) -> Evaluation:
    reply = Reply(ending, stdout, b"err", **others)  # type: ignore[arg-type]
    return driver_protocol.decode_reply(reply, NONCE, 1000)


def frame(text: str) -> bytes:
    return f"\x1e{NONCE} {text}\n".encode()


def test_a_reply_has_the_value_behind_the_output() -> None:
    assert decode(b"out" + frame('{"value":[1,{"a":null}]}')) == Evaluation(
        value=[1, {"a": None}], stdout=b"out", stderr=b"err"
    )
    assert decode(frame("{}")) == Evaluation(stderr=b"err")
    assert decode(frame('{"repr":"<A>"}')) == Evaluation(value="<A>", is_repr=True, stderr=b"err")
    assert decode(frame('{"error":"no"}')) == Evaluation(error="no", stderr=b"err")


def test_an_output_like_a_reply_is_output() -> None:
    forged = b'\x1e0000000000000000 {"value":1}\n'
    assert decode(forged + frame('{"value":2}')) == Evaluation(
        value=2, stdout=forged, stderr=b"err"
    )
    assert decode(forged).ending is Ending.STOPPED


@pytest.mark.parametrize(
    ("ending", "text"),
    [
        (Ending.EXITED, "the code ended its process with exit code 3"),
        (Ending.TRAPPED, "the code trapped: why"),
        (Ending.TIMED_OUT, "the code ran out of time: why"),
        (Ending.OUT_OF_MEMORY, "the code ran out of memory: why"),
        (Ending.OUTPUT_LIMIT, "the code wrote too much output: why"),
        (Ending.STOPPED, "the code was stopped"),
    ],
)
def test_the_end_of_the_process_is_an_error(ending: Ending, text: str) -> None:
    found = decode(b"out" + frame('{"value":1}'), ending, exit_code=3, message="why")
    assert (found.error, found.ending, found.value) == (text, ending, None)
    assert found.stdout.startswith(b"out")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "1",
        '{"value":1,"error":"both"}',
        '{"error":{}}',
        '{"repr":1}',
        '{"other":""}',
        '{"value":NaN}',
        '{"value":-Infinity}',
        '{"value":' + "[" * 2000 + "]" * 2000 + "}",
        '{"value":' + "9" * 4500 + "}",
        '{"value":"' + "x" * 5000 + '"}',
        '{"value":1} more',
    ],
)
def test_a_wrong_reply_ends_the_session_with_one_sentence(text: str) -> None:
    found = decode(b"out" + frame(text))
    assert found.error.startswith("the sandbox sent a reply that is invalid: ")
    assert "\n" not in found.error
    assert (found.ending, found.value) == (Ending.STOPPED, None)


@given(st.binary())
def test_no_bytes_of_a_guest_raise(data: bytes) -> None:
    decode(frame("").removesuffix(b"\n") + data)
    decode(data)


def test_code_that_takes_the_input_ends_the_session() -> None:
    assert "standard input" in decode(b"out").error
    assert decode(b"out").stdout == b"out"


def test_requests_are_lines_and_only_the_first_has_a_seed() -> None:
    conversation = Conversation(100, {})
    requests = [json.loads(conversation.make_request("a\nb\u2028")) for _ in range(3)]
    assert [request[2:] for request in requests] == [
        [100, f"<evaluation {count}>", "a\nb\u2028"] for count in (1, 2, 3)
    ]
    assert [request[1] is None for request in requests] == [False, True, True]
    assert len({request[0] for request in requests}) == 3
    assert conversation.make_request("a\nb").count(b"\n") == 1


def test_code_after_the_end_is_refused() -> None:
    conversation = Conversation(100, {})
    conversation.make_request("1")
    conversation.accept_reply(Reply(Ending.EXITED, b"", b"", 1))
    with pytest.raises(EngineError, match=r"no more|more code: .* exit code 1"):
        conversation.make_request("1")


def test_code_has_a_largest_size() -> None:
    with pytest.raises(OptionError, match="at most 16777216 characters, got 16777217"):
        Conversation(100, {}).make_request("x" * (16 << 20) + "x")


def test_only_new_and_changed_files_of_the_work_directory_are_returned() -> None:
    conversation = Conversation(100, {"/work/old": b"1", "/work/copied": b"2"})
    files = {"/work/old": b"1", "/work/copied": b"3", "/work/a/new": b"4", "/packages/p.py": b""}
    first = conversation.add_files(Evaluation(value=1), files)
    assert first == Evaluation(value=1, files={"/work/copied": b"3", "/work/a/new": b"4"})
    assert conversation.add_files(Evaluation(), files).files == {}
    assert conversation.add_files(Evaluation(), {"/work/old": b"2"}).files == {"/work/old": b"2"}
    assert conversation.add_files(Evaluation(), files).files == {
        "/work/old": b"1",
        "/work/copied": b"3",
        "/work/a/new": b"4",
    }
