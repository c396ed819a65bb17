"""Objects whose columns have any names, beside good ones in one batch: no name decides anything."""

from __future__ import annotations

import dataclasses
import io
import json
import random
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ocsf_lake.ingest import run as ingest
from ocsf_lake.inputs import discovery
from ocsf_lake.upkeep import replay
from ocsf_mappers import coalesce, col, registry
from ocsf_mappers.readers import tabular
from ocsf_mappers.readers.streams import Limits
from tests.ocsf_lake.conftest import HEADER, VPC_KEY, Make, call, flow, write
from tests.ocsf_lake.test_ingest import rows
from tests.ocsf_mappers.test_parquet import broken, damaged_files

NAMES = ("v6", "v9", "_record", "_object", "u2 failing", "", "SrcAddr", "srcaddr", "select", '"', "'; DROP TABLE x --")
ONE_BATCH = {"batch_objects": 1_000, "part_rows": 65_536}


def odd_objects(folder: Path) -> int:
    """One flow in each of three formats for each name; gives how many."""
    values = flow(1).split()
    for number, name in enumerate(NAMES):
        if " " not in name:
            write(folder / f"{number}.log", f"{HEADER} {name}\n{flow(1)} 192.0.2.9\n")
        record = dict(zip(HEADER.split(), values, strict=True))
        text = json.dumps(record)[:-1] + f", {json.dumps(name)}: " + '"192.0.2.9"}\n'
        write(folder / f"{number}.jsonl", text)
        columns = [pa.array([value]) for value in [*values, "192.0.2.9"]]
        pq.write_table(pa.Table.from_arrays(columns, names=[*HEADER.split(), name]), folder / f"{number}.parquet")
    return sum(1 for _ in folder.iterdir())


def good_objects(folder: Path) -> None:
    for number in range(3):
        key = VPC_KEY.format(account="111122223333", region="eu-west-1", hhmm=f"091{number}", tag=f"g{number}")
        write(folder / key, f"{HEADER}\n{flow(number)}\n")


@pytest.mark.slow
def test_names_in_one_object_are_nothing_to_the_others(settings: Make, tmp_path: Path) -> None:
    good_objects(tmp_path / "logs")
    (tmp_path / "logs" / "odd").mkdir()
    odd = odd_objects(tmp_path / "logs" / "odd")
    summary = ingest.ingest([str(tmp_path / "logs")], settings(**ONE_BATCH), source="aws_vpc_flow")
    assert (summary.counts.read, summary.counts.events) == (3 + odd, 3 + odd)
    assert len(rows(settings(), "SELECT * FROM ledger_batches")) == 1
    places = "SELECT region, accountid, cloud.account.uid, src_endpoint.ip, count(*) FROM vpc_flow GROUP BY ALL"
    assert rows(settings(), f"{places} ORDER BY ALL") == [
        ("eu-west-1", "111122223333", "111122223333", "10.0.0.0", 1),
        ("eu-west-1", "111122223333", "111122223333", "10.0.0.1", 1),
        ("eu-west-1", "111122223333", "111122223333", "10.0.0.2", 1),
        ("unknown", "111122223333", "111122223333", "10.0.0.1", odd),
    ]
    kept = "SELECT count(*) FROM vpc_flow WHERE list_contains(map_values(unmapped), '192.0.2.9')"
    assert rows(settings(), kept) == [(odd,)]
    numbers = "SELECT DISTINCT source_record FROM vpc_flow WHERE source_object LIKE '%.log' ORDER BY 1"
    assert rows(settings(), numbers) == [(2,)]


def test_a_record_without_members_costs_only_itself(settings: Make, tmp_path: Path) -> None:
    good_objects(tmp_path / "logs")
    write(tmp_path / "logs" / "empty.jsonl", "{}\n")
    summary = ingest.ingest([str(tmp_path / "logs")], settings(**ONE_BATCH), source="aws_vpc_flow")
    assert (summary.counts.read, summary.counts.events, summary.counts.quarantined) == (4, 3, 1)
    assert rows(settings(), "SELECT reason, raw FROM quarantine") == [("the record has no members", "{}")]


@pytest.mark.slow
def test_later_batches_are_mapped_whatever_came_before(settings: Make, tmp_path: Path) -> None:
    # One process, many batches: a column named `_record` must not decide what later queries are planned for.
    for number in range(3):
        write(tmp_path / "logs" / f"{number}a.log", f"{HEADER} _record\n{flow(number)} text\n")
        write(tmp_path / "logs" / f"{number}b.log", f"{HEADER}\n{flow(number)}\n")
    summary = ingest.ingest([str(tmp_path / "logs")], settings(batch_objects=1), source="aws_vpc_flow")
    assert (summary.counts.read, summary.counts.events) == (6, 6)
    assert len(rows(settings(), "SELECT * FROM ledger_batches")) == 6


@pytest.mark.slow
def test_a_parquet_file_that_unfolds_without_end_is_named_and_the_rest_is_in_the_lake(
    settings: Make, tmp_path: Path
) -> None:
    good_objects(tmp_path / "logs")
    column = pa.DictionaryArray.from_arrays(pa.array([0] * 65_536, pa.int32()), pa.array(["10.0.0.1" + "x" * 8_000]))
    pq.write_table(pa.table({"srcaddr": column}), tmp_path / "logs" / "bomb.parquet")
    bounds = settings(**ONE_BATCH, max_object_bytes=30 << 20)
    summary = ingest.ingest([str(tmp_path / "logs")], bounds, source="aws_vpc_flow")
    assert summary.counts.balanced
    assert summary.counts.events == 3
    why = "SELECT regexp_extract(source_object, '[^/]*$') FROM quarantine WHERE reason LIKE 'the rows take more than%'"
    assert rows(settings(), why) == [("bomb.parquet",)]


@pytest.mark.slow
def test_damage_of_a_parquet_file_does_not_end_the_search_for_its_source() -> None:
    chance, found = random.Random(20260203), Counter[str | None]()
    for data in damaged_files():
        for _ in range(200):
            found[discovery.of_bytes(io.BytesIO(broken(data, chance)), Limits())] += 1
    assert found.keys() <= {"aws_vpc_flow", None}


@pytest.mark.slow
def test_json_records_that_an_earlier_version_quarantined_are_known_again(
    settings: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = dict(zip(HEADER.split(), flow(1).split(), strict=True)) | {"start": None, "end": None}
    record["tgw_id"] = "1741651200"
    write(tmp_path / "flows.jsonl", json.dumps(record) + "\n")
    with monkeypatch.context() as before:
        before.setattr(tabular, "texts", lambda records: tabular_texts(records.drop_columns(["_text"])))
        ingest.ingest([str(tmp_path / "flows.jsonl")], settings(), source="aws_vpc_flow")
    ((raw,),) = rows(settings(), "SELECT raw FROM quarantine")
    assert str(raw).startswith("2 111122223333 eni-0a1b")
    mapper = registry.load("aws_vpc_flow")
    (event,) = mapper.events
    time = {"time": coalesce(col.start.epoch_seconds(), col.tgw_id.epoch_seconds())}
    mended = dataclasses.replace(mapper, events=[dataclasses.replace(event, fields=event.fields | time)])
    monkeypatch.setattr(registry, "load", lambda _: mended)
    assert replay.replay(settings()).closed == 1


tabular_texts = tabular.texts


@pytest.mark.slow
def test_members_of_cloudtrail_records_decide_no_partition(settings: Make, tmp_path: Path) -> None:
    odd = dict.fromkeys((*NAMES, "_key_region", "_key_account", "accountid", "region"), "999999999999")
    write(tmp_path / "calls.json", json.dumps({"Records": [call(1), call(2) | odd]}))
    ingest.ingest([str(tmp_path / "calls.json")], settings())
    places = "SELECT DISTINCT region, accountid FROM cloud_trail_mgmt"
    assert rows(settings(), places) == [("eu-west-1", "111122223333")]
    kept = "SELECT len(list_filter(map_values(unmapped), lambda x: x = '999999999999')) FROM cloud_trail_mgmt"
    assert sorted(rows(settings(), kept)) == [(0,), (len(odd),)]
