import pytest

from tumbler.contracts.sandbox import NetworkPolicy
from tumbler_backends.sandbox.egress.addresses import is_own_address, parse_address
from tumbler_backends.sandbox.egress.policy import compile_policy


def listed(*hosts: str, cidrs: tuple[str, ...] = (), names: dict[str, str] | None = None):
    return compile_policy(NetworkPolicy(mode="allowlist", hosts=hosts, cidrs=cidrs), names)


@pytest.mark.parametrize(
    ("rule", "name", "port", "allowed"),
    [
        ("pypi.org", "pypi.org", 443, True),
        ("pypi.org", "www.pypi.org", 443, False),
        ("pypi.org", "evilpypi.org", 443, False),
        ("pypi.org", "pypi.org.evil.test", 443, False),
        ("*.pypi.org", "a.pypi.org", 443, True),
        ("*.pypi.org", "a.b.pypi.org", 443, True),
        ("*.pypi.org", "pypi.org", 443, False),
        ("*.pypi.org", "evilpypi.org", 443, False),
        ("pypi.org:443", "pypi.org", 443, True),
        ("pypi.org:443", "pypi.org", 80, False),
        ("*.pypi.org:443", "a.pypi.org", 80, False),
        ("PyPI.org.", "pypi.org", 80, True),
        ("bücher.example", "xn--bcher-kva.example", 80, True),
    ],
)
def test_host_rules_hold_for_whole_labels_and_for_their_port(rule, name, port, allowed):
    decision = listed(rule).name(name, port)
    assert decision.allowed == allowed
    assert decision.reason.startswith(f"host rule {rule}") == allowed


@pytest.mark.parametrize(
    ("rule", "address", "port", "allowed"),
    [
        ("8.8.8.0/24", "8.8.8.8", 53, True),
        ("8.8.8.0/24", "8.8.9.8", 53, False),
        ("8.8.8.8", "8.8.8.8", 1, True),
        ("8.8.8.8:53", "8.8.8.8", 53, True),
        ("8.8.8.8/32:53", "8.8.8.8", 54, False),
        ("[2606:4700::]/32:443", "2606:4700::1", 443, True),
        ("[2606:4700::]/32:443", "2606:4700::1", 80, False),
        ("2606:4700::/32", "2606:4700::1", 80, True),
        ("2606:4700::1111", "2606:4700::1111", 80, True),
        ("8.8.8.8", "::ffff:8.8.8.8", 80, True),
        ("10.0.0.0/8", "10.1.2.3", 80, True),
        ("10.1.2.3", "10.1.2.3", 80, True),
        ("0.0.0.0/0", "8.8.8.8", 80, True),
        ("0.0.0.0/0", "10.1.2.3", 80, False),
        ("0.0.0.0/0", "127.0.0.1", 80, False),
        ("0.0.0.0/0", "169.254.169.254", 80, False),
        ("168.0.0.0/8", "168.63.129.16", 80, False),
        ("::/0", "fd00:ec2::254", 80, False),
        ("fc00::/7", "fd00:ec2::254", 80, False),
        ("fc00::/7", "fd00::1", 80, True),
        ("100.64.0.0/10", "100.100.100.200", 80, False),
    ],
)
def test_range_rules_open_what_they_name_and_never_metadata(rule, address, port, allowed):
    decision = listed(cidrs=(rule,)).address(parse_address(address), port, own=False)
    assert decision.allowed == allowed, decision.reason


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("", "no host name"),
        ("*", "no host name"),
        ("*.", "no host name"),
        ("a..test", "no host name"),
        ("-a.test", "no host name"),
        ("http://a.test", "leave the scheme"),
        ("a.test/path", "no host name"),
        ("a.*.test", "no host name"),
        ("a b.test", "no host name"),
        ("a.test:0", "no port"),
        ("a.test:65536", "no port"),
        ("a.test:", "no port"),
        ("a.test:80:90", "no port"),
        ("a.test:٣", "no port"),
        ("1.2.3.4", "belong in `cidrs`"),
        ("a" * 64 + ".test", "no host name"),
        ("a." * 130 + "test", "no host name"),
        ("a.test\n", "no host name"),
        ("ü" * 64, "no host name"),
    ],
)
def test_a_wrong_host_rule_is_named_and_explained(entry, message):
    with pytest.raises(ValueError, match=message) as error:
        listed(entry)
    assert "host rule" in str(error.value)
    assert "write pypi.org" in str(error.value)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("", "no address range"),
        ("pypi.org", "no address range"),
        ("8.8.8.8/33", "does not appear to be"),
        ("8.8.8.8/24", "host bits"),
        ("8.8.8.8:0", "no port"),
        ("8.8.8.8:99999", "no port"),
        ("[8.8.8.8]:80", "brackets"),
        ("[2606::]/32:", "no address range"),
        ("2606::/32:443", "no address range"),
        ("169.254.0.0/16", "metadata"),
        ("169.254.169.254", "metadata"),
        ("fd00:ec2::254", "metadata"),
        ("127.0.0.0/8", "loopback"),
        ("::1", "loopback"),
        ("198.18.0.0/15", "kept for the gateway"),
        ("224.0.0.0/8", "multicast"),
    ],
)
def test_a_wrong_range_rule_is_named_and_explained(entry, message):
    with pytest.raises(ValueError, match=message) as error:
        listed(cidrs=(entry,))
    assert "range rule" in str(error.value)


def test_wrong_entries_are_found_in_every_mode():
    for mode in ("none", "public"):
        with pytest.raises(ValueError, match="host rule"):
            compile_policy(NetworkPolicy(mode=mode, hosts=("a b",)))  # type: ignore[arg-type]  # the modes vary
    with pytest.raises(ValueError, match="none of none, allowlist and public"):
        compile_policy(NetworkPolicy(mode="open"))  # type: ignore[arg-type]  # a wrong mode is the test


def test_lists_count_for_allowlist_only():
    policy = compile_policy(NetworkPolicy(mode="none", hosts=("a.test",), cidrs=("8.8.8.8",)))
    assert not policy.question("a.test").allowed
    assert not policy.address(parse_address("8.8.8.8"), 80, own=False).allowed
    policy = compile_policy(NetworkPolicy(mode="public", cidrs=("10.0.0.0/8",)))
    assert not policy.address(parse_address("10.0.0.1"), 80, own=False).allowed


@pytest.mark.parametrize("name", ["", "a..b", "a b", "a\\xff", "a\\x2eb", "x" * 64, "a." * 127, "-a.test", "a.test\n"])
def test_no_mode_answers_what_is_no_host_name(name):
    assert not compile_policy(NetworkPolicy(mode="public")).question(name).allowed


def test_the_hosts_own_address_needs_a_rule_that_names_it():
    own = parse_address("8.8.8.8")
    public = compile_policy(NetworkPolicy(mode="public"))
    assert "this machine" in public.address(own, 80, own=True).reason
    assert not public.resolved("a.test", 80, own, own=True).allowed
    assert not listed(cidrs=("8.8.8.0/24",)).address(own, 80, own=True).allowed
    assert listed(cidrs=("8.8.8.8",)).address(own, 80, own=True).allowed


def test_a_range_opens_private_addresses_to_allowed_names():
    policy = listed("a.test", cidrs=("10.0.0.0/8:80",))
    address = parse_address("10.0.0.1")
    assert policy.resolved("a.test", 80, address, own=False).allowed
    assert not policy.resolved("a.test", 81, address, own=False).allowed
    assert not policy.resolved("b.test", 80, address, own=False).allowed


def test_static_names_lead_to_their_own_address_only():
    policy = listed("a.test", names={"A.test.": "127.0.0.1"})
    assert policy.resolved("a.test", 80, parse_address("127.0.0.1"), own=True).allowed
    assert not policy.resolved("a.test", 80, parse_address("127.0.0.2"), own=True).allowed
    assert not listed("b.test", names={"a.test": "127.0.0.1"}).name("a.test", 80).allowed


@pytest.mark.parametrize(
    ("name", "address"), [("a.test", "169.254.169.254"), ("a.test", "nowhere"), ("a b", "8.8.8.8")]
)
def test_a_wrong_static_name_is_named(name, address):
    with pytest.raises(ValueError, match="static name"):
        listed(names={name: address})


def test_the_machine_knows_its_own_addresses():
    assert is_own_address(parse_address("127.0.0.1"))
    assert not is_own_address(parse_address("192.0.2.77"))
