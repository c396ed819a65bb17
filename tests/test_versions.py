"""What each OCSF version gains and lacks, source by source: written to docs/ocsf-versions.md and reviewed there.

`pytest tests/test_versions.py --update-golden` rewrites the page from the sample logs.
"""

from __future__ import annotations

import json
from collections import Counter
from functools import cache
from typing import Any

import pytest

from ocsf_mappers import DEFAULT_VERSION, Mapper, registry
from ocsf_mappers.ocsf import schema
from ocsf_mappers.testing import lossless
from ocsf_mappers.vocabulary.check import lacking
from tests.support import IN_EACH_VERSION, PROJECT, VERSIONS, Json, as_events, leaves
from tests.support import mapped as mapped_samples

pytestmark = pytest.mark.slow  # `make goldens` runs it; that events are right in each version is in test_conformance

PAGE = PROJECT / "docs" / "ocsf-versions.md"

INTRODUCTION = f"""# What each OCSF version gains and lacks

Written by `pytest tests/test_versions.py --update-golden`; do not edit. The same mappers write every version
(`ocsf-lake ingest --ocsf-version 1.8.0`, `ocsf-lake map SOURCE FILE --ocsf-version 1.5.0`); {DEFAULT_VERSION}, which
Security Lake has, is the default. An attribute that a version does not have is left out of its events; a value that has
no other place in the event is then in `unmapped`. A lake has the same columns in every version.

The numbers count the events of `sample_logs/<source>` that have the attribute, by version. Attributes that all versions
have in the same events are not listed.
"""

CHANGED = "required in 1.1.0 and no longer: where the log says nothing, later versions say nothing instead of `Unknown`"
ADDED = "new"
NOTES = {
    "action": CHANGED,
    "action_id": CHANGED,
    "is_alert": f"{ADDED}; DNS Firewall's ALERT, findings that are not archived",
    "observation_point": f"{ADDED}; from `flow_direction`",
    "observation_point_id": f"{ADDED}; from `flow_direction`",
    "load_balancer.ip": f"{ADDED}; the node's own address",
    "observables load_balancer.ip": f"{ADDED}; the node's own address",
    "unmapped ip_address": "in 1.1.0 a load balancer has no address",
    "observables resources[].uid": "marked as an observable",
    "resources[].hostname": f"{ADDED}; in 1.1.0 `device.hostname` says so",
    "resources[].ip": f"{ADDED}; in 1.1.0 `device.ip` says so",
    "observables resources[].hostname": f"{ADDED}; in 1.1.0 `device.hostname` says so",
    "observables resources[].ip": f"{ADDED}; in 1.1.0 `device.ip` says so",
    "resources[].role": f"{ADDED} in 1.8.0; `unmapped` has it before",
    "resources[].role_id": f"{ADDED} in 1.8.0; `unmapped` has it before",
    "dst_endpoint.owner.account.uid": f"{ADDED}; the account at the other side of a transit gateway",
    "src_endpoint.owner.account.uid": f"{ADDED}; the account at this side of a transit gateway",
    "unmapped tgw_dst_vpc_account_id": "1.1.0 has no owner of an endpoint",
    "unmapped tgw_src_vpc_account_id": "1.1.0 has no owner of an endpoint",
    **{
        f"evidences[].{name}": f"{ADDED}; in 1.1.0 `unmapped` has it"
        for name in (
            "http_request.http_method", "http_request.referrer", "http_request.version", "tls.sni", "tls.version",
            "http_response.body_length", "http_response.code", "http_response.content_type",
            *(f"tls.{name}_hash.{part}" for name in ("ja3", "ja3s") for part in ("algorithm", "algorithm_id", "value")),
        )
    },
    "observables evidences[].tls.ja3_hash.value": f"{ADDED}; in 1.1.0 `unmapped` has it",
    "observables evidences[].tls.ja3s_hash.value": f"{ADDED}; in 1.1.0 `unmapped` has it",
    "evidences[].http_request.url.hostname": f"{ADDED}; in 1.1.0 the endpoint's `hostname` beside it says so",
    "observables evidences[].http_request.url.hostname": f"{ADDED}; in 1.1.0 the endpoint's `hostname` says so",
    "app_protocol_name": f"{ADDED} in 1.8.0; `unmapped` has `event.app_proto` before",
    "unmapped event.app_proto": "has no place before 1.8.0",
    "http_request.body_length": f"{ADDED}; in 1.1.0 `unmapped` has `requestBodySize`",
    "ja4_fingerprint_list[].type": f"{ADDED}; in 1.1.0 `unmapped` has `ja4Fingerprint`",
    "ja4_fingerprint_list[].type_id": f"{ADDED}; in 1.1.0 `unmapped` has `ja4Fingerprint`",
    "ja4_fingerprint_list[].value": f"{ADDED}; in 1.1.0 `unmapped` has `ja4Fingerprint`",
    "src_endpoint.autonomous_system.number": f"{ADDED}; in 1.1.0 `unmapped` has `clientAsn` or `asn`",
    "unmapped asn": "1.1.0 has no autonomous systems",
    "unmapped clientAsn": "1.1.0 has no autonomous systems",
    "unmapped ja4Fingerprint": "1.1.0 has no JA4",
    "unmapped requestBodySize": "1.1.0 has no length of a body",
    "http_response.body_length": f"{ADDED}; in 1.1.0 `unmapped` has `bytes_sent`",
    "http_response.code": f"{ADDED} in API Activity; in 1.1.0 `api.response.code` says so",
    "unmapped bytes_sent": "1.1.0 has no length of a body",
    "unmapped bytes_sent_size": "1.1.0 has no length of a body",
    "actor.process.working_directory": f"{ADDED}; in 1.1.0 `unmapped` has `pwd`",
    "unmapped pwd": "1.1.0 has no directory of a process",
    "device.boot_uid": f"{ADDED}; in 1.1.0 `unmapped` has it",
    "unmapped journal._boot_id": "1.1.0 has no boots of a device",
    "unmapped journal.boot_id": "1.1.0 has no boots of a device",
    "unmapped partition": "where no resource carries it, 1.1.0 has no place for it",
}
"""Attribute -> why versions differ there. A difference without a note fails: it has not been reviewed."""

NEW_IN_FINDINGS = """
    cloud.cloud_partition
    evidences[].actor.app_name
    evidences[].actor.process.ancestry[].created_time_dt
    evidences[].actor.process.ancestry[].name
    evidences[].actor.process.ancestry[].path
    evidences[].actor.process.ancestry[].pid
    evidences[].actor.process.ancestry[].uid
    evidences[].actor.process.working_directory
    evidences[].database.name
    evidences[].database.type
    evidences[].database.type_id
    evidences[].dst_endpoint.autonomous_system.name
    evidences[].dst_endpoint.autonomous_system.number
    evidences[].dst_endpoint.isp
    evidences[].dst_endpoint.isp_org
    evidences[].dst_endpoint.location.lat
    evidences[].dst_endpoint.location.long
    evidences[].file.volume
    evidences[].http_request.url.path
    evidences[].http_request.user_agent
    evidences[].process.ancestry[].created_time_dt
    evidences[].process.ancestry[].name
    evidences[].process.ancestry[].path
    evidences[].process.ancestry[].pid
    evidences[].process.ancestry[].uid
    evidences[].process.working_directory
    evidences[].src_endpoint.autonomous_system.name
    evidences[].src_endpoint.autonomous_system.number
    evidences[].src_endpoint.isp
    evidences[].src_endpoint.isp_org
    evidences[].src_endpoint.location.lat
    evidences[].src_endpoint.location.long
    finding_info.related_events[].count
    finding_info.related_events[].created_time_dt
    finding_info.related_events[].desc
    finding_info.related_events[].first_seen_time_dt
    finding_info.related_events[].last_seen_time_dt
    finding_info.related_events[].modified_time_dt
    finding_info.related_events[].severity
    finding_info.related_events[].severity_id
    finding_info.related_events[].title
    finding_info.uid_alt
    malware[].files[].hashes[].algorithm
    malware[].files[].hashes[].algorithm_id
    malware[].files[].hashes[].value
    malware[].files[].name
    malware[].files[].path
    malware[].files[].type
    malware[].files[].type_id
    malware[].num_infected
    malware[].severity
    malware[].severity_id
    malware_scan_info.end_time_dt
    malware_scan_info.name
    malware_scan_info.num_files
    malware_scan_info.num_infected
    malware_scan_info.num_volumes
    malware_scan_info.start_time_dt
    malware_scan_info.type
    malware_scan_info.type_id
    malware_scan_info.uid
    malware_scan_info.unique_malware_count
    observables evidences[].actor.process.ancestry[].name
    observables evidences[].process.ancestry[].name
    observables malware[].files[].hashes[].value
    observables malware[].files[].name
    resources[].created_time_dt
    resources[].modified_time_dt
    resources[].zone
"""
"""What GuardDuty's findings gain: attributes that 1.1.0 does not have, or has under profiles that they do not have."""
NOTES |= {name.strip(): f"{ADDED}; in 1.1.0 `data` beside it says so" for name in NEW_IN_FINDINGS.strip().splitlines()}

ALL_RESOURCES = "1.1.0 has one `resource` in these classes; `unmapped` has them all"
NOTES |= {
    f"resources[].{name}": ALL_RESOURCES
    for name in ("cloud_partition", "data", "labels[]", "owner.account.uid", "region", "type", "uid")
}
NOTES |= {
    "resources[].uid_alt": f"{ADDED}; in 1.1.0 `unmapped` has it",
    "observables resources[].uid_alt": f"{ADDED}; in 1.1.0 `unmapped` has it",
    "unmapped cloud.cloud_partition": "1.1.0 has no place for it",
    "unmapped Resources": "where a version has no place for something of them",
    "vendor_attributes.severity": f"{ADDED}; in 1.1.0 `unmapped` has it",
    "vendor_attributes.severity_id": f"{ADDED}; in 1.1.0 `unmapped` has it",
    "unmapped FindingProviderFields.Severity.Label": "1.1.0 has no place for it",
    "unmapped vendor_attributes.severity": "1.1.0 has no place for it",
    "unmapped vendor_attributes.severity_id": "1.1.0 has no place for it",
    "vulnerabilities[].exploit_last_seen_time_dt": f"{ADDED}; in 1.1.0 `unmapped` has it",
    "vulnerabilities[].fix_coverage": f"{ADDED}; in 1.1.0 `unmapped` has it",
    "vulnerabilities[].fix_coverage_id": f"{ADDED}; in 1.1.0 `unmapped` has it",
    "vulnerabilities[].cve.cvss[].vendor_name": f"{ADDED}; in 1.1.0 `unmapped` has it",
}

Row = tuple[str, str]


@cache
def _mapper(source: str) -> Mapper:
    return registry.load(source)


@cache
def _events(source: str, version: str) -> dict[tuple[str, int], Json]:
    mapped = mapped_samples(source, version)
    return {(lake["source_object"], lake["source_record"]): event for event, lake in as_events(mapped.events)}


def _attributes(event: Json) -> set[str]:
    """What the event has: attributes by path, observables by name, left-over members by key."""
    kept = {name: value for name, value in event.items() if name not in ("observables", "unmapped")}
    found = {path for path, _ in leaves(kept)}
    found |= {f"observables {item['name']}" for item in event.get("observables", ())}
    return found | {f"unmapped {name}" for name in event.get("unmapped", {})}


@cache
def _differing(source: str) -> dict[Row, list[int]]:
    """(class, attribute) -> events that have it, by version, where that is not the same in all versions."""
    counted = {version: Counter[Row]() for version in VERSIONS}
    for version, found in counted.items():
        for event in _events(source, version).values():
            found.update((event["class_name"], name) for name in _attributes(event))
    rows = sorted(set().union(*counted.values()))
    by_version = {row: [counted[version][row] for version in VERSIONS] for row in rows}
    return {row: numbers for row, numbers in by_version.items() if len(set(numbers)) > 1}


def _declared(source: str) -> list[str]:
    """What the mapping names and a version lacks, in words."""
    found: dict[Row, list[str]] = {}
    for version in VERSIONS:
        for row in lacking(_mapper(source), version):
            found.setdefault(row, []).append(version)
    return [
        f"- `{path}` of {schema.load().event_class(name).caption} is not in {' and '.join(versions)}"
        for (name, path), versions in sorted(found.items())
    ]


def _page() -> str:
    parts = [INTRODUCTION]
    for source in registry.names():
        parts.append(f"\n## {source}\n")
        declared = _declared(source)
        parts.append("\n".join(declared) if declared else "Every attribute that the mapping names is in every version.")
        rows = [f"| class | attribute | {' | '.join(VERSIONS)} | why |", "|---|---|" + "---:|" * len(VERSIONS) + "---|"]
        for (name, attribute), numbers in _differing(source).items():
            counts = " | ".join(map(str, numbers))
            rows.append(f"| {name} | `{attribute}` | {counts} | {NOTES.get(attribute, 'not reviewed')} |")
        same = "The events have the same attributes in every version."
        parts.append("\n" + ("\n".join(rows) if len(rows) > 2 else same))
    return "\n".join(parts) + "\n"


def test_the_page_says_what_the_versions_gain_and_lack(update_golden: bool) -> None:
    page = _page()
    if update_golden:
        PAGE.parent.mkdir(exist_ok=True)
        PAGE.write_text(page, encoding="utf-8")
    assert PAGE.read_text(encoding="utf-8") == page, "run `pytest tests/test_versions.py --update-golden`, then review"


@pytest.mark.parametrize("source", registry.names())
def test_every_difference_has_been_reviewed(source: str) -> None:
    assert [attribute for _, attribute in _differing(source) if attribute not in NOTES] == []


def test_every_note_is_of_a_difference() -> None:
    found = {attribute for source in registry.names() for _, attribute in _differing(source)}
    assert set(NOTES) - found == set()


@IN_EACH_VERSION
@pytest.mark.parametrize("source", registry.names())
def test_the_same_records_are_events_in_every_version(source: str, version: str) -> None:
    assert _events(source, version).keys() == _events(source, DEFAULT_VERSION).keys()


# that none loses a value of a record is in test_lossless too
@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("source", registry.names())
def test_no_version_loses_a_value_that_another_has(source: str, version: str) -> None:
    lost = {}
    for place, event in _events(source, version).items():
        kept = lossless.found_in(event)
        for other in VERSIONS:
            for path, value in leaves(_events(source, other)[place]):
                made = path in CAPTIONS or path.startswith(("metadata.version", "observables[]"))
                said = (lossless.spellings(part, {}) for part in _parts(value))
                if not made and value not in (0, "Unknown") and not all(spelled & kept for spelled in said):
                    lost[place, path] = (other, value)
    assert lost == {}


def _parts(value: Any) -> list[Any]:
    """A value, or those in its JSON text: another version may have an attribute for each."""
    if not isinstance(value, str) or value[:1] not in ("{", "["):
        return [value]
    try:
        return [part for _, part in leaves(json.loads(value)) if part is not None]
    except ValueError:
        return [value]


CAPTIONS = {
    *("is_alert", "observation_point", "observation_point_id"),
    *("evidences[].database.type", "evidences[].database.type_id"),
    *("finding_info.related_events[].severity", "finding_info.related_events[].severity_id"),
    *("malware[].severity", "malware[].severity_id"),
    *("malware[].files[].hashes[].algorithm", "malware[].files[].hashes[].algorithm_id"),
    *("resources[].role", "resources[].role_id", "resources[].labels[]"),
    *("vulnerabilities[].fix_coverage", "vulnerabilities[].fix_coverage_id"),
    *("evidences[].tls.ja3_hash.algorithm", "evidences[].tls.ja3_hash.algorithm_id"),
    *("evidences[].tls.ja3s_hash.algorithm", "evidences[].tls.ja3s_hash.algorithm_id"),
    # PATCH is an activity of its own from 1.8.0 on, and Other before
    *("activity_id", "type_uid", "type_name", "ja4_fingerprint_list[].type"),
    *("malware_scan_info.name", "malware_scan_info.type", "malware_scan_info.type_id"),
}
"""Attributes that say in OCSF's words what another attribute of the event says too."""


@IN_EACH_VERSION
@pytest.mark.parametrize("source", registry.names())
def test_an_attribute_that_a_version_lacks_is_in_none_of_its_events(source: str, version: str) -> None:
    absent = {path for _, path in lacking(_mapper(source), version)}
    found = {path for event in _events(source, version).values() for path in _attributes(event)}
    assert {path for path in found if any(path == name or path.startswith(f"{name}.") for name in absent)} == set()
