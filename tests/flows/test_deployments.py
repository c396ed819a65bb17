"""Files of deployments that were written for earlier versions."""

from __future__ import annotations

from pathlib import Path

import pytest

from ocsf_lake.flows import deployments


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
