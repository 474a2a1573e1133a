"""One journal on disk: scan, read, append, follow and recover its segment files."""

from typing import TYPE_CHECKING

from journal._lazy import lazy_names

if TYPE_CHECKING:
    from journal.format.frame import Frame
    from journal.log.commit_policy import CommitLevel, CommitPolicy
    from journal.log.declarations import Declarations
    from journal.log.head import Head, check_head, read_head
    from journal.log.header_scan import Segment
    from journal.log.reader import Reader
    from journal.log.roll_policy import RollPolicy
    from journal.log.scan import RecoveryMode
    from journal.log.scan_items import Damage, Debris, ScannedBlock, Tail
    from journal.log.seal_keys import using_key
    from journal.log.signing import (
        SignedState,
        check_signature,
        read_signed_state,
        sign_journal,
    )
    from journal.log.summary import Finding, Summary
    from journal.log.switchover import SwitchoverStats
    from journal.log.writer import Writer

_MODULES = {
    "CommitLevel": "log.commit_policy",
    "CommitPolicy": "log.commit_policy",
    "Damage": "log.scan_items",
    "Debris": "log.scan_items",
    "Declarations": "log.declarations",
    "Finding": "log.summary",
    "Frame": "format.frame",
    "Head": "log.head",
    "Reader": "log.reader",
    "RecoveryMode": "log.scan",
    "RollPolicy": "log.roll_policy",
    "ScannedBlock": "log.scan_items",
    "Segment": "log.header_scan",
    "SignedState": "log.signing",
    "Summary": "log.summary",
    "SwitchoverStats": "log.switchover",
    "Tail": "log.scan_items",
    "Writer": "log.writer",
    "check_head": "log.head",
    "check_signature": "log.signing",
    "read_head": "log.head",
    "read_signed_state": "log.signing",
    "sign_journal": "log.signing",
    "using_key": "log.seal_keys",
}
"""The modules of the public names."""

__all__ = [
    "CommitLevel",
    "CommitPolicy",
    "Damage",
    "Debris",
    "Declarations",
    "Finding",
    "Frame",
    "Head",
    "Reader",
    "RecoveryMode",
    "RollPolicy",
    "ScannedBlock",
    "Segment",
    "SignedState",
    "Summary",
    "SwitchoverStats",
    "Tail",
    "Writer",
    "check_head",
    "check_signature",
    "read_head",
    "read_signed_state",
    "sign_journal",
    "using_key",
]

if not TYPE_CHECKING:  # A type checker sees the imports above.
    __getattr__, __dir__ = lazy_names(__name__, _MODULES)
