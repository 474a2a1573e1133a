"""Table of guests for snapshot tests, and the options of each run.

Each guest prints the same output in every run, with sums over its whole state. Each makes host
calls in unusual states: deep in calls, in callbacks, with changed tables, memories or descriptors.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from journal.engine import ALL_NETWORK, NO_NETWORK, NetworkPolicy
from journal.events.snapshots import Trigger
from tests.support.programs import guest, program


class Needs(Enum):
    """Features that a guest needs beyond the first version of WebAssembly."""

    BULK_MEMORY = "copying, filling and passive segments"
    ELEMENTS = "tables filled, copied and taken from segments"
    EXCEPTIONS = "exceptions"
    GIB = "a memory of more than 2 GiB"
    HIDDEN_TIME = "clocks or randomness, of which its output says nothing"
    MULTI_MEMORY = "several memories"
    NETWORK = "sockets"
    REFERENCES = "references in tables and local variables"
    SIMD = "vectors"
    START = "a function that runs when it is instantiated"
    TAIL_CALLS = "tail calls"
    WASIX = "functions of WASIX"


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotGuest:
    """A guest and the options of its run. ``name`` is the program, ``title`` identifies the run.

    ``memory`` and ``host`` are the names of its directories in memory and on the host; they are
    empty at the start. ``lasts`` is false if the guest uses a host file after unlinking it, because
    no other process can reopen such a file. ``code`` is the exit code, None for a trap.
    ``trigger`` is the trigger that the actions of the guest fire. ``stacks`` says whether its stack
    can be unwound, ``elder`` whether Binaryen 116, the oldest supported version, can do it.
    ``is_program`` marks a real program, which is fetched or built at its first use.
    """

    title: str
    name: str = ""
    args: tuple[str, ...] = ()
    env: tuple[tuple[str, str], ...] = ()
    stdin: bytes = b""
    memory: tuple[str, ...] = ()
    host: tuple[str, ...] = ()
    lasts: bool = True
    code: int | None = 0
    needs: frozenset[Needs] = frozenset()
    trigger: Trigger | None = None
    stacks: bool = True
    elder: bool = True
    is_program: bool = False

    def __str__(self) -> str:
        return self.title

    @property
    def path(self) -> Path:
        """Return the path of the program. Skip the test if the program cannot be built."""
        name = self.name or self.title
        return program(name) if self.is_program else guest(name)

    @property
    def network(self) -> NetworkPolicy:
        """Return what the guest may do in the network of the host."""
        return ALL_NETWORK if Needs.NETWORK in self.needs else NO_NETWORK

    @property
    def argv(self) -> list[str]:
        """Return the arguments, starting with the name of the program."""
        return [self.name or self.title, *self.args]


ENVIRONMENT = (("NAME", "value"), ("EMPTY", ""), ("LONG", "long " * 60))
LINES = b"".join(b"line %d of those it reads\n" % number for number in range(12)) + b"no newline"
COMMANDS = b"""set colour a deep blue
set shape round
get colour
all
paint it
set colour red
get size
sum
quit 4
"""
STATEMENTS = (
    "PRAGMA page_size=1024; PRAGMA cache_size=20; CREATE TABLE t(i INTEGER PRIMARY KEY, n, x TEXT)",
    "WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < 900) "
    "INSERT INTO t SELECT i, (i * 7919) % 1009, printf('%.*c', i % 60, 'x') FROM c",
    "CREATE INDEX n ON t(n, x)",
    "BEGIN; UPDATE t SET x = x || i WHERE n % 3 = 0; SAVEPOINT s; DELETE FROM t WHERE n > 500",
    "SELECT count(*), sum(n), sum(length(x)) FROM t",
    "ROLLBACK TO s; COMMIT",
    "CREATE VIRTUAL TABLE f USING fts5(text)",
    "INSERT INTO f SELECT 'number ' || n || ' of row ' || i FROM t WHERE i % 9 = 0",
    "SELECT rowid, text FROM f WHERE f MATCH 'row AND 9*' ORDER BY rank, rowid LIMIT 8",
)
QUERIES = b"""SELECT n % 10 AS d, count(*), total(i) / 7 FROM t GROUP BY d ORDER BY d
SELECT a.i, b.n, substr(a.x, 1, 9) FROM t a JOIN t b ON a.n = b.i WHERE a.i % 97 = 0 ORDER BY 1
VACUUM
PRAGMA integrity_check
SELECT count(*), sum(n), sum(length(x)) FROM t
"""

SNAPSHOT_GUESTS = (
    SnapshotGuest(title="deep", args=("1500", "250")),
    SnapshotGuest(title="deeper", name="deep", args=("6000", "1000")),
    SnapshotGuest(title="pointers", args=("150",)),
    SnapshotGuest(title="heap64", args=("8",)),
    SnapshotGuest(title="growing"),
    SnapshotGuest(title="bulk", args=("20",), needs=frozenset({Needs.BULK_MEMORY})),
    SnapshotGuest(title="segments", needs=frozenset({Needs.BULK_MEMORY}), stacks=False),
    SnapshotGuest(title="dropped", code=None, needs=frozenset({Needs.BULK_MEMORY}), stacks=False),
    SnapshotGuest(title="simd", needs=frozenset({Needs.SIMD})),
    SnapshotGuest(title="globals", needs=frozenset({Needs.SIMD})),
    SnapshotGuest(title="tables", needs=frozenset({Needs.REFERENCES})),
    SnapshotGuest(
        title="elements", needs=frozenset({Needs.REFERENCES, Needs.ELEMENTS}), elder=False
    ),
    SnapshotGuest(title="memories", needs=frozenset({Needs.MULTI_MEMORY, Needs.BULK_MEMORY})),
    SnapshotGuest(title="high", needs=frozenset({Needs.GIB})),
    SnapshotGuest(title="start", needs=frozenset({Needs.START})),
    SnapshotGuest(title="environ", env=ENVIRONMENT, trigger=Trigger.FIRST_ENVIRON),
    SnapshotGuest(title="stdin", stdin=LINES, trigger=Trigger.FIRST_STDIN),
    SnapshotGuest(title="prompt", stdin=COMMANDS, code=4, trigger=Trigger.FIRST_STDIN),
    SnapshotGuest(
        title="listen",
        trigger=Trigger.FIRST_LISTEN,
        needs=frozenset({Needs.WASIX, Needs.NETWORK}),
    ),
    SnapshotGuest(title="explicit", trigger=Trigger.EXPLICIT, needs=frozenset({Needs.WASIX})),
    SnapshotGuest(title="sleeper", args=("6", "20"), trigger=Trigger.IDLE),
    SnapshotGuest(
        title="clocks",
        args=("12",),
        trigger=Trigger.NON_DETERMINISTIC_CALL,
        needs=frozenset({Needs.HIDDEN_TIME}),
    ),
    SnapshotGuest(title="computing", args=("60",)),
    SnapshotGuest(
        title="descriptors in memory",
        name="dirfds",
        args=("unlink", "/memory"),
        memory=("/memory",),
    ),
    SnapshotGuest(
        title="descriptors of the host", name="dirfds", args=("keep", "/host"), host=("/host",)
    ),
    SnapshotGuest(
        title="descriptors of both",
        name="dirfds",
        args=("keep", "/memory", "/host"),
        memory=("/memory",),
        host=("/host",),
        stdin=b"a byte for each",
    ),
    SnapshotGuest(
        title="descriptors of what is gone",
        name="dirfds",
        args=("unlink", "/host"),
        host=("/host",),
        lasts=False,
    ),
    SnapshotGuest(title="jumps", needs=frozenset({Needs.EXCEPTIONS}), stacks=False, elder=False),
    SnapshotGuest(title="tails", needs=frozenset({Needs.TAIL_CALLS}), stacks=False, elder=False),
    SnapshotGuest(
        title="references", needs=frozenset({Needs.REFERENCES}), stacks=False, elder=False
    ),
)

#: Real programs, which are fetched or built. Their instrumentation takes a while.
SNAPSHOT_PROGRAMS = (
    SnapshotGuest(
        title="sqlite",
        args=("/work/test.db", *STATEMENTS),
        env=(("SQLITE_TMPDIR", "/work"),),  # It holds unlinked files there.
        stdin=QUERIES,
        memory=("/work",),
        needs=frozenset({Needs.HIDDEN_TIME}),
        is_program=True,
    ),
)


#: The guest "tables" removes a function on its stack from a table and cannot be suspended there.
STAGED_GUESTS = [
    one
    for one in SNAPSHOT_GUESTS
    if one.elder and not one.host and not one.is_program and one.title != "tables"
]
