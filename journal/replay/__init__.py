"""Replay of a journal without its guest: into plain values, or into a directory.

The state at any event::

    host = ModelHost()
    with journal.Reader("guest.journal") as reader:
        play(reader.frames(), host, upto=seq)
    print(host.files, host.stdout, host.process.exit_code)

Only the files, in the empty directory ``target``::

    with journal.Reader("guest.journal") as reader, DirectoryHost("target") as host:
        play(reader.frames(tags=host.tags), host)
"""

from journal.events import BY_TAG
from journal.replay.dispatch import apply, apply_effect
from journal.replay.effects import (
    application,
    core,
    descriptors,
    inputs,
    memory,
    paths,
    ports,
    process,
    processes,
    snapshots,
    sockets,
    streams,
    threads,
)
from journal.replay.host import Host
from journal.replay.hosts.directory import DirectoryHost
from journal.replay.hosts.model import DescriptorState, ModelHost, ReplayState
from journal.replay.limits import ReplayError, ReplayLimits
from journal.replay.player import play
from journal.vfs.tree_entries import TreeEntry

FAMILIES = (
    core,
    process,
    processes,
    memory,
    threads,
    descriptors,
    paths,
    streams,
    sockets,
    ports,
    inputs,
    snapshots,
    application,
)
"""The modules of effects, one per family of events. Their import registers them with ``apply``."""

_without_effect = BY_TAG.values() - apply_effect.registry.keys()
assert not _without_effect, f"no effect is registered for {_without_effect}"

__all__ = [
    "FAMILIES",
    "DescriptorState",
    "DirectoryHost",
    "Host",
    "ModelHost",
    "ReplayError",
    "ReplayLimits",
    "ReplayState",
    "TreeEntry",
    "apply",
    "play",
]
