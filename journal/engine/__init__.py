"""Execution of guests on wasmtime: record, replay and resume. The only package that imports
wasmtime.
"""

from typing import TYPE_CHECKING

from journal._lazy import lazy_names

if TYPE_CHECKING:
    from journal.engine.allocation import (
        InstanceAllocationStrategy,
        ModuleLimits,
        OnDemand,
        Pooling,
        parse_allocation,
    )
    from journal.engine.clones.session_journal import MEMORY, JournalKind
    from journal.engine.configuration import (
        Configuration,
        SafePoints,
        SnapshotOptions,
        Stacks,
        UnknownImports,
    )
    from journal.engine.interactive.async_session import AsyncOutput, AsyncSession
    from journal.engine.interactive.guest_session import GuestSession
    from journal.engine.interactive.opening import (
        ResumedSessionOptions,
        SessionOpener,
        SessionOptions,
    )
    from journal.engine.interactive.output_log import OutputChunk
    from journal.engine.interactive.session import Session
    from journal.engine.memory.dirty_pages import DirtyPageTracking
    from journal.engine.pool.pool import Pool, PoolStatus
    from journal.engine.pool.pooled_session import AsyncPooledSession, PooledSession
    from journal.engine.pool.slots import SlotSelection
    from journal.engine.program.instance_pool import InstancePool, PooledInstance
    from journal.engine.program.preparation import ModulePreparation, prepare_module
    from journal.engine.recipes.evaluation import Evaluation
    from journal.engine.recipes.sandbox import PythonSandbox, QuickJSSandbox, Sandbox
    from journal.engine.recipes.sandbox_pool import (
        AsyncSandboxSession,
        SandboxPool,
        SandboxSession,
    )
    from journal.engine.session.api import record, resume
    from journal.engine.session.connection_check import LostConnections
    from journal.engine.session.guest_time import SleepPolicy
    from journal.engine.session.host_check import HostDiffers
    from journal.engine.session.journal_trust import approve, read_request
    from journal.engine.session.recorded_options import RecordedOptions, read_recorded_options
    from journal.engine.session.recorder import Recorder
    from journal.engine.session.reply import Ending, Reply
    from journal.engine.session.resource_policy import ResourcePolicy
    from journal.engine.session.resume_check import ResumeCheck, check_resume
    from journal.engine.session.run_config import RunConfig
    from journal.engine.session.run_result import ExitKind, RunResult
    from journal.engine.session.secret_environment import SecretValue
    from journal.engine.session.session_limits import SessionLimits
    from journal.engine.session.verify import ReplayResult, SnapshotCheck, verify_replay
    from journal.engine.trust.access_request import AccessRequest
    from journal.engine.trust.approvals import Approval, Approvals
    from journal.engine.trust.grants import Grants
    from journal.engine.wasi.filesystem.mounts import FileCopy, HostMount, MemoryMount
    from journal.engine.wasi.network.guest_network import SocketLost
    from journal.engine.wasi.network.policy import ALL_NETWORK, NO_NETWORK, NetworkPolicy
    from journal.engine.wasi.stdio.outbox import Durability, InFlightPolicy
    from journal.engine.wasi.stdio.stdin import FedSource
    from journal.events.process import RecordingLevel

_MODULES = {
    "ALL_NETWORK": "engine.wasi.network.policy",
    "MEMORY": "engine.clones.session_journal",
    "NO_NETWORK": "engine.wasi.network.policy",
    "AccessRequest": "engine.trust.access_request",
    "Approval": "engine.trust.approvals",
    "Approvals": "engine.trust.approvals",
    "AsyncOutput": "engine.interactive.async_session",
    "AsyncPooledSession": "engine.pool.pooled_session",
    "AsyncSandboxSession": "engine.recipes.sandbox_pool",
    "AsyncSession": "engine.interactive.async_session",
    "Configuration": "engine.configuration",
    "DirtyPageTracking": "engine.memory.dirty_pages",
    "Durability": "engine.wasi.stdio.outbox",
    "Ending": "engine.session.reply",
    "Evaluation": "engine.recipes.evaluation",
    "ExitKind": "engine.session.run_result",
    "FedSource": "engine.wasi.stdio.stdin",
    "FileCopy": "engine.wasi.filesystem.mounts",
    "Grants": "engine.trust.grants",
    "GuestSession": "engine.interactive.guest_session",
    "HostDiffers": "engine.session.host_check",
    "HostMount": "engine.wasi.filesystem.mounts",
    "InFlightPolicy": "engine.wasi.stdio.outbox",
    "InstanceAllocationStrategy": "engine.allocation",
    "InstancePool": "engine.program.instance_pool",
    "JournalKind": "engine.clones.session_journal",
    "LostConnections": "engine.session.connection_check",
    "MemoryMount": "engine.wasi.filesystem.mounts",
    "ModuleLimits": "engine.allocation",
    "ModulePreparation": "engine.program.preparation",
    "NetworkPolicy": "engine.wasi.network.policy",
    "OnDemand": "engine.allocation",
    "OutputChunk": "engine.interactive.output_log",
    "Pool": "engine.pool.pool",
    "PoolStatus": "engine.pool.pool",
    "PooledInstance": "engine.program.instance_pool",
    "PooledSession": "engine.pool.pooled_session",
    "Pooling": "engine.allocation",
    "PythonSandbox": "engine.recipes.sandbox",
    "QuickJSSandbox": "engine.recipes.sandbox",
    "RecordedOptions": "engine.session.recorded_options",
    "Recorder": "engine.session.recorder",
    "RecordingLevel": "events.process",
    "ReplayResult": "engine.session.verify",
    "Reply": "engine.session.reply",
    "ResourcePolicy": "engine.session.resource_policy",
    "ResumeCheck": "engine.session.resume_check",
    "ResumedSessionOptions": "engine.interactive.opening",
    "RunConfig": "engine.session.run_config",
    "RunResult": "engine.session.run_result",
    "SafePoints": "engine.configuration",
    "Sandbox": "engine.recipes.sandbox",
    "SandboxPool": "engine.recipes.sandbox_pool",
    "SandboxSession": "engine.recipes.sandbox_pool",
    "SecretValue": "engine.session.secret_environment",
    "Session": "engine.interactive.session",
    "SessionLimits": "engine.session.session_limits",
    "SessionOpener": "engine.interactive.opening",
    "SessionOptions": "engine.interactive.opening",
    "SleepPolicy": "engine.session.guest_time",
    "SlotSelection": "engine.pool.slots",
    "SnapshotCheck": "engine.session.verify",
    "SnapshotOptions": "engine.configuration",
    "SocketLost": "engine.wasi.network.guest_network",
    "Stacks": "engine.configuration",
    "UnknownImports": "engine.configuration",
    "approve": "engine.session.journal_trust",
    "check_resume": "engine.session.resume_check",
    "parse_allocation": "engine.allocation",
    "prepare_module": "engine.program.preparation",
    "read_recorded_options": "engine.session.recorded_options",
    "read_request": "engine.session.journal_trust",
    "record": "engine.session.api",
    "resume": "engine.session.api",
    "verify_replay": "engine.session.verify",
}
"""The modules of the public names."""

__all__ = [
    "ALL_NETWORK",
    "MEMORY",
    "NO_NETWORK",
    "AccessRequest",
    "Approval",
    "Approvals",
    "AsyncOutput",
    "AsyncPooledSession",
    "AsyncSandboxSession",
    "AsyncSession",
    "Configuration",
    "DirtyPageTracking",
    "Durability",
    "Ending",
    "Evaluation",
    "ExitKind",
    "FedSource",
    "FileCopy",
    "Grants",
    "GuestSession",
    "HostDiffers",
    "HostMount",
    "InFlightPolicy",
    "InstanceAllocationStrategy",
    "InstancePool",
    "JournalKind",
    "LostConnections",
    "MemoryMount",
    "ModuleLimits",
    "ModulePreparation",
    "NetworkPolicy",
    "OnDemand",
    "OutputChunk",
    "Pool",
    "PoolStatus",
    "PooledInstance",
    "PooledSession",
    "Pooling",
    "PythonSandbox",
    "QuickJSSandbox",
    "RecordedOptions",
    "Recorder",
    "RecordingLevel",
    "ReplayResult",
    "Reply",
    "ResourcePolicy",
    "ResumeCheck",
    "ResumedSessionOptions",
    "RunConfig",
    "RunResult",
    "SafePoints",
    "Sandbox",
    "SandboxPool",
    "SandboxSession",
    "SecretValue",
    "Session",
    "SessionLimits",
    "SessionOpener",
    "SessionOptions",
    "SleepPolicy",
    "SlotSelection",
    "SnapshotCheck",
    "SnapshotOptions",
    "SocketLost",
    "Stacks",
    "UnknownImports",
    "approve",
    "check_resume",
    "parse_allocation",
    "prepare_module",
    "read_recorded_options",
    "read_request",
    "record",
    "resume",
    "verify_replay",
]

if not TYPE_CHECKING:  # A type checker sees the imports above.
    __getattr__, __dir__ = lazy_names(__name__, _MODULES)
