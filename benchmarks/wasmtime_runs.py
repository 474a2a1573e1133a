"""Runs under wasmtime's own WASI: with its default configuration, and with that of our engine."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
import threading
from pathlib import Path

import wasmtime

from benchmarks.peers import Measurement, Plan, Span, compute_digest, output_path
from benchmarks.stopwatch import Stopwatch, module_folder
from journal.engine.configuration import Configuration
from journal.engine.program.engine import make_engine
from journal.engine.runtime import bindings

_STACK_SIZE = 32 << 20
_EPOCHS_ENOUGH = 1 << 30
# wasmtime has no memory files. A tmpfs directory is the nearest equivalent.
_MEMORY = Path("/dev/shm")


def run_plain(plan: Plan) -> Measurement:
    """Run with the default configuration of wasmtime."""
    return _measure(plan, repeatable=False)


def run_repeatable(plan: Plan) -> Measurement:
    """Run with the settings of our guests: epoch interruption, and canonical NaNs."""
    return _measure(plan, repeatable=True)


def _measure(plan: Plan, *, repeatable: bool) -> Measurement:
    folder = Path(plan.folder)
    with tempfile.TemporaryDirectory(dir=_MEMORY if _MEMORY.is_dir() else None) as name:
        root = Path(name)
        if plan.script:
            shutil.copy(plan.script, root)
        opening, running, code = _run(plan, root, repeatable=repeatable)
        files = {
            f"/{file.relative_to(root)}": file.read_bytes()
            for file in root.rglob("*")
            if file.is_file()
        }
    return Measurement(
        opening=opening, running=running, code=code, digest=compute_digest(folder, files)
    )


def _run(plan: Plan, root: Path, *, repeatable: bool) -> tuple[Span, Span, int]:
    """Return the spans of opening and running, and the exit code."""
    path = _compiled_path(Path(plan.wasm), repeatable=repeatable)
    watch = Stopwatch()
    engine = _engine(repeatable=repeatable)
    module = wasmtime.Module.deserialize_file(engine, str(path))
    store = wasmtime.Store(engine)
    if repeatable:
        store.set_epoch_deadline(_EPOCHS_ENOUGH)
    store.set_wasi(_wasi(plan, root))
    linker = wasmtime.Linker(engine)
    linker.define_wasi()
    opening = watch.lap()
    code = _run_in_thread(store, linker, module)
    return opening, watch.lap(), code


def _wasi(plan: Plan, root: Path) -> wasmtime.WasiConfig:
    wasi = wasmtime.WasiConfig()
    wasi.argv = list(plan.arguments)
    empty = Path(plan.folder) / "input"
    empty.write_bytes(b"")
    wasi.stdin_file = str(empty)
    wasi.stdout_file = str(output_path(Path(plan.folder)))
    wasi.inherit_stderr()
    wasi.preopen_dir(str(root), "/")
    return wasi


def _engine(*, repeatable: bool) -> wasmtime.Engine:
    engine: wasmtime.Engine = make_engine(Configuration()) if repeatable else wasmtime.Engine()
    return engine


def _compiled_path(wasm: Path, *, repeatable: bool) -> Path:
    """Return the path of the compiled module; compile it on first use."""
    data = wasm.read_bytes()
    name = f"{hashlib.sha256(data).hexdigest()[:32]}-{bindings.VERSION}"
    path = module_folder() / f"{name}-{'repeatable' if repeatable else 'plain'}"
    engine = _engine(repeatable=repeatable)
    try:
        wasmtime.Module.deserialize_file(engine, str(path))
    except wasmtime.WasmtimeError:  # The file is missing, or was compiled with other settings.
        temporary = path.with_suffix(".fresh")
        temporary.write_bytes(wasmtime.Module(engine, data).serialize())
        temporary.replace(path)
    return path


def _run_in_thread(store: wasmtime.Store, linker: wasmtime.Linker, module: wasmtime.Module) -> int:
    """Run the module in a thread with a stack as large as ours. Return the exit code."""
    codes: list[int] = []

    def work() -> None:
        try:
            start = linker.instantiate(store, module).exports(store)["_start"]
            assert isinstance(start, wasmtime.Func)
            start(store)
            codes.append(0)
        except wasmtime.ExitTrap as exit_trap:
            codes.append(exit_trap.code)

    old_size = threading.stack_size(_STACK_SIZE)
    thread = threading.Thread(target=work)
    thread.start()
    threading.stack_size(old_size)
    thread.join()
    assert codes, "the guest trapped"
    return codes[0]
