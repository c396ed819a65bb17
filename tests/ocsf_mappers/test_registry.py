"""Sources from outside: files, folders, packages; and what is said of those that cannot be used."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from ocsf_mappers import registry
from ocsf_mappers.errors import ConfigError, MappingError, SchemaError

SOURCE = """
from ocsf_mappers import EventMap, Having, JsonRecords, Mapper, Marks, Product, Source, col, text_struct

MAPPER = Mapper(
    name={name!r},
    product=Product("Proxy", vendor="Acme"),
    readers=[JsonRecords(lists=())],
    record=text_struct("at client begun ended hits"),
    table={table!r},
    events=[
        EventMap("http_activity", {{
            "activity_id": "Get",
            "severity_id": "Informational",
            "time": col.at.iso8601(),
            "start_time": col.begun.iso8601(),
            "end_time": col.ended.iso8601(),
            {row}
        }}),
    ],
)
SOURCE = Source(MAPPER, marks=Marks(members=(Having(all_of=("at", "client")),)))
"""
ROW = '"src_endpoint.ip": col.client,'


def write(folder: Path, name: str = "acme_proxy", table: str | None = None, row: str = ROW, called: str = "") -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / f"{called or name}.py"
    path.write_text(SOURCE.format(name=name, table=table, row=row))
    return path


def test_a_folder_brings_sources_with_tables_of_their_own(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "_shared.py").write_text("raise SystemExit")
    (tmp_path / "test_acme.py").write_text("raise SystemExit")
    registry.use_folder(tmp_path)
    assert "acme_proxy" in registry.names()
    assert registry.sources()["acme_proxy"].name == "acme_proxy"
    table = registry.tables()["acme_proxy"]
    assert (table.prefix, table.security_lake) == ("ext/acme_proxy/1.0", None)
    names = table.arrow.names
    assert {"src_endpoint", "start_time_dt", "end_time_dt", "duration", "unmapped", "source_object"} <= {*names}
    assert "start_time" not in names


def test_a_table_has_the_siblings_of_captions(tmp_path: Path) -> None:
    write(tmp_path, row='"status_id": "Success", "http_request.http_method": "GET",')
    registry.use_folder(tmp_path)
    names = registry.tables()["acme_proxy"].arrow.names
    assert {"status_id", "status", "http_request"} <= {*names}


def test_a_package_is_a_source_as_a_file_is(tmp_path: Path) -> None:
    inside = tmp_path / "acme_proxy"
    write(inside, called="__init__")
    (inside / "rows.py").write_text("IP = 'x'\n")
    with (inside / "__init__.py").open("a") as file:
        file.write("from .rows import IP\n")
    registry.use_folder(tmp_path)
    assert registry.load("acme_proxy").name == "acme_proxy"


def test_a_single_file_stands_in_for_the_source_of_its_name(tmp_path: Path) -> None:
    assert registry.use_file(write(tmp_path, "aws_vpc_flow")) == "aws_vpc_flow"
    assert registry.load("aws_vpc_flow").product.vendor == "Acme"


def test_a_file_that_was_changed_is_read_again(tmp_path: Path) -> None:
    registry.use_file(path := write(tmp_path))
    assert registry.load("acme_proxy").product.vendor == "Acme"
    path.write_text(path.read_text().replace("Acme", "Acne"))  # the same size, within the same second
    registry.use_file(path)
    assert registry.load("acme_proxy").product.vendor == "Acne"


def test_a_file_in_a_folder_does_not_replace_a_source_of_its_name_and_is_named(tmp_path: Path) -> None:
    path = write(tmp_path, "aws_vpc_flow")
    registry.use_folder(tmp_path)
    assert registry.load("aws_vpc_flow").product.vendor == "AWS"
    assert registry.shadowed() == {"aws_vpc_flow": path.resolve()}
    registry.use_file(path)
    assert registry.shadowed() == {}


def test_a_file_that_is_not_there_is_a_mistake_of_its_caller(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no file"):
        registry.use_file(tmp_path / "acme.py")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("raise SystemExit('no licence')", "SystemExit: no licence"),
        ("import no_such_package_of_acme", "ModuleNotFoundError"),
        ("x = (", "SyntaxError"),
        ("x = 1", "neither SOURCE nor MAPPER"),
        ("SOURCE = 1", "it offers a int, neither a Source nor a Mapper"),
    ],
)
def test_a_broken_source_is_named_and_stops_no_other(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "acme.py").write_text(text)
    write(tmp_path)
    registry.use_folder(tmp_path)
    assert "acme" not in registry.sources()
    assert {"acme_proxy", "aws_cloudtrail"} <= registry.sources().keys()
    broken = registry.usable()[1]
    assert list(broken) == ["acme"]
    assert "source 'acme' cannot be loaded" in broken["acme"]
    assert reason in broken["acme"]


def test_everything_that_is_wrong_is_told_at_once(tmp_path: Path) -> None:
    write(tmp_path, row='"src_endpont.ip": col.client, "dst_endpoint.ip": col.cleint, "status_id": "Sucess",')
    registry.use_folder(tmp_path)
    with pytest.raises(MappingError) as error:
        registry.load("acme_proxy")
    said = str(error.value)
    assert "did you mean 'src_endpoint'" in said
    assert "dst_endpoint.ip: " in said
    assert "did you mean 'client'" in said
    assert "did you mean 'Success'" in said


def test_a_file_and_its_mapper_have_the_same_name(tmp_path: Path) -> None:
    write(tmp_path, called="other")
    registry.use_folder(tmp_path)
    assert "file and mapper have to have the same name" in registry.usable(["other"])[1]["other"]


@pytest.mark.parametrize("table", ["proxy", "acme_proxy_blocked"])
def test_an_own_table_may_leave_out_the_vendor_and_begin_like_the_source(tmp_path: Path, table: str) -> None:
    write(tmp_path, table=table)
    registry.use_folder(tmp_path)
    assert list(registry.load("acme_proxy").tables) == [table]


def test_a_table_that_is_neither_shared_nor_own_is_refused(tmp_path: Path) -> None:
    write(tmp_path, table="acme_prxy")
    registry.use_folder(tmp_path)
    assert "the lake has no table 'acme_prxy'" in registry.usable(["acme_proxy"])[1]["acme_proxy"]


def test_two_sources_do_not_share_a_table_of_their_own(tmp_path: Path) -> None:
    write(tmp_path, "acme_proxy", table="proxy")
    write(tmp_path, "other_proxy", table="proxy")
    registry.use_folder(tmp_path)
    assert "table proxy is another source's" in registry.usable()[1]["other_proxy"]
    with pytest.raises(SchemaError, match="no table 'prxy'"):
        registry.table("prxy")


@pytest.mark.parametrize(
    ("says", "problem"),
    [
        ('keys=("(a",)', "'(a' is no regular expression"),
        ('marks=Marks(lines=("(a",))', "'(a' is no regular expression"),
        ('marks=Marks(heads=("(a",))', "'(a' is no regular expression"),
        ('marks=Marks(detail_types=("(a",))', "'(a' is no regular expression"),
        ('marks=Marks(set_aside={"(a": "why"})', "'(a' is no regular expression"),
        ('marks=Marks(members=(Having(like={"a": "(a"}),))', "'(a' is no regular expression"),
        ('marks=Marks(members=(Having(all_of=("at")),))', "all_of: give a tuple of texts, not 'at'"),
        ('marks=Marks(members=Having(all_of=("at",)))', "members: give a tuple of Having"),
        ('marks=Having(all_of=("at",))', "marks: give a Marks, not a Having"),
        ("delivery=None", "delivery: give a Delivery"),
        ("digests=Marks()", "digests: give Digests(...), not a Marks"),
        ('delivery=Delivery(patterns="AWSLogs/{year}")', "patterns: give a tuple of texts"),
        ('delivery=Delivery(patterns=("logs/{year}/{month}/{day}",))', "is not AWSLogs/"),
        ('delivery=Delivery(patterns=("AWSLogs/{account}/a/{year}-{month}-{day}",))', "is not AWSLogs/"),
        ('delivery=Delivery(patterns=("AWSLogs/{account}/a/{year}/{month}/{day}/{hour}",))', "is not AWSLogs/"),
    ],
)
def test_what_would_fail_with_the_first_object_is_refused_before_and_stops_none_of_the_others(
    tmp_path: Path, says: str, problem: str
) -> None:
    path = write(tmp_path)
    text = path.read_text().partition("SOURCE = ")[0].replace("Having", "Delivery, Having")
    path.write_text(f"{text}SOURCE = Source(MAPPER, {says})\n")
    registry.use_folder(tmp_path)
    assert problem in registry.usable()[1]["acme_proxy"]
    assert "acme_proxy" not in registry.sources()


@pytest.mark.parametrize(
    ("name", "table", "problem"),
    [
        ("acme_quarantine", "quarantine", "no table of a source can be called 'quarantine'"),
        ("acme_ledger", "ledger_batches", "no table of a source can be called 'ledger_batches'"),
        ("acme_proxy", "acme_proxy_A; x", "no table of a source can be called 'acme_proxy_A; x'"),
        ("Acme_Proxy", None, "'Acme_Proxy' is no name of a source"),
    ],
)
def test_a_source_has_a_name_of_its_own_that_can_stand_anywhere(
    tmp_path: Path, name: str, table: str | None, problem: str
) -> None:
    write(tmp_path, name, table)
    registry.use_folder(tmp_path)
    assert problem in registry.usable()[1][name]
    assert (table or name) not in registry.tables()


def test_an_entry_point_is_called_as_its_mapper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    offered = {"acme_web": EntryPoint("acme_web", "acme_proxy:SOURCE", registry.ENTRY_POINTS)}
    monkeypatch.setattr(registry, "_offered", lambda: offered)
    assert "entry point and mapper have to have the same name" in registry.usable()[1]["acme_web"]


def test_the_file_of_a_package_that_cannot_be_imported_is_not_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "acme_broken").mkdir()
    (tmp_path / "acme_broken" / "__init__.py").write_text("raise ValueError('broken')")
    monkeypatch.syspath_prepend(str(tmp_path))
    offered = {"acme_web": EntryPoint("acme_web", "acme_broken.web:SOURCE", registry.ENTRY_POINTS)}
    monkeypatch.setattr(registry, "_offered", lambda: offered)
    assert registry.file_of("acme_web") is None
    assert "ValueError: broken" in registry.usable()[1]["acme_web"]
