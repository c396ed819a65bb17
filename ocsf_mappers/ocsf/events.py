"""Events from outside, checked against OCSF: JSON lines and Parquet, whoever wrote them.

Each event is validated as what it says it is: its `metadata.version`, `class_uid` and `metadata.profiles`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import duckdb
import orjson
import pyarrow as pa

from ocsf_mappers import duck, sqltext
from ocsf_mappers.errors import ReadError
from ocsf_mappers.ocsf import schema, shipped, validate
from ocsf_mappers.readers.json_split import split


@dataclass(frozen=True)
class Violation:
    """What is wrong with one event: its number in the file (from 1), whether it is only a warning, and what."""

    event: int
    warning: bool
    message: str


def check_table(events: pa.Table) -> Iterator[Violation]:
    """Findings for events in columns; structs are entered by name."""
    with _connection() as con:
        con.register("events", events.append_column("_event", pa.array(range(1, len(events) + 1), pa.int64())))
        names = set(events.column_names)
        version = "metadata.version" if _has(events.schema, "metadata", "version") else "NULL"
        profiles = "metadata.profiles" if _has(events.schema, "metadata", "profiles") else "NULL"
        class_uid = "class_uid" if "class_uid" in names else "NULL"
        yield from _check_groups(
            con, f"SELECT *, {version} AS _v, {class_uid} AS _c, {profiles}::VARCHAR[] AS _p FROM events", events.schema
        )


def check_json(lines: list[str]) -> Iterator[Violation]:
    """Findings for events as JSON text, one an item."""
    with _connection() as con:
        table = pa.table(
            {"_event": pa.array(range(1, len(lines) + 1), pa.int64()), "_raw": pa.array(lines, pa.string())}
        )
        con.register("raw", table)
        for (number,) in con.sql("SELECT _event FROM raw WHERE NOT coalesce(json_valid(_raw), false)").fetchall():
            yield Violation(number, False, "not valid JSON")
        con.execute(
            "CREATE TEMP TABLE parsed AS SELECT _event, _raw, json_extract_string(_raw, '$.metadata.version') AS _v, "
            "json_extract_string(_raw, '$.class_uid') AS _c, "
            "from_json(json_extract(_raw, '$.metadata.profiles'), '[\"VARCHAR\"]') AS _p "
            "FROM raw WHERE json_valid(_raw)"
        )
        groups = con.sql("SELECT _v, _c, _p, count(*) FROM parsed GROUP BY ALL ORDER BY min(_event)").fetchall()
        for version, class_uid, profiles, _ in groups:
            where = _where(version, class_uid, profiles)
            identified = _identify(version, class_uid)
            if isinstance(identified, str):
                yield from _all_of(con, "parsed", where, identified)
            else:
                yield from _check_json_group(con, where, identified, tuple(profiles or ()))


def _connection() -> duckdb.DuckDBPyConnection:
    con = duck.connect()
    con.execute("SET TimeZone = 'UTC'")
    return con


def _has(columns: pa.Schema, *steps: str) -> bool:
    kind: pa.DataType = pa.struct(list(columns))
    for step in steps:
        index = kind.get_field_index(step) if pa.types.is_struct(kind) else -1
        if index < 0:
            return False
        kind = kind.field(index).type
    return True


def _where(version: str | None, class_uid: object, profiles: list[str] | None) -> str:
    profile_list = "NULL" if profiles is None else sqltext.texts(profiles)
    parts = [
        f"_v IS NOT DISTINCT FROM {'NULL' if version is None else sqltext.text(version)}",
        f"_c::VARCHAR IS NOT DISTINCT FROM {'NULL' if class_uid is None else sqltext.text(str(class_uid))}",
        f"_p IS NOT DISTINCT FROM {profile_list}",
    ]
    return " AND ".join(parts)


def _identify(version: str | None, class_uid: object) -> tuple[schema.Schema, schema.EventClass] | str:
    """The version and class that an event claims, or why there is no such thing."""
    if version not in shipped.versions():
        return f"metadata.version: {version!r} is none of {', '.join(shipped.versions())}"
    ocsf = schema.load(version)
    event_class = ocsf.class_by_uid(int(str(class_uid))) if str(class_uid).isdigit() else None
    if event_class is None:
        return f"class_uid: {class_uid!r} is no class of OCSF {version}"
    return ocsf, event_class


def _all_of(con: duckdb.DuckDBPyConnection, relation: str, where: str, message: str) -> Iterator[Violation]:
    for (number,) in con.sql(f"SELECT _event FROM {relation} WHERE {where} ORDER BY _event").fetchall():
        yield Violation(number, False, message)


def _check_groups(con: duckdb.DuckDBPyConnection, query: str, columns: pa.Schema) -> Iterator[Violation]:
    con.execute(f"CREATE TEMP VIEW told AS {query}")
    groups = con.sql("SELECT _v, _c, _p, count(*) FROM told GROUP BY ALL ORDER BY min(_event)").fetchall()
    for version, class_uid, profiles, _ in groups:
        where = _where(version, class_uid, profiles)
        identified = _identify(version, class_uid)
        if isinstance(identified, str):
            yield from _all_of(con, "told", where, identified)
            continue
        ocsf, event_class = identified
        checks = validate.checks(ocsf, [(event_class, tuple(profiles or ()))], columns)
        yield from _run(con, f"SELECT * FROM told WHERE {where}", checks)


def _run(con: duckdb.DuckDBPyConnection, relation: str, checks: list[validate.Check]) -> Iterator[Violation]:
    errors, warnings = validate.listing(checks, warnings=False), validate.listing(checks, warnings=True)
    query = f"SELECT _event, ({errors})::VARCHAR[], ({warnings})::VARCHAR[] FROM ({relation}) ORDER BY _event"
    for number, wrong, doubtful in con.sql(query).fetchall():
        for message in wrong or ():
            yield Violation(number, False, message)
        for message in doubtful or ():
            yield Violation(number, True, message)


# -- JSON into columns ------------------------------------------------------------------------------------------------
_JSON_KINDS = {
    "string_t": ("VARCHAR", {"VARCHAR"}),
    "datetime_t": ("VARCHAR", {"VARCHAR"}),
    "integer_t": ("BIGINT", {"BIGINT", "UBIGINT"}),
    "long_t": ("BIGINT", {"BIGINT", "UBIGINT"}),
    "timestamp_t": ("BIGINT", {"BIGINT", "UBIGINT"}),
    "float_t": ("DOUBLE", {"BIGINT", "UBIGINT", "DOUBLE"}),
    "boolean_t": ("BOOLEAN", {"BOOLEAN"}),
}
"""OCSF base type -> DuckDB type to read, and JSON types that are right."""


def _check_json_group(
    con: duckdb.DuckDBPyConnection,
    where: str,
    identified: tuple[schema.Schema, schema.EventClass],
    profiles: tuple[str, ...],
) -> Iterator[Violation]:
    ocsf, event_class = identified
    rows = con.sql(f"SELECT json_group_structure(_raw::JSON)::VARCHAR FROM parsed WHERE {where}").fetchall()
    structure = orjson.loads(rows[0][0])
    if not isinstance(structure, dict):
        yield from _all_of(con, "parsed", where, "not a JSON object")
        return
    spec, wrong = _spec(ocsf, event_class, structure, "$")
    text = sqltext.text(orjson.dumps(spec).decode())
    relation = f"SELECT _event, r.* FROM (SELECT _event, from_json(_raw, {text}) AS r FROM parsed WHERE {where})"
    columns = con.sql(f"SELECT * EXCLUDE (_event) FROM ({relation}) LIMIT 0").to_arrow_table().schema
    for path, message, test in wrong:
        name = path.removeprefix("$.")
        for (number,) in con.sql(f"SELECT _event FROM parsed WHERE {where} AND {test} ORDER BY _event").fetchall():
            yield Violation(number, False, f"{name}: {message}")
    yield from _run(con, relation, validate.checks(ocsf, [(event_class, profiles)], columns))


def _spec(
    ocsf: schema.Schema, holder: schema.ObjectType, structure: Mapping[str, Any], path: str
) -> tuple[dict[str, Any], list[tuple[str, str, str]]]:
    """How to read the members, and tests (path, what is wrong, SQL) for values of the wrong JSON type."""
    spec: dict[str, Any] = {}
    wrong: list[tuple[str, str, str]] = []
    for name in structure:
        attribute = holder.attributes.get(name)
        at = f'{path}."{name}"' if '"' not in name else f"{path}.{name}"
        where = sqltext.text(at)
        if attribute is None:
            spec[name] = "JSON"
            continue
        members = ocsf.members(attribute)
        inner = structure[name]
        if attribute.is_array:
            wrong.append((_plain(at), "is not a list", f"json_type(_raw, {where}) NOT IN ('ARRAY', 'NULL')"))
            inner = inner[0] if isinstance(inner, list) and inner else {}
        if attribute.object is not None and members is not None:
            below, inner_wrong = _spec(
                ocsf, members, inner if isinstance(inner, dict) else {}, f"{at}[0]" if attribute.is_array else at
            )
            if not attribute.is_array:
                wrong.append((_plain(at), "is not an object", f"json_type(_raw, {where}) NOT IN ('OBJECT', 'NULL')"))
                wrong += inner_wrong
            item: Any = below or "JSON"
        elif attribute.object is not None or ocsf.scalar(attribute).base == "json_t":
            item = "JSON"
        else:
            item, right = _JSON_KINDS[ocsf.scalar(attribute).base]
            if not attribute.is_array:
                kinds = ", ".join(sqltext.text(kind) for kind in sorted({*right, "NULL"}))
                wrong.append((_plain(at), f"is not {attribute.type}", f"json_type(_raw, {where}) NOT IN ({kinds})"))
        spec[name] = [item] if attribute.is_array else item
    return spec, wrong


def _plain(path: str) -> str:
    return path.replace('"', "")


def read_lines(data: bytes) -> list[str]:
    """JSON lines, or one JSON array or document, as one text an event.

    Raises:
        ReadError: The bytes are not UTF-8.
    """
    piece = split(data, ())
    try:
        return [bytes(record).decode() for record in piece.records] + [text.decode() for _, _, text in piece.bad]
    except UnicodeDecodeError as error:
        raise ReadError("the file is not UTF-8") from error
