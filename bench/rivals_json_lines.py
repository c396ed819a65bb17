"""What JSON lines are measured against: floors that map nothing, and what a user would write by hand for DNS queries.

See `bench.rivals`: files and an empty folder in, the number of records out.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.rivals import _batches, _rows, _sql_list, _sql_text

_SRCIDS = dict.fromkeys(("instance", "resolver_endpoint", "resolver_network_interface"), "VARCHAR")
QUERY: dict[str, Any] = {
    **dict.fromkeys(
        ("version", "account_id", "region", "vpc_id", "query_timestamp", "query_name", "query_type", "query_class",
         "rcode", "srcaddr", "srcport", "transport", "firewall_rule_action", "firewall_rule_group_id",
         "firewall_domain_list_id"), "VARCHAR",
    ),
    "answers": [dict.fromkeys(("Rdata", "Type", "Class"), "VARCHAR")],
    "srcids": _SRCIDS,
}  # fmt: skip
FINDING: dict[str, Any] = {
    **dict.fromkeys(
        ("schemaVersion", "accountId", "region", "partition", "id", "arn", "type", "createdAt", "updatedAt", "title",
         "description"), "VARCHAR",
    ),
    "severity": "DOUBLE", "resource": "VARCHAR", "service": "VARCHAR",
}  # fmt: skip


def floor_route53(files: Sequence[Path], out: Path) -> int:
    """Gunzip, split the lines, parse the declared members, write them."""
    return _floor(files, out, QUERY)


def floor_guardduty(files: Sequence[Path], out: Path) -> int:
    """The same for findings, whose `resource` and `service` stay JSON text."""
    return _floor(files, out, FINDING)


def _floor(files: Sequence[Path], out: Path, record: dict[str, Any]) -> int:
    import duckdb
    import pyarrow as pa
    import pyarrow.parquet as pq
    from isal import igzip

    query = f"SELECT unnest(from_json(record, '{json.dumps(record)}')) FROM raw"
    records = 0
    with duckdb.connect() as con:
        for number, batch in enumerate(_batches(files)):
            texts: list[bytes] = []
            for file in batch:
                text: bytes = igzip.decompress(file.read_bytes())  # type: ignore[no-untyped-call]
                texts += text.splitlines()
            con.register("raw", pa.table({"record": pa.array(texts, pa.string())}))
            table = con.sql(query).to_arrow_table()
            con.unregister("raw")
            pq.write_table(table, f"{out}/{number:05}.parquet", compression="zstd")
            records += table.num_rows
    return records


_ROUTE53_SQL = """
COPY (
  WITH timed AS (SELECT r, CAST(r.query_timestamp AS TIMESTAMP) AS happened FROM records)
  SELECT
    4003 AS class_uid, 4 AS category_uid, 6 AS activity_id, CAST(400306 AS BIGINT) AS type_uid,
    epoch_ms(happened) AS time, happened AS time_dt, 1 AS severity_id,
    CASE r.rcode WHEN 'NOERROR' THEN 0 WHEN 'FORMERR' THEN 1 WHEN 'SERVFAIL' THEN 2 WHEN 'NXDOMAIN' THEN 3
      WHEN 'NOTIMP' THEN 4 WHEN 'REFUSED' THEN 5 ELSE 99 END AS rcode_id, r.rcode AS rcode,
    CASE WHEN r.rcode = 'NOERROR' THEN 1 ELSE 2 END AS status_id,
    CASE r.firewall_rule_action WHEN 'BLOCK' THEN 2 WHEN 'ALERT' THEN 1 END AS action_id,
    {'name': r.firewall_rule_group_id, 'uid': r.firewall_domain_list_id} AS firewall_rule,
    {'version': '1.1.0', 'product': {'name': 'Route 53', 'vendor_name': 'AWS', 'version': r.version,
      'feature': {'name': 'Resolver Query Logs'}}} AS metadata,
    {'provider': 'AWS', 'region': r.region, 'account': {'uid': r.account_id}} AS cloud,
    {'hostname': r.query_name, 'type': r.query_type, 'class': r.query_class} AS query,
    list_transform(r.answers, lambda x: {'rdata': x.Rdata, 'type': x."Type", 'class': x."Class"}) AS answers,
    {'ip': r.srcaddr, 'port': CAST(r.srcport AS INTEGER), 'vpc_uid': r.vpc_id,
      'instance_uid': r.srcids.instance} AS src_endpoint,
    {'protocol_name': r.transport, 'direction_id': 2} AS connection_info,
    r.region AS region, r.account_id AS accountid, strftime(happened, '%Y%m%d') AS eventday
  FROM timed
) TO {out} (FORMAT parquet, COMPRESSION zstd, PARTITION_BY (region, accountid, eventday))
"""


def duckdb_route53(files: Sequence[Path], out: Path) -> int:
    """DuckDB SQL: each query is one line of text, parsed by `from_json`."""
    import duckdb

    records = f"""SELECT from_json(line, '{json.dumps(QUERY)}') AS r FROM read_csv({_sql_list(files)},
        columns = {{line: 'VARCHAR'}}, delim = '\x01', quote = '', escape = '', header = false, auto_detect = false)"""
    with duckdb.connect(config={"preserve_insertion_order": "false"}) as con:
        con.execute("SET enable_progress_bar = false")
        con.execute(f"CREATE TEMP VIEW records AS {records}")
        return _rows(con.execute(_ROUTE53_SQL.replace("{out}", _sql_text(out))).fetchone())
