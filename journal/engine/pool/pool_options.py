"""Options that a pool sends to its workers."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from journal.engine.allocation import ModuleLimits, OnDemand
from journal.engine.clones.template import CloneTemplate
from journal.engine.session.session_limits import SessionLimits
from journal.engine.trust.grants import Grants
from journal.engine.wasi.filesystem.mounts import HostMount
from journal.log.seal_keys import serialize_keys, use_serialized_keys

_PATHS = ("path", "cache", "approvals")


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolOptions:
    """Options of a pool that its workers need.

    ``path`` and ``at`` name the snapshot, ``slot_count`` is the number of slots of each worker.
    ``reading_key`` and ``writing_key`` are the keys of this process for sealed journals, in
    hexadecimal digits; empty for none. ``resident_size_max`` is the ``private_size_max`` of the
    template.
    """

    path: Path
    at: int | None = None
    slot_count: int = 1
    limits: SessionLimits = field(default_factory=SessionLimits)
    is_paranoid: bool = False
    grants: Grants = field(default_factory=Grants)
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    cache: Path | None = None
    approvals: Path | None = None
    allocation: OnDemand = field(default_factory=OnDemand)
    resident_size_max: int | None = None
    reading_key: str = field(default="", repr=False)
    writing_key: str = field(default="", repr=False)

    def load_template(self) -> CloneTemplate:
        """Return the template of the snapshot. Raises as its ``load`` does."""
        return CloneTemplate.load(
            self.path,
            at=self.at,
            grants=self.grants,
            secrets=self.secrets,
            cache=self.cache,
            approvals=self.approvals,
            allocation=self.allocation,
            private_size_max=self.resident_size_max,
        )

    def use_keys(self) -> None:
        """Let this process, which is a worker, use the keys of the pool."""
        reading, writing = (
            bytes.fromhex(digits) if digits else None
            for digits in (self.reading_key, self.writing_key)
        )
        use_serialized_keys((reading, writing))

    def to_values(self) -> dict[str, Any]:
        """Return the options as plain values."""
        values = asdict(self)
        paths = {name: values[name] and str(values[name]) for name in _PATHS}
        return values | paths

    @classmethod
    def from_values(cls, values: dict[str, Any]) -> "PoolOptions":
        """Return the options of plain values that ``to_values`` made."""
        grants = values["grants"]
        directories = [HostMount(**each) for each in grants["directories"]]
        paths = {name: values[name] and Path(values[name]) for name in _PATHS}
        strategy = values["allocation"]
        limits = ModuleLimits(**strategy["module_limits"])
        made = {
            "allocation": OnDemand(**strategy | {"module_limits": limits}),
            "limits": SessionLimits(**values["limits"]),
            "grants": Grants(**grants | {"directories": directories}),
        }
        return cls(**values | made | paths)


def read_keys() -> dict[str, str]:
    """Return the keys of this process as options."""
    names = ("reading_key", "writing_key")
    pairs = zip(names, serialize_keys(), strict=True)
    return {name: "" if key is None else key.hex() for name, key in pairs}
