"""Prefixes are built from what AWS documents, and only accounts, regions and the like are looked for."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path

import fsspec
import pytest

from ocsf_lake.config import Settings
from ocsf_lake.inputs.deliveries import Scope
from ocsf_lake.inputs.listing import Calls
from ocsf_lake.inputs.window import Window, day_in
from ocsf_mappers import registry
from ocsf_mappers.errors import ConfigError

ONE, TWO = "111122223333", "012345678901"
DAYS = Scope(date(2025, 2, 28), date(2025, 3, 1))
KEYS = {
    "aws_cloudtrail": [
        f"AWSLogs/{ONE}/CloudTrail/eu-west-1/2025/02/28/{ONE}_CloudTrail_eu-west-1_20250228T2355Z_a.json.gz",
        f"AWSLogs/{ONE}/CloudTrail-Insight/eu-west-1/2025/03/01/b.json.gz",
        f"AWSLogs/{ONE}/CloudTrail-NetworkActivity/eu-west-1/2025/03/01/c.json.gz",
        f"AWSLogs/{ONE}/CloudTrail-Digest/eu-west-1/2025/03/01/d.json.gz",
        f"AWSLogs/{ONE}/CloudTrail-Aggregated/us-east-1/2025/03/01/e.json.gz",
        f"AWSLogs/o-abc123def4/{TWO}/CloudTrail/us-east-1/2025/03/01/f.json.gz",
    ],
    "aws_vpc_flow": [
        f"AWSLogs/{ONE}/vpcflowlogs/eu-west-1/2025/02/28/g.log.gz",
        f"AWSLogs/{ONE}/vpcflowlogs/eu-west-1/2025/03/01/07/h.log.gz",
        f"AWSLogs/aws-account-id={TWO}/aws-service=vpcflowlogs/aws-region=us-east-1/year=2025/month=03/day=01/hour=07/"
        "i.log.parquet",
    ],
    "aws_route53_resolver": [f"AWSLogs/{ONE}/vpcdnsquerylogs/vpc-0a1b2c3d/2025/03/01/j.log.gz"],
    "aws_guardduty": [f"AWSLogs/{ONE}/GuardDuty/eu-west-1/2025/03/01/k.jsonl.gz"],
    "aws_config": [f"AWSLogs/{ONE}/Config/eu-west-1/2025/3/1/ConfigHistory/l.json.gz"],
    "aws_vpc_lattice": [
        f"AWSLogs/{ONE}/VpcLattice/AccessLogs/eu-west-1/2025/03/01/p.json.gz",
        f"AWSLogs/{ONE}/VpcLattice/ResourceAccessLogs/eu-west-1/2025/03/01/q.json.gz",
    ],
    "aws_waf": [f"AWSLogs/{ONE}/WAFLogs/cloudfront/my-acl/2025/03/01/07/05/m.log.gz"],
    "aws_network_firewall": [f"AWSLogs/{ONE}/network-firewall/alert/eu-west-1/my-firewall/2025/03/01/07/n.log.gz"],
}
LOAD_BALANCERS = [
    f"AWSLogs/{ONE}/elasticloadbalancing/eu-west-1/2025/03/01/{ONE}_elasticloadbalancing_eu-west-1_{name}.log"
    for name in ("app.shop.50_20250301T0005Z_10.0.0.1_o.gz", "net.mail.c6_20250301T0005Z_p.gz", "old_20250301T0005Z_q")
]
KEYS |= dict.fromkeys(("aws_alb", "aws_clb", "aws_nlb"), LOAD_BALANCERS)
OTHERS = [
    f"AWSLogs/{ONE}/CloudTrail/eu-west-1/2025/02/27/early.json.gz",
    f"AWSLogs/{ONE}/CloudTrail/eu-west-1/2025/03/02/late.json.gz",
    f"AWSLogs/{ONE}/Config/eu-west-1/2025/03/01/padded.json.gz",
    f"AWSLogs/{ONE}/CloudTrail/not a region/2025/03/01/x.json.gz",
    "AWSLogs/12/CloudTrail/eu-west-1/2025/03/01/no_account.json.gz",
    "elsewhere/2025/03/01/y.json.gz",
]


@pytest.fixture
def bucket() -> Iterator[str]:
    fs = fsspec.filesystem("memory")
    fs.pipe({f"/trees-test/p/{key}": b"x" for key in [*OTHERS, *(key for keys in KEYS.values() for key in keys)]})
    yield "memory://trees-test/p"
    fs.rm("/trees-test", recursive=True)


def listed(source: str, uri: str, scope: Scope = DAYS, calls: Calls | None = None) -> list[str]:
    window = Window(source, uri, scope, calls or Calls())
    return [ref.uri.removeprefix("memory:///trees-test/p/") for page in window.pages() for ref in page]


@pytest.mark.parametrize("source", sorted(KEYS.keys() & set(registry.names())))
def test_the_days_of_each_source_and_nothing_else(source: str, bucket: str) -> None:
    assert sorted(listed(source, bucket)) == sorted(KEYS[source])


def test_every_source_of_the_project_is_delivered_or_recognized_somehow() -> None:
    found = registry.sources().values()
    assert [source.name for source in found if not source.delivery.patterns and not source.marks] == []


@pytest.mark.parametrize(
    "folder", ["AWSLogs", f"AWSLogs/{ONE}", f"AWSLogs/{ONE}/CloudTrail", f"AWSLogs/{ONE}/CloudTrail/eu-west-1"]
)
def test_a_folder_amid_the_tree_does_too(folder: str, bucket: str) -> None:
    below = [key for key in KEYS["aws_cloudtrail"] if key.startswith(f"{folder}/")]
    assert sorted(listed("aws_cloudtrail", f"{bucket}/{folder}")) == sorted(below)


def test_a_folder_of_days_is_read_by_name(bucket: str) -> None:
    assert listed("aws_cloudtrail", f"{bucket}/AWSLogs/{ONE}/CloudTrail/eu-west-1/2025") == KEYS["aws_cloudtrail"][:1]


def test_accounts_and_regions_can_be_chosen(bucket: str) -> None:
    assert listed("aws_vpc_flow", bucket, Scope(DAYS.first, DAYS.last, accounts=(TWO,))) == KEYS["aws_vpc_flow"][2:]
    us = Scope(DAYS.first, DAYS.last, regions=("us-east-1",))
    assert sorted(listed("aws_cloudtrail", bucket, us)) == sorted(KEYS["aws_cloudtrail"][4:])


@pytest.mark.parametrize(
    ("source", "chosen", "said"),
    [
        ("aws_cloudtrail", {"accounts": ("999988887777",)}, f"999988887777 .*there are: {TWO}, {ONE}"),
        ("aws_cloudtrail", {"regions": ("mars-1",)}, "mars-1 .*there are: eu-west-1, us-east-1"),
        ("aws_guardduty", {"accounts": (TWO,)}, f"nothing of aws_guardduty for account {TWO}"),
        ("aws_route53_resolver", {"regions": ("eu-west-1",)}, "name no region"),
    ],
)
def test_what_is_not_there_is_said(source: str, chosen: dict[str, tuple[str, ...]], said: str, bucket: str) -> None:
    with pytest.raises(ConfigError, match=said):
        listed(source, bucket, Scope(DAYS.first, DAYS.last, **chosen))


def test_a_tree_without_the_source_is_a_mistake(bucket: str) -> None:
    with pytest.raises(ConfigError, match="no folders of aws_guardduty"):
        listed("aws_guardduty", f"{bucket}/AWSLogs/o-abc123def4")


def test_a_plain_folder_is_listed_whole_and_read_by_name() -> None:
    fs = fsspec.filesystem("memory")
    names = [
        "app-2025-03-01.json", "app-2025-03-09.json", "2025/02/28/x.json", "20250301T0000.json", "undated.json",
        "from-2025-01-01-to-2025-03-01.json", "20259999.json", f"{ONE}_vpcflowlogs_eu-west-1_fl-1_20250301T0005Z_h.log",
    ]  # fmt: skip
    fs.pipe({f"/trees-test/p/{name}": b"x" for name in names})
    window = Window("aws_cloudtrail", "memory://trees-test/p", DAYS)
    found = {ref.uri.removeprefix("memory:///trees-test/p/") for page in window.pages() for ref in page}
    fs.rm("/trees-test", recursive=True)
    unsaid = {"undated.json", "from-2025-01-01-to-2025-03-01.json", "20259999.json"}
    assert found == {"app-2025-03-01.json", "2025/02/28/x.json", "20250301T0000.json"} | unsaid
    assert (window.in_tree, window.undetermined) == (False, len(unsaid))


def test_the_one_day_that_a_name_says() -> None:
    assert day_in("s3://b/2025/03/11/09/stream-1-2025-03-11-09-00-00-uuid") == date(2025, 3, 11)
    assert day_in("s3://b/123420250311") is None
    assert day_in("s3://b/2025-03-11/2025-03-12") is None


def test_a_month_is_asked_for_once_where_most_of_its_days_are_missing(bucket: str) -> None:
    few, year = Calls(), Calls()
    listed("aws_guardduty", bucket, Scope(date(2025, 3, 1), date(2025, 3, 1)), few)
    assert len(listed("aws_guardduty", bucket, Scope(date(2025, 1, 1), date(2025, 12, 31)), year)) == 1
    # One account and one region: the folders above, and a month each instead of a day each.
    assert few.number < year.number <= few.number + 12 + 1
    assert year.usd == pytest.approx(year.number * 5e-6)


def test_a_fresh_run_looks_as_far_back_as_its_source_is_late(
    bucket: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from ocsf_lake.ingest import backfill, incremental
    from ocsf_lake.ingest.plan import Planned

    asked: list[Scope] = []
    monkeypatch.setattr(backfill, "plan_window", lambda window, *_: asked.append(window.scope) or Planned())
    now = datetime(2025, 3, 11, 0, 5, tzinfo=UTC)
    for sweep in (False, True):
        incremental.plan_fresh("aws_cloudtrail", bucket, Settings(lake=str(tmp_path)), now, sweep)
    assert [(wanted.first, wanted.last) for wanted in asked] == [
        (date(2025, 3, 9), date(2025, 3, 11)),
        (date(2025, 2, 8), date(2025, 3, 11)),
    ]
