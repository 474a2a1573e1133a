"""The guest's file system: paths, nodes, and the operations that a call or an event performs.

A running guest, a replay and compaction use the same operations. A backend stores the files: in
memory, or in a real directory.
"""

from typing import TYPE_CHECKING

from journal._lazy import lazy_names

if TYPE_CHECKING:
    from journal.vfs.backend import BackendFile, BackendNode, FileBackend
    from journal.vfs.descriptor_table import DescriptorTable
    from journal.vfs.directory import MountDirectory
    from journal.vfs.effects import EffectRecorder
    from journal.vfs.errors import FileError
    from journal.vfs.host_backend import HostBackend, HostBackendFile, HostEntry
    from journal.vfs.memory_backend import MemoryBackend, MemoryFile
    from journal.vfs.nodes import DirectoryNode, FileNode, LinkNode, Node
    from journal.vfs.open_request import OpenRequest
    from journal.vfs.path_resolution import PathLocation, PathWalker
    from journal.vfs.times import TimeUpdate
    from journal.vfs.tree_entries import TreeEntry
    from journal.wasi_abi import DirectoryEntry, Errno, FileStat, WasiError

_MODULES = {
    "BackendFile": "vfs.backend",
    "BackendNode": "vfs.backend",
    "DescriptorTable": "vfs.descriptor_table",
    "DirectoryEntry": "wasi_abi",
    "DirectoryNode": "vfs.nodes",
    "EffectRecorder": "vfs.effects",
    "Errno": "wasi_abi",
    "FileBackend": "vfs.backend",
    "FileError": "vfs.errors",
    "FileNode": "vfs.nodes",
    "FileStat": "wasi_abi",
    "HostBackend": "vfs.host_backend",
    "HostBackendFile": "vfs.host_backend",
    "HostEntry": "vfs.host_backend",
    "LinkNode": "vfs.nodes",
    "MemoryBackend": "vfs.memory_backend",
    "MemoryFile": "vfs.memory_backend",
    "MountDirectory": "vfs.directory",
    "Node": "vfs.nodes",
    "OpenRequest": "vfs.open_request",
    "PathLocation": "vfs.path_resolution",
    "PathWalker": "vfs.path_resolution",
    "TimeUpdate": "vfs.times",
    "TreeEntry": "vfs.tree_entries",
    "WasiError": "wasi_abi",
}
"""The modules of the public names."""

__all__ = [
    "BackendFile",
    "BackendNode",
    "DescriptorTable",
    "DirectoryEntry",
    "DirectoryNode",
    "EffectRecorder",
    "Errno",
    "FileBackend",
    "FileError",
    "FileNode",
    "FileStat",
    "HostBackend",
    "HostBackendFile",
    "HostEntry",
    "LinkNode",
    "MemoryBackend",
    "MemoryFile",
    "MountDirectory",
    "Node",
    "OpenRequest",
    "PathLocation",
    "PathWalker",
    "TimeUpdate",
    "TreeEntry",
    "WasiError",
]

if not TYPE_CHECKING:  # A type checker sees the imports above.
    __getattr__, __dir__ = lazy_names(__name__, _MODULES)
