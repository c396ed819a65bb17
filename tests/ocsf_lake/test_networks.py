"""Addresses of networks in SQL, held against Python's."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from contextlib import closing
from ipaddress import IPv4Address, IPv6Address

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

import ocsf_lake
from ocsf_lake.config import Settings
from ocsf_lake.ingest import run as ingest
from ocsf_lake.query import networks
from ocsf_mappers import duck
from tests.ocsf_lake.conftest import Make
from tests.ocsf_lake.test_ingest import rows
from tests.support import SAMPLE_LOGS

NO_ADDRESSES = (
    "-", "", "x", "1.2.3", "1.2.3.4.5", "256.1.1.1", " 1.2.3.4", "1.2.3.4/8", ":", ":::", "1::2::3", "12345::",
    "fe80::1%eth0", "1:2:3:4:5:6:7", "1:2:3:4:5:6:7:8:9", ":1:2:3:4:5:6:7", "1:2:3:4::5:6:7:8",
    "::1:2:3:4:5:6:7:8", "AWS Internal",
)  # fmt: skip

# Near to each other, so that many are in the networks.
NEAR = some.integers(0, 2**20)
IPV4 = some.builds(IPv4Address, NEAR.map(lambda low: 0x0A000000 + low) | some.integers(0, 2**32 - 1))
IPV6 = some.builds(IPv6Address, NEAR.map(lambda low: (0x20010DB8 << 96) + low) | some.integers(0, 2**128 - 1))
WRITTEN = some.one_of(
    IPV4.map(str), IPV6.map(str), IPV6.map(lambda address: address.exploded),
    IPV6.map(lambda address: str(address).upper()), some.sampled_from(NO_ADDRESSES),
)  # fmt: skip
NETWORKS = some.one_of(
    some.builds("{}/{}".format, IPV4, some.integers(0, 32)), some.builds("{}/{}".format, IPV6, some.integers(0, 128))
)  # fmt: skip


@pytest.fixture(scope="module")
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    with closing(duck.connect()) as made:
        networks.create(made)
        yield made


def is_in(address: str, network: str) -> bool:
    try:
        return ipaddress.ip_address(address) in ipaddress.ip_network(network, strict=False)
    except ValueError:
        return False


@settings(max_examples=40, deadline=None)
@given(some.lists(WRITTEN, min_size=20, max_size=60), NETWORKS)
def test_an_address_is_in_a_network_as_python_has_it(
    connection: duckdb.DuckDBPyConnection, addresses: list[str], network: str
) -> None:
    whole = ipaddress.ip_network(network, strict=False)
    addresses = [*addresses, str(whole[0]), str(whole[-1])]
    sql = "SELECT in_network(address, $network) FROM (SELECT unnest($addresses) AS address)"
    found = connection.execute(sql, {"network": network, "addresses": addresses}).fetchall()
    assert [one for (one,) in found] == [is_in(address, network) for address in addresses]


def test_an_address_by_itself_is_a_network_and_null_is_neither(connection: duckdb.DuckDBPyConnection) -> None:
    pairs = "('10.1.2.3', '10.1.2.3'), ('::2', '::1'), (NULL, '::1'), ('::1', NULL)"
    found = connection.execute(f"SELECT in_network(address, network) FROM (VALUES {pairs}) AS _(address, network)")
    assert found.fetchall() == [(True,), (False,), (None,), (None,)]


@pytest.mark.parametrize(
    "network",
    ["10.0.0.0/33", "10.0.0/8", "", "/8", "::/129", "10.0.0.0/", "10.0.0.0/8/9", "10.0.0.0/-1", "300.1.1.1/8", ":::/9"],
)
def test_what_is_no_network_is_an_error(connection: duckdb.DuckDBPyConnection, network: str) -> None:
    with pytest.raises(duckdb.InvalidInputException, match="is no network, as"):
        connection.execute("SELECT in_network('10.1.2.3', $network)", {"network": network}).fetchall()


def test_flows_of_a_network_are_found_wherever_queries_are_asked(settings: Make) -> None:
    own: Settings = settings()
    ingest.ingest([str(SAMPLE_LOGS / "aws_vpc_flow")], own)
    every = [address for (address,) in rows(own, "SELECT src_endpoint.ip FROM vpc_flow")]
    inside = sum(address is not None and is_in(str(address), "10.0.0.0/8") for address in every)
    outside = sum(address is not None for address in every) - inside
    assert inside
    assert outside
    count = "SELECT count(*) FROM vpc_flow WHERE {} In_Network(src_endpoint.ip, '10.0.0.0/8')"
    assert rows(own, count.format("")) == [(inside,)]
    assert rows(own, count.format("NOT")) == [(outside,)]
    lake = ocsf_lake.open(str(own.lake))
    asked = "SELECT count(*) AS n FROM vpc_flow WHERE in_network(src_endpoint.ip, $network)"
    found = lake.sql(asked, network="10.0.0.0/8")
    assert found.to_arrow().to_pylist() == [{"n": inside}]
