"""A mapper that could not work is refused when it is written down, with the nearest match."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from ocsf_mappers import Delimited, EventMap, Mapper, Product, col, text_struct, when
from ocsf_mappers.errors import ConfigError, MappingError, SchemaError
from ocsf_mappers.ocsf.schema import load as load_schema
from ocsf_mappers.registry import load

FIELDS = {
    "activity_id": "Traffic",
    "severity_id": "Informational",
    "time": col.start.epoch_seconds(),
    "action_id": "Allowed",
    "src_endpoint.ip": col.srcaddr,
    "dst_endpoint.ip": col.dstaddr,
}


def mapper(fields: Mapping[str, Any] | None = None, **more: Any) -> Mapper:
    event = EventMap("network_activity", FIELDS | (fields or {}), profiles=("cloud", "security_control"))
    text = Delimited(("start", "srcaddr", "dstaddr"), ("start",))
    given = {
        "name": "test",
        "product": Product("Test"),
        "readers": [text],
        "record": text_struct("start srcaddr dstaddr action"),
        "events": [event],
        "table": "vpc_flow",
    }
    return Mapper(**(given | more))


def test_a_mapper_that_can_work_is_accepted() -> None:
    assert mapper().name == "test"


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"src_endpont.ip": col.srcaddr}, "did you mean 'src_endpoint'"),
        ({"src_endpoint.pi": col.srcaddr}, "did you mean 'ip'"),
        ({"time.seconds": "x"}, "time has no members"),
        ({"activity_id": "Trafic"}, "no caption 'Trafic'; did you mean 'Traffic'"),
        ({"activity_id": col.action.replace(ACCEPT="Trafic")}, "did you mean 'Traffic'"),
        ({"activity_id": when(col.action == "x").then("Trafic").otherwise("Traffic")}, "did you mean 'Traffic'"),
        ({"activity_id": col.action.replace_prefix({"A": "Traffic"}, otherwise="Refus")}, "did you mean 'Refuse'"),
        ({"activity_id": 6}, "give the caption, not the number 6"),
        ({"src_endpoint.ip": col.srcadr}, "no column 'srcadr'; did you mean 'srcaddr'"),
        ({"src_endpoint.ip": when(col.acton == "x").then(col.srcaddr)}, "did you mean 'action'"),
        ({"src_endpoint.mac": col.srcaddr}, "table vpc_flow has no such column"),
        ({"is_alarm": col.action}, "no 'is_alarm'"),
        ({"time": 1.5}, "cannot stand in a mapping"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_a_wrong_line_is_refused_with_a_hint(fields: Mapping[str, Any], said: str) -> None:
    with pytest.raises(MappingError) as error:
        mapper(fields)
    assert said in str(error.value)


@pytest.mark.parametrize("name", ["activity_id", "severity_id", "time"])
def test_what_every_event_needs_is_asked_for(name: str) -> None:
    fields = {path: value for path, value in FIELDS.items() if path != name}
    with pytest.raises(MappingError, match=f"{name} is not mapped"):
        mapper(events=[EventMap("network_activity", fields, profiles=("cloud", "security_control"))])


def test_an_attribute_of_a_profile_names_the_profile() -> None:
    with pytest.raises(MappingError, match="security_control"):
        mapper(events=[EventMap("network_activity", FIELDS)])


def test_a_class_that_is_not_there_has_a_near_one() -> None:
    with pytest.raises(MappingError, match="did you mean 'network_activity'"):
        mapper(events=[EventMap("network_activty", FIELDS)])


def test_a_table_that_is_not_there_has_a_near_one() -> None:
    with pytest.raises(MappingError, match="did you mean 'vpc_flow'"):
        mapper(table="vpc_flows")


def test_tables_of_one_source_have_the_same_columns() -> None:
    with pytest.raises(MappingError, match="same columns"):
        mapper(table=when(col.action == "x").then("vpc_flow").otherwise("s3_data"))


def test_a_drop_of_an_unknown_column_is_refused() -> None:
    with pytest.raises(MappingError, match="no column 'nothing'"):
        mapper(drop={"nothing": "because"})


def test_only_the_last_event_map_is_without_a_condition() -> None:
    event = mapper().events[0]
    with pytest.raises(MappingError, match="`where`"):
        mapper(events=[event, event])
    with pytest.raises(MappingError, match="`where`"):
        mapper(events=[EventMap("network_activity", event.fields, where=col.action == "x", profiles=event.profiles)])


def test_an_error_names_its_source() -> None:
    with pytest.raises(MappingError, match=r"source test"):
        mapper({"src_endpont.ip": "x"})


def test_an_unknown_source_has_a_near_one() -> None:
    with pytest.raises(ConfigError, match="did you mean 'aws_cloudtrail'"):
        load("aws_cloudtrial")


def test_an_unknown_ocsf_version_lists_the_shipped_ones() -> None:
    with pytest.raises(SchemaError, match=r"1\.1\.0"):
        load_schema("0.9.9")
