"""The option --redact of the commands that print, and secret environment variables."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path

import pytest

from tests.support.command_line import run_inside, run_tool
from tests.support.programs import guest
from tests.support.wat import module

ARGUMENT, VALUE, INPUT = "an-argument", "a-value", "an-input"
# The guest prints 8 bytes of its standard input.
GUEST = r"""
(module
  (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "\40\00\00\00\08\00\00\00")
  (func (export "_start")
    (drop (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 16)))
    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 16)))))
"""
EVENTS = [
    ("inspect", "--bytes", "all"),
    ("inspect", "--json"),
    ("tail", "-n", "100", "--json"),
]
COMMANDS = [*EVENTS, ("info", "--env"), ("info", "--env", "--json")]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Record a guest that prints its standard input."""
    folder = tmp_path_factory.mktemp("redaction")
    (folder / "copies.wasm").write_bytes(module(GUEST))
    run = ("run", "-q", "-j", "a", "--env", f"NAME={VALUE}", "--snapshot-events", "1")
    done = run_tool(*run, "copies.wasm", ARGUMENT, at=folder, stdin=INPUT.encode())
    assert INPUT in done.stdout.decode()
    return folder


def shows(printed: str, mark: str) -> bool:
    """Return whether a text is in an output, also in base64."""
    encoded = [text for text in re.findall(r'"([A-Za-z0-9+/=]+)"', printed) if len(text) % 4 == 0]
    decoded = (base64.b64decode(text) for text in encoded)
    return mark in printed or any(mark.encode() in data for data in decoded)


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_contents_are_shown_unless_they_are_redacted(
    command: tuple[str, ...], recorded: Path
) -> None:
    plain = run_inside(*command, "a", at=recorded).stdout.decode()
    assert shows(plain, ARGUMENT)
    for kinds, hidden in (
        ("all", {ARGUMENT, VALUE, INPUT}),
        ("environment", {ARGUMENT, VALUE}),
        ("input,output", {INPUT}),
    ):
        done = run_inside(*command, "--redact", kinds, "a", at=recorded)
        assert (done.returncode, done.stderr) == (0, b"")
        for mark in (ARGUMENT, VALUE, INPUT):
            is_shown = shows(plain, mark) and mark not in hidden
            assert shows(done.stdout.decode(), mark) is is_shown, (kinds, mark)
        assert shows(done.stdout.decode(), "NAME")


def test_a_redacted_line_has_the_size_and_a_salted_hash(recorded: Path) -> None:
    command = ("inspect", "--json", "--redact", "output", "--kind", "StreamWrite", "a")
    lines = [json.loads(run_inside(*command, at=recorded).stdout.splitlines()[0]) for _ in "ab"]
    data = [line["fields"]["data"] for line in lines]
    assert [one["size"] for one in data] == [len(INPUT)] * 2
    assert data[0]["hash"] != data[1]["hash"]


def test_statistics_have_no_contents_and_accept_the_option(recorded: Path) -> None:
    plain = run_inside("stats", "a", at=recorded)
    assert run_inside("stats", "--redact", "all", "a", at=recorded).stdout == plain.stdout


@pytest.mark.parametrize("command", ["inspect", "tail", "info", "stats", "export"])
def test_an_unknown_kind_of_contents_is_refused(command: str, recorded: Path) -> None:
    done = run_inside(command, "--redact", "everything", "a", at=recorded)
    assert done.returncode == 2
    assert b"'everything' cannot be redacted: choose from memory" in done.stderr


def test_a_program_with_a_secret_needs_it_again(tmp_path: Path) -> None:
    run = ("run", "-q", "-j", "a", "--secret-env", f"TOKEN={VALUE}", guest("exit7"))
    assert run_tool(*run, at=tmp_path).returncode == 7
    assert VALUE.encode() not in (tmp_path / "a").read_bytes()
    info = run_inside("info", "--env", "a", at=tmp_path).stdout.decode()
    assert "TOKEN (secret)" in info
    assert json.loads(run_inside("info", "--json", "a", at=tmp_path).stdout)[
        "secret_environment"
    ] == ["TOKEN"]
    assert run_inside("extract", "--environment", "a", at=tmp_path).stdout == b"TOKEN\n"
    for options, code, reason in (
        ((), 1, b"set TOKEN again (--secret-env)"),
        (("--secret-env", f"TOKEN={VALUE}"), 0, b""),
    ):
        done = run_tool("replay", *options, "a", at=tmp_path)
        assert done.returncode == code
        assert reason in done.stderr
        assert VALUE.encode() not in done.stdout + done.stderr


def test_a_variable_is_secret_or_not(tmp_path: Path) -> None:
    run = ("run", "--env", "A=1", "--secret-env", "A=2", guest("exit7"))
    done = run_inside(*run, at=tmp_path)
    assert done.returncode == 2
    assert b"A is set by --env and by --secret-env" in done.stderr
