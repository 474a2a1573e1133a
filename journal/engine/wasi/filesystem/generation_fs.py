"""Mount with the generation file of a running guest. The guest cannot change it.

The host changes the file when the guest is reseeded, between two events. A read of a file in memory
leaves no event, so a replay could not tell whether the guest read before or after the change. Each
read of this file is therefore an input.
"""

from journal.engine.tape import Tape
from journal.engine.wasi.filesystem.host_files import unwrap_result
from journal.engine.wasi.filesystem.memory_fs import MemoryDirectory
from journal.engine.wasi.filesystem.tape_recorder import TapeRecorder
from journal.events.inputs import HostCall
from journal.events.paths import FilePlaced
from journal.vfs.errors import FileError
from journal.vfs.generation import (
    GENERATION_FILE_SIZE,
    GENERATION_NAME,
    format_generation,
    is_generation_file,
)
from journal.vfs.memory_backend import ENTRY_SIZE, MemoryBackend, MemoryFile
from journal.vfs.nodes import DirectoryNode, FileNode
from journal.wasi_abi import Errno


class GenerationBackend(MemoryBackend):
    """Backend of the mount ``guest``, which has one file."""

    def __init__(self, tape: Tape, guest: str, device: int) -> None:
        super().__init__(ENTRY_SIZE + GENERATION_FILE_SIZE, TapeRecorder(tape), device)
        self._tape, self._guest = tape, guest

    def check_placement(self, event: FilePlaced) -> None:
        """Raise ``FileError`` for another file than the generation file, or a second one."""
        if self.root().entries or not is_generation_file(event, self._guest):
            raise FileError(Errno.PERM, "the mount has one file, which the host puts there")

    def set_generation(self, generation: bytes) -> None:
        """Replace the content of the file."""
        node = self.root().entries.get(GENERATION_NAME)
        if isinstance(node, FileNode):
            node.data[:] = format_generation(generation)

    def open_file(self, at: DirectoryNode, name: str) -> MemoryFile:
        """Open the file."""
        node = at.entries[name]
        assert isinstance(node, FileNode), "the mount has one file"
        return GenerationFile(self, node, self._tape)


class GenerationDirectory(MemoryDirectory):
    """The directory of the generation file."""

    writable = False


class GenerationFile(MemoryFile):
    """The open generation file."""

    def __init__(self, backend: MemoryBackend, node: FileNode, tape: Tape) -> None:
        super().__init__(backend, node)
        self._tape = tape

    @property
    def writable(self) -> bool:
        """Return False: only the host changes the file."""
        return False

    def read(self, fd: int, offset: int, size: int) -> bytes:
        """Return at most ``size`` bytes at ``offset``, as an input unless the file ends before."""
        if offset >= GENERATION_FILE_SIZE:
            return b""
        live = super().read
        reply = self._tape.request_host_result(
            HostCall.READ, fd, lambda: (0, live(fd, offset, size))
        )
        data = unwrap_result(reply)
        if len(data) > min(size, GENERATION_FILE_SIZE - offset):
            raise ValueError(f"recorded read of the generation has {len(data)} bytes")
        return data
