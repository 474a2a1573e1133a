"""Guests under wasmtime's own WASI that can be suspended at their loop heads."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from ctypes import CFUNCTYPE, POINTER, c_size_t, c_uint8, c_uint64, c_void_p, cast
from pathlib import Path
from typing import Any

import wasmtime

from journal.engine.configuration import Configuration
from journal.engine.program.engine import make_engine
from journal.engine.runtime import bindings
from journal.engine.wasm.loop_polls import POLL_FLAG, POLL_TABLE

_Callback = CFUNCTYPE(c_size_t, c_void_p, c_void_p, POINTER(c_uint64), POINTER(c_uint8))


class PolledGuest:
    """Guest that calls ``poll`` at the next loop head after each tick of a clock.

    An exception of ``poll`` ends the guest.
    """

    def __init__(
        self,
        module: bytes,
        folder: Path,
        poll: Callable[[PolledGuest], None],
        arguments: Sequence[str] = ("guest",),
        tick_seconds: float = 0.002,
    ) -> None:
        self._engine = make_engine(Configuration())
        self._tick_seconds = tick_seconds
        self._output = folder / "output"
        wasi = wasmtime.WasiConfig()
        wasi.argv = list(arguments)
        wasi.stdout_file = str(self._output)
        self.store = wasmtime.Store(self._engine)
        self.store.set_wasi(wasi)
        self.store.set_epoch_deadline(1)
        linker = wasmtime.Linker(self._engine)
        linker.define_wasi()
        self._exports = linker.instantiate(
            self.store, wasmtime.Module(self._engine, module)
        ).exports(self.store)
        if POLL_TABLE in self._exports:
            self._poll = wasmtime.Func(
                self.store, wasmtime.FuncType([], []), lambda: self._polled(poll)
            )
            self.export(POLL_TABLE).set(self.store, 0, self._poll)
        self._watch_epochs()

    def export(self, name: str) -> Any:
        """Return the export of the guest with this name."""
        return self._exports[name]

    def call(self, name: str, *arguments: int) -> Any:
        """Call a function of the guest. Return its result, or None if the guest exits with 0."""
        try:
            return self.export(name)(self.store, *arguments)
        except wasmtime.ExitTrap as ending:
            if ending.code != 0:
                raise
            return None

    def run(self) -> None:
        """Call ``_start`` while the clock ticks."""
        over = threading.Event()
        clock = threading.Thread(target=self._tick, args=(over,))
        clock.start()
        try:
            self.call("_start")
        finally:
            over.set()
            clock.join()

    @property
    def stdout(self) -> bytes:
        """Return the output of the guest."""
        return self._output.read_bytes()

    def _tick(self, over: threading.Event) -> None:
        while not over.wait(self._tick_seconds):
            self._engine.increment_epoch()

    def _polled(self, poll: Callable[[PolledGuest], None]) -> None:
        self.export(POLL_FLAG).set_value(self.store, wasmtime.Val.i32(0))
        poll(self)

    def _watch_epochs(self) -> None:
        def watch(_caller: Any, _data: Any, delta: Any, kind: Any) -> int:
            if POLL_FLAG in self._exports:
                self.export(POLL_FLAG).set_value(self.store, wasmtime.Val.i32(1))
            delta[0], kind[0] = 1, 0
            return 0

        self._callback = _Callback(watch)  # Keep a reference: wasmtime only has the address.
        store = cast(self.store.ptr(), c_void_p)
        bindings._set_epoch_callback(store, cast(self._callback, c_void_p), None, None)
        self.store.set_epoch_deadline(1)
