"""Traffic of sockets in inspect, tail, stats and info: addresses, bytes, and refused calls."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from journal import Event
from journal.events import sockets
from journal.events.inputs import HostCall
from journal.wasi_abi import Errno
from tests.support.command_line import run_inside
from tests.support.compaction_histories import preamble, write_events
from tests.support.sample_events import host_result
from tests.support.server_events import (
    ANSWER,
    HERE_6,
    REQUEST,
    THERE,
    THERE_6,
    accept,
    close,
    listen,
    open_socket,
    receive,
    send,
)

FIRST = len(preamble())
EVENTS: list[Event] = [
    *listen(),
    *accept(),
    receive(REQUEST),
    *send(ANSWER, count=4),
    close(6),
    *accept(HERE_6, THERE_6),
    receive(b"", Errno.CONNRESET),
    close(6),
    *open_socket(8),
    sockets.SocketConnect(fd=8, addr=THERE),
    host_result(HostCall.CONNECT, 8, b"", Errno.ACCES),
]
ENDS = "local=192.0.2.1:8080  peer=198.51.100.7:40000"


@pytest.fixture
def traffic(tmp_path: Path) -> Path:
    write_events(tmp_path / "a", [*preamble(), *EVENTS])
    return tmp_path


def lines_of(at: Path, *arguments: str) -> list[str]:
    return run_inside(*arguments, "a", at=at).stdout.decode().splitlines()


def test_an_event_of_a_socket_shows_both_addresses_and_the_bytes(traffic: Path) -> None:
    lines = lines_of(traffic, "inspect")[FIRST:]
    assert lines[2].endswith("SocketBind  fd=5  addr=192.0.2.1:8080")
    assert lines[7].endswith("local_addr=192.0.2.1:8080  peer_addr=198.51.100.7:40000")
    assert lines[8].endswith(f"{ENDS}  received=18")
    assert lines[10].endswith(f"{ENDS}  sent=4")
    assert lines[11].endswith(f"CloseFileDescriptor  fd=6  {ENDS}")
    assert "errno=CONNRESET" in lines[14]
    assert lines[14].endswith("local=[2001:db8::1]:8080  peer=[2001:db8::7]:40000")
    assert lines[-1].endswith("errno=ACCES  value=b''  peer=198.51.100.7:40000")


def test_addresses_are_known_where_earlier_events_are_not_shown(traffic: Path) -> None:
    all_lines = lines_of(traffic, "inspect")
    assert lines_of(traffic, "inspect", "--from", str(FIRST + 8)) == all_lines[FIRST + 8 :]
    assert lines_of(traffic, "inspect", "--kind", "BytesReceived") == [
        all_lines[FIRST + at] for at in (8, 14)
    ]
    assert lines_of(traffic, "tail", "-n", "12") == all_lines[-12:]


def test_json_has_the_addresses_beside_the_exact_fields(traffic: Path) -> None:
    lines = [json.loads(line) for line in lines_of(traffic, "inspect", "--json")]
    received = lines[FIRST + 8]
    assert received["fields"]["errno"] == 0
    expected = {"local": "192.0.2.1:8080", "peer": "198.51.100.7:40000", "received": 18}
    assert received["socket"] == expected
    assert "socket" not in lines[0]
    assert [json.loads(line) for line in lines_of(traffic, "tail", "-n", "12", "--json")] == lines[
        -12:
    ]


def test_redacted_addresses_are_alike_in_fields_and_notes(traffic: Path) -> None:
    lines = lines_of(traffic, "inspect", "--redact", "addresses")[FIRST:]
    assert not any("192.0.2" in line or "2001:db8" in line for line in lines)
    (peer,) = (word for word in lines[7].split() if word.startswith("peer_addr="))
    assert f"  {peer.replace('peer_addr', 'peer')}  received=18" in lines[8]


def test_statistics_count_the_traffic_by_peer(traffic: Path) -> None:
    values = json.loads("\n".join(lines_of(traffic, "stats", "--by", "peer", "--json")))
    first, second = values["peers"]
    assert (first["peer"], first["connections"], first["refused"]) == ("198.51.100.7", 1, 1)
    assert (first["sent_size"], first["received_size"]) == (4, len(REQUEST))
    assert (second["peer"], second["accepted"], second["lost"]) == ("2001:db8::7", 1, 1)
    table = lines_of(traffic, "stats", "--by", "peer")
    assert "connections  2" in table
    assert any(line.split()[:2] == ["2001:db8::7", "1"] for line in table)
    hidden = lines_of(traffic, "stats", "--by", "peer", "--redact", "addresses")
    assert not any("2001:db8::7" in line for line in hidden)
    done = run_inside("stats", "--by", "peer", "--svg", "x.svg", "a", at=traffic)
    assert (done.returncode, b"--by peer reads one journal" in done.stderr) == (2, True)


def test_info_counts_the_connections(traffic: Path) -> None:
    assert any(line.split()[:2] == ["connections", "2:"] for line in lines_of(traffic, "info"))
    assert json.loads("\n".join(lines_of(traffic, "info", "--json")))["connections"] == 2
    write_events(traffic / "b", preamble())
    assert b"connections" not in run_inside("info", "b", at=traffic).stdout


def test_a_journal_without_sockets_has_no_peers(tmp_path: Path) -> None:
    write_events(tmp_path / "a", preamble())
    assert "peers        0" in lines_of(tmp_path, "stats", "--by", "peer")
