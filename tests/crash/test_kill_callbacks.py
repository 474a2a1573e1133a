"""SIGKILL while a function receives the output: each byte comes once, but for one call in doubt."""

from __future__ import annotations

import random
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.budget import Budget
from tests.support.deadlines import wait_until
from tests.support.programs import ROOT, guest

KILLS = 4
_SIZE = struct.Struct("<I")

_PROGRAM = """
import os, struct, sys
from pathlib import Path
import journal

module, path, source, target, cache = sys.argv[1:]
output = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

def put(stream, data):
    if stream == 1:
        os.write(output, struct.pack("<I", len(data)) + data)

options = dict(stdin=open(source, "rb"), on_output=put, cache=Path(cache))
if os.path.exists(path):
    recorder = journal.resume(path, **options)
else:
    recorder = journal.record(module, path, args=["cat"], **options)
with recorder:
    print(recorder.wait().code)
"""


def parts_of(data: bytes) -> list[bytes]:
    """Return the arguments of the calls."""
    parts, offset = [], 0
    while offset < len(data):
        (size,) = _SIZE.unpack_from(data, offset)
        parts.append(data[offset + _SIZE.size :][:size])
        offset += _SIZE.size + size
    return parts


def kill_once(command: list[str], target: Path, delay: float) -> int:
    """Kill a run ``delay`` seconds after its first output; return the count of calls so far."""
    size = target.stat().st_size
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL) as process:
        wait_until(lambda: target.stat().st_size > size or process.poll() is not None)
        time.sleep(delay)
        process.kill()
    return len(parts_of(target.read_bytes()))


@pytest.mark.deep
def test_a_killed_program_passes_each_output_once(
    tmp_path: Path, cache_dir: Path, budget: Budget
) -> None:
    for seed in budget.spend(range(100), 2):
        chance = random.Random(seed)
        folder = tmp_path / str(seed)
        folder.mkdir()
        source, target = folder / "source", folder / "target"
        source.write_bytes(chance.randbytes(30_000))
        target.touch()
        command = [sys.executable, "-c", _PROGRAM, str(guest("cat")), str(folder / "a.journal")]
        command += [str(source), str(target), str(cache_dir)]
        ends = [kill_once(command, target, chance.random() * 0.05) for _ in range(KILLS)]
        assert subprocess.check_output(command, cwd=ROOT, text=True) == "0\n"
        expected, received, last = source.read_bytes(), b"", b""
        for number, part in enumerate(parts_of(target.read_bytes())):
            is_repeated = number in ends and part == last
            if not is_repeated or expected.startswith(received + part):
                received += part
            last = part
        assert received == expected
