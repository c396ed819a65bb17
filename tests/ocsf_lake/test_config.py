"""Settings: who wins, and what is said about mistakes."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from ocsf_lake import config
from ocsf_mappers.errors import ConfigError


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_arguments_win_over_variables_and_variables_over_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("ocsf-lake.toml").write_text('lake = "file"\nworkers = 3\npart_rows = 7\n')
    monkeypatch.setenv("OCSF_LAKE_LAKE", "variable")
    monkeypatch.setenv("OCSF_LAKE_WORKERS", "4")
    found = config.load(lake="argument", workers=None)
    assert (found.lake, found.workers, found.part_rows) == ("argument", 4, 7)


def test_all_mistakes_are_told_at_once() -> None:
    Path("ocsf-lake.toml").write_text('lakes = "x"\nworkers = 0\nocsf_version = "1.1"\n')
    with pytest.raises(ConfigError) as raised:
        config.load()
    for word in ("lakes", "did you mean 'lake'", "workers", "ocsf_version", "1.1.0"):
        assert word in str(raised.value)


def test_a_member_that_is_called_like_a_setting_is_no_setting() -> None:
    Path("ocsf-lake.toml").write_text("[alerts]\nattempts = 0\n")
    with pytest.raises(ConfigError, match=r"alerts\.attempts: ") as raised:
        config.load()
    assert "by itself" not in str(raised.value)


def test_what_is_to_become_of_duplicates_is_checked_when_settings_are_read() -> None:
    Path("ocsf-lake.toml").write_text('[duplicates]\naws_cloudtrail = "dorp"\n')
    with pytest.raises(ConfigError, match=r"duplicates\.aws_cloudtrail: Input should be 'keep', 'mark' or 'drop'"):
        config.load()


@pytest.mark.parametrize(
    "written", ['[alerts]\nrules = ["pack"]', "[duplicates]\nrules = 4", '[iceberg_properties]\nrules = "pack"']
)
def test_a_setting_below_a_table_is_told_where_it_belongs(written: str) -> None:
    Path("ocsf-lake.toml").write_text(written)
    with pytest.raises(ConfigError, match=r"rules is a setting by itself: put it above"):
        config.load()


@pytest.mark.parametrize(("processors", "workers"), [({0}, 1), ({0, 1}, 2), (set(range(64)), 2)])
def test_a_second_worker_needs_a_second_processor(
    monkeypatch: pytest.MonkeyPatch, processors: set[int], workers: int
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: processors, raising=False)
    assert config.load().workers == workers


def test_settings_do_not_change() -> None:
    with pytest.raises(ValidationError):
        config.load().workers = 3  # type: ignore[misc]


def test_pages_cannot_be_larger_than_a_megabyte() -> None:
    with pytest.raises(ConfigError, match="data_page_bytes"):
        config.load(data_page_bytes=2 << 20)


@pytest.mark.parametrize(("name", "meant"), [("LAK", "LAKE"), ("WORKER\u017f", "WORKERS")])
def test_a_misspelt_variable_is_a_mistake(name: str, meant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"OCSF_LAKE_{name}", "3")
    with pytest.raises(ConfigError, match=rf"OCSF_LAKE_{name}: .*did you mean 'OCSF_LAKE_{meant}'"):
        config.load()


@pytest.mark.parametrize("content", [b"lake = [", "lake = 'a'".encode("utf-16")])
def test_a_broken_file_is_named(content: bytes) -> None:
    Path("ocsf-lake.toml").write_bytes(content)
    with pytest.raises(ConfigError, match=r"ocsf-lake\.toml is not TOML"):
        config.load()


@pytest.mark.parametrize("setting", ["lake", "state", "mappers", "redaction_key_file"])
def test_an_empty_place_is_not_the_working_folder(setting: str, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("tool.py").write_text("raise SystemExit('it was run')")
    monkeypatch.setenv(f"OCSF_LAKE_{setting.upper()}", "")
    with pytest.raises(ConfigError, match=f"setting {setting}: .*it is empty, as a variable is that was not set"):
        config.load()


@pytest.mark.parametrize("setting", ["s3_endpoint", "glue_endpoint"])
def test_an_endpoint_without_a_scheme_is_a_mistake(setting: str) -> None:
    with pytest.raises(ConfigError, match=f"setting {setting}: .*begins with http:// or https://"):
        config.load(**{setting: "127.0.0.1:9000"})
    assert config.load(**{setting: ""})
