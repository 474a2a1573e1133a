"""Resolution of host names: what reaches the host, what is recorded, and what a replay repeats."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import Any

import pytest

import journal
from journal.engine import ALL_NETWORK, NO_NETWORK, NetworkPolicy
from journal.engine.wasi.network.lookup import ADDRESSES_COUNT_MAX
from journal.engine.wasi.network.resolved_names import NAMES_COUNT_MAX, NameTable
from journal.engine.wasi.network.resolver import LOOKUPS_COUNT_MAX, Resolver
from journal.errors import NotResumable
from journal.events.inputs import Resolved
from journal.events.snapshots import HostName, ResolvedNames
from journal.wasi_abi import Errno
from tests.support.deadlines import DEADLINE_SECONDS, wait_until
from tests.support.remote_guest import ANSWER_SIZE, DATA, REMOTE, Remote, encode_order, parse_answer
from tests.support.rewrites import alter_event, events_of, replace_event, rewrite

ARRAY, COUNT, ROOM = DATA + 64, DATA + 56, 3
ENTRY_SIZE = 18

Answers = dict[str, list[str] | Exception]


class FakeHost:
    """The resolver of the host. ``asked`` are the names that reached it."""

    def __init__(self) -> None:
        self.answers: Answers = {}
        self.asked: list[str] = []
        self.gate = threading.Event()
        self.gate.set()

    def getaddrinfo(self, host: str, port: None, **_: Any) -> list[tuple[Any, ...]]:
        assert port is None
        self.asked.append(host)
        self.gate.wait(DEADLINE_SECONDS)
        found = self.answers.get(host, socket.gaierror(socket.EAI_NONAME, "unknown"))
        if isinstance(found, Exception):
            raise found
        return [(0, 0, 0, "", (address, 0)) for address in found]


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHost]:
    found = FakeHost()
    monkeypatch.setattr(socket, "getaddrinfo", found.getaddrinfo)
    yield found
    found.gate.set()


def order(name: str | bytes, room: int = ROOM) -> tuple[int, int, int, int, int, int]:
    """Return the arguments of the call for a name at the start of the data."""
    size = len(name if isinstance(name, bytes) else name.encode())
    return DATA, size, 443, ARRAY, room, COUNT


def resolve(guest: Remote, name: str | bytes, room: int = ROOM) -> tuple[int, list[str]]:
    """Return the errno and the addresses that the guest gets."""
    data = name if isinstance(name, bytes) else name.encode()
    answer = guest("resolve", *order(name, room), data=data)
    if answer.errno:
        assert not any(answer.data[56:]), "nothing is written"
        return answer.errno, []
    count = int.from_bytes(answer.data[56:60], "little")
    entries = [answer.data[64 + ENTRY_SIZE * i :][:ENTRY_SIZE] for i in range(count)]
    return 0, [str(ip_address(entry[2 : {1: 6, 2: 18}[entry[0]]])) for entry in entries]


def resolved(path: Path) -> list[Resolved]:
    return [event for event in events_of(path) if isinstance(event, Resolved)]


def test_the_addresses_of_a_name_come_from_the_host_and_then_from_the_journal(
    tmp_path: Path, cache_dir: Path, host: FakeHost
) -> None:
    host.answers["www.example.org"] = ["2606:4700::1", "8.8.8.8", "8.8.8.8", "fe80::1%eth0"]
    path = tmp_path / "j"
    with journal.record(REMOTE, path, network=ALL_NETWORK, cache=cache_dir) as recorder:
        guest = Remote(recorder)
        found = resolve(guest, "WWW.Example.org.")
        assert found == (0, ["2606:4700::1", "8.8.8.8", "fe80::1"])
        assert resolve(guest, "www.example.org", room=1) == (0, ["2606:4700::1"])
        assert resolve(guest, "www.example.org", room=0) == (0, [])
        assert resolve(guest, "nobody.example.org") == (Errno.NOENT, [])
        guest.end()
        printed = recorder.stdout
    assert host.asked == ["www.example.org"] * 3 + ["nobody.example.org"]
    addresses = (IPv6Address("2606:4700::1"), IPv4Address("8.8.8.8"), IPv6Address("fe80::1"))
    first, *_, last = resolved(path)
    assert first == Resolved(host="WWW.Example.org.", port=443, errno=0, addresses=addresses)
    assert last == Resolved(host="nobody.example.org", port=443, errno=Errno.NOENT, addresses=())
    host.asked.clear()
    with journal.resume(path, network=NO_NETWORK, cache=cache_dir) as recorder:
        assert recorder.files == {}  # Reading the files replays the journal.
        assert recorder.stdout == printed
    assert host.asked == []


def test_some_names_need_no_host_and_leave_no_event(
    tmp_path: Path, cache_dir: Path, host: FakeHost
) -> None:
    path = tmp_path / "j"
    with journal.record(REMOTE, path, cache=cache_dir) as recorder:
        guest = Remote(recorder)
        for literal in ("127.0.0.1", "8.8.8.8", "::1", "2606:4700::1"):
            assert resolve(guest, literal) == (0, [literal])
        for name in ("localhost", "LOCALHOST.", "db.localhost"):
            assert resolve(guest, name) == (0, ["127.0.0.1", "::1"])
        for text in (b"", b"a b", b"127.1", b"0x7f.1", b"fe80::1%1", b"\xff", b"a\0b", b"-"):
            assert resolve(guest, text) == (Errno.INVAL, [])
        assert guest("resolve", DATA, 4, 1 << 16, ARRAY, 1, COUNT, data=b"host").errno == 28
        assert guest("resolve", DATA, 1025, 443, ARRAY, 1, COUNT).errno == Errno.NAMETOOLONG
        guest.end()
    assert host.asked == []
    assert resolved(path) == []


@pytest.mark.parametrize(
    ("rules", "granted"),
    [
        ([], set()),
        (["loopback"], set()),
        (["listen=*:*"], set()),
        (["connect=*:*"], set()),
        (["resolve=example.org"], {"example.org"}),
        (["resolve=*.example.org"], {"www.example.org"}),
        (["connect=*.example.org:1"], {"www.example.org"}),
        (["resolve"], {"example.org", "www.example.org", "evil-example.org"}),
    ],
)
def test_a_name_that_no_rule_grants_is_refused_visibly(
    rules: list[str], granted: set[str], tmp_path: Path, cache_dir: Path, host: FakeHost
) -> None:
    names = ("example.org", "www.example.org", "evil-example.org")
    host.answers.update({name: ["8.8.8.8"] for name in names})
    path, policy = tmp_path / "j", NetworkPolicy.parse(rules)
    with journal.record(REMOTE, path, network=policy, cache=cache_dir) as recorder:
        guest = Remote(recorder)
        for name in names:
            wanted = (0, ["8.8.8.8"]) if name in granted else (Errno.ACCES, [])
            assert resolve(guest, name) == wanted
        guest.end()
    assert set(host.asked) == granted
    refused = {event.host for event in resolved(path) if event.errno == Errno.ACCES}
    assert refused == set(names) - granted


@pytest.mark.parametrize(
    ("error", "errno"),
    [
        (socket.gaierror(socket.EAI_NODATA, ""), Errno.NOENT),
        (socket.gaierror(socket.EAI_AGAIN, ""), Errno.AGAIN),
        (socket.gaierror(socket.EAI_MEMORY, ""), Errno.NOMEM),
        (socket.gaierror(socket.EAI_FAIL, ""), Errno.IO),
        (OSError(5, ""), Errno.IO),
        (UnicodeError(), Errno.IO),
        ([], Errno.NOENT),
        (["not an address"], Errno.NOENT),
    ],
)
def test_an_error_of_the_host_is_an_error_of_the_call(
    error: Any, errno: Errno, tmp_path: Path, cache_dir: Path, host: FakeHost
) -> None:
    host.answers["example.org"] = error
    with journal.record(REMOTE, tmp_path / "j", network=ALL_NETWORK, cache=cache_dir) as recorder:
        assert resolve(Remote(recorder), "example.org") == (errno, [])


def test_a_name_has_a_largest_number_of_addresses(
    tmp_path: Path, cache_dir: Path, host: FakeHost
) -> None:
    host.answers["example.org"] = [str(IPv4Address(0x08000000 + i)) for i in range(1000)]
    path = tmp_path / "j"
    with journal.record(REMOTE, path, network=ALL_NETWORK, cache=cache_dir) as recorder:
        assert resolve(Remote(recorder), "example.org", 1)[0] == 0
    (event,) = resolved(path)
    assert len(event.addresses) == ADDRESSES_COUNT_MAX


def test_a_guest_that_waits_for_a_name_can_be_stopped_and_asks_again(
    tmp_path: Path, cache_dir: Path, host: FakeHost
) -> None:
    host.answers["example.org"] = ["8.8.8.8"]
    path = tmp_path / "j"
    host.gate.clear()
    with journal.record(REMOTE, path, network=ALL_NETWORK, cache=cache_dir) as recorder:
        recorder.feed(encode_order("resolve", *order("example.org"), data=b"example.org"))
        wait_until(lambda: host.asked == ["example.org"])
        recorder.stop()
        outcome = recorder.wait(DEADLINE_SECONDS)
        assert outcome is not None
        assert outcome.kind is journal.engine.ExitKind.STOPPED
    assert resolved(path) == []
    host.gate.set()
    with journal.resume(path, network=ALL_NETWORK, cache=cache_dir) as recorder:
        wait_until(lambda: len(recorder.stdout) >= ANSWER_SIZE)
        assert parse_answer(recorder.stdout).errno == 0
    assert host.asked == ["example.org"] * 2


def test_a_snapshot_does_not_wait_for_a_name(
    tmp_path: Path, cache_dir: Path, host: FakeHost
) -> None:
    host.answers["example.org"] = ["8.8.8.8"]
    host.gate.clear()
    on = journal.engine.SnapshotOptions(on=frozenset({journal.snapshots.Trigger.EXPLICIT}))
    with journal.record(
        REMOTE, tmp_path / "j", network=ALL_NETWORK, snapshots=on, cache=cache_dir
    ) as recorder:
        recorder.feed(encode_order("resolve", *order("example.org"), data=b"example.org"))
        wait_until(lambda: host.asked == ["example.org"])
        assert recorder.snapshot() is not None
        host.gate.set()
        wait_until(lambda: len(recorder.stdout) >= ANSWER_SIZE)
        assert host.asked == ["example.org"], "the call that is made again takes the first answer"


@pytest.mark.parametrize(
    "changes",
    [
        {"errno": 1},
        {"addresses": ()},
        {"addresses": (IPv4Address("8.8.8.8"),) * (ADDRESSES_COUNT_MAX + 1)},
    ],
    ids=["an error with addresses", "no addresses", "too many addresses"],
)
def test_an_impossible_answer_in_a_journal_is_refused(
    changes: dict[str, Any], tmp_path: Path, cache_dir: Path, host: FakeHost
) -> None:
    host.answers["example.org"] = ["8.8.8.8"]
    path, forged = tmp_path / "j", tmp_path / "forged"
    with journal.record(REMOTE, path, network=ALL_NETWORK, cache=cache_dir) as recorder:
        resolve(Remote(recorder), "example.org")
    (index,) = (at for at, event in enumerate(events_of(path)) if isinstance(event, Resolved))
    event = alter_event(events_of(path)[index], **changes)
    rewrite(path, forged, lambda frames: replace_event(list(frames), index, event))
    with (
        pytest.raises(NotResumable, match="not a valid result of the call"),
        journal.resume(forged, network=NO_NETWORK, cache=cache_dir) as recorder,
    ):
        recorder.wait(DEADLINE_SECONDS)


# -- the names of addresses -----------------------------------------------------------------------


def test_an_address_has_the_names_that_were_resolved_to_it() -> None:
    names = NameTable()
    one, other = ip_address("8.8.8.8"), ip_address("8.8.4.4")
    names.add("a.example", [one, other], is_verified=True)
    names.add("b.example", [ip_address("::ffff:8.8.8.8")], is_verified=True)
    assert set(names.find(one)) == {"a.example", "b.example"}
    assert set(names.find(ip_address("::ffff:8.8.4.4"))) == {"a.example"}
    assert set(names.find(ip_address("1.1.1.1"))) == set()


def test_names_that_a_foreign_journal_states_do_not_count() -> None:
    names, address = NameTable(), ip_address("8.8.8.8")
    names.add("a.example", [address], is_verified=False)
    assert set(names.find(address)) == set()
    (saved,) = names.save()
    assert saved == ResolvedNames(hosts=(HostName("a.example", (address,)),))
    names.add("a.example", [address], is_verified=True)
    assert set(names.find(address)) == {"a.example"}


def test_the_oldest_names_make_room() -> None:
    names = NameTable()
    first, last = IPv4Address(1), IPv4Address(NAMES_COUNT_MAX + 1)
    all_addresses = map(IPv4Address, range(1, NAMES_COUNT_MAX + 1))
    names.add("a.example", all_addresses, is_verified=True)
    names.add("a.example", [first], is_verified=True)  # Now it is the newest.
    names.add("b.example", [last], is_verified=True)
    assert set(names.find(first)) == {"a.example"}
    assert set(names.find(IPv4Address(2))) == set()
    (saved,) = names.save()
    assert sum(len(each.addresses) for each in saved.hosts) == NAMES_COUNT_MAX
    copy = NameTable()
    copy.load(saved, is_verified=True)
    assert copy.save() == [saved]
    assert set(copy.find(first)) == {"a.example"}
    copy.load(None, is_verified=True)
    assert copy.save() == []


def test_lookups_that_nobody_waits_for_are_bounded(host: FakeHost) -> None:
    class Stopped(Exception):
        pass

    class Context:
        wait: Callable[..., bool]

    def stop(*_: object) -> bool:
        raise Stopped

    host.gate.clear()
    resolver: Any = Resolver(None, ALL_NETWORK)  # type: ignore[arg-type]
    context: Any = Context()
    context.wait = stop
    for number in range(LOOKUPS_COUNT_MAX):
        with pytest.raises(Stopped):
            resolver._ask(context, f"h{number}.example")
    with pytest.raises(journal.wasi_abi.WasiError) as refused:
        resolver._ask(context, "more.example")
    assert refused.value.errno == Errno.AGAIN
    host.gate.set()
    pending = list(resolver._lookups.values())
    wait_until(lambda: all(lookup.is_ready() for lookup in pending))
    with pytest.raises(Stopped):
        resolver._ask(context, "more.example")
    resolver.close()


def test_a_host_without_threads_is_an_error_of_the_call(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    resolver: Any = Resolver(None, ALL_NETWORK)  # type: ignore[arg-type]
    with pytest.raises(journal.wasi_abi.WasiError) as refused:
        resolver._ask(None, "example.org")
    assert refused.value.errno == Errno.AGAIN
    assert resolver._lookups == {}
