"""Query log of an invented DNS server -> OCSF DNS Activity [4003].

Record: one query and its answer, as a line of JSON:
    {"at": "2026-03-16T10:00:00Z", "client": "10.0.0.7", "port": 53211, "name": "www.example.com.", "type": "A",
     "code": "NOERROR"}
"""

from ocsf_mappers import EventMap, Having, JsonRecords, Mapper, Marks, Product, Source, col, text_struct

MAPPER = Mapper(
    name="example_dns",
    product=Product("DNS", vendor="Example"),
    readers=[JsonRecords(lists=(), label="JSON lines")],
    record=text_struct("at client port name type code"),
    sorted_by=("src_endpoint.ip",),
    events=[
        EventMap("dns_activity", profiles=("cloud",), fields={
            # classification
            "activity_id": "Traffic",
            "severity_id": "Informational",
            # occurrence
            "time": col.at.iso8601(),
            # context; a record is of no account, so its partition is `unknown`
            "cloud.provider": "Other",
            "cloud.region": "on-premises",
            # primary
            "query.hostname": col.name,
            "query.type": col.type,
            "rcode_id": col.code.replace(NOERROR="NoError", SERVFAIL="ServError", NXDOMAIN="NXDomain"),
            "src_endpoint.ip": col.client,
            "src_endpoint.port": col.port,
        }),
    ],
)  # fmt: skip

SOURCE = Source(MAPPER, marks=Marks(members=(Having(all_of=("at", "client", "code")),)))
