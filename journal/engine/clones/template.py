"""Template of clones: a snapshot of a journal, made ready once for many clones."""

import threading
from collections.abc import Mapping
from contextlib import ExitStack
from functools import cached_property
from typing import Self

from journal._arguments import (
    check_choice,
    check_int,
    check_optional,
    check_path,
    check_type,
    refuse,
)
from journal.engine.allocation import DEFAULT_STRATEGY, InstanceAllocationStrategy, OnDemand
from journal.engine.clones.clone import Clone
from journal.engine.clones.machine import MachineImage
from journal.engine.clones.native_stack import GuestStack
from journal.engine.clones.watchdog import Watchdog
from journal.engine.memory.dirty_pages import PAGE_SIZE, DirtyPageTracking
from journal.engine.memory.mapping import MappedImage
from journal.engine.program.module import GuestModule
from journal.engine.program.prepared import prepare
from journal.engine.session import preamble
from journal.engine.session.journal_trust import decide
from journal.engine.session.own_paths import find_own_files
from journal.engine.session.recorded_run import RecordedRun
from journal.engine.session.resource_policy import ResourcePolicy, check_memory, check_policy
from journal.engine.session.resume_plan import plan_resume_at
from journal.engine.session.run_config import SessionConfig, StrPath, check_module
from journal.engine.session.secret_environment import SecretValue, check_secrets
from journal.engine.session.session_limits import SessionLimits
from journal.engine.trust.access import HostAccess
from journal.engine.trust.grants import Grants
from journal.engine.wasi.network.policy import NetworkPolicy
from journal.engine.wasi.stdio.delivery import find_terminals
from journal.engine.wasi.stdio.outbox import STDERR, STDOUT
from journal.errors import NotResumable, OptionError
from journal.fs.open_resources import OPEN_RESOURCES, HomeProcess, close_unclosed
from journal.log.fork_search import ForkPlace, find_fork_place
from journal.rewrite.progress import ProgressCallback, ignore_progress
from journal.snapshots.catalog import list_snapshots

PRIVATE_SIZE_MIN, PRIVATE_SIZE_MAX = 4 << 20, 256 << 20
"""Bounds of the bytes that a clone keeps by default of the pages that its sessions wrote."""
PRIVATE_SIZE_UNKNOWN = 32 << 20
"""Those bytes for a journal whose snapshots do not show how much its guest writes."""
_STEPS_KEPT = 2
"""Number of steps between snapshots whose pages a clone keeps."""


class CloneTemplate:
    """A snapshot that is ready to be cloned; a context manager.

    The template has what all clones share: the compiled module, the memory image, and the state
    of files and descriptors. ``make_clone`` may be called from any thread. :meth:`load` creates
    templates. ``seq`` is the sequence number of the snapshot, and ``path`` the journal.

    A forked child cannot use a template or its clones: the kernel tracks the written pages of the
    parent only. A template that nobody closed is closed with a ``ResourceWarning``.
    """

    def __init__(
        self,
        recording: RecordedRun,
        image: MachineImage,
        config: SessionConfig,
        access: HostAccess,
        limits: SessionLimits,
    ) -> None:
        self.path = recording.reader.path
        self.identity, self.image, self.limits = recording.identity, image, limits
        self.seq = image.start.info.seq
        self.access = access
        self.own_files = find_own_files(self.path, config.cache, config.approvals)
        self.terminals = tuple(sorted(find_terminals(recording.histories)))
        sizes = {STDOUT: 0, STDERR: 0}
        for stream, data in recording.writes(self.seq):
            sizes[stream] += len(data)
        self.output_sizes = sizes
        """Bytes of output of each stream before the snapshot."""
        self.stack = GuestStack(image.program.configuration.native_stack_size)
        self.watchdog = Watchdog()
        self.files_digest = b""
        """Hash of files and descriptors at the snapshot, known after the first clone is made."""
        self._lock = threading.Lock()
        self._clones: list[Clone] = []
        self._is_closed = False
        self.home = HomeProcess()

    @classmethod
    def load(  # long: each option is a keyword with its documentation
        cls,
        path: StrPath,
        *,
        at: int | None = None,
        module: bytes | StrPath | None = None,
        grants: Grants | None = None,
        policy: ResourcePolicy | None = None,
        secrets: Mapping[str, str | SecretValue] | None = None,
        limits: SessionLimits | None = None,
        allocation: InstanceAllocationStrategy | None = None,
        network: NetworkPolicy | None = None,
        tracking: DirtyPageTracking = DirtyPageTracking.AUTO,
        private_size_max: int | None = None,
        cache: StrPath | None = None,
        approvals: StrPath | None = None,
        progress: ProgressCallback = ignore_progress,
    ) -> Self:
        """Return the template of snapshot ``at`` of a journal, by default of the newest one.

        The journal is not changed, and may be in use. ``module``, ``grants``, ``policy``,
        ``secrets``, ``network``, ``cache``, ``approvals`` and ``progress`` are those of
        :func:`journal.resume`. ``limits`` are the default limits of a session. ``allocation`` must
        be :class:`OnDemand`, because the image of the snapshot is mapped over the memory of each
        instance, and would stay in a slot of a pool. ``tracking`` selects how written pages are
        found. A clone keeps at most ``private_size_max`` bytes of the pages that its sessions wrote
        (default: twice the most that the guest wrote between two snapshots of the journal).

        Raises ``NotResumable`` for a journal without such a snapshot, and for one whose guest has
        an open socket, and the other errors of ``resume``.
        """
        path = check_path("path", path)
        check_optional("at", at, check_int)
        check_optional("module", module, check_module)
        grants = Grants() if grants is None else check_type("grants", grants, Grants)
        limits = SessionLimits() if limits is None else check_type("limits", limits, SessionLimits)
        tracking = check_choice("tracking", tracking, DirtyPageTracking)
        check_optional("private_size_max", private_size_max, check_int)
        allowed, secret_values = check_policy(policy), check_secrets(secrets)
        config = SessionConfig(
            cache=check_optional("cache", cache, check_path),
            approvals=check_optional("approvals", approvals, check_path),
            network=network,
            progress=progress,
            allocation=check_on_demand("allocation", allocation),
        )
        if not path.exists():
            raise OptionError(f"journal {path} does not exist: it cannot be cloned")
        with ExitStack() as stack:
            recording = stack.enter_context(RecordedRun(path, policy=allowed))
            preamble.check_engine(recording.identity)
            preamble.set_secrets(recording.identity, secret_values)
            has_module = module is not None
            access = decide(
                recording, grants, config.approvals, network=network, has_module=has_module
            )
            source = preamble.find_module(recording.identity, module, access)
            image = _prepare_image(recording, source, at, config, stack, tracking, private_size_max)
            template = cls(recording, image, config, access, limits)
            stack.callback(template.watchdog.close)
            stack.callback(template.stack.close)
            template._resources = stack.pop_all()
        OPEN_RESOURCES.release_in_children(template)
        OPEN_RESOURCES.close_at_exit(template)
        return template

    _resources: ExitStack

    @cached_property
    def fork_place(self) -> ForkPlace:
        """Place of the snapshot in the journal, after which the journals of sessions continue."""
        return find_fork_place(self.path, self.seq)

    def make_clone(self) -> Clone:
        """Return a new clone at the snapshot.

        Raises ``NotResumable`` if the journal does not fit the module, and ``EngineError`` if the
        machine lacks memory.
        """
        self.home.check(self.path)
        with self._lock:
            if self._is_closed:
                raise OptionError("the template is closed: it makes no more clones")
            clone = Clone(self, self._clones[0] if self._clones else None)
            if not self.files_digest:
                self.files_digest = clone.compute_files_digest()
            self._clones.append(clone)
            return clone

    def forget(self, clone: Clone) -> None:
        """Forget a clone that was closed."""
        with self._lock:
            if clone in self._clones:
                self._clones.remove(clone)

    def close(self) -> None:
        """Close all clones, and release the journal and the memory image."""
        if self.home.is_left:
            return
        with self._lock:
            clones, self._is_closed = list(self._clones), True
        for clone in clones:
            clone.close()
        self._resources.close()

    def __del__(self) -> None:
        if hasattr(self, "_resources") and not self._is_closed:
            close_unclosed(self, f"the template of clones of {self.path}")

    def _abandon(self, owner: int) -> None:
        self.home.leave(owner)
        self._is_closed = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _prepare_image(
    recording: RecordedRun,
    module: GuestModule,
    at: int | None,
    config: SessionConfig,
    resources: ExitStack,
    tracking: DirtyPageTracking,
    private_size_max: int | None,
) -> MachineImage:
    """Compile the module and map the memories of snapshot ``at``; ``resources`` unmaps them."""
    plan = plan_resume_at(recording, module, _choose_snapshot(recording, at), config)
    start = plan.start
    assert start is not None, "the plan of a snapshot starts there"
    resources.callback(start.image.close)
    configuration = recording.identity.configuration
    check_memory(plan.variant, configuration, recording.policy)
    settings = configuration, config.cache, config.progress, config.allocation
    program = prepare(plan.variant, *settings)
    memories = {}
    for region in start.image.memories:
        if region.size:
            memory = MappedImage(region.size, start.image.fd, region.offset)
            resources.callback(memory.close)
            memories[region.memory_index] = memory
    if private_size_max is None:
        private_size_max = _measure_private_size(recording, start.info.seq)
    return MachineImage(program, start, memories, tracking, private_size_max)


def _measure_private_size(recording: RecordedRun, seq: int) -> int:
    """Return how many bytes of written pages a clone keeps, as the journal suggests.

    A session does about as much as the guest did between two snapshots.
    """
    if all(info.whole for info in recording.snapshots if info.seq <= seq):
        return PRIVATE_SIZE_UNKNOWN
    infos = list_snapshots(recording.reader, stop=seq + 1)
    pages = max(info.pages for info in infos if not info.whole)
    return min(max(_STEPS_KEPT * pages * PAGE_SIZE, PRIVATE_SIZE_MIN), PRIVATE_SIZE_MAX)


def check_on_demand(name: str, allocation: InstanceAllocationStrategy | None) -> OnDemand:
    """Return a strategy of allocation that clones can have, by default the default one.

    Raises ``OptionError`` for another one.
    """
    if allocation is None:
        return DEFAULT_STRATEGY
    if not isinstance(allocation, OnDemand):
        refuse(
            name,
            "OnDemand(): the memory of a clone is mapped from the snapshot, and would stay in a "
            "slot of a pool",
            allocation,
        )
    return allocation


def _choose_snapshot(recording: RecordedRun, at: int | None) -> int:
    if at is not None:
        return at
    for info in reversed(recording.snapshots):
        if info.resumable:
            return info.seq
    raise NotResumable(f"{recording.reader.path} has no snapshot that can be resumed")
