"""Options of the network: rules, listeners, and what a resume, check-resume and trust say."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

import journal
from journal.events.process import Listener
from journal.wasi_abi import Errno
from tests.support.command_line import Done, parse_last_json, run_inside, run_tool
from tests.support.remote_guest import DATA, END, REMOTE, encode_order, parse_answer
from tests.support.rewrites import events_of
from tests.support.wasix_sockets import INET4, STREAM, inet4

LISTENER = 4  # After the standard streams and the memory root.


def run(folder: Path, *options: str, orders: bytes = END, state: str = "own") -> Done:
    (folder / "remote.wasm").write_bytes(REMOTE)
    arguments = ("run", "--force", "-q", *options, "remote.wasm")
    return run_tool(
        *arguments, at=folder, stdin=orders, env={"XDG_STATE_HOME": str(folder / state)}
    )


def cut_before_end(folder: Path) -> None:
    """Make ``mailed`` of the journal: its program has not ended."""
    events = events_of(folder / "remote.journal")
    last = max(at for at, event in enumerate(events) if type(event).__name__ == "SessionStart")
    journal.cut(folder / "remote.journal", folder / "mailed", at=last)


def test_a_rule_grants_what_it_says_and_no_more(tmp_path: Path) -> None:
    orders = encode_order("sock_open", INET4, STREAM, 0, DATA)
    orders += encode_order("sock_bind", LISTENER, DATA, data=inet4(0)) + END
    for rule, errno in (("listen=127.0.0.1:0", 0), ("connect=*:*", Errno.ACCES)):
        done = run(tmp_path, "--net", rule, orders=orders)
        assert done.returncode == 0
        size = len(done.stdout) // 2
        assert [parse_answer(done.stdout[at : at + size]).errno for at in (0, size)] == [0, errno]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("--net", "example.org"), "'example.org' is no rule of the network"),
        (("--net", "listen=example.org:80"), "write the address"),
        (("--net", "all", "--net", "none"), "or none alone"),
        (("--tcp-listen", "8080"), "ADDRESS:PORT"),
        (("--tcp-listen", "example.org:80"), "ADDRESS:PORT"),
    ],
)
def test_a_wrong_rule_is_refused_in_one_sentence(
    options: tuple[str, ...], reason: str, tmp_path: Path
) -> None:
    (tmp_path / "remote.wasm").write_bytes(REMOTE)
    done = run_inside("run", *options, "remote.wasm", at=tmp_path)
    assert done.returncode == 125
    assert reason in done.stderr.decode()
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "remote.journal").exists()


def test_an_address_in_use_is_refused_in_one_sentence(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        (tmp_path / "remote.wasm").write_bytes(REMOTE)
        options = ("--tcp-listen", f"127.0.0.1:{port}")
        done = run_inside("run", *options, "remote.wasm", at=tmp_path)
    assert done.returncode == 125
    assert f"cannot listen at 127.0.0.1:{port}: Address already in use" in done.stderr.decode()


def test_a_guest_of_a_stranger_gets_its_network_back_by_options_or_approval(
    tmp_path: Path,
) -> None:
    rules = ("--net", "connect=*.example.org:443", "--net", "resolve")
    first = run(tmp_path, "--tcp-listen", "127.0.0.1:0", *rules, state="stranger")
    assert first.returncode == 0
    (listener,) = (e for e in events_of(tmp_path / "remote.journal") if isinstance(e, Listener))
    assert listener.fd == LISTENER
    address = f"127.0.0.1:{listener.addr.port}"
    given = ("--tcp-listen", address, *rules)
    cut_before_end(tmp_path)
    options = [f"--tcp-listen {address}", "--net 'connect=*.example.org:443'", "--net resolve"]

    refused = run_tool("resume", "--json", "mailed", at=tmp_path, stdin=END)
    assert refused.returncode == 125
    assert parse_last_json(refused)["options"] == options
    assert f"  {' '.join(options)}\n" in refused.stderr.decode()
    checked = run_tool("check-resume", "mailed", at=tmp_path, stdin=END)
    assert checked.returncode == 1
    assert all(option in checked.stdout.decode() for option in options)
    shown = run_inside("trust", "--show", "mailed", at=tmp_path)
    assert shown.stdout.decode().splitlines() == [
        f"asks for: a listener at {address}",
        "asks for: the network rule 'connect=*.example.org:443'",
        "asks for: the network rule resolve",
    ]
    found = json.loads(run_inside("trust", "--show", "--json", "mailed", at=tmp_path).stdout)
    assert (found["listeners"], found["options"]) == ([address], options)
    info = run_inside("info", "mailed", at=tmp_path).stdout.decode()
    assert f"listener       {address}" in info
    assert "nobody granted" in info

    copy = (tmp_path / "mailed").read_bytes()
    for command in ("check-resume", "resume"):
        done = run_tool(command, *given, "mailed", at=tmp_path, stdin=END)
        assert done.returncode == 0, done.stderr
    (tmp_path / "mailed").write_bytes(copy)
    assert run_tool("resume", "--net", "none", "mailed", at=tmp_path, stdin=END).returncode == 0
    (tmp_path / "mailed").write_bytes(copy)
    assert run_inside("trust", "mailed", at=tmp_path).returncode == 0
    assert "resumable      yes" in run_inside("info", "mailed", at=tmp_path).stdout.decode()
    assert run_tool("resume", "mailed", at=tmp_path, stdin=END).returncode == 0
