"""Provenance of descriptors: the owner of each descriptor number, position and flag."""

from collections.abc import Iterator
from typing import Any

from journal.compaction.liveness.dependency_graph import DependencyGraph
from journal.events.descriptors import EpollEvent
from journal.replay.state.descriptor_table import (
    DescriptorEntry,
    HostNode,
    OpenFileDescription,
    OpenObject,
    Pipe,
    PipeEnd,
    ReplayTable,
    SocketState,
    Watch,
)


class AttributeOwners:
    """Owners of an object's attributes, besides the event that opened the object.

    ``latest`` maps an attribute to the event that set it last. Each event in ``all`` is an owner.
    Both ends of a pipe share one object.
    """

    __slots__ = ("all", "latest")

    def __init__(self) -> None:
        self.latest: dict[Any, int] = {}
        self.all: list[int] = []


class TrackedDescription(OpenFileDescription):
    """Description opened by ``owner``. Most descriptions have no attribute owners."""

    __slots__ = ("_attributes", "flags_owner", "position_owner")

    def __init__(
        self,
        open_object: OpenObject,
        flags: int,
        owner: int,
        attributes: AttributeOwners | None = None,
    ) -> None:
        super().__init__(open_object, flags)
        self.flags_owner = self.position_owner = owner
        self._attributes = attributes

    @property
    def attributes(self) -> AttributeOwners:
        """Owners of the attributes."""
        if self._attributes is None:
            self._attributes = AttributeOwners()
        return self._attributes

    def owners(self) -> Iterator[int]:
        """Yield all owners."""
        yield self.flags_owner
        yield self.position_owner
        if self._attributes is not None:
            yield from self._attributes.latest.values()
            yield from self._attributes.all


class TrackedDescriptor(DescriptorEntry):
    """Descriptor whose number was assigned by ``owner``."""

    __slots__ = ("flags_owner", "owner", "rights_owner")

    def __init__(
        self, description: TrackedDescription, fd_flags: int, rights: tuple[int, int], owner: int
    ) -> None:
        super().__init__(description, fd_flags, rights)
        self.owner = self.flags_owner = self.rights_owner = owner


class ProvenanceTable(ReplayTable):
    """Descriptor table of one process. A look-up depends on the event that assigned the number.

    If the journal ``lacks_host_results``, the state of host objects is unknown, and each event of a
    host object is kept.
    """

    def __init__(self, graph: DependencyGraph) -> None:
        self.graph = graph
        self.lacks_host_results = False
        self._pipe: Pipe | None = None
        self._attributes = AttributeOwners()
        super().__init__()

    def entry(self, fd: int) -> DescriptorEntry:
        """Return the descriptor ``fd``, and depend on its owner."""
        entry = super().entry(fd)
        assert isinstance(entry, TrackedDescriptor)
        self.graph.add_dependency(entry.owner)
        self._pin_if_host_object(entry.description.object)
        return entry

    def tracked(self, fd: int) -> TrackedDescriptor:
        """Return the descriptor ``fd``, without a dependency."""
        entry = self.entries[fd]
        assert isinstance(entry, TrackedDescriptor)
        return entry

    def add(
        self,
        fd: int,
        open_object: OpenObject,
        *,
        flags: int = 0,
        fd_flags: int = 0,
        rights: tuple[int, int] = (0, 0),
    ) -> None:
        """Open ``open_object`` as ``fd``, at position 0."""
        self.check_free(fd)
        seq = self.graph.seq
        attributes = self._attribute_owners_for(open_object)
        description = TrackedDescription(open_object, flags, seq, attributes)
        self._put(fd, TrackedDescriptor(description, fd_flags, rights, seq))

    def duplicate(self, original: int, copied: int, fd_flags: int) -> None:
        """Make ``copied`` another descriptor of the description of ``original``."""
        entry, seq = self.entry(original), self.graph.seq
        assert isinstance(entry, TrackedDescriptor)
        self.check_free(copied)
        self.graph.add_dependency(entry.rights_owner)
        description = entry.description
        assert isinstance(description, TrackedDescription)
        self._put(copied, TrackedDescriptor(description, fd_flags, entry.rights, seq))

    def renumber(self, old: int, new: int) -> None:
        """Move the descriptor ``old`` to ``new``, and close the previous ``new``.

        The event does not depend on the previous ``new``, which may be absent in the compacted
        journal.
        """
        super().renumber(old, new)
        if old != new:
            entry = self.tracked(new)
            self.graph.add_reverse_dependency(entry.owner)
            entry.owner = self.graph.seq

    def put_watch(self, epfd: int, fd: int, event: EpollEvent | None) -> None:
        """Let the epoll instance ``epfd`` watch ``fd``. A later change depends on the first event.

        The event depends on both descriptors.
        """
        super().put_watch(epfd, fd, event)
        watch, latest = self.find_watch(fd), self._attributes_of(self.description(epfd)).latest
        added = latest.setdefault(("watch", watch), self.graph.seq)
        if added != self.graph.seq:
            latest["change", watch] = self.graph.seq
            self.graph.add_dependency(added)

    def end_watch(self, epoll: OpenFileDescription, watch: Watch) -> None:
        """End a watch. The event ends what the event began that added the watch."""
        super().end_watch(epoll, watch)
        latest = self._attributes_of(epoll).latest
        latest.pop(("change", watch), None)
        self.graph.add_reverse_dependency(latest.pop(("watch", watch), None))

    @staticmethod
    def _attributes_of(description: OpenFileDescription) -> AttributeOwners:
        assert isinstance(description, TrackedDescription)
        return description.attributes

    def owners(self) -> Iterator[int]:
        """Yield the owners of all descriptors and descriptions."""
        for entry in self.entries.values():
            assert isinstance(entry, TrackedDescriptor)
            yield entry.owner
            yield entry.flags_owner
            yield entry.rights_owner
            description = entry.description
            assert isinstance(description, TrackedDescription)
            yield from description.owners()

    def _put(self, fd: int, entry: DescriptorEntry) -> None:
        if fd in self.entries:  # Without host results, a number may be in use.
            self.graph.add_reverse_dependency(self.tracked(fd).owner)
        self._pin_if_host_object(entry.description.object)
        super()._put(fd, entry)

    def _release(self, fd: int, entry: DescriptorEntry) -> None:
        assert isinstance(entry, TrackedDescriptor)
        self.graph.add_reverse_dependency(entry.owner)
        super()._release(fd, entry)

    def _pin_if_host_object(self, open_object: OpenObject) -> None:
        is_inside = isinstance(open_object, SocketState) and open_object.is_inside
        if (
            self.lacks_host_results
            and isinstance(open_object, HostNode | SocketState)
            and not is_inside
        ):
            self.graph.is_pinned = True

    def _attribute_owners_for(self, open_object: OpenObject) -> AttributeOwners:
        """Return new attribute owners, or those of the other end of the same pipe."""
        pipe = open_object.pipe if isinstance(open_object, PipeEnd) else None
        if pipe is None or pipe is not self._pipe:
            self._attributes = AttributeOwners()
        self._pipe = pipe
        return self._attributes
