"""Files of deployments that were written for earlier versions."""

from __future__ import annotations

from pathlib import Path

import pytest

from ocsf_lake.flows import deployments
from ocsf_mappers.errors import ConfigError


def test_flows_are_found_by_the_names_that_they_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "flows").mkdir()
    (tmp_path / "flows" / "watch.py").touch()
    names = ["flows.ingest.ingest", "flows.ingest.ingest", "flows.watch.watch", "flows/own.py:mine", "flows.own.mine"]
    found = [{"entrypoint": name} for name in [*names, "ocsf_lake.flows.resume.resume"]]
    messages: list[str] = []
    deployments.rename(found, messages.append)
    ours = "ocsf_lake.flows.ingest.ingest"
    assert [item["entrypoint"] for item in found] == [ours, ours, *names[2:], "ocsf_lake.flows.resume.resume"]
    assert messages == [f"entrypoint flows.ingest.ingest is {ours} now"]


@pytest.mark.parametrize(
    ("text", "lacks"),
    [
        ("name: a\n  entrypoint: f.py:f", "'a' has no work_pool.name, work_pool.work_queue_name"),
        ("name: a\n  entrypoint: f.py:f\n  work_pool: {name: p}", "'a' has no work_pool.work_queue_name"),
        ("work_pool: {name: p, work_queue_name: q}", "None has no name, entrypoint"),
    ],
)
def test_a_deployment_that_lacks_something_is_named(tmp_path: Path, text: str, lacks: str) -> None:
    (tmp_path / "prefect.yaml").write_text(f"deployments:\n- {text}\n")
    with pytest.raises(ConfigError, match=f"prefect.yaml: deployment {lacks}"):
        deployments.deploy(tmp_path / "prefect.yaml", "process", print)
