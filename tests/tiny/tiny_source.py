"""A source of four members, for tests whose subject is not a mapping: it compiles in a fraction of the time.

The folder of this file is a package that is installed by being on the path, see `tests.ocsf_lake.conftest.tiny`.
"""

from ocsf_mappers import EventMap, Expr, JsonRecords, Mapper, Product, coalesce, col, text_struct


def mapper(time: Expr) -> Mapper:
    return Mapper(
        name="tiny",
        product=Product("Tiny", vendor="Tests"),
        readers=[JsonRecords(("Tiny",))],
        record=text_struct("id at late account"),
        table="cloud_trail_mgmt",
        events=[
            EventMap("api_activity", {
                "activity_id": "Read",
                "severity_id": "Informational",
                "time": time,
                "metadata.uid": col.id,
                "cloud.provider": "AWS",
                "cloud.region": "eu-west-1",
                "cloud.account.uid": col.account,
                "api.operation": "Look",
                "actor.user.name": "ann",
                "src_endpoint.ip": "198.51.100.7",
            }),
        ],
    )  # fmt: skip


MAPPER = mapper(col.at.iso8601())
MENDED = mapper(coalesce(col.at.iso8601(), col.late.iso8601()))
"""Of a record without `at` it takes the other time, which the first one sets aside."""
