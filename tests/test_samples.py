"""Real logs, which are not part of the project: see the `samples` fixture."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from ocsf_mappers import RawObject, registry
from tests import ocsf_check, real_logs
from tests.support import (
    DEFAULT_OFTEN,
    IN_EACH_VERSION,
    SAMPLE_COUNTS,
    Json,
    as_events,
    engine,
    map_bytes,
    ocsf,
    pretty,
    read,
)

NO_ACTOR, NO_API, NO_OPERATION, NO_REQUEST_UID, NO_TIME = (
    f"{path}: required attribute is missing" for path in ("actor", "api", "api.operation", "api.request.uid", "time")
)
CUT = (
    "the line is in no layout that is known: {} values, expected 25 to 34 or 12 to 13 or more or 10 or more,"
    " each as its column has them"
)
ALLOWED_REJECTS = {
    "aws_cloudtrail": Counter(
        {
            # records that others have shortened for the tests of their rules, and one with member names in lower case
            NO_TIME: 8,
            NO_ACTOR: 5,
            f"{NO_ACTOR}; {NO_API}; {NO_TIME}": 7,
            f"{NO_ACTOR}; {NO_TIME}": 8,
            # the time itself is blacked out
            f"{NO_TIME}; not readable as its type: time": 2,
        }
    ),
    # cut off in the pages that they are from
    "aws_alb": Counter({CUT.format(4): 2, CUT.format(5): 1}),
    "aws_clb": Counter(),
    "aws_cloudfront": Counter(),
    "aws_nlb": Counter(),
    "aws_rds": Counter(),
    "aws_route53_resolver": Counter(),
    # parsed by another program, which named the members anew
    "aws_s3_access": Counter({NO_TIME: 11, f"{NO_TIME}; {NO_OPERATION}": 5}),
    "aws_config": Counter(),
    "aws_guardduty": Counter(),
    "aws_securityhub": Counter(),
    # custom formats with neither start nor end
    "aws_vpc_flow": Counter({NO_TIME: 10}),
    "aws_waf": Counter(),
    "aws_network_firewall": Counter(),
    # records that others have shortened for the tests of their rules
    "aws_eks_audit": Counter({NO_TIME: 117}),
}
"""Real records that become no event, by reason."""


@cache
def _events(samples: Path, source: str, version: str = "1.1.0") -> dict[tuple[str, int], Json]:
    found = as_events(real_logs.mapped(samples, source, version).events)
    return {(lake["source_object"], lake["source_record"]): event for event, lake in found}


@pytest.mark.slow
@pytest.mark.parametrize("source", real_logs.FOLDERS)
def test_every_record_is_an_event_or_a_reject_with_a_known_reason(samples: Path, source: str) -> None:
    mapped = real_logs.mapped(samples, source)
    assert mapped.read == sum(chunk.read for _, chunk in real_logs.parts(samples, source))
    assert len(_events(samples, source)) == len(mapped.events)
    assert Counter(mapped.rejects["reason"].to_pylist()) == ALLOWED_REJECTS[source]


def test_the_records_that_the_readme_counts_are_there(samples: Path, update_golden: bool) -> None:
    found = {source: real_logs.mapped(samples, source).read for source in real_logs.FOLDERS}
    if update_golden:
        counts = json.loads(SAMPLE_COUNTS.read_text(encoding="utf-8"))
        SAMPLE_COUNTS.write_text(pretty({**counts, "real": found}), encoding="utf-8")
    assert json.loads(SAMPLE_COUNTS.read_text(encoding="utf-8"))["real"] == found


@pytest.mark.slow
@DEFAULT_OFTEN
@pytest.mark.parametrize("source", real_logs.FOLDERS)
def test_every_event_is_valid(samples: Path, source: str, version: str) -> None:
    events = _events(samples, source, version)
    assert events.keys() == _events(samples, source).keys(), "no version refuses what another takes"
    wrong = {place: said for place, event in events.items() if (said := ocsf_check.problems(version, event))}
    assert wrong == {}


# -- events that AWS and the OCSF maintainers have published -----------------------------------------------------------
PAIRS = {
    "aws_cloudtrail": ("cloudtrail-api-activity", "cloudtrail-authentication", "cloudtrail-account-change"),
    "aws_route53_resolver": ("route53",),
    "aws_vpc_flow": ("vpc-flowlogs",),
}
_AUTH, _ACCOUNT, _API, _FLOW, _DNS = (
    "cloudtrail-authentication",
    "cloudtrail-account-change",
    "cloudtrail-api-activity",
    "vpc-flowlogs",
    "route53",
)
_CLOUDTRAIL, _BOTH = (_API, _AUTH, _ACCOUNT), ("1.1.0", "1.5.0")


def _same(why: str, versions: Iterable[str], pairs: Iterable[str], *paths: str) -> dict[tuple[str, str, str], str]:
    return {(version, pair, path): why for version in versions for pair in pairs for path in paths}


EXPLAINED: dict[tuple[str, str, str], str] = {
    # what we add
    **_same("the sibling id, which Security Lake leaves out", _BOTH, _CLOUDTRAIL, "status_id"),
    **_same("the sibling id, which Security Lake leaves out", _BOTH, [_FLOW, _DNS], "disposition_id"),
    **_same("an alert of DNS Firewall", ["1.5.0"], [_DNS], "is_alert"),
    **_same(
        "the name as other logs write it, to join them by",
        _BOTH,
        [_DNS],
        "observable query.hostname = ip-127-0-0-62.alert.firewall.canary",
    ),
    **_same(
        "in lower case, as every log has it, and its number beside it",
        _BOTH,
        [_DNS],
        "connection_info.protocol_name",
        "connection_info.protocol_num",
    ),
    **_same("from start and end", _BOTH, [_FLOW], "duration"),
    **_same("the name of the protocol number", _BOTH, [_FLOW], "connection_info.protocol_name"),
    **_same("OCSF wants a service or an endpoint", _BOTH, [_AUTH], "service.name"),
    **_same("the account that the user is in", _BOTH, [_AUTH], "user.account.uid"),
    **_same("the account that the user is in", ["1.1.0"], [_ACCOUNT], "user.account.uid"),
    **_same("who signs in", _BOTH, [_AUTH], "user.name"),
    **_same("who signs in", ["1.5.0"], [_AUTH], "user.uid_alt"),
    **_same("the session's name, where a role acts", ["1.1.0", "1.5.0"], [_ACCOUNT], "actor.user.name"),
    **_same("the session's name, where a role acts", ["1.1.0"], [_ACCOUNT], "observable actor.user.name = Admin-user"),
    **_same("the session's name, where a role acts", ["1.5.0"], [_ACCOUNT], "observable actor.user.name = scheduler"),
    **_same("an empty text is no value", ["1.5.0"], [_ACCOUNT], "src_endpoint.uid", "unmapped[vpcEndpointId]"),
    **_same("who signs in", ["1.1.0"], [_AUTH], "observable user.name = anaya"),
    **_same("who signs in", ["1.5.0"], [_AUTH], "observable user.name = test"),
    **_same("through OCSF 1.3 an endpoint needs more than a domain", ["1.5.0"], [_ACCOUNT], "src_endpoint.svc_name"),
    # what we map and they left in unmapped
    **_same("recipientAccountId is the cloud account", ["1.1.0"], _CLOUDTRAIL, "cloud.account.uid"),
    **_same("recipientAccountId is the cloud account", ["1.1.0"], _CLOUDTRAIL, "unmapped[recipientAccountId]"),
    **_same("the outcome is in serviceEventDetails", ["1.5.0"], [_AUTH], "status"),
    **_same(
        "the outcome is in serviceEventDetails",
        ["1.5.0"],
        [_AUTH],
        "unmapped[serviceEventDetails.CredentialChallenge]",
    ),
    **_same("reject-reason is a detail of the status", ["1.5.0"], [_FLOW], "status_detail", "unmapped[reject_reason]"),
    # what is wrong on their side
    **_same("two quotes are no request id", ["1.1.0"], [_AUTH], "api.request.uid"),
    **_same("JSON text of an empty text", ["1.5.0"], [_ACCOUNT], "api.response.data"),
    **_same("published with two zeros more than the log has", ["1.1.0"], [_FLOW], "dst_endpoint.interface_uid"),
    **_same(
        "published with an offset of four hours that the log does not have; `time` beside it is right",
        ["1.5.0"],
        [_ACCOUNT],
        "time_dt",
        "actor.session.created_time_dt",
    ),
    **_same(
        "a dash is the log's word for no value",
        ["1.1.0"],
        [_FLOW],
        "connection_info.boundary",
        "connection_info.boundary_id",
    ),
    **_same(
        "a dash is the log's word for no value",
        _BOTH,
        [_FLOW],
        "dst_endpoint.svc_name",
        "src_endpoint.svc_name",
        "unmapped[sublocation_id]",
        "unmapped[sublocation_type]",
    ),
    **_same(
        "a dash is the log's word for no value",
        ["1.5.0"],
        [_FLOW],
        "src_endpoint.instance_uid",
        "unmapped[ecs_container_instance_arn]",
        "unmapped[ecs_container_instance_id]",
    ),
}
"""(version, pair, path) -> why our event differs from the published one there."""


@pytest.mark.parametrize("version", ["1.1.0", "1.5.0"])
@pytest.mark.parametrize(("source", "pair"), [(source, pair) for source, pairs in PAIRS.items() for pair in pairs])
def test_an_event_is_the_published_one_but_for_explained_differences(
    samples: Path, source: str, pair: str, version: str
) -> None:
    folder = samples / "expected" / "ocsf-examples" / version / "markdown" / pair
    (raw,), (published,) = folder.glob("*.raw"), folder.glob("*.ocsf")
    (event,) = ocsf(map_bytes(engine(source, version), _as_delivered(source, raw)).events)
    # these pages are not strict JSON: some have a comma too many
    theirs = _flat(json.loads(re.sub(r",(\s*[}\]])", r"\1", published.read_text(encoding="utf-8"))))
    ours = _flat(event)
    differing = {path for path in ours.keys() | theirs.keys() if ours.get(path) != theirs.get(path)}
    expected = {path for known, where, path in EXPLAINED if (known, where) == (version, pair)}
    shown = {path: (ours.get(path), theirs.get(path)) for path in sorted(differing ^ expected)}
    assert shown == {}, "ours and theirs, where the difference is new, or explained and gone"


def _as_delivered(source: str, path: Path) -> bytes:
    text = path.read_text(encoding="utf-8")
    return text.replace(",", " ").encode() if source == "aws_vpc_flow" else text.encode()


def _flat(event: Json) -> Json:
    """Values by path; observables by what they say, since their order says nothing."""
    found = {}
    for path, value in _leaves(
        {name: value for name, value in event.items() if name not in ("observables", "unmapped")}
    ):
        found[path] = _moment(value) if path.endswith("_dt") else value
    found |= {f"unmapped[{name}]": text for name, text in event.get("unmapped", {}).items()}
    for observable in event.get("observables", ()):
        found[f"observable {observable['name']} = {observable['value']}"] = (observable["type"], observable["type_id"])
    return found


def _moment(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def _leaves(value: Any, path: str = "") -> list[tuple[str, Any]]:
    if isinstance(value, dict):
        return [leaf for key, item in value.items() for leaf in _leaves(item, f"{path}.{key}" if path else key)]
    return [(path, value)]


def test_every_explained_difference_belongs_to_a_pair() -> None:
    pairs = {(version, pair) for version in ("1.1.0", "1.5.0") for found in PAIRS.values() for pair in found}
    assert {(version, pair) for version, pair, _ in EXPLAINED} <= pairs


def test_records_of_the_first_format_become_events(samples: Path) -> None:
    assert NO_REQUEST_UID not in real_logs.mapped(samples, "aws_cloudtrail").rejects["reason"].to_pylist()


EARLIER_INPUTS = (
    "aws-security-lake-validation/1.0.0-rc.2/ROUTE53/inputs/*.json.gz",
    "ocsf-examples/1.0.0*/*/route53/*.raw",
    "ocsf-examples/1.1.0/bloblang/route53/*.raw",
    "opensearch-security-analytics/rawRoute53Doc.json",
)
"""Inputs published with events of earlier versions, which say other things of the same record."""


@IN_EACH_VERSION
@pytest.mark.parametrize("pattern", EARLIER_INPUTS)
def test_inputs_of_earlier_mappings_become_valid_events(samples: Path, pattern: str, version: str) -> None:
    paths = sorted((samples / "expected").glob(pattern))
    assert paths
    for path in paths:
        with path.open("rb") as file:
            chunks = read(registry.load("aws_route53_resolver"), file)
        mapped = engine("aws_route53_resolver", version).map([(RawObject(path.name), chunk) for chunk in chunks])
        # an empty file is published too
        assert len(mapped.events) == (1 if path.stat().st_size else 0)
        assert mapped.rejects.to_pylist() == []
        assert [said for event in ocsf(mapped.events) if (said := ocsf_check.problems(version, event))] == []


def test_refused_and_failed_queries_keep_the_published_codes(samples: Path) -> None:
    inputs = sorted((samples / "expected" / "aws-security-lake-validation").rglob("route53-inputs*.json.gz"))
    goldens = sorted((samples / "expected" / "aws-security-lake-validation").rglob("ROUTE53/example*.parquet"))
    assert len(inputs) == len(goldens) == 4
    for raw, golden in zip(inputs, goldens, strict=True):
        with raw.open("rb") as file:
            chunks = read(registry.load("aws_route53_resolver"), file)
        mapped = engine("aws_route53_resolver", "1.1.0").map([(RawObject(raw.name), chunk) for chunk in chunks])
        (ours,), (theirs,) = mapped.events.to_pylist(), pq.read_table(golden).to_pylist()
        for name in ("rcode", "rcode_id", "query", "answers", "time", "src_endpoint"):
            assert ours[name] == theirs[name], name
        # The name is in lower case, as every log of ours has it.
        assert ours["connection_info"]["protocol_name"] == theirs["connection_info"]["protocol_name"].lower()
