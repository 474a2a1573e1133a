"""The built guests match their table, and programs that cannot be built report the reason."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import wasmtime

from tests.support.programs import GUESTS
from tests.support.snapshot_guests import SNAPSHOT_GUESTS, Needs, SnapshotGuest
from tools import programs, rust_program

SIZE_MAX = 100_000

#: Settings of wasmtime, without which a guest that needs the feature is refused.
SETTINGS = {
    Needs.SIMD: ("wasm_relaxed_simd", "wasm_simd"),
    Needs.MULTI_MEMORY: ("wasm_multi_memory",),
    Needs.TAIL_CALLS: ("wasm_tail_call",),
    Needs.EXCEPTIONS: ("wasm_exceptions",),
}


def engine(without: tuple[str, ...] = ()) -> wasmtime.Engine:
    config = wasmtime.Config()
    for name in ("wasm_multi_memory", "wasm_tail_call", "wasm_exceptions"):
        setattr(config, name, True)
    for name in without:
        setattr(config, name, False)
    return wasmtime.Engine(config)


def test_every_guest_has_its_sources_in_the_manifest() -> None:
    manifest = json.loads((GUESTS / "manifest.json").read_text())["guests"]
    assert {path.stem for path in GUESTS.glob("*.wasm")} == manifest.keys()
    sources = {name for guest in manifest.values() for name in guest["sources"]}
    assert {path.name for path in GUESTS.iterdir()} - sources == {
        "manifest.json",
        *(f"{name}.wasm" for name in manifest),
    }


@pytest.mark.parametrize("one", SNAPSHOT_GUESTS, ids=str)
def test_a_guest_needs_what_the_table_says(one: SnapshotGuest) -> None:
    module = one.path.read_bytes()
    assert len(module) < SIZE_MAX
    for need, without in SETTINGS.items():
        if need in one.needs:
            with pytest.raises(wasmtime.WasmtimeError):
                wasmtime.Module.validate(engine(without), module)
    imports = {item.module for item in wasmtime.Module(engine(), module).imports}
    assert ("wasix_32v1" in imports) == (Needs.WASIX in one.needs)


def test_the_program_in_rust_was_built_from_its_source() -> None:
    assert rust_program.compute_hashes() == rust_program.HASHES


def test_titles_are_told_apart() -> None:
    titles = [one.title for one in SNAPSHOT_GUESTS]
    assert len(titles) == len(set(titles))


def test_a_program_that_cannot_be_built_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(programs.Unavailable, match="sqlite cannot be built here: npm is missing"):
        programs.fetch("sqlite", tmp_path / "programs")
    (tmp_path / "npm").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "npm").chmod(0o755)
    monkeypatch.setattr(programs, "version", lambda name: programs.COMPILER)
    with pytest.raises(programs.Unavailable, match=r"npm pack better-sqlite3.* failed"):
        programs.fetch("sqlite", tmp_path / "programs")
    monkeypatch.setattr(programs, "version", lambda name: "0")
    with pytest.raises(programs.Unavailable, match="the compiler is missing"):
        programs.fetch("sqlite", tmp_path / "programs")
