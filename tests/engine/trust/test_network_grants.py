"""The network of a resumed guest: as recorded for a journal of the user, else as granted again."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

import journal
from journal.compaction import RetentionPolicy
from journal.engine import (
    NO_NETWORK,
    Approvals,
    Grants,
    NetworkPolicy,
    SnapshotOptions,
    approve,
    check_resume,
    read_recorded_options,
    read_request,
)
from journal.errors import EngineMismatch, GrantsMissing, OptionError
from journal.events.inputs import Resolved
from journal.events.process import ProcessStart
from journal.events.snapshots import ResolvedNames, Trigger
from journal.wasi_abi import Errno
from tests.support.deadlines import wait_until
from tests.support.remote_guest import DATA, REMOTE, Remote
from tests.support.rewrites import alter_event, events_of, replace_event, rewrite
from tests.support.wasix_sockets import INET4, STREAM, inet4, open_socket, resume_remote

RULES = ("listen=127.0.0.1:0", "connect=*.example.org:443", "resolve")
POLICY = NetworkPolicy.parse(RULES)
LISTENER = 4  # After the standard streams and the memory root.
EXPLICIT = SnapshotOptions(on=frozenset({Trigger.EXPLICIT}))


def bind(guest: Remote) -> int:
    """Return the errno of a bind to a free port of loopback."""
    return guest("sock_bind", open_socket(guest), DATA, data=inet4(0)).errno


@pytest.fixture
def path(tmp_path: Path, cache_dir: Path) -> Path:
    """The journal of a guest that had a network."""
    with journal.record(REMOTE, tmp_path / "j", network=POLICY, cache=cache_dir) as recorder:
        assert bind(Remote(recorder)) == 0
    return tmp_path / "j"


@pytest.fixture
def strange(path: Path) -> Path:
    """Return a journal that another user recorded."""
    Approvals().revoke(read_request(path).journal_id)
    return path


def test_a_recording_keeps_its_rules_and_one_without_a_network_has_none(
    path: Path, tmp_path: Path, cache_dir: Path
) -> None:
    (start,) = (event for event in events_of(path) if isinstance(event, ProcessStart))
    assert dict(start.configuration)["session.network"] == " ".join(RULES)
    assert read_recorded_options(path).network == POLICY
    with journal.record(REMOTE, tmp_path / "none", network=NO_NETWORK, cache=cache_dir):
        pass
    (start,) = (event for event in events_of(tmp_path / "none") if isinstance(event, ProcessStart))
    assert not any("network" in name for name, _ in start.configuration)


def test_a_user_resumes_an_own_recording_with_its_network(path: Path, cache_dir: Path) -> None:
    assert check_resume(path).obstacle == ""
    with journal.resume(path, cache=cache_dir) as recorder:
        assert bind(resume_remote(recorder)) == 0


@pytest.mark.filterwarnings("ignore:the guest's socket")
def test_a_user_can_resume_an_own_recording_with_another_network_or_none(
    path: Path, cache_dir: Path
) -> None:
    policies = (NO_NETWORK, NetworkPolicy.parse(["connect=*:*"]), NetworkPolicy.parse(["all"]))
    for policy, errno in zip(policies, (None, Errno.ACCES, 0), strict=True):
        with journal.resume(path, network=policy, cache=cache_dir) as recorder:
            guest = resume_remote(recorder)
            if errno is None:
                refused = guest("sock_open", INET4, STREAM, 0, DATA).errno
                assert refused == Errno.ACCES
            else:
                assert bind(guest) == errno


def test_a_foreign_journal_gets_no_network_without_a_grant(
    strange: Path, tmp_path: Path, cache_dir: Path
) -> None:
    before = strange.read_bytes()
    with pytest.raises(GrantsMissing) as caught:
        journal.resume(strange, cache=cache_dir)
    error = caught.value
    options = ("--net listen=127.0.0.1:0", "--net 'connect=*.example.org:443'", "--net resolve")
    assert error.options == options
    assert error.requests[0] == "the network rule listen=127.0.0.1:0"
    assert check_resume(strange).obstacle == str(error)
    with pytest.raises(GrantsMissing):
        journal.resume(strange, at=0, into=tmp_path / "new", cache=cache_dir)
    assert strange.read_bytes() == before


def test_a_foreign_journal_gets_the_network_that_its_user_grants(
    strange: Path, cache_dir: Path
) -> None:
    assert check_resume(strange, network=POLICY).obstacle == ""
    with journal.resume(strange, network=POLICY, cache=cache_dir) as recorder:
        assert bind(resume_remote(recorder)) == 0
    with pytest.raises(GrantsMissing):
        journal.resume(strange, cache=cache_dir)
    approve(strange)
    with journal.resume(strange, cache=cache_dir) as recorder:
        assert bind(resume_remote(recorder)) == 0


def rewrite_rules(path: Path, target: Path, rules: str) -> Path:
    """Return a copy of a journal that asks for other rules."""
    events = events_of(path)
    (index,) = (at for at, event in enumerate(events) if isinstance(event, ProcessStart))
    start = events[index]
    assert isinstance(start, ProcessStart)
    pairs = dict(start.configuration) | {"session.network": rules}
    changed = alter_event(start, configuration=tuple(pairs.items()))
    return rewrite(path, target, lambda frames: replace_event(list(frames), index, changed))


def test_an_approval_covers_no_rule_that_was_added_to_the_journal(
    path: Path, tmp_path: Path, cache_dir: Path
) -> None:
    wider = rewrite_rules(path, tmp_path / "wider", " ".join((*RULES, "connect=*:*")))
    with pytest.raises(GrantsMissing) as caught:
        journal.resume(wider, cache=cache_dir)
    assert caught.value.options == ("--net 'connect=*:*'",)
    many = " ".join(f"connect=10.0.0.1:{port}" for port in range(60_000))
    for number, rules in enumerate(("connect=*", "loopback " * 9 + "\x1b[31m", many)):
        wrong = rewrite_rules(path, tmp_path / f"wrong-{number}", rules)
        with pytest.raises(EngineMismatch, match=r"unknown value of session\.network") as refused:
            journal.resume(wrong, network=POLICY, cache=cache_dir)
        assert str(refused.value).isprintable()


# -- names ----------------------------------------------------------------------------------------


def test_resolved_names_survive_a_snapshot_and_count_for_a_journal_of_the_user(
    tmp_path: Path, cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = [(0, 0, 0, "", ("8.8.8.8", 0))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    path, name = tmp_path / "j", b"www.example.org"
    with journal.record(
        REMOTE, path, network=POLICY, snapshots=EXPLICIT, cache=cache_dir
    ) as recorder:
        guest = Remote(recorder)
        assert recorder.snapshot() is not None
        call = (DATA, len(name), 443, DATA + 64, 1, DATA + 56)
        assert guest("resolve", *call, data=name).errno == 0
        assert recorder.snapshot() is not None
        printed = len(recorder.stdout)
    names = [event for event in events_of(path) if isinstance(event, ResolvedNames)]
    assert [each.name for event in names for each in event.hosts] == [name.decode()]
    for is_own in (True, False):
        if not is_own:
            Approvals().revoke(read_request(path).journal_id)
        with journal.resume(path, network=POLICY, cache=cache_dir) as recorder:
            wait_until(lambda r=recorder: len(r.stdout) >= printed)  # type: ignore[misc]
            assert recorder.snapshot() is not None
        assert [event for event in events_of(path) if isinstance(event, ResolvedNames)][-1] == (
            names[0]
        ), "the table does not depend on whose journal it is"
    assert journal.verify_replay(path, cache=cache_dir).matches
    journal.compact(path, tmp_path / "compacted", policy=RetentionPolicy(keep_last=1))
    assert not any(isinstance(event, Resolved) for event in events_of(tmp_path / "compacted"))
    with journal.resume(tmp_path / "compacted", network=POLICY, cache=cache_dir) as recorder:
        wait_until(lambda: len(recorder.stdout) > 0)
        assert recorder.snapshot() is not None
    *_, last = (e for e in events_of(tmp_path / "compacted") if isinstance(e, ResolvedNames))
    assert last == names[0], "a compaction keeps the names of its snapshots"


# -- listeners ------------------------------------------------------------------------------------


@pytest.fixture
def served(tmp_path: Path, cache_dir: Path) -> tuple[Path, str]:
    """The journal of a guest that another user gave a listener, and its address."""
    path = tmp_path / "served"
    with journal.record(REMOTE, path, listeners=["127.0.0.1:0"], cache=cache_dir):
        pass
    request = read_request(path)
    Approvals().revoke(request.journal_id)
    (address,) = request.listeners
    return path, address


def accepts(address: str) -> bool:
    host, _, port = address.rpartition(":")
    with socket.socket() as client:
        return client.connect_ex((host, int(port))) == 0


def test_a_listener_of_a_foreign_journal_is_granted_by_its_address_or_a_rule(
    served: tuple[Path, str], cache_dir: Path
) -> None:
    path, address = served
    with pytest.raises(GrantsMissing) as caught:
        journal.resume(path, cache=cache_dir)
    assert caught.value.options == (f"--tcp-listen {address}",)
    assert caught.value.requests == (f"a listener at {address}",)
    with pytest.raises(
        OptionError, match=f"at 127.0.0.1:1 from its start: it listens at {address}"
    ):
        journal.resume(path, grants=Grants(listeners=["127.0.0.1:1"]), cache=cache_dir)
    port = address.rpartition(":")[2]
    rule = NetworkPolicy.parse([f"listen=127.0.0.1:{port}"])
    for grants, network in (
        (Grants(listeners=[f"localhost:{port}"]), None),
        (Grants(listeners=[address]), NO_NETWORK),
        (Grants(), rule),
    ):
        with journal.resume(path, grants=grants, network=network, cache=cache_dir):
            wait_until(lambda: accepts(address))
    with pytest.raises(GrantsMissing):
        journal.resume(path, network=NetworkPolicy.parse(["listen=*:1"]), cache=cache_dir)


@pytest.mark.filterwarnings("ignore:the guest's socket")
def test_no_network_includes_no_listener(served: tuple[Path, str], cache_dir: Path) -> None:
    path, address = served
    for is_approved in (False, True):
        if is_approved:
            approve(path)
        with journal.resume(path, network=NO_NETWORK, cache=cache_dir) as recorder:
            assert Remote(recorder)("sock_accept", LISTENER, 0, DATA).errno == Errno.ACCES
            assert not accepts(address)
    with journal.resume(path, cache=cache_dir):
        wait_until(lambda: accepts(address))
