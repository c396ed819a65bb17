"""Findings of this project's own rules -> OCSF Detection Finding [2004].

Format: docs/detections.md
Record: one finding of `ocsf-lake detect`, a line of JSON each: the events of one rule that are about the same account
and person, address or thing, within some time. `first` and `last` are the times of its events and `found` when it was
found, all ISO 8601, UTC. `id` is a hash of the rule, of what the events are about and of the time's number.
Quirks: a finding is written once, so `count` and `events` are those known when it was found; the ledger counts on.
"""

import pyarrow as pa

from ocsf_mappers import JSON, EventMap, Having, JsonRecords, Mapper, Marks, Product, Source, col, text_struct, when

SEVERITIES = {
    "informational": "Informational", "low": "Low", "medium": "Medium", "high": "High", "critical": "Critical",
}  # fmt: skip

MAPPER = Mapper(
    name="lake_detections",
    product=Product("Detections", vendor="ocsf-lake"),
    readers=[JsonRecords(lists=(), label="JSON lines")],
    record=pa.struct([
        *text_struct(
            "finding_schema id rule rule_title rule_version level description account region about first last count"
            " found suppressed log"
        ),
        pa.field("attacks", JSON),
        pa.field("events", JSON),
    ]),
    table="detections",
    duplicate_key=("finding_info.uid",),
    known_values={"finding_schema": ["1"]},
    events=[
        EventMap("detection_finding", fields={
            # classification
            "activity_id": "Create",
            "severity_id": when(col.level.is_in(*SEVERITIES)).then(col.level.replace(SEVERITIES)).otherwise("Unknown"),
            "status_id":   when(col.suppressed.is_not_null()).then("Suppressed").otherwise("New"),
            "comment":     col.suppressed,
            "is_alert":    when(col.suppressed.is_not_null()).then("false").otherwise("true"),
            "count":       col.count,
            "message":     col.rule_title,
            # occurrence: when the last of its events was
            "time":       col.last.iso8601(),
            "start_time": col.first.iso8601(),
            "end_time":   col.last.iso8601(),
            # context
            "metadata.uid":         col.id,
            "metadata.log_name":    col.log,
            "metadata.log_version": col.finding_schema,
            "cloud.provider":       "AWS",
            "cloud.region":         col.region,
            "cloud.account.uid":    col.account,
            # the finding
            "finding_info.uid":              col.id,
            "finding_info.title":            col.rule_title,
            "finding_info.desc":             col.description.as_written(),
            "finding_info.created_time":     col.found.iso8601(),
            "finding_info.first_seen_time":  col.first.iso8601(),
            "finding_info.last_seen_time":   col.last.iso8601(),
            "finding_info.analytic.uid":     col.rule,
            "finding_info.analytic.name":    col.rule_title,
            "finding_info.analytic.version": col.rule_version,
            "finding_info.analytic.type_id": "Rule",
            "finding_info.attacks": col.attacks.each({
                "tactic.name":        col.tactic,
                "tactic.uid":         col.tactic_uid,
                "technique.name":     col.technique,
                "technique.uid":      col.technique_uid,
                "sub_technique.name": col.sub_technique,
                "sub_technique.uid":  col.sub_technique_uid,
            }),
            "finding_info.related_events": col.events.each({"uid": col.uid}),
        }),
    ],
)  # fmt: skip

SOURCE = Source(MAPPER, marks=Marks(members=(Having(all_of=("finding_schema", "rule", "rule_version")),)))
