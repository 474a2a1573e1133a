"""Process state of a replay: memories, threads, descriptors and streams."""

from typing import TYPE_CHECKING

from journal._lazy import lazy_names

if TYPE_CHECKING:
    from journal.replay.state.descriptor_table import (
        DescriptorEntry,
        Epoll,
        EventCounter,
        HostNode,
        OpenFileDescription,
        OpenMountDirectory,
        OpenMountFile,
        Pipe,
        PipeEnd,
        ReplayTable,
        SocketState,
        StandardStream,
        Watch,
    )
    from journal.replay.state.machine import ReplayMachine
    from journal.replay.state.memory_layers import MachineLayer, MemoryState
    from journal.replay.state.process_state import (
        InputState,
        NetworkState,
        ProcessState,
        StreamState,
    )

_MODULES = {
    "DescriptorEntry": "replay.state.descriptor_table",
    "Epoll": "replay.state.descriptor_table",
    "EventCounter": "replay.state.descriptor_table",
    "HostNode": "replay.state.descriptor_table",
    "InputState": "replay.state.process_state",
    "MachineLayer": "replay.state.memory_layers",
    "MemoryState": "replay.state.memory_layers",
    "NetworkState": "replay.state.process_state",
    "OpenFileDescription": "replay.state.descriptor_table",
    "OpenMountDirectory": "replay.state.descriptor_table",
    "OpenMountFile": "replay.state.descriptor_table",
    "Pipe": "replay.state.descriptor_table",
    "PipeEnd": "replay.state.descriptor_table",
    "ProcessState": "replay.state.process_state",
    "ReplayMachine": "replay.state.machine",
    "ReplayTable": "replay.state.descriptor_table",
    "SocketState": "replay.state.descriptor_table",
    "StandardStream": "replay.state.descriptor_table",
    "StreamState": "replay.state.process_state",
    "Watch": "replay.state.descriptor_table",
}
"""The modules of the public names."""

__all__ = [
    "DescriptorEntry",
    "Epoll",
    "EventCounter",
    "HostNode",
    "InputState",
    "MachineLayer",
    "MemoryState",
    "NetworkState",
    "OpenFileDescription",
    "OpenMountDirectory",
    "OpenMountFile",
    "Pipe",
    "PipeEnd",
    "ProcessState",
    "ReplayMachine",
    "ReplayTable",
    "SocketState",
    "StandardStream",
    "StreamState",
    "Watch",
]

if not TYPE_CHECKING:  # A type checker sees the imports above.
    __getattr__, __dir__ = lazy_names(__name__, _MODULES)
