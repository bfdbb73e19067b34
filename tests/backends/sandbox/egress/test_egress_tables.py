"""The table of fake addresses, and the log."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tumbler.contracts.sandbox_control import EgressRecord
from tumbler_backends.sandbox.egress import egress_log
from tumbler_backends.sandbox.egress.addresses import FAKE_NETWORK
from tumbler_backends.sandbox.egress.egress_log import EgressLog
from tumbler_backends.sandbox.egress.fake_addresses import NAME_SERVER, FakeAddresses
from tumbler_backends.sandbox.egress.packet_log import RefusedPacket, read_packets


def record(sandbox: str = "box", port: int = 80) -> EgressRecord:
    return EgressRecord(
        time=1.0,
        sandbox=sandbox,
        trajectory=None,
        protocol="tcp",
        host="a.test",
        address="198.18.0.9",
        port=port,
        allowed=True,
        reason="host rule a.test",
    )


@given(st.lists(st.text("abc.", min_size=1), max_size=60))
def test_names_and_addresses_are_one_to_one(names):
    table = FakeAddresses()
    addresses = {name: table.address_of(name) for name in names}
    assert len(set(addresses.values())) == len(set(names))
    for name, address in addresses.items():
        assert address in FAKE_NETWORK
        assert str(address) != NAME_SERVER
        assert table.name_of(address) == name


def test_a_later_table_gives_the_same_addresses():
    names = [f"host{number}.test" for number in range(50)]
    tables = FakeAddresses(), FakeAddresses()
    assert [tables[0].address_of(name) for name in names] == [tables[1].address_of(name) for name in reversed(names)][
        ::-1
    ]


def test_the_name_least_used_makes_room():
    table = FakeAddresses(limit=2)
    first, second = table.address_of("a"), table.address_of("b")
    table.address_of("a")
    table.address_of("c")
    assert table.name_of(second) is None
    assert table.name_of(first) == "a"


@pytest.fixture
def log(tmp_path) -> Iterator[EgressLog]:
    made = EgressLog(tmp_path / "egress.jsonl", keep=3)
    yield made
    made.close()


def test_the_latest_records_of_each_sandbox_are_kept(log):
    for port in range(5):
        log.add(record(port=port))
    log.add(record("other"))
    assert [kept.port for kept in log.of("box")] == [2, 3, 4]
    assert len(log.of("other")) == 1
    log.forget("box")
    assert log.of("box") == ()


def test_an_end_replaces_its_record_in_place(log, tmp_path):
    number = log.add(record(port=1))
    log.add(record(port=2))
    log.finish(number, record(port=1), 10, 20)
    assert [(kept.port, kept.sent, kept.received) for kept in log.of("box")] == [(1, 10, 20), (2, 0, 0)]
    log.close()
    lines = [json.loads(line) for line in (tmp_path / "egress.jsonl").read_text().splitlines()]
    assert [(line["event"], line["port"], line["sent"]) for line in lines] == [
        ("attempt", 1, 0),
        ("attempt", 2, 0),
        ("end", 1, 10),
    ]


def test_an_end_after_its_record_has_gone_changes_nothing(log):
    number = log.add(record())
    log.forget("box")
    log.finish(number, record(), 1, 1)
    assert log.of("box") == ()


def test_several_threads_may_log(log):
    threads = [threading.Thread(target=lambda: [log.add(record()) for _ in range(200)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(log.of("box")) == 3


@given(st.binary(max_size=300))
def test_no_message_of_the_kernel_raises(message):
    assert all(isinstance(packet, RefusedPacket) for packet in read_packets(message))


def test_a_file_that_cannot_be_written_is_told_of_once_and_stops_nothing(caplog):
    full = EgressLog(Path("/dev/full"))
    for port in range(3):
        full.add(record(port=port))
    full.close()
    assert len(full.of("box")) == 3
    assert [message for message in caplog.messages if "No space left" in message] == caplog.messages[:1]
    assert len(caplog.messages) == 1


def test_a_sandbox_that_only_knocks_does_not_fill_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr(egress_log, "_LINES_PER_SANDBOX", 5)
    knocked = EgressLog(tmp_path / "egress.jsonl")
    for port in range(20):
        knocked.add(record(port=port))
    knocked.add(record("other"))
    knocked.close()
    assert len((tmp_path / "egress.jsonl").read_text().splitlines()) == 6
