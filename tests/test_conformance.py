"""What every mapper promises, in every OCSF version. A new source gets these tests for nothing but its samples."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from functools import cache
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ocsf_mappers import Mapped, Mapper, RawObject, registry
from ocsf_mappers.ocsf import schema, validate
from ocsf_mappers.readers import Chunk
from ocsf_mappers.testing import lossless
from tests import ocsf_check
from tests.support import DEFAULT_ALONE, DEFAULT_OFTEN, Json, as_events, engine, own, plain
from tests.support import mapped as mapped_samples

pytestmark = pytest.mark.parametrize("source", registry.names())
Parts = list[tuple[RawObject, Chunk]]


@cache
def _mapper(source: str) -> Mapper:
    return registry.load(source)


def _target(source: str) -> pa.Schema:
    return _mapper(source).lake_table.arrow


def _rows(mapped: Mapped) -> list[tuple[str, int, Json]]:
    """Object, record number and event of each row, sorted."""
    found = [(lake["source_object"], lake["source_record"], event) for event, lake in as_events(mapped.events)]
    return sorted(found, key=lambda row: row[:2])


@cache
def _mapped_rows(source: str, version: str) -> list[tuple[str, int, Json]]:
    return _rows(mapped_samples(source, version))


def _row_rejects(mapped: Mapped) -> list[Json]:
    return sorted(mapped.rejects.to_pylist(), key=lambda row: (row["source_object"], row["source_record"]))


@DEFAULT_OFTEN
def test_most_samples_become_events(source: str, version: str) -> None:
    mapped = mapped_samples(source, version)
    assert len(mapped.events) > 3 * len(mapped.rejects)


@DEFAULT_OFTEN
def test_events_have_exactly_the_columns_of_the_lake_table(source: str, version: str) -> None:
    target = _target(source)
    events = mapped_samples(source, version).events
    assert events.column_names == [*target.names, "_table"]
    assert plain(events, target).schema == target


@DEFAULT_OFTEN
def test_an_event_names_a_table_of_its_source(source: str, version: str) -> None:
    assert set(mapped_samples(source, version).events["_table"].to_pylist()) <= set(_mapper(source).tables)


@DEFAULT_OFTEN
def test_every_event_is_valid_by_an_independent_reading_of_ocsf(source: str, version: str) -> None:
    found = {
        (name, number): said
        for name, number, event in _mapped_rows(source, version)
        if (said := ocsf_check.problems(version, event))
    }
    assert found == {}


@DEFAULT_OFTEN
def test_an_other_keeps_the_source_s_own_text(source: str, version: str) -> None:
    ids = {
        "activity_id": "activity_name", "rcode_id": "rcode", "status_id": "status", "action_id": "action",
        "disposition_id": "disposition",
    }  # fmt: skip
    events = [event for _, _, event in _mapped_rows(source, version)]
    others = [event[name] for event in events for key, name in ids.items() if event.get(key) == 99]
    assert all(name and name != "Other" for name in others)


@DEFAULT_ALONE  # the engine asks the same of events in each version, before they are written
def test_events_re_read_from_parquet_have_no_problems(source: str, version: str, tmp_path: Path) -> None:
    target = _target(source)
    path = tmp_path / "events.parquet"
    pq.write_table(plain(mapped_samples(source, version).events, target), path)
    assert pq.read_schema(path).equals(target)
    facts = schema.load(version)
    classes = [(facts.event_class(event.event_class), event.all_profiles) for event in _mapper(source).events]
    query = f"SELECT source_object, source_record, {validate.problems(facts, classes, target)} AS said FROM events"
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute(f"CREATE VIEW events AS SELECT * FROM read_parquet('{path}')")
        rows = connection.sql(f"SELECT * FROM ({query}) WHERE said IS NOT NULL").fetchall()
        count = connection.sql("SELECT count(*) FROM events").fetchall()
    assert rows == []
    assert count == [(len(mapped_samples(source, version).events),)]


@DEFAULT_OFTEN
def test_what_was_read_is_events_rejects_and_drops(source: str, version: str) -> None:
    mapped = mapped_samples(source, version)
    read = sum(chunk.read for _, chunk in own(source))
    assert mapped.read == read == len(mapped.events) + len(mapped.rejects) + mapped.dropped.total()
    assert mapped.dropped == sum((Counter(chunk.dropped) for _, chunk in own(source)), Counter())


@DEFAULT_OFTEN
def test_every_record_ends_in_one_place_once(source: str, version: str) -> None:
    mapped = mapped_samples(source, version)
    given = [(where.uri, number) for where, chunk in own(source) for number, _ in lossless.records(chunk)]
    given += [(where.uri, bad.record) for where, chunk in own(source) for bad in chunk.bad]
    ends = [(name, number) for name, number, _ in _rows(mapped)]
    ends += [(row["source_object"], row["source_record"]) for row in mapped.rejects.to_pylist()]
    assert Counter(ends) == Counter(given)
    assert set(Counter(ends).values()) == {1}


@DEFAULT_OFTEN
def test_every_reject_says_why_and_keeps_its_text(source: str, version: str) -> None:
    rows = mapped_samples(source, version).rejects.to_pylist()
    assert rows
    assert [row for row in rows if not row["reason"] or not row["raw"]] == []


@DEFAULT_OFTEN
def test_unmapped_names_are_unique_and_dotted(source: str, version: str) -> None:
    # as_events would fail on a name that stands twice
    names = {name for _, _, event in _mapped_rows(source, version) for name in event.get("unmapped", {})}
    assert names
    assert [name for name in names if not name or name != name.strip(".")] == []


@pytest.mark.parametrize("version", ["1.1.0"])  # in which part of a batch a record is, is no matter of the version
def test_mapping_halves_gives_what_mapping_all_gives(source: str, version: str) -> None:
    whole = mapped_samples(source, version)
    halves: list[Parts] = [[], []]
    for where, chunk in own(source):
        middle = len(chunk.records) // 2
        halves[0].append((where, replace(chunk, records=chunk.records.slice(0, middle))))
        halves[1].append((where, replace(chunk, records=chunk.records.slice(middle), bad=(), dropped={})))
    found = [engine(source, version).map(half) for half in halves]
    assert sorted(_rows(found[0]) + _rows(found[1]), key=lambda row: row[:2]) == _mapped_rows(source, version)
    assert sorted(_row_rejects(found[0]) + _row_rejects(found[1]), key=str) == sorted(_row_rejects(whole), key=str)
    assert found[0].failed_casts + found[1].failed_casts == whole.failed_casts


@pytest.mark.slow
@pytest.mark.parametrize("version", ["1.8.0"])
def test_mapping_again_gives_the_same(source: str, version: str) -> None:
    again = engine(source, version).map(own(source))
    assert again.events.to_pylist() == mapped_samples(source, version).events.to_pylist()


@DEFAULT_OFTEN
def test_no_records_give_an_empty_table_of_the_same_columns(source: str, version: str) -> None:
    target = _target(source)
    nothing = Chunk(pa.table({"_record": pa.array([], pa.int64())}))
    for parts in ([], [(RawObject("memory://empty"), nothing)]):
        mapped = engine(source, version).map(parts)
        assert mapped.read == 0
        assert mapped.events.column_names == [*target.names, "_table"]
        assert plain(mapped.events, target).schema == target
        assert mapped.rejects.schema == mapped_samples(source, version).rejects.schema


@DEFAULT_OFTEN
def test_events_of_a_chunk_stay_in_order(source: str, version: str) -> None:
    by_case: dict[str, list[tuple[str, int]]] = {}
    events = mapped_samples(source, version).events
    for row in zip(events["source_object"].to_pylist(), events["source_record"].to_pylist(), strict=True):
        by_case.setdefault(row[0], []).append(row)
    for where, chunk in own(source):
        numbers = [number for number, _ in lossless.records(chunk)]
        places = [place for place, row in enumerate(by_case.get(where.uri, [])) if row[1] in numbers]
        kept = [by_case[where.uri][place][1] for place in places]
        assert kept == sorted(kept)


@DEFAULT_OFTEN
def test_time_is_the_same_instant_in_both_columns(source: str, version: str) -> None:
    events = mapped_samples(source, version).events
    millis = [int(moment.timestamp() * 1000) for moment in events["time_dt"].to_pylist()]
    assert events["time"].to_pylist() == millis


@DEFAULT_OFTEN
def test_observables_point_at_values_of_the_event(source: str, version: str) -> None:
    wrong = []
    for name, number, event in _mapped_rows(source, version):
        for observable in event.get("observables", ()):
            values = [event]
            for step in observable["name"].split("."):
                values = [item.get(step.removesuffix("[]")) for item in values if isinstance(item, dict)]
                values = [one for item in values for one in (item if isinstance(item, list) else [item])]
            # an absolute DNS name is listed in its relative form too
            relative = {value.lower()[:-1] for value in values if isinstance(value, str) and value.endswith(".")}
            if observable["value"] not in (*values, *relative):
                wrong.append((name, number, observable))
    assert wrong == []


@DEFAULT_OFTEN
def test_texts_look_like_their_ocsf_type(source: str, version: str) -> None:
    odd = Counter(
        (path, text)
        for _, _, event in _mapped_rows(source, version)
        for path, text in ocsf_check.odd_texts(version, event)
        # DNS names stay as the log has them: absolute, and not always names of hosts
        if path != "query.hostname"
    )
    assert set(odd) <= ODD_TEXTS, "a value that OCSF's own regular expression refuses, and that no sample explains"


ODD_TEXTS = {
    # address_odd.log: an address that is none stays where the source says an address stands, which is a warning only
    ("src_endpoint.ip", "198.51.100.300"),
    ("src_endpoint.ip", "gateway.example.com"),
    # odd_values.jsonl: the same in a finding
    ("evidences.dst_endpoint.ip", "198.51.100.999"),
    ("evidences.src_endpoint.ip", "198.51.100.300"),
    # access.log: the host of a URL may be an IPv6 address, a name percent-encoded; odd.log: an address that is none
    ("dst_endpoint.hostname", "[2001:db8:20::7]"),
    ("http_request.url.hostname", "[2001:db8:20::7]"),
    ("dst_endpoint.hostname", "m%C3%A4il.example.com"),
    ("tls.sni", "m%C3%A4il.example.com"),
    ("load_balancer.ip", "nowhere"),
    ("src_endpoint.ip", "nowhere"),
    # values_odd.jsonl
    ("src_endpoint.ip", "unknown"),
}


@DEFAULT_OFTEN
def test_partition_values_are_safe_in_a_path(source: str, version: str) -> None:
    events = mapped_samples(source, version).events
    for name in ("region", "accountid"):
        for value in events[name].unique().to_pylist():
            assert value == "unknown" or value.replace("-", "").isalnum()


@DEFAULT_OFTEN
def test_a_query_reads_json_columns(source: str, version: str) -> None:
    for _, _, event in _mapped_rows(source, version):
        for part in ("request", "response"):
            data = event.get("api", {}).get(part, {}).get("data")
            assert data is None or json.loads(data) is not None
