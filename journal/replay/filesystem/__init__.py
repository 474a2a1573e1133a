"""Directory operations for a replay, over an in-memory or a host directory backend."""

from typing import TYPE_CHECKING

from journal._lazy import lazy_names

if TYPE_CHECKING:
    from journal.replay.filesystem.directory_ops import BackendFile, TimeUpdate
    from journal.replay.filesystem.host_backend import HostBackend, HostBackendFile
    from journal.replay.filesystem.memory_backend import (
        MemoryBackend,
        ReplayDirectoryNode,
        ReplayFileNode,
        ReplayMemoryFile,
    )

_MODULES = {
    "BackendFile": "replay.filesystem.directory_ops",
    "HostBackend": "replay.filesystem.host_backend",
    "HostBackendFile": "replay.filesystem.host_backend",
    "MemoryBackend": "replay.filesystem.memory_backend",
    "ReplayDirectoryNode": "replay.filesystem.memory_backend",
    "ReplayFileNode": "replay.filesystem.memory_backend",
    "ReplayMemoryFile": "replay.filesystem.memory_backend",
    "TimeUpdate": "replay.filesystem.directory_ops",
}
"""The modules of the public names."""

__all__ = [
    "BackendFile",
    "HostBackend",
    "HostBackendFile",
    "MemoryBackend",
    "ReplayDirectoryNode",
    "ReplayFileNode",
    "ReplayMemoryFile",
    "TimeUpdate",
]

if not TYPE_CHECKING:  # A type checker sees the imports above.
    __getattr__, __dir__ = lazy_names(__name__, _MODULES)
