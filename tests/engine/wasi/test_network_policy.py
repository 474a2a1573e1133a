"""Rules of the network policy: what they grant, what they do not, and texts that are no rules."""

from __future__ import annotations

import ipaddress
import pickle
from fnmatch import fnmatchcase
from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from journal.engine import ALL_NETWORK, NO_NETWORK, NetworkPolicy
from journal.engine.wasi.network import address_ranges
from journal.engine.wasi.network.address_ranges import find_destinations, is_loopback, is_public
from journal.engine.wasi.network.host_names import NamePattern, normalize_name
from journal.engine.wasi.network.policy import RULES_COUNT_MAX
from journal.errors import OptionError
from journal.events.sockets import SocketType
from journal.events.wire_types import SocketAddress

TCP, UDP = SocketType.STREAM, SocketType.DGRAM
FULL_WIDTH_EXAMPLE = "".join(chr(0xFEE0 + ord(letter)) for letter in "example")
"""The word in letters that a resolver takes for those of ASCII."""
FULL_WIDTH_127 = "\uff11\uff12\uff17"


def at(host: str, port: int = 80, scope: int = 0) -> SocketAddress:
    return SocketAddress(ip_address(host), port, 0, scope)


def listens(rule: str, host: str, port: int = 80, kind: SocketType = TCP) -> bool:
    return NetworkPolicy.parse([rule]).may_listen(at(host, port), kind)


def connects(
    rules: str, host: str, port: int = 80, kind: SocketType = TCP, names: tuple[str, ...] = ()
) -> bool:
    return NetworkPolicy.parse(rules.split()).may_connect(at(host, port), kind, names)


# -- texts of rules -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("listen=127.0.0.1:8080", "listen=127.0.0.1:8080"),
        ("listen=tcp:[::1]:8000-8010", "listen=tcp:[::1]:8000-8010"),
        ("listen=*:*", "listen=*:*"),
        ("listen=0.0.0.0:0", "listen=0.0.0.0:0"),
        ("listen=[0::0]:1-1", "listen=[::]:1"),
        ("listen=LocalHost:1", "listen=localhost:1"),
        ("connect=10.0.0.0/255.0.0.0:0-65535", "connect=10.0.0.0/8:*"),
        ("connect=10.1.2.3/32:22", "connect=10.1.2.3:22"),
        ("connect=[FD00::/8]:443", "connect=[fd00::/8]:443"),
        ("connect=udp:*.Example.ORG.:53", "connect=udp:*.example.org:53"),
        ("connect=bücher.example:443", "connect=xn--bcher-kva.example:443"),
        ("resolve", "resolve"),
        ("resolve=*.b.example", "resolve=*.b.example"),
        ("loopback", "loopback"),
        ("all", "all"),
    ],
)
def test_the_normal_form_of_a_rule_is_the_same_rule(text: str, normal: str) -> None:
    policy = NetworkPolicy.parse([text])
    assert policy.texts == (normal,)
    assert NetworkPolicy.parse(policy.texts) == policy == pickle.loads(pickle.dumps(policy))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "resolve, loopback or all"),
        ("ALL", "resolve, loopback or all"),
        ("listen", "write listen=HOST:PORT"),
        ("listen=8080", "write listen=HOST:PORT"),
        ("listen=:8080", "write listen=HOST:PORT"),
        ("listen=udp:53", "write listen=HOST:PORT"),
        ("listen=::1:80", "in brackets"),
        ("listen=[127.0.0.1]:80", "in brackets"),
        ("listen=[::1%lo]:80", "no scope"),
        ("listen=[fe80::1%2]:80", "no scope"),
        ("listen=example.org:80", "an address of this machine"),
        ("connect=0.0.0.0:80", "no peer"),
        ("connect=[::]:80", "no peer"),
        ("connect=[::ffff:127.0.0.1]:80", "as an IPv4 address"),
        ("connect=[::ffff:0:0/96]:80", "as an IPv4 address"),
        ("connect=10.0.0.1/8:80", "host bits set"),
        ("connect=10.0.0.0/33:80", "10.0.0.0/33"),
        ("connect=1.2.3:80", "1.2.3"),
        ("connect=010.0.0.1:80", "010.0.0.1"),
        ("connect=0x7f.1:80", "no host name"),
        ("connect=a..b:80", "no host name"),
        ("connect=*.*.org:80", "no host name"),
        ("connect=a*.org:80", "no host name"),
        ("connect=-a.org:80", "no host name"),
        ("connect=a b.org:80", "no host name"),
        ("connect=*.:80", "no host name"),
        ("connect=a.org:65536", "from 0 to 65535"),
        ("connect=a.org:9-8", "ascending"),
        ("connect=a.org:http", "no port"),
        ("connect=a.org:٨٠", "no port"),
        ("connect=a.org:+80", "no port"),
        ("connect=sctp:a.org:80", "in brackets"),
        ("resolve=", "no host name"),
        ("resolve=*", "no host name"),
        ("all=1", "no value"),
        ("loopback=yes", "no value"),
        (f"connect={'a.' * 200}org:80", "at most"),
        ("listen=\x1b[31m:80", "no host name"),
    ],
)
def test_a_text_that_is_no_rule_gets_one_sentence(text: str, reason: str) -> None:
    with pytest.raises(OptionError) as refused:
        NetworkPolicy.parse([text])
    message = str(refused.value)
    assert reason in message
    assert message.isprintable()


def test_a_policy_has_a_largest_number_of_rules() -> None:
    texts = [f"connect=10.0.0.1:{port}" for port in range(RULES_COUNT_MAX + 1)]
    assert len(NetworkPolicy.parse(texts[1:] * 2).texts) == RULES_COUNT_MAX
    with pytest.raises(OptionError, match="at most 256 rules"):
        NetworkPolicy.parse(texts)
    with pytest.raises(OptionError, match="sequence of texts"):
        NetworkPolicy.parse("all")


# -- grants ---------------------------------------------------------------------------------------


def test_without_rules_nothing_is_granted_and_with_all_everything() -> None:
    for policy, granted in ((NO_NETWORK, False), (ALL_NETWORK, True)):
        assert policy.is_empty is not granted
        assert policy.may_listen(at("0.0.0.0", 0), TCP) is granted
        assert policy.may_connect(at("::ffff:10.0.0.1"), UDP) is granted
        assert policy.may_resolve("example.org") is granted
        assert not policy.has_loopback


def test_none_stands_for_no_rules_and_only_alone() -> None:
    assert NetworkPolicy.parse(["none"]) == NO_NETWORK == NetworkPolicy.parse([])
    for texts in (["none", "all"], ["none", "none"], ["none=1"]):
        with pytest.raises(OptionError, match="or none alone"):
            NetworkPolicy.parse(texts)


def test_loopback_inside_the_guest_grants_nothing_of_the_host() -> None:
    policy = NetworkPolicy.parse(["loopback"])
    assert policy.has_loopback
    assert not policy.is_empty
    assert not policy.may_listen(at("127.0.0.1"), TCP)
    assert not policy.may_connect(at("127.0.0.1"), TCP)
    assert not policy.may_resolve("example.org")


def test_a_rule_to_listen_is_not_one_to_connect() -> None:
    assert not connects("listen=*:*", "10.0.0.1")
    assert not listens("connect=*:*", "10.0.0.1")


def test_a_rule_holds_for_tcp_and_udp_or_for_one_of_them() -> None:
    for rule, kinds in (("*:53", {TCP, UDP}), ("tcp:*:53", {TCP}), ("udp:*:53", {UDP})):
        for kind in (TCP, UDP):
            assert listens(f"listen={rule}", "10.0.0.1", 53, kind) == (kind in kinds)
            assert connects(f"connect={rule}", "10.0.0.1", 53, kind) == (kind in kinds)


def test_port_0_is_granted_by_a_rule_that_names_it_or_any_port() -> None:
    assert not listens("listen=127.0.0.1:1-65535", "127.0.0.1", 0)
    for ports in ("0", "*", "0-80"):
        assert listens(f"listen=127.0.0.1:{ports}", "127.0.0.1", 0)


def test_a_socket_gets_a_port_again_that_the_host_had_selected() -> None:
    policy = NetworkPolicy.parse(["listen=127.0.0.1:0"])
    assert not policy.may_listen(at("127.0.0.1", 40_000), TCP)
    assert policy.may_listen_again(at("127.0.0.1", 0), at("127.0.0.1", 40_000), TCP)
    assert not policy.may_listen_again(at("127.0.0.1", 0), at("127.0.0.1", 80), TCP)
    assert not policy.may_listen_again(at("127.0.0.1", 0), at("127.0.0.2", 40_000), TCP)
    assert not policy.may_listen_again(at("127.0.0.1", 1), at("127.0.0.1", 40_000), TCP)
    assert ALL_NETWORK.may_listen_again(at("127.0.0.1", 80), at("127.0.0.1", 80), TCP)


@pytest.mark.parametrize(
    ("rule", "granted"),
    [
        ("127.0.0.1:80", set()),
        ("10.0.0.0/8:80", set()),
        ("0.0.0.0/1:80", set()),
        ("0.0.0.0:80", {"0.0.0.0", "::ffff:0.0.0.0"}),
        ("0.0.0.0/0:80", {"0.0.0.0", "::ffff:0.0.0.0"}),
        ("[::/0]:80", set()),
        ("[::]:80", {"0.0.0.0", "::ffff:0.0.0.0", "::"}),
        ("*:80", {"0.0.0.0", "::ffff:0.0.0.0", "::"}),
    ],
)
def test_to_listen_at_all_addresses_needs_a_rule_for_all(rule: str, granted: set[str]) -> None:
    hosts = ("0.0.0.0", "::ffff:0.0.0.0", "::")
    assert {host for host in hosts if listens(f"listen={rule}", host)} == granted


def test_all_addresses_can_be_granted_by_a_rule_for_each_version() -> None:
    policy = NetworkPolicy.parse(["listen=0.0.0.0:80", "listen=[::/0]:80"])
    assert policy.may_listen(at("::"), TCP)
    assert not policy.may_listen(at("::", 81), TCP)


def test_the_scope_of_an_address_does_not_matter() -> None:
    policy = NetworkPolicy.parse(["connect=[fe80::/10]:*"])
    assert policy.may_connect(at("fe80::1", scope=3), UDP)
    assert not policy.may_connect(at("::1", scope=3), UDP)
    scoped = SocketAddress(IPv6Address("fe80::1%eth0"), 80)
    assert policy.may_connect(scoped, UDP)


# -- names ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "name", "is_match"),
    [
        ("example.org", "EXAMPLE.org.", True),
        ("example.org", "www.example.org", False),
        ("example.org", "example.org.evil", False),
        ("*.example.org", "www.example.org", True),
        ("*.example.org", "a.b.example.org", True),
        ("*.example.org", "example.org", False),
        ("*.example.org", "evil-example.org", False),
        ("*.example.org", "evilexample.org", False),
        ("*.example.org", "www.example.org.evil.net", False),
        ("*.bücher.example", "a.xn--bcher-kva.example", True),
        ("*.bücher.example", "A.BÜCHER.example", True),
        ("xn--bcher-kva.example", "bücher.example", True),
        ("example.org", f"{FULL_WIDTH_EXAMPLE}\u3002org", True),
    ],
)
def test_a_pattern_matches_names(pattern: str, name: str, is_match: bool) -> None:
    found = NamePattern.parse(pattern)
    normal = normalize_name(name)
    assert found is not None
    assert normal is not None
    assert found.matches(normal) is is_match
    assert NetworkPolicy.parse([f"resolve={pattern}"]).may_resolve(name) is is_match


@pytest.mark.parametrize(
    "text",
    [
        *("", ".", "..", "a..b", ".a", "-a.b", "a-.b", "a b", "a\0b", "a/b", "a:b", "[::1]"),
        *(
            "1",
            "127.1",
            "0x7f.1",
            "a.0x10",
            "a.7",
            "2130706433",
            f"{FULL_WIDTH_127}.0.0.1",
            "127\u30020\u30020\u30021",
        ),
        *("127.0.0.1", "::1", "%", "a%lo", "x" * 64, "a." * 130 + "b", "ü" * 2000, "\u202e.org"),
        *("*.org", "*", "a\n.org", "a.org\n", "a.org..", "\ud800.org", "\u017f..org"),
    ],
)
def test_other_texts_are_no_host_names(text: str) -> None:
    assert normalize_name(text) is None
    assert not NetworkPolicy.parse(["resolve"]).may_resolve(text)


def test_a_rule_to_connect_to_a_name_grants_to_resolve_it() -> None:
    policy = NetworkPolicy.parse(["connect=*.example.org:443"])
    assert policy.may_resolve("www.example.org")
    assert not policy.may_resolve("example.org")
    for name in ("localhost", "LOCALHOST.", "db.localhost"):
        assert NO_NETWORK.may_resolve(name), "the host is not asked"


def test_a_name_grants_the_addresses_that_were_resolved_from_it() -> None:
    rule = "connect=*.example.org:443"
    assert connects(rule, "8.8.8.8", 443, names=("evil.net", "www.example.org"))
    assert not connects(rule, "8.8.8.8", 80, names=("www.example.org",))
    assert not connects(rule, "8.8.8.8", 443, names=("www.example.org.evil.net",))
    assert not connects(rule, "8.8.8.8", 443)


NOT_PUBLIC = (
    *("127.0.0.1", "127.8.8.8", "0.0.0.0", "0.1.2.3", "10.0.0.1", "172.16.0.1", "192.168.1.1"),
    *("169.254.169.254", "100.64.0.1", "224.0.0.1", "239.255.255.250", "255.255.255.255"),
    *("240.0.0.1", "192.0.2.1", "198.18.0.1", "::", "::1", "fe80::1", "fc00::1", "fd12::1"),
    *("ff02::1", "fec0::1", "2001:db8::1", "100::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1"),
    *("::127.0.0.1", "::8.8.8.8", "64:ff9b::7f00:1", "64:ff9b::a00:1", "64:ff9b:1::808:808"),
    *("2002:7f00:1::", "2002:a00:1::1", "2002:c0a8:101::", "2001:0:808:808::f5ff:fffe"),
)


@pytest.mark.parametrize("host", NOT_PUBLIC)
def test_a_name_that_resolves_to_an_address_inside_does_not_grant_it(host: str) -> None:
    names = ("www.example.org",)
    assert not connects("connect=www.example.org:80", host, names=names)
    # A rule for the address does.
    assert connects("connect=www.example.org:80 connect=*:80", host, names=names)


@pytest.mark.parametrize("host", ["8.8.8.8", "2606:4700::1", "64:ff9b::808:808", "2002:808:808::1"])
def test_a_name_grants_a_public_address(host: str) -> None:
    assert connects("connect=www.example.org:80", host, names=("www.example.org",))


# -- one address in the form of another -----------------------------------------------------------


@pytest.mark.parametrize(
    ("rules", "host", "granted"),
    [
        ("connect=127.0.0.1:80", "::ffff:127.0.0.1", True),
        ("connect=127.0.0.1:80", "0.0.0.0", True),
        ("connect=127.0.0.1:80", "::ffff:0.0.0.0", True),
        ("connect=127.0.0.1:80", "::", False),
        ("connect=[::1]:80", "::", True),
        ("connect=localhost:80", "::", True),
        ("connect=localhost:80", "0.0.0.0", True),
        ("connect=[::/0]:80", "::ffff:127.0.0.1", False),
        ("connect=[::/0]:80", "::ffff:0.0.0.0", False),
        ("connect=[::/0]:80", "0.0.0.0", False),
        ("connect=0.0.0.0/0:80", "::", False),
        ("connect=0.0.0.0/0:80", "::ffff:8.8.8.8", True),
        ("connect=8.0.0.0/8:80", "0.0.0.0", False),
        # Addresses that contain an IPv4 address need a rule for both.
        ("connect=[::/0]:80", "64:ff9b::7f00:1", False),
        ("connect=[::/0]:80", "2002:7f00:1::", False),
        ("connect=[::/0]:80", "::127.0.0.1", False),
        ("connect=[::/0]:80", "2001:0:808:808::f5ff:fffe", False),
        ("connect=127.0.0.1:80", "64:ff9b::7f00:1", False),
        ("connect=127.0.0.1:80", "::127.0.0.1", False),
        ("connect=[64:ff9b::/96]:80 connect=8.0.0.0/8:80", "64:ff9b::808:808", True),
        ("connect=[64:ff9b::/96]:80 connect=8.0.0.0/8:80", "64:ff9b::7f00:1", False),
        ("connect=[64:ff9b::/96]:80 connect=8.0.0.0/8:81", "64:ff9b::808:808", False),
        ("connect=*:80", "64:ff9b::7f00:1", True),
    ],
)
def test_another_form_of_an_address_grants_no_more(rules: str, host: str, granted: bool) -> None:
    assert connects(rules, host) is granted


# -- a second implementation ----------------------------------------------------------------------

V4 = st.one_of(
    st.ip_addresses(v=4),
    st.sampled_from(["0.0.0.0", "127.0.0.1", "10.1.2.3", "8.8.8.8", "169.254.169.254"]).map(
        IPv4Address
    ),
)
V6 = st.one_of(
    st.ip_addresses(v=6),
    st.sampled_from(["::", "::1", "fe80::1", "fd00::1", "2606:4700::1"]).map(IPv6Address),
    V4.map(lambda a: IPv6Address(int(a) | 0xFFFF << 32)),
    V4.map(lambda a: IPv6Address(int(a))),
    V4.map(lambda a: IPv6Address(int(a) | 0x64FF9B << 96)),
    V4.map(lambda a: IPv6Address(0x2002 << 112 | int(a) << 80)),
)
ADDRESSES = st.one_of(V4, V6)
NAMES = st.sampled_from(["example.org", "www.example.org", "evil-example.org", "a.b.example.org"])
PORTS = st.sampled_from([0, 1, 79, 80, 81, 443, 65535])


@st.composite
def hosts(draw: st.DrawFn) -> str:
    choice = draw(st.integers(0, 3))
    if choice == 0:
        return "*"
    if choice == 1:
        return draw(st.sampled_from(["", "*."])) + draw(NAMES)
    address = draw(ADDRESSES.filter(lambda a: int(a) and not getattr(a, "ipv4_mapped", None)))
    prefix = draw(st.integers(0, address.max_prefixlen))
    network = ipaddress.ip_network((address, prefix), strict=False)
    mapped = getattr(network.network_address, "ipv4_mapped", None)
    shown = str(address) if mapped or not int(network.network_address) else str(network)
    return f"[{shown}]" if address.version == 6 else shown


PORT_TEXTS = st.one_of(
    st.just("*"),
    PORTS.map(str),
    st.tuples(PORTS, PORTS).map(sorted).map(lambda pair: f"{pair[0]}-{pair[1]}"),
)
RULES = st.tuples(st.sampled_from(["", "tcp:", "udp:"]), hosts(), PORT_TEXTS)


def is_granted_plainly(
    rules: list[tuple[str, str, str]], host: str, port: int, kind: SocketType, names: set[str]
) -> bool:
    """Return the verdict of the documentation, spelled out over ``ipaddress``."""
    address = ip_address(host)
    if address.version == 6 and address.ipv4_mapped:
        address = address.ipv4_mapped
    if address.is_unspecified:
        address = ip_address("127.0.0.1" if address.version == 4 else "::1")
    needed = [address]
    if address.version == 6 and not address.is_loopback:
        inner = address.sixtofour
        if address.teredo:
            needed += address.teredo
        elif inner:
            needed.append(inner)
        elif any(
            address in ipaddress.ip_network(each)
            for each in ("::/96", "64:ff9b::/96", "64:ff9b:1::/48")
        ):
            needed.append(ip_address(address.packed[12:]))
    return all(any(_grants(rule, each, port, kind, names) for rule in rules) for each in needed)


def _grants(
    rule: tuple[str, str, str], address: object, port: int, kind: SocketType, names: set[str]
) -> bool:
    assert isinstance(address, IPv4Address | IPv6Address)
    prefix, host, ports = rule
    if prefix and prefix != ("tcp:" if kind is TCP else "udp:"):
        return False
    first, _, last = ports.partition("-")
    if ports != "*" and not int(first) <= port <= int(last or first):
        return False
    if host == "*":
        return True
    if host.endswith(".org"):
        is_inside = (
            address.is_loopback
            or address.is_private
            or address.is_link_local
            or address.is_multicast
            or address.is_unspecified
            or address.is_reserved
        )
        is_nat64 = address in ipaddress.ip_network("64:ff9b::/96")
        return (is_nat64 or not is_inside) and any(fnmatchcase(name, host) for name in names)
    return address in ipaddress.ip_network(host.strip("[]"))


@given(
    rules=st.lists(RULES, max_size=4),
    address=ADDRESSES,
    port=PORTS,
    kind=st.sampled_from([TCP, UDP]),
    names=st.sets(NAMES, max_size=2),
)
@example([("", "*.example.org", "*")], IPv4Address("8.8.8.8"), 80, TCP, {"www.example.org"})
@example([("", "*.example.org", "*")], IPv6Address("64:ff9b::808:808"), 80, TCP, {"a.example.org"})
def test_a_connection_is_granted_as_the_documentation_says(
    rules: list[tuple[str, str, str]],
    address: IPv4Address | IPv6Address,
    port: int,
    kind: SocketType,
    names: set[str],
) -> None:
    policy = NetworkPolicy.parse(f"connect={kind}{host}:{ports}" for kind, host, ports in rules)
    target = SocketAddress(address, port)
    wanted = is_granted_plainly(rules, str(address), port, kind, names)
    found = policy.may_connect(target, kind, names)
    # The ranges of the policy are wider: `ipaddress` counts some unassigned addresses as public.
    assert found == wanted or (not found and not all(map(is_public, find_destinations(address))))
    assert NetworkPolicy.parse(policy.texts) == policy


@given(ADDRESSES)
def test_the_special_ranges_are_searched_as_a_list_would_be(
    address: IPv4Address | IPv6Address,
) -> None:
    in_special = any(address in network for network in address_ranges._SPECIAL_RANGES)
    in_public = any(address in network for network in address_ranges._PUBLIC_RANGES)
    assert is_public(address) == (in_public or not in_special)


@pytest.mark.parametrize("network", address_ranges._SPECIAL_RANGES, ids=str)
def test_a_special_range_has_its_first_and_last_address(network: ipaddress.IPv4Network) -> None:
    teredo = ip_address("2001::")  # The IPv4 address in it decides.
    assert not is_public(network[0]) or network[0] == teredo
    assert not is_public(network[-1])


@given(ADDRESSES)
def test_no_address_that_python_calls_special_is_public(
    address: IPv4Address | IPv6Address,
) -> None:
    if is_loopback(address):
        assert ip_address("127.0.0.1") in find_destinations(address) or any(
            each.is_loopback for each in find_destinations(address)
        )
    if is_public(address) and address not in ipaddress.ip_network("64:ff9b::/96"):
        assert not address.is_private
        assert not address.is_multicast
        assert not address.is_reserved
