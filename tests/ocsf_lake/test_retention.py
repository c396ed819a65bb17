"""Rules of retention: how they are written, which of them counts, and what is wrong with one."""

from datetime import date

import pytest
import yaml

from ocsf_lake import config
from ocsf_lake.retention import Keep, Retention, Rule, longest, parsed
from ocsf_lake.upkeep import lifecycle
from ocsf_mappers import registry
from ocsf_mappers.errors import ConfigError

RULES = {
    "default": "400d",
    "sources": {"aws_vpc_flow": "90d"},
    "tables": {"cloud_trail_mgmt": "7y"},
    "accounts": {
        "111122223333": "forever",
        "444455556666": {"default": "30d", "tables": {"cloud_trail_mgmt": "2y"}},
        "777788889999": {"sources": {"aws_vpc_flow": "1y"}},
    },
}


@pytest.mark.parametrize(
    ("value", "form"),
    [
        ("400 days", '"400d"'), ("400", '"400d"'), (400, '"400d"'), ("7Y", '"7y"'), ("7 years", '"7y"'),
        ("12 months", '"1y"'), ("3 months", '"93d"'), ("2w", '"14d"'), ("Forever", '"forever"'), ("never", '"forever"'),
        ("200y", '"forever"'), ("0d", None), ("-1d", None), ("d400", None), ("", None), (True, None), ([], None),
        ("1.5y", None), ("9" * 5_000, None),
    ],
)  # fmt: skip
def test_a_malformed_time_is_refused_with_the_nearest_right_form(value: object, form: str | None) -> None:
    with pytest.raises(ConfigError) as refused:
        config.load(retention={"tables": {"vpc_flow": value}})
    message = str(refused.value)
    assert message.startswith("setting retention.tables.vpc_flow: ")
    assert "write \"400d\" for days, \"7y\" for years, or \"forever\"" in message
    assert (f"did you mean {form}?" in message) if form else ("did you mean" not in message)
    assert len(message) < 300


def test_a_variable_that_is_not_json_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OCSF_LAKE_RETENTION", "{bad")
    with pytest.raises(ConfigError, match="variable OCSF_LAKE_RETENTION: what it holds is not JSON"):
        config.load()
    monkeypatch.setenv("OCSF_LAKE_RETENTION", '{"default": "400d"}')
    assert str(config.load().retention.rule("aws_waf", "waf", "111122223333")) == 'default = "400d"'


def test_misspelt_names_are_refused_with_the_right_ones() -> None:
    with pytest.raises(ConfigError, match="setting retention: there is no 'tabels' here; did you mean 'tables'"):
        config.load(retention={"tabels": {"vpc_flow": "90d"}})
    with pytest.raises(ConfigError, match="'1111-2222-3333' is not an account"):
        config.load(retention={"accounts": {"1111-2222-3333": "90d"}})
    rules = Retention(tables={"vpc_flo": "90d"}, accounts={"111122223333": {"sources": {"aws_vpcflow": "1y"}}})
    with pytest.raises(ConfigError) as refused:
        rules.check(registry.names(), registry.tables())
    assert "retention.tables: there is no table 'vpc_flo'; did you mean 'vpc_flow'" in str(refused.value)
    assert "retention.accounts.111122223333.sources: there is no source 'aws_vpcflow'" in str(refused.value)


@pytest.mark.parametrize(
    ("source", "table", "account", "rule"),
    [
        ("aws_vpc_flow", "vpc_flow", "000000000000", 'sources.aws_vpc_flow = "90d"'),
        ("aws_cloudtrail", "cloud_trail_mgmt", "000000000000", 'tables.cloud_trail_mgmt = "7y"'),
        ("aws_cloudtrail", "s3_data", "000000000000", 'default = "400d"'),
        ("aws_cloudtrail", "cloud_trail_mgmt", "111122223333", 'accounts.111122223333 = "forever"'),
        ("aws_cloudtrail", "cloud_trail_mgmt", "444455556666", 'accounts.444455556666.tables.cloud_trail_mgmt = "2y"'),
        ("aws_vpc_flow", "vpc_flow", "444455556666", 'accounts.444455556666 = "30d"'),
        ("aws_vpc_flow", "vpc_flow", "777788889999", 'accounts.777788889999.sources.aws_vpc_flow = "1y"'),
        ("aws_waf", "waf", "777788889999", 'default = "400d"'),
        # of every account that it may be, the longest
        ("aws_waf", "waf", "unknown", 'accounts.111122223333 = "forever"'),
    ],
)
def test_the_most_specific_rule_counts(source: str, table: str, account: str, rule: str) -> None:
    assert str(config.load(retention=RULES).retention.rule(source, table, account)) == rule


def test_without_rules_everything_is_kept() -> None:
    rules = config.load().retention
    assert not rules.is_set
    assert rules.rule("aws_waf", "waf", "111122223333") is None
    assert rules.of_quarantine("aws_waf") is None
    assert Retention(tables={"waf": "1y"}).rule("aws_alb", "alb", "111122223333") is None


def test_of_several_rules_the_longest_counts() -> None:
    rules = [Rule(text, Keep(text)) for text in ("365d", "1y", "366d", "30d")]
    assert longest(rules, date(2024, 6, 1)) == Rule("366d", Keep("366d"))
    assert longest(rules[:2], date(2023, 6, 1)) == Rule("1y", Keep("1y"))  # a year of 366 days
    assert longest([*rules, Rule("forever", Keep("forever"))]) == Rule("forever", Keep("forever"))
    assert longest([*rules, None]) is None


@pytest.mark.parametrize(
    ("text", "day", "until"),
    [
        ("1d", date(2025, 3, 11), date(2025, 3, 13)),
        ("7y", date(2025, 3, 11), date(2032, 3, 12)),
        ("1y", date(2024, 2, 28), date(2025, 3, 1)),  # kept from the 29th on
        ("100y", date(9950, 1, 1), None),
        ("36500d", date(9990, 1, 1), None),
        ("1d", date(9999, 12, 30), None),
        ("1d", date(9999, 12, 31), None),
        ("forever", date(2025, 3, 11), None),
    ],
)
def test_the_time_begins_when_the_day_has_ended(text: str, day: date, until: date | None) -> None:
    assert parsed(text).until(day) == until


def test_quarantine_has_rules_of_its_own() -> None:
    assert str(config.load(retention={"quarantine": "30d"}).retention.of_quarantine("aws_waf")) == 'quarantine = "30d"'
    rules = config.load(retention={"default": "1d", "quarantine": {"sources": {"aws_waf": "1y"}}}).retention
    assert str(rules.of_quarantine("aws_waf")) == 'quarantine.sources.aws_waf = "1y"'
    assert rules.of_quarantine("aws_alb") is None


# -- lifecycle rules --------------------------------------------------------------------------------------------------
def test_raw_logs_outlive_their_events() -> None:
    day = "eu-west-1/2025/03/11/x_20250311T"
    folders = lifecycle._folders(
        [
            (f"s3://raw/AWSLogs/111122223333/CloudTrail/{day}", "aws_cloudtrail"),
            (f"s3://raw/AWSLogs/444455556666/CloudTrail/{day}", "aws_cloudtrail"),
            (f"s3://raw/p: #/AWSLogs/o-abcdefghij/999955556666/vpcflowlogs/{day}", "aws_vpc_flow"),
            (f"s3://raw/AWSLogs/999955556666/elasticloadbalancing/{day}", "aws_alb"),
            ("s3://raw/elsewhere/", "aws_vpc_flow"),
            (f"file:///raw/AWSLogs/111122223333/CloudTrail/{day}", "aws_cloudtrail"),
        ]
    )
    lifecycle.judge(folders, config.load(retention=RULES).retention, [])
    document = yaml.safe_load(yaml.safe_dump(lifecycle._document(folders)))
    rules = document["Resources"]["RawBucket1"]["Properties"]["LifecycleConfiguration"]["Rules"]
    assert {rule["Prefix"]: rule.get("ExpirationInDays") for rule in rules} == {
        "AWSLogs/111122223333/CloudTrail/": None,
        "AWSLogs/444455556666/CloudTrail/": 2 * 366,
        "p: #/AWSLogs/o-abcdefghij/999955556666/vpcflowlogs/": 90,
        "AWSLogs/999955556666/elasticloadbalancing/": 400,
    }
    shared = next(folder for folder in folders if "elastic" in folder.prefix)
    assert shared.sources == ["aws_alb", "aws_clb", "aws_nlb"]
