"""The generated specification is never stale and describes real bytes."""

import importlib.util
import json
import os
import shutil
import struct
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from journal.events import BY_TAG, codec

ROOT = Path(__file__).parents[2]
NODE_PACKAGES = ("kaitai-struct-compiler", "kaitai-struct", "js-yaml")
UNKNOWN_TAG = 200

KAITAI_RUN = """
const fs = require("fs");
const yaml = require("js-yaml");
const compiler = require("kaitai-struct-compiler");
const KaitaiStream = require("kaitai-struct").KaitaiStream || require("kaitai-struct");
const [, , description, data, folder] = process.argv;
const run = async () => {
  const parsed = yaml.load(fs.readFileSync(description, "utf8"));
  const files = await compiler.compile("javascript", parsed, null, false);
  for (const name of Object.keys(files)) fs.writeFileSync(folder + "/" + name, files[name]);
  const module_ = require(folder + "/Journal.js");
  const Journal = module_.Journal || module_;
  const journal = new Journal(new KaitaiStream(fs.readFileSync(data)));
  const block = journal.parts[1].body;
  const events = block.events.map(({ tag, body }) => [
    tag, body.constructor.name, body._io ? body._io.pos === body._io.size : null,
  ]);
  console.log(JSON.stringify({ parts: journal.parts.length, times: block.columns.times, events }));
};
run().catch((error) => { console.error(error); process.exit(1); });
"""


def load_script(path: str) -> ModuleType:
    """Return a script of the repository as a module."""
    spec = importlib.util.spec_from_file_location(Path(path).stem, ROOT / path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_generated_specification_is_not_stale() -> None:
    subprocess.run([sys.executable, ROOT / "spec" / "generate.py", "--check"], check=True)


def test_the_specification_has_every_kind_and_field() -> None:
    text = (ROOT / "spec" / "events.md").read_text(encoding="utf-8")
    sections = {part.split("\n")[0]: part for part in text.split("\n### ")[1:]}
    for cls in BY_TAG.values():
        section = sections[cls.__name__]
        assert f"Tag {cls.tag}, group {cls.group.value}" in section
        rows = [line.split(" | ")[0] for line in section.split("\n") if line.startswith("| ")]
        assert rows[1:] == [f"| {name}" for name in cls.names]


def node_modules() -> Path | None:
    """Return the folder of the installed Kaitai compiler and runtime, or None."""
    for folder in filter(None, os.environ.get("NODE_PATH", "").split(os.pathsep)):
        if all((Path(folder) / name).is_dir() for name in NODE_PACKAGES):
            return Path(folder)
    return None


def one_segment(payloads: list[tuple[int, bytes]]) -> bytes:
    """Return a segment header and an uncompressed block with a times column, without hashes."""
    header = b"\x89JNLSEG\n" + struct.pack("<HHI", 1, 0, 128) + bytes(112)
    count = len(payloads)
    raw = b"".join(payload for _, payload in payloads)
    ends, end = [], 0
    for _, payload in payloads:
        end += len(payload)
        ends.append(end)
    columns = struct.pack(f"<{count}I", *ends) + bytes(tag for tag, _ in payloads)
    columns += struct.pack(f"<{count}I", *range(count))
    columns += bytes(-(len(raw) + len(columns)) % 8)
    sizes = (count, len(raw), len(raw), len(columns), 0)
    rest = (0, 0, 0, count - 1, 128, 128, 0, 0, 0, 0)
    block = b"\x89JNLBLK\n" + struct.pack("<BBH5I10Q", 0, 1, 0, *sizes, *rest)
    return header + block + raw + columns


@pytest.mark.deep
def test_kaitai_reads_every_kind_to_its_last_byte(tmp_path: Path) -> None:
    modules, node = node_modules(), shutil.which("node")
    if modules is None or node is None:
        pytest.skip(f"needs node, and {NODE_PACKAGES} on NODE_PATH")
    regenerate = load_script("fixtures/regenerate_events.py")
    events = [regenerate.sample(cls, v) for cls in BY_TAG.values() for v in regenerate.VARIANTS]
    payloads = [(event.tag, codec.encode(event)) for event in events]
    (tmp_path / "one.journal").write_bytes(one_segment([*payloads, (UNKNOWN_TAG, b"?")]))
    (tmp_path / "run.js").write_text(KAITAI_RUN)
    done = subprocess.run(
        [node, "run.js", ROOT / "spec" / "journal.ksy", "one.journal", tmp_path],
        cwd=tmp_path,
        env={**os.environ, "NODE_PATH": str(modules)},
        capture_output=True,
        check=True,
    )
    found = json.loads(done.stdout)
    assert found["parts"] == 2
    assert found["times"] == list(range(len(payloads) + 1))
    *kinds_seen, unknown = found["events"]
    assert unknown == [UNKNOWN_TAG, "Uint8Array", None]
    assert kinds_seen == [[event.tag, f"Event{type(event).__name__}", True] for event in events]
