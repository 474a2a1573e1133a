"""Files, output and exit codes of recover and concat."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from pathlib import Path

import pytest

import journal
from journal.events.streams import StreamWrite
from journal.format.block import BLOCK_HEADER_SIZE
from tests.support.command_line import build_command, build_environment, run_inside, run_tool
from tests.support.deadlines import DEADLINE_SECONDS
from tests.support.numbered_journals import damage_block, parse_numbers, write_numbered
from tests.support.writer_process import LiveWriter


def events(name: str, at: Path) -> list[int]:
    """Return the sequence numbers of a whole journal."""
    assert run_inside("verify", name, at=at).returncode == 0
    return parse_numbers(run_inside("inspect", name, at=at).stdout)


def test_recover_repairs_a_bit_and_exits_with_0(tmp_path: Path) -> None:
    write_numbered(tmp_path / "a", 40)
    block = damage_block(tmp_path / "a", 1, 4)
    before = (tmp_path / "a").read_bytes()
    done = run_tool("recover", "a", "b", at=tmp_path)
    assert (done.returncode, done.stderr) == (0, b"")
    text = done.stdout.decode()
    place = block.offset + BLOCK_HEADER_SIZE + 2
    assert f"bit 2 of the byte at offset {place}, in a block body, events 10 to 19" in text
    assert "lost      nothing" in text
    assert events("b", tmp_path) == list(range(40))
    assert (tmp_path / "a").read_bytes() == before


def test_recover_reports_losses_and_exits_with_3(tmp_path: Path) -> None:
    write_numbered(tmp_path / "a", 40)
    block = damage_block(tmp_path / "a", 1, 6)
    done = run_inside("recover", "a", "b", at=tmp_path)
    assert done.returncode == 3
    text = done.stdout.decode()
    assert f"10 events in {block.size} bytes" in text
    assert f"events 10 to 19, which had been durable: {block.size} bytes at offset" in text
    assert events("b", tmp_path) == [*range(10), *range(20, 40)]
    done = run_inside("recover", "--json", "a", "c", at=tmp_path)
    found = json.loads(done.stdout)
    assert (found["whole"], found["events"], found["lost_events"]) == (False, 30, 10)
    (loss,) = found["losses"]
    assert (loss["first_seq"], loss["last_seq"], loss["events"]) == (10, 19, 10)
    assert (loss["offset"], loss["size"], loss["acknowledged"]) == (block.offset, block.size, True)


def test_a_recovered_journal_has_the_same_id_and_can_be_continued(tmp_path: Path) -> None:
    write_numbered(tmp_path / "a", 40)
    damage_block(tmp_path / "a", 1, 6)
    assert run_inside("recover", "-q", "a", "b", at=tmp_path).stdout == b""
    with LiveWriter(tmp_path / "b") as writer:
        assert writer.write(5) == 45
        writer.end()
    assert events("b", tmp_path) == [*range(10), *range(20, 45)]


def test_recover_of_a_journal_in_use_keeps_the_flushed_events(tmp_path: Path) -> None:
    with LiveWriter(tmp_path / "d", 1 << 16) as writer:
        writer.write(10_000)
        done = run_inside("recover", "--json", "d", "b", at=tmp_path)
        assert (done.returncode, json.loads(done.stdout)["events"]) == (0, 10_000)
        assert writer.write(1) == 10_001
        writer.kill()
    assert events("b", tmp_path) == list(range(10_000))
    assert events("d", tmp_path) == list(range(10_001))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("recover", "a", "there"), b"there already exists"),
        (("recover", "a", "a"), b"a is also a source: sources are not written"),
        (("recover", "d", "d/0000000009.journal"), b"would be inside d: sources are not written"),
        (("recover", "nothing", "b"), b"nothing: No such file or directory"),
        (("recover", "there", "b"), b"there: "),
        (("recover", "a", "no/b"), b"no is not a directory"),
        (("concat", "a", "-o", "there"), b"there already exists"),
        (("concat", "a", "d", "-o", "d"), b"d is also a source: sources are not written"),
        (("concat", "a", "there", "-o", "b"), b" of there"),
        (("concat", "a", "nothing", "-o", "b"), b"nothing: No such file or directory"),
    ],
)
def test_a_refused_command_exits_with_1_and_one_sentence(
    arguments: tuple[str, ...], sentence: bytes, tmp_path: Path
) -> None:
    write_numbered(tmp_path / "a", 10)
    write_numbered(tmp_path / "d", 10, roll=journal.log.RollPolicy())
    (tmp_path / "there").write_bytes(b"GIF89a" * 90)
    done = run_inside(*arguments, at=tmp_path)
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr.startswith(b"journaltool: error: ")
    assert sentence in done.stderr
    assert done.stderr.count(b"\n") == 1
    assert sorted(one.name for one in tmp_path.iterdir()) == ["a", "d", "there"]
    assert len(list((tmp_path / "d").iterdir())) == 1


def test_a_journal_without_its_salt_is_refused_in_one_sentence(tmp_path: Path) -> None:
    write_numbered(tmp_path / "a", 10)
    data = bytearray((tmp_path / "a").read_bytes())
    data[24:32] = bytes(8)
    (tmp_path / "a").write_bytes(data)
    done = run_inside("recover", "a", "b", at=tmp_path)
    assert done.returncode == 1
    assert b"without its salt no block can be found at offset 0\n" in done.stderr
    assert not (tmp_path / "b").exists()


def test_ctrl_c_ends_a_recovery_with_130_and_leaves_nothing(tmp_path: Path) -> None:
    with journal.Writer(tmp_path / "a", compress=False) as writer:
        writer.append_frame(200, bytes(1 << 23))
        writer.append_frame(200, b"last")
    damage_block(tmp_path / "a", 0, 6)
    with subprocess.Popen(
        build_command("recover", "--max-search", "16MiB", "a", "b"),
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=build_environment(),
    ) as process:
        # The search takes minutes. Used processor time shows that it has started.
        stat = Path(f"/proc/{process.pid}/stat")
        while int(stat.read_text().rpartition(")")[2].split()[11]) < 100:
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=DEADLINE_SECONDS) == (b"", b"")
        assert process.returncode == 130
    assert [one.name for one in tmp_path.iterdir()] == ["a"]


def test_concat_continues_the_numbers_and_exits_with_0(tmp_path: Path) -> None:
    write_numbered(tmp_path / "a", 25)
    write_numbered(tmp_path / "d", 15, roll=journal.log.RollPolicy())
    done = run_tool("concat", "a", "d", "-o", "b", at=tmp_path)
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"d, with first event 25" in done.stdout
    assert run_inside("verify", "b", at=tmp_path).returncode == 0
    lines = run_inside("inspect", "b", at=tmp_path).stdout.decode().splitlines()
    assert [int(line.split()[0]) for line in lines] == list(range(40))
    assert [line.split("time=")[1] for line in lines] == [
        *map(str, range(25)),
        *map(str, range(15)),
    ]
    found = json.loads(run_inside("concat", "--json", "a", "d", "-o", "c", at=tmp_path).stdout)
    assert found["sources"] == [
        {"journal": "a", "first_seq": 0},
        {"journal": "d", "first_seq": 25},
    ]
    assert (found["events"], found["whole"], found["losses"]) == (40, True, [])


def test_concat_refuses_damage_with_its_exit_code_unless_salvage_is_on(
    tmp_path: Path,
) -> None:
    write_numbered(tmp_path / "a", 25)
    write_numbered(tmp_path / "b", 600)  # A sync at event 500 makes the first blocks durable.
    block = damage_block(tmp_path / "b", 1, 6)
    done = run_inside("concat", "a", "b", "-o", "c", at=tmp_path)
    assert (done.returncode, done.stdout) == (6, b"")
    assert done.stderr.endswith(b"at offset %d of b\n" % block.offset)
    assert not (tmp_path / "c").exists()
    done = run_inside("concat", "--salvage", "a", "b", "-o", "c", at=tmp_path)
    assert done.returncode == 3
    assert b"events 35 to 44" in done.stdout
    assert run_inside("verify", "c", at=tmp_path).returncode == 0


@pytest.mark.parametrize(
    ("synced", "noise", "code"),
    [
        (False, b"\xff" * 9, 3),
        (False, bytes(1000), 5),
        (True, bytes(1000), 6),
        (True, b"\xff" * 9, 6),
    ],
)
def test_corrupt_missing_and_synced_losses_have_different_exit_codes(
    synced: bool, noise: bytes, code: int, tmp_path: Path
) -> None:
    with journal.Writer(tmp_path / "live", compress=False) as writer:
        for number in range(3):
            writer.append(StreamWrite(stream=1, offset=number, data=bytes([number + 1]) * 300))
            writer.flush()
            if synced:
                writer.sync()
        data = (tmp_path / "live").read_bytes()
        with journal.Reader(tmp_path / "live") as reader:
            block = list(reader.blocks())[1]
    at = block.offset if len(noise) > 100 else block.offset + BLOCK_HEADER_SIZE
    noise = noise[: block.size]
    (tmp_path / "a").write_bytes(data[:at] + noise + data[at + len(noise) :])
    assert run_inside("inspect", "a", at=tmp_path).returncode == code
    assert run_inside("tail", "a", at=tmp_path).returncode == code
    assert run_inside("concat", "a", "-o", "b", at=tmp_path).returncode == code
    assert run_inside("verify", "a", at=tmp_path).returncode == 3
    assert run_inside("recover", "a", "b", at=tmp_path).returncode == 3
    assert run_inside("concat", "--salvage", "a", "-o", "c", at=tmp_path).returncode == 3
