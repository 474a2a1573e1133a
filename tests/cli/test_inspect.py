"""The commands inspect, info and verify on whole and on damaged journals."""

from __future__ import annotations

import base64
import dataclasses
import json
import os
import subprocess
from enum import IntEnum
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from journaltool.output import event_format

import journal
from journal.errors import MalformedEvent
from journal.events import codec
from journal.events.core import ProcessExit
from journal.events.definition import Event, Group, field_dict
from journal.events.inputs import ClockRead
from journal.events.paths import CreateDirectory
from journal.events.process import ProcessStart, RecordingLevel
from journal.events.streams import StreamWrite
from tests.support.command_line import build_command, build_environment, run_inside, run_tool
from tests.support.deadlines import DEADLINE_SECONDS
from tests.support.programs import ROOT, guest
from tests.support.sample_events import process_start
from tests.support.strategies import every_event

READING = ("inspect", "tail", "info", "verify")
DAMAGE = ROOT / "fixtures" / "damage"
HOSTILE = "\x1b[31m\x1b]0;title\x07\u202e\nforged line"
STORY: list[Event] = [
    ClockRead(clock=1, time=5),
    StreamWrite(stream=1, offset=0, data=b"\x1b[2J" + bytes(range(256))),
    CreateDirectory(fd=3, path=HOSTILE),
    ProcessExit(exit_code=None),
]


def write_blocks(path: Path, *blocks: list[Event]) -> list[int]:
    """Write a journal with a sync after each list, and return the end offsets of the blocks."""
    ends = []
    with journal.Writer(path) as writer:
        for events in blocks:
            for event in events:
                writer.append(event)
            writer.sync()
            with journal.Reader(path) as reader:
                ends.append(reader.tail)
    return ends


def restore_value(found: Any, value: Any) -> Any:
    """Return a value restored from its JSON, in the type of ``value``."""
    if isinstance(value, bytes):
        return base64.b64decode(found, validate=True)
    if isinstance(value, IntEnum):
        return type(value)[found]
    if isinstance(value, IPv4Address | IPv6Address):
        return ip_address(found)
    if isinstance(value, tuple):
        return tuple(restore_value(*pair) for pair in zip(found, value, strict=True))
    if dataclasses.is_dataclass(value):
        assert not isinstance(value, type)
        assert found.keys() == {part.name for part in dataclasses.fields(value)}
        parts = {name: restore_value(each, getattr(value, name)) for name, each in found.items()}
        return dataclasses.replace(value, **parts)
    assert type(found) is type(value)
    return found


@given(every_event().filter(lambda event: event.group is not Group.MEMORY))
def test_json_output_keeps_every_value_of_every_kind(event: Event) -> None:
    text = event_format.json_formats()[event.tag].format(codec.encode(event), 0)
    found = json.loads("{" + text + "}")
    assert (found["tag"], found["kind"]) == (event.tag, type(event).__name__)
    assert found["group"] == event.group.value
    values = field_dict(event)
    assert found["fields"].keys() == values.keys()
    assert {name: restore_value(found["fields"][name], values[name]) for name in values} == values


@given(every_event())
def test_no_event_can_control_a_terminal(event: Event) -> None:
    for bytes_max in (0, 48, None):
        try:
            text = event_format.text_formats(bytes_max)[event.tag].format(codec.encode(event), 0)
        except MalformedEvent as error:  # The pages are invalid.
            text = str(error)
        assert text.isprintable()
        assert text.startswith(type(event).__name__)


def test_inspect_prints_one_line_per_event(tmp_path: Path) -> None:
    write_blocks(tmp_path / "a", STORY)
    done = run_tool("inspect", "a", at=tmp_path)
    assert (done.returncode, done.stderr) == (0, b"")
    lines = done.stdout.decode().splitlines()
    assert [line.split()[2] for line in lines] == [type(event).__name__ for event in STORY]
    assert lines[0].split() == ["0", "+0.000000s", "ClockRead", "clock=1", "time=5"]
    assert "data=<260 bytes: b'\\x1b[2J" in lines[1]
    assert "\\x1b[31m" in lines[2]
    assert "\\u202e\\nforged" in lines[2]
    assert all(line.isprintable() for line in lines)
    whole = run_tool("inspect", "--bytes", "all", "a", at=tmp_path).stdout.decode()
    assert repr(bytes(range(256)))[2:-1] in whole


def test_inspect_json_restores_the_events(tmp_path: Path) -> None:
    write_blocks(tmp_path / "a", STORY[:2], STORY[2:])
    done = run_tool("inspect", "--json", "a", at=tmp_path)
    found = [json.loads(line) for line in done.stdout.splitlines()]
    with journal.Reader(tmp_path / "a") as reader:
        frames = list(reader.frames())
    assert [(one["seq"], one["time"], one["tag"]) for one in found] == [
        (frame.seq, frame.time, frame.tag) for frame in frames
    ]
    assert base64.b64decode(found[1]["fields"]["data"]) == b"\x1b[2J" + bytes(range(256))
    assert found[2]["fields"]["path"] == HOSTILE


@pytest.mark.parametrize(
    ("options", "seqs"),
    [
        (("--from", "5"), range(5, 30)),
        (("--from", "5", "--limit", "7"), range(5, 12)),
        (("--limit", "0"), range(0)),
        (("--kind", "streamwrite", "--from", "10"), range(10, 20)),
        (("--kind", "160", "--kind", "ClockRead", "--limit", "12"), range(12)),
        (("--group", "inputs"), range(10)),
        (("--group", "files"), range(20, 30)),
    ],
)
def test_inspect_shows_the_selected_events(
    options: tuple[str, ...], seqs: range, tmp_path: Path
) -> None:
    blocks: list[list[Event]] = [[ClockRead(clock=0, time=time) for time in range(10)]]
    blocks += [[StreamWrite(stream=1, offset=0, data=b"x")] * 10]
    blocks += [[CreateDirectory(fd=3, path="p")] * 10]
    write_blocks(tmp_path / "a", *blocks)
    lines = run_inside("inspect", *options, "a", at=tmp_path).stdout.splitlines()
    assert [int(line.split()[0]) for line in lines] == list(seqs)


def test_an_unknown_tag_is_shown_and_is_no_damage(tmp_path: Path) -> None:
    with journal.Writer(tmp_path / "a") as writer:
        writer.append_frame(222, b"future\x1b")
    done = run_inside("inspect", "a", at=tmp_path)
    assert done.returncode == 0
    assert b"unknown(222)  payload=b'future\\x1b'" in done.stdout
    found = json.loads(run_inside("inspect", "--json", "a", at=tmp_path).stdout)
    assert (found["tag"], base64.b64decode(found["payload"])) == (222, b"future\x1b")
    verified = run_inside("verify", "--json", "a", at=tmp_path)
    assert verified.returncode == 0
    assert json.loads(verified.stdout)["unknown_events"] == 1


def test_a_malformed_event_is_shown_and_counts_as_damage(tmp_path: Path) -> None:
    with journal.Writer(tmp_path / "a") as writer:
        writer.append(process_start())
        writer.append_frame(ClockRead.tag, b"short")
        writer.append(STORY[0])
    done = run_inside("inspect", "a", at=tmp_path)
    assert done.returncode == 3
    assert b"malformed(170)" in done.stdout
    assert b"ClockRead" in done.stdout
    assert done.stderr.startswith(b"journaltool: error: a: ")
    assert run_inside("verify", "a", at=tmp_path).returncode == 3


def test_a_torn_tail_is_normal(tmp_path: Path) -> None:
    first, *_ = write_blocks(tmp_path / "a", STORY, STORY)
    os.truncate(tmp_path / "a", first + 100)
    done = run_inside("inspect", "a", at=tmp_path)
    assert done.returncode == 0
    assert len(done.stdout.splitlines()) == len(STORY)
    assert done.stderr.startswith(b"journaltool: a: the last 100 bytes, at offset %d, " % first)
    verified = run_inside("verify", "--json", "a", at=tmp_path)
    assert verified.returncode == 4
    found = json.loads(verified.stdout)
    assert (found["verdict"], found["events"], found["torn_size"]) == ("torn", len(STORY), 100)
    assert b"torn" in run_inside("info", "a", at=tmp_path).stdout


def test_damage_in_the_middle_loses_only_the_damaged_block(tmp_path: Path) -> None:
    first, second, _ = write_blocks(tmp_path / "a", STORY, STORY, STORY)
    data = bytearray((tmp_path / "a").read_bytes())
    data[second - 40] ^= 1
    (tmp_path / "a").write_bytes(data)
    done = run_inside("inspect", "a", at=tmp_path)
    assert done.returncode == 6
    assert [int(line.split()[0]) for line in done.stdout.splitlines()] == [0, 1, 2, 3, 8, 9, 10, 11]
    assert done.stderr.endswith(b"at offset %d\n" % first)
    assert done.stderr.count(b"\n") == 1
    verified = run_inside("verify", "--json", "a", at=tmp_path)
    assert verified.returncode == 3
    found = json.loads(verified.stdout)
    assert (found["verdict"], found["lost_events"]) == ("damaged", 4)
    (finding,) = found["findings"]
    assert (finding["offset"], finding["first_seq"], finding["last_seq"]) == (first, 4, 7)
    assert finding["durable"]
    assert b"events 4 to 7, which had been durable" in run_inside("verify", "a", at=tmp_path).stdout


@pytest.mark.parametrize("path", sorted(DAMAGE.glob("*.journal")), ids=lambda path: path.stem)
def test_verify_names_the_findings_of_the_damaged_fixtures(path: Path, tmp_path: Path) -> None:
    expected = json.loads((DAMAGE / "expected.json").read_text())[path.stem]
    done = run_inside("verify", "--json", path, at=tmp_path)
    if path.stem == "flipped_segment_bit":  # The file is no longer a journal.
        assert done.returncode == 1
        return
    found = json.loads(done.stdout)
    torn = 4 if expected["torn_size"] else 0
    assert done.returncode == (3 if expected["verify"] else torn)
    # The payloads of the fixtures do not decode. That is no defect in a log without a process.
    lost = [one for one in found["findings"] if one["error"] != "MalformedEvent"]
    names = ("offset", "size", "first_seq", "last_seq")
    assert [[one[name] for name in names] for one in lost] == expected["verify"]
    assert (found["tail"], found["torn_size"]) == (expected["tail"], expected["torn_size"])


@pytest.mark.parametrize("name", READING)
@pytest.mark.parametrize("content", [None, b"", b"GIF89a" + bytes(500)])
def test_a_file_that_is_no_journal_exits_with_1_and_one_sentence(
    name: str, content: bytes | None, tmp_path: Path
) -> None:
    if content is not None:
        (tmp_path / "a").write_bytes(content)
    done = run_inside(name, "a", at=tmp_path)
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr.startswith(b"journaltool: error: a")
    assert done.stderr.count(b"\n") == 1


@pytest.mark.parametrize("name", READING)
def test_a_closed_pipe_ends_inspect_quietly(name: str, tmp_path: Path) -> None:
    write_blocks(tmp_path / "a", [StreamWrite(stream=1, offset=0, data=b"x")] * 20_000)
    with subprocess.Popen(
        build_command(name, "a"),
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=build_environment(),
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read(1 if name == "inspect" else 0)
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(DEADLINE_SECONDS) == 0


def test_a_full_disk_is_reported_in_one_sentence(tmp_path: Path) -> None:
    write_blocks(tmp_path / "a", STORY)
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            build_command("inspect", "a"),
            cwd=tmp_path,
            stdout=full,
            stderr=subprocess.PIPE,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr == b"journaltool: error: No space left on device\n"


def test_info_describes_the_program_and_prints_no_secret(tmp_path: Path) -> None:
    (tmp_path / "room").mkdir()
    run = ("run", "--env", "TOKEN=sesame", "--dir", "room::/room:ro", guest("exit7"), "3")
    assert run_tool(*run, at=tmp_path).returncode == 3
    text = run_tool("info", "exit7.journal", at=tmp_path).stdout.decode()
    for part in ("exit7.wasm 3", "TOKEN", "room, read only", "with exit code 3", "in memory"):
        assert part in text
    assert "sesame" not in text
    assert "sesame" not in run_tool("inspect", "exit7.journal", at=tmp_path).stdout.decode()
    assert "sesame" not in run_tool("info", "--json", "exit7.journal", at=tmp_path).stdout.decode()
    found = json.loads(run_tool("info", "--json", "--env", "exit7.journal", at=tmp_path).stdout)
    assert found["environment"] == ["TOKEN=sesame"]
    assert found["arguments"] == ["exit7.wasm", "3"]
    assert (found["ended"], found["exit_code"], found["resumable"]) == (True, 3, True)
    assert [mount["kind"] for mount in found["mounts"]] == ["memory", "host-read-only"]


def test_info_has_the_reason_if_a_journal_cannot_be_resumed(tmp_path: Path) -> None:
    write_blocks(tmp_path / "a", STORY)
    found = json.loads(run_inside("info", "--json", "a", at=tmp_path).stdout)
    assert not found["resumable"]
    assert "has no ProcessStart event: it does not record a process" in found["obstacle"]
    assert run_tool("run", "--level", "state", guest("exit7"), at=tmp_path).returncode == 7
    with journal.Reader(tmp_path / "exit7.journal") as reader:
        (end,) = reader.last(1, tags={ProcessExit.tag})
    journal.cut(tmp_path / "exit7.journal", tmp_path / "cut", at=end.seq - 1)
    text = run_inside("info", "cut", at=tmp_path).stdout
    assert b"no: the journal was recorded at level state" in text


def test_info_is_safe_on_hostile_text(tmp_path: Path) -> None:
    start = ProcessStart(
        module_hash=bytes(32),
        module_size=0,
        embedded=False,
        level=RecordingLevel.FULL,
        host_revision=1,
        realtime=2**64 - 1,
        module_path=HOSTILE,
        arguments=(HOSTILE.encode(), b"\xff"),
        environment=(HOSTILE.encode(),),
        engine=HOSTILE,
        engine_version=HOSTILE,
        journal_version=HOSTILE,
        platform=HOSTILE,
        configuration=((HOSTILE, HOSTILE),),
    )
    write_blocks(tmp_path / "a", [start])
    done = run_inside("info", "--env", "a", at=tmp_path)
    assert done.returncode == 0
    lines = done.stdout.decode().splitlines()
    assert all(line.isprintable() and not line.startswith("forged") for line in lines)


def test_info_works_without_wasmtime(tmp_path: Path) -> None:
    assert run_tool("run", guest("exit7"), at=tmp_path).returncode == 7
    (tmp_path / "hidden" / "wasmtime").mkdir(parents=True)
    hidden = "raise ModuleNotFoundError('hidden', name='wasmtime')"
    (tmp_path / "hidden" / "wasmtime" / "__init__.py").write_text(hidden)
    env = {"PYTHONPATH": str(tmp_path / "hidden")}
    done = run_tool("info", "exit7.journal", at=tmp_path, env=env)
    assert done.returncode == 0
    assert b"no: wasmtime is not installed here" in done.stdout
    refused = run_tool("resume", "exit7.journal", at=tmp_path, env=env)
    assert refused.returncode == 125
    assert refused.stderr.startswith(b"journaltool: error: ")
