"""`ocsf-lake query`."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from flows import output
from flows.settings import LakeOption, settings_of_lake

EXAMPLE = 'ocsf-lake query "SELECT class_name, count(*) FROM cloud_trail_mgmt_2_0 GROUP BY ALL" --lake demo_lake'


class Form(StrEnum):
    """Forms of output."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"


def query(
    sql: Annotated[str, typer.Argument(metavar="SQL", help="One statement that reads, such as SHOW TABLES.")],
    lake: LakeOption = None,
    form: Annotated[Form, typer.Option("--format", help="Form of the rows.")] = Form.TABLE,
) -> None:
    """Ask the lake in DuckDB's SQL.

    Tables have the names and columns of Amazon Security Lake (`cloud_trail_mgmt_2_0`, `vpc_flow_2_0`); `quarantine`
    and the ledger (`ledger_batches`, `ledger_objects`, `ledger_files`) are tables too. A query changes nothing.
    """
    found = settings_of_lake(lake)
    from lake import query as lake_query

    with lake_query.connected(found) as connection:
        output.print_rows(lake_query.run(connection, sql), form)
