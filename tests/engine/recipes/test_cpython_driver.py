"""The driver of the Python sandbox, run by the Python of the host."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from journal.engine.recipes import driver_protocol
from journal.engine.recipes.conversation import VALUE_SIZE_MAX
from journal.engine.recipes.cpython_driver import CPYTHON_DRIVER
from journal.engine.recipes.evaluation import Evaluation
from journal.engine.session.reply import Ending, Reply

Answers = dict[str, Evaluation]

CODES = {
    "expression": "1 + 1",
    "none": "None",
    "statement": "x = [1, 2]",
    "state": "x",
    "last": "y = 3\nfor i in range(3):\n    pass\n{'y': y, 'i': i}",
    "no JSON": "{1, 2}",
    "no number": "[float('nan')]",
    "unicode": "'é😀\\x1e\\n'",
    "output": "print('out'); import sys; print('err', file=sys.stderr); 5",
    "raw output": "import os; os.write(1, b'\\xff\\x1e'), os.write(2, b'\\xfe')",
    "error": "def fail():\n    return {}['key']\nfail()",
    "earlier code": "fail()",
    "one line": "1 / 0",
    "syntax": "x = = 1",
    "exit": "raise SystemExit(3)",
    "input": "input()",
    "deep": "z = []\nfor i in range(100_000): z = [z]\nz",
    "endless": "def f(): f()\nf()",
    "unshowable": "class Bad:\n    def __repr__(self): raise OSError('no')\nBad()",
    "large": f"'x' * {VALUE_SIZE_MAX}",
    "closed": "sys.stdout.close(); 7",
    "main": "__name__, sys.modules['__main__'].__dict__ is globals(), sys.argv",
    "no leak": "sorted(name for name in globals() if not name.startswith('__'))[:3]",
}


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> Answers:
    """Return the evaluations of all codes, in one process of the driver."""
    folder = tmp_path_factory.mktemp("work")
    program = CPYTHON_DRIVER.replace("/work", str(folder))
    requests = b"".join(
        driver_protocol.encode_request(f"nonce{index:03}", None, VALUE_SIZE_MAX, f"<{name}>", code)
        for index, (name, code) in enumerate(CODES.items())
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", program],
        input=requests,
        capture_output=True,
        timeout=60,
        check=True,
    )
    assert done.stderr == b"err\n\xfe"
    return dict(zip(CODES, _split(done.stdout), strict=True))


def _split(stdout: bytes) -> Iterator[Evaluation]:
    """Yield the evaluation of each reply in an output."""
    for index in range(len(CODES)):
        nonce = f"nonce{index:03}"
        start = stdout.index(f"\x1e{nonce} ".encode())
        end = stdout.index(b"\n", start) + 1
        reply = Reply(Ending.WAITING, stdout[:end], b"")
        yield driver_protocol.decode_reply(reply, nonce, VALUE_SIZE_MAX)
        stdout = stdout[end:]
    assert stdout == b""


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("expression", 2),
        ("none", None),
        ("statement", None),
        ("state", [1, 2]),
        ("last", {"y": 3, "i": 2}),
        ("unicode", "é😀\x1e\n"),
        ("output", 5),
        ("closed", 7),
        ("main", ["__main__", True, [""]]),
        ("no leak", ["Bad", "f", "fail"]),
    ],
)
def test_the_value_of_the_last_expression_is_returned(
    answers: Answers, name: str, value: Any
) -> None:
    assert answers[name].error == ""
    assert answers[name].value == value
    assert not answers[name].is_repr


@pytest.mark.parametrize(("name", "text"), [("no JSON", "{1, 2}"), ("no number", "[nan]")])
def test_a_value_that_json_does_not_have_is_a_text(answers: Answers, name: str, text: str) -> None:
    assert (answers[name].value, answers[name].is_repr) == (text, True)


def test_output_is_apart_from_the_reply(answers: Answers) -> None:
    assert answers["output"].stdout == b"out\n"
    assert answers["raw output"].stdout == b"\xff\x1e"
    assert answers["raw output"].value == [2, 1]


def test_an_error_shows_the_code_and_no_line_of_the_driver(answers: Answers) -> None:
    lines = answers["error"].error.splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert [line for line in lines if "File" in line] == [
        '  File "<error>", line 3, in <module>',
        '  File "<error>", line 2, in fail',
    ]
    assert "    return {}['key']" in lines
    assert lines[-1] == "KeyError: 'key'"
    assert "    return {}['key']" in answers["earlier code"].error.splitlines()
    assert "    1 / 0\n    ~~^~~\n" in answers["one line"].error
    for name in CODES:
        assert "<string>" not in answers[name].error, name


@pytest.mark.parametrize(
    ("name", "end"),
    [
        ("syntax", "SyntaxError: invalid syntax"),
        ("exit", "SystemExit: 3"),
        ("input", "EOFError: EOF when reading a line"),
        ("unshowable", "OSError: no"),
        ("endless", "RecursionError: maximum recursion depth exceeded"),
    ],
)
def test_an_error_does_not_end_the_driver(answers: Answers, name: str, end: str) -> None:
    assert answers[name].error.splitlines()[-1] == end
    assert answers[name].value is None
    assert answers[name].is_alive


def test_a_value_that_is_too_large_or_deep_is_an_error(answers: Answers) -> None:
    assert "write it to a file" in answers["large"].error
    assert "RecursionError" in answers["deep"].error


def test_a_seed_decides_the_random_numbers() -> None:
    code = "import random; random.random()"
    requests = [("a", None, code), ("b", "0f", code), ("c", "0f", code), ("d", "10", code)]
    data = b"".join(
        json.dumps([nonce, seed, 100, "<code>", text]).encode() + b"\n"
        for nonce, seed, text in requests
    )
    program = CPYTHON_DRIVER.replace("/work", "/")
    done = subprocess.run(
        [sys.executable, "-I", "-c", program], input=data, capture_output=True, check=True
    )
    values = [line.partition(b" ")[2] for line in done.stdout.splitlines()]
    assert values[1] == values[2]
    assert len(set(values)) == 3
