"""Host calls of a guest of WASIX without a module: the functions, on a small memory."""

from __future__ import annotations

from typing import Any

from journal.engine.runtime.bindings import GuestMemory
from journal.engine.session.journal_writer import NullWriter
from journal.engine.tape import Tape
from journal.engine.wasi.call_context import CallContext
from journal.engine.wasi.functions import PREVIEW_1, WASIX
from journal.engine.wasi.stdio.stdin import Interrupter
from journal.wasi_abi import WasiError
from tests.support.remote_guest import DATA, DATA_SIZE, MEMORY_SIZE, Answer


class LocalMemory(GuestMemory):
    """Memory of a guest that no module has."""

    def __init__(self) -> None:
        super().__init__()
        self.size, self.view = MEMORY_SIZE, memoryview(bytearray(MEMORY_SIZE))

    def refresh(self) -> int:
        return self.size


class LocalGuest:
    """Guest without descriptors, which records nothing; called like a ``Remote``."""

    def __init__(self) -> None:
        nothing: Any = None
        self.context = CallContext(Tape(NullWriter()), nothing, Interrupter(), [], [])
        self.context.descriptors.is_lowest_first = True
        self.context.memory = LocalMemory()

    def __call__(self, name: str, *arguments: int, data: bytes = b"") -> Answer:
        """Call a function, and return the answer."""
        view = self.context.memory.view
        view[DATA : DATA + DATA_SIZE] = data.ljust(DATA_SIZE, b"\0")
        handler = (PREVIEW_1.get(name) or WASIX[name])[1]
        try:
            errno = handler(self.context, *arguments) or 0
        except WasiError as error:
            errno = error.errno
        return Answer(errno, view[DATA : DATA + DATA_SIZE].tobytes())

    def end(self) -> None:
        """Close all descriptors."""
        for fd in list(self.context.descriptors.used):
            self.context.descriptors.close(fd)
        self.context.interrupter.close()
