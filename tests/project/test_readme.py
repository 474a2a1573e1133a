"""The README's programs run as they stand, one process each, in the order they are shown."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import journal
from journal.events.snapshots import Snapshot
from tests.support.compaction_histories import history, write_story
from tests.support.programs import ROOT, guest

WORK = """\
let line;
while ((line = std.in.getline()) !== null) {
    print("did", line);
    const done = std.open("/done", "a");
    done.puts(line + "\\n");
    done.close();
}
"""


def programs() -> list[str]:
    """The blocks of Python in the README."""
    return re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)


def run(program: str, folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ""), program
    return done.stdout


def test_the_readme_s_programs_do_what_it_says(tmp_path: Path, quickjs: Path) -> None:
    shutil.copy(quickjs, tmp_path / "qjs.wasm")
    (tmp_path / "work.js").write_text(WORK)
    first, second, forked, played, log, many, shaped, compacted, tended = programs()
    assert (
        run(first, tmp_path)
        == "None\nb'did first order\\n' "
        + str({"/done": b"first order\n", "/work.js": WORK.encode()})
        + "\n"
    )
    assert run("import journal\n" + second, tmp_path) == (
        "0 b'did first order\\ndid second order\\n'\n"
    )
    shutil.copy(guest("prompt"), tmp_path / "work.wasm")
    assert run("import journal\n" + forked, tmp_path) == "0\n"
    files = {"/done": b"first order\nsecond order\n", "/work.js": WORK.encode()}
    assert run("import journal\n" + played, tmp_path) == (
        f"{files} b'did first order\\ndid second order\\n'\n"
    )
    assert run(log, tmp_path) == "ProcessExit(exit_code=0)\n"
    first_line, second_line, followed = run(many, tmp_path).splitlines()
    assert (first_line, second_line) == ("[b'four', b'five']", "b'three' 4 7")
    assert followed.endswith(" b'five'")
    assert run(shaped, tmp_path) == "4 []\n[b'one', b'two', b'four', b'five']\n"
    write_story(tmp_path / "day.journal", history(5, 200, 15))
    numbers, kept = run(compacted, tmp_path).splitlines()
    events, kept_events = map(int, numbers.split())
    with journal.Reader(tmp_path / "day.journal") as reader:
        frames = list(reader.frames())
    marks = tuple(frame.seq for frame in frames if frame.tag == Snapshot.tag)
    assert (kept, len(frames)) == (str(marks), kept_events)
    assert kept_events < events / 2
    assert len(marks) == 3
    assert run(tended, tmp_path) == "0\n"
    with journal.Reader(tmp_path / "grown.journal") as reader:
        assert len(list(reader.frames())) == 1
