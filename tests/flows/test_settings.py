"""`ocsf-lake settings`: what is in force, and where it comes from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ocsf_lake import config
from tests.flows.conftest import RunCommand

FILE = """
lake = "/srv/lake"
ledger_url = "postgresql://lake:s3cret@db/lake"
workers = 4
dask_scheduler = "tls://lake:s3cret@dask:8786"

[retention]
default = "400d"

[[alerts.receivers]]
name = "oncall"
kind = "webhook"
url = "https://hooks.example.com/s3cret"

[iceberg_properties]
uri = "https://catalog.example.com"
token = "s3cret"
"""


@pytest.fixture
def file(tmp_path: Path) -> None:
    (tmp_path / "ocsf-lake.toml").write_text(FILE)


def shown(ocsf_lake: RunCommand, *arguments: str) -> dict[str, dict[str, Any]]:
    run = ocsf_lake("settings", "--json", *arguments)
    assert run.code == 0
    return {item.pop("setting"): item for item in json.loads(run.out)}


def test_each_setting_is_listed_with_its_default(ocsf_lake: RunCommand) -> None:
    items = shown(ocsf_lake)
    assert list(items) == list(config.Settings.model_fields)
    assert {name for name, item in items.items() if item["from"] == ["default"]} >= {"ledger_url", "prices", "alerts"}
    assert items["prices"]["value"]["put_per_1000"] == 0.005
    assert items["ledger_url"]["value"] is None


@pytest.mark.usefixtures("file")
def test_what_is_given_says_by_what(ocsf_lake: RunCommand, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OCSF_LAKE_WORKERS", "3")
    monkeypatch.setenv("OCSF_LAKE_RETENTION", '{"quarantine": "30d"}')
    items = shown(ocsf_lake, "--given")
    origins = {name: item["from"] for name, item in items.items() if name in ("lake", "workers", "retention")}
    assert origins == {
        "lake": ["ocsf-lake.toml"],
        "workers": ["variable OCSF_LAKE_WORKERS"],
        "retention": ["ocsf-lake.toml", "variable OCSF_LAKE_RETENTION"],
    }
    assert items["workers"]["value"] == 3
    assert items["retention"]["value"] == {"default": "400d", "quarantine": {"default": "30d"}}
    assert "umask" not in items


@pytest.mark.usefixtures("file")
def test_a_variable_that_gives_nothing_is_not_named(ocsf_lake: RunCommand, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OCSF_LAKE_RETENTION", "null")
    item = shown(ocsf_lake, "retention")["retention"]
    assert (item["from"], item["value"]) == (["ocsf-lake.toml"], {"default": "400d"})


@pytest.mark.usefixtures("file")
@pytest.mark.parametrize("form", [[], ["--json"]])
def test_no_secret_is_shown(ocsf_lake: RunCommand, form: list[str]) -> None:
    run = ocsf_lake("settings", *form)
    assert run.code == 0
    assert "s3cret" not in run.out + run.err
    assert all(name in run.out for name in ("ledger_url", "iceberg_properties", "oncall", "@dask:8786"))


@pytest.mark.usefixtures("file")
def test_what_is_hidden_says_so(ocsf_lake: RunCommand) -> None:
    items = shown(ocsf_lake, "--given")
    (receiver,) = items["alerts"]["value"]["receivers"]
    assert [receiver["url"], items["ledger_url"]["value"], items["iceberg_properties"]["value"]] == ["hidden"] * 3


@pytest.mark.usefixtures("file")
def test_one_setting_is_shown_with_what_it_is(ocsf_lake: RunCommand, tmp_path: Path) -> None:
    run = ocsf_lake("settings", "workers")
    heading, _, row = run.out.splitlines()
    assert heading.split() == ["setting", "value", "from", "description"]
    assert row.split()[:4] == ["workers", "4", "ocsf-lake.toml", "Batches"]
    assert f"{tmp_path / 'ocsf-lake.toml'} is read" in run.err


def test_a_setting_that_does_not_exist_is_misuse(ocsf_lake: RunCommand) -> None:
    run = ocsf_lake("settings", "workrs")
    assert run.code == 2
    assert "did you mean 'workers'?" in run.err
