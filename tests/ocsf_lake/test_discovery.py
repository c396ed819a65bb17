"""What keys and first bytes say."""

import gzip
import io
import json
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ocsf_lake.inputs import content, discovery
from ocsf_lake.inputs.discovery import KeyFacts
from ocsf_mappers import Delimited, Marks, ParquetRows, Source, registry
from ocsf_mappers.readers import Reader
from ocsf_mappers.readers.streams import Limits
from tests.ocsf_lake.conftest import HEADER, call, flow

SAMPLES = Path(__file__).parents[2] / "sample_logs"
CONTROL = json.dumps({
    "messageType": "CONTROL_MESSAGE", "owner": "CloudwatchLogs",
    "logEvents": [{"id": "", "message": "CWL CONTROL MESSAGE: Checking health of destination Firehose."}],
})  # fmt: skip
QUERY = {"version": "1.1", "query_timestamp": "2025-03-11T09:00:00Z", "query_name": "a.example.", "srcaddr": "10.0.0.1"}
ASFF = {
    "SchemaVersion": "2018-10-08",
    "Id": "f1",
    "ProductArn": "arn:aws:securityhub:eu-west-1::product/aws/securityhub",
}
OCSF = {
    "class_uid": 2003,
    "finding_info": {"uid": "f1"},
    "metadata": {"product": {"uid": "arn:aws:securityhub:eu-west-1::productv2/aws/securityhub"}},
}
ITEM = {"configurationItemCaptureTime": "2025-03-11T09:00:00Z", "resourceType": "AWS::S3::Bucket", "resourceId": "b"}
FINDING = {"schemaVersion": "2.0", "arn": "arn:aws:guardduty:eu-west-1:111122223333:detector/d1/finding/f1"}


def in_cloudwatch(message: object) -> str:
    """A subscription's document with one log event."""
    text = message if isinstance(message, str) else json.dumps(message)
    return json.dumps({"messageType": "DATA_MESSAGE", "owner": "1", "logEvents": [{"id": "1", "message": text}]})


def in_eventbridge(kind: str, detail: object, source: str = "aws.guardduty") -> dict[str, object]:
    """An event as EventBridge passes it on."""
    return {"version": "0", "id": "1", "detail-type": kind, "source": source, "detail": detail}


PLACE = ("111122223333", "eu-west-1", "20250311")


@pytest.mark.parametrize(
    ("uri", "facts"),
    [
        (
            "s3://b/AWSLogs/111122223333/CloudTrail/eu-west-1/2025/03/11/x.json.gz",
            KeyFacts("aws_cloudtrail", "111122223333", "eu-west-1", "20250311"),
        ),
        (
            "s3://b/p/AWSLogs/o-abc123/111122223333/CloudTrail-Insight/eu-west-1/2025/03/11/x.json.gz",
            KeyFacts("aws_cloudtrail", "111122223333", "eu-west-1", "20250311"),
        ),
        (
            "file:///d/AWSLogs/111122223333/vpcflowlogs/eu-west-1/2025/03/11/09/x.log.gz",
            KeyFacts("aws_vpc_flow", "111122223333", "eu-west-1", "20250311"),
        ),
        (
            "s3://b/AWSLogs/aws-account-id=111122223333/aws-service=vpcflowlogs/aws-region=eu-west-1/"
            "year=2025/month=03/day=11/hour=09/x.log.parquet",
            KeyFacts("aws_vpc_flow", "111122223333", "eu-west-1", "20250311"),
        ),
        (
            "s3://b/p/AWSLogs/111122223333/GuardDuty/eu-west-1/2025/03/11/0f8fad5b-d9cb-469f-a165-70867728950e.jsonl.gz",
            KeyFacts("aws_guardduty", "111122223333", "eu-west-1", "20250311"),
        ),
        (
            "s3://b/AWSLogs/o-abc123/111122223333/Config/eu-west-1/2025/3/1/ConfigHistory/x.json.gz",
            KeyFacts("aws_config", "111122223333", "eu-west-1", "20250301"),
        ),
        (
            "memory://flat/111122223333_CloudTrail_us-gov-west-1_20250311T0905Z_ab_c.json.gz",
            KeyFacts("aws_cloudtrail", "111122223333", "us-gov-west-1", "20250311"),
        ),
        (
            "/flat/111122223333_vpcflowlogs_eu-west-1_fl-0a1b_20250311T0905Z_hash.log.gz",
            KeyFacts("aws_vpc_flow", "111122223333", "eu-west-1", "20250311"),
        ),
        (
            "s3://aws-waf-logs-b/AWSLogs/111122223333/WAFLogs/cloudfront/acl/2025/03/11/09/05/x.log.gz",
            KeyFacts("aws_waf", "111122223333", "cloudfront", "20250311"),
        ),
        (
            "s3://b/AWSLogs/111122223333/network-firewall/alert/eu-west-1/edge/2025/03/11/09/x.log.gz",
            KeyFacts("aws_network_firewall", "111122223333", "eu-west-1", "20250311"),
        ),
        (
            "/flat/111122223333_network-firewall_tls_eu-west-1_edge_20250311T0905Z_hash.log.gz",
            KeyFacts("aws_network_firewall", "111122223333", "eu-west-1", "20250311"),
        ),
        (
            "s3://b/AWSLogs/111122223333/VpcLattice/AccessLogs/eu-west-1/2025/03/11/x.json.gz",
            KeyFacts("aws_vpc_lattice", "111122223333", "eu-west-1", "20250311"),
        ),
        (
            "/flat/111122223333_VpcLatticeResourceAccessLogs_eu-west-1_rcfg-1_20250311T0905Z_hash.json.gz",
            KeyFacts("aws_vpc_lattice", "111122223333", "eu-west-1", "20250311"),
        ),
        (
            "/flat/111122223333_waflogs_eu-west-1_my-acl_20250311T0905Z_hash.log.gz",
            KeyFacts("aws_waf", "111122223333", "eu-west-1", "20250311"),
        ),
        (
            "s3://b/AWSLogs/..%2F..%2Fetc/CloudTrail/eu-west-1/2025/03/11/x",
            KeyFacts(),
        ),
        (
            "s3://b/AWSLogs/12345/CloudTrail/EU_WEST'1/2025/03/11/x",
            KeyFacts("aws_cloudtrail", None, None, "20250311"),
        ),
        (
            "s3://b/p/AWSLogs/111122223333/vpcdnsquerylogs/vpc-0a1b/2025/03/11/"
            "vpc-0a1b_vpcdnsquerylogs_111122223333_20250311T0905Z_hash.log.gz",
            KeyFacts("aws_route53_resolver", "111122223333", None, "20250311"),
        ),
        (
            "/flat/vpc-0a1b_vpcdnsquerylogs_111122223333_20250311T0905Z_hash.log.gz",
            KeyFacts("aws_route53_resolver", "111122223333", None, "20250311"),
        ),
        ("s3://b/logs/app.json", KeyFacts()),
        *(
            (f"{folder}/111122223333_elasticloadbalancing_eu-west-1_{name}", KeyFacts(source, *PLACE))
            for folder in ("s3://b/AWSLogs/111122223333/elasticloadbalancing/eu-west-1/2025/03/11", "/flat")
            for source, name in {
                "aws_alb": "app.shop.50dc6c49_20250311T0905Z_10.0.0.1_2x.log.gz",
                "aws_nlb": "net.mail.c6e77e28_20250311T0905Z_2x.log.gz",
                "aws_clb": "old-shop_20250311T0905Z_203.0.113.1_2x.log",
            }.items()
        ),
        (
            "s3://b/AWSLogs/111122223333/elasticloadbalancing/eu-west-1/2025/03/11/"
            "conn_log.111122223333_elasticloadbalancing_eu-west-1_app.shop.50dc6c49_20250311T0905Z_10.0.0.1_2x.log.gz",
            KeyFacts("aws_alb", *PLACE),
        ),
        ("s3://b/AWSLogs/111122223333/elasticloadbalancing/eu-west-1/2025/03/11/mine.log", KeyFacts()),
        (
            "s3://b/access/111122223333/eu-west-1/reports/2025/03/11/2025-03-11-09-05-00-0123456789ABCDEF",
            KeyFacts("aws_s3_access", *PLACE),
        ),
        ("s3://b/access2025-03-11-09-05-00-0123456789ABCDEF", KeyFacts("aws_s3_access", None, None, "20250311")),
        ("s3://b/cdn/E1A2B3C4D5E6F7.2025-03-11-09.0a1b2c3d.gz", KeyFacts("aws_cloudfront", None, None, "20250311")),
        (
            "s3://b/AWSLogs/111122223333/CloudFront/E1A2B3C4D5E6F7.2025-03-11-09.0a1b2c3d.parquet",
            KeyFacts("aws_cloudfront", "111122223333", None, "20250311"),
        ),
    ],
)  # fmt: skip
def test_a_key_says_source_account_region_and_day(uri: str, facts: KeyFacts) -> None:
    assert replace(discovery.of_key(uri), kind=None, time=None, window=None) == facts


ENTRY = {"_BOOT_ID": "b0", "SYSLOG_IDENTIFIER": "kernel", "MESSAGE": "x", "_HOSTNAME": "web-1"}


@pytest.mark.parametrize(
    ("text", "source"),
    [
        (json.dumps({"Records": [call(1)]}), "aws_cloudtrail"),
        (json.dumps({"Records": []}), "aws_cloudtrail"),
        (json.dumps(call(1)), "aws_cloudtrail"),
        (json.dumps({"Events": [{"EventId": "1", "CloudTrailEvent": json.dumps(call(1))}]}), "aws_cloudtrail"),
        (json.dumps({"version": "0", "detail-type": "AWS API Call", "detail": call(1)}), "aws_cloudtrail"),
        (HEADER + "\n" + flow(1), "aws_vpc_flow"),
        (flow(1) + "\n", "aws_vpc_flow"),
        ("2 unknown eni-1 - - - - - - - 1 2 - NODATA", "aws_vpc_flow"),
        (json.dumps({"timestamp": 1, "message": flow(1)}), "aws_vpc_flow"),
        (json.dumps({"messageType": "DATA_MESSAGE", "logEvents": [{"message": flow(1)}]}), "aws_vpc_flow"),
        ('{"srcaddr": "10.0.0.1", "vpc_id": "vpc-1", "query_name": "a.example."}', "aws_route53_resolver"),
        ('{"timestamp": 1, "message": "{\\"query_name\\":\\"a.example.\\"}"}', "aws_route53_resolver"),
        ("Mar  6 10:00:00 web-1 sshd[7]: Accepted password for ann from 203.0.113.7 port 50022 ssh2", "linux_auth"),
        ("2026-03-06T10:00:00.1+00:00 web-1 cron[7]: x\n2026-03-06T10:00:00.1+00:00 web-1 sudo: x\n", "linux_auth"),
        ('{"timestamp": 1, "message": "Mar  6 10:00:00 web-1 su[7]: (to root) ann on pts/0"}', "linux_auth"),
        (json.dumps(ENTRY), "linux_auth"),
        (json.dumps({"timestamp": 1, "message": json.dumps({"body": ENTRY})}), "linux_auth"),
        (json.dumps({name.lower().strip("_"): value for name, value in ENTRY.items()}), "linux_auth"),
        (json.dumps({**ENTRY, "MESSAGE": None, "message": "x", "host": "web-1"}), "linux_auth"),
        (in_cloudwatch({"_BOOT_ID": "b", "SYSLOG_IDENTIFIER": "x", "message": "y", "host": "web-1"}), "linux_auth"),
        (json.dumps({"message": json.dumps(call(1)), "note": json.dumps(ENTRY)}), "aws_cloudtrail"),
        (json.dumps({"message": "x", "note": {**ENTRY, "_PID": None}}), None),
        ("2026-03-16 10:00:00 UTC:2001:db8::7(52834):a@b.example@db:[7]:LOG:  statement: SELECT 1", "aws_rds"),
        ("2026-03-16 10:00:00 UTC::@:[7]:LOG:  checkpoint starting: time\n", "aws_rds"),
        (
            "2026-03-16 10:00:00.123 UTC:::1(5):a@db:[7]:1:00000:2026-03-16 10:00:00 UTC::0:6b.7:psql:LOG:  x",
            "aws_rds",
        ),
        ('2026-03-16 10:00:00.123 UTC,"a","db",7,"[local]",6b.7,1,"x",,,0,LOG,00000,"statement: x",,,,,,,,', None),
        ("1773655200123456,shop-1,admin,10.0.0.5,71,0,CONNECT,shopdb,,0\n", "aws_rds"),
        ("20260316 10:02:02,ip-10-7-1-52,app,::1,91,18,QUERY,shopdb,'SELECT 1',0,,\n", "aws_rds"),
        ('{"timestamp": 1, "message": "20260316 10:00:00,db-1,app,localhost,9,1,QUERY,,\'SELECT 1\',0"}', "aws_rds"),
        ("2026-03-16 10:00:00 UTC [7] LOG:  checkpoint starting: time", None),
        ("Mar  6 10:00:00 web-1 kernel: sshd[7]: Accepted password", None),
        ('{"hello": "world"}', None),
        ("127.0.0.1 - - [10/Oct/2000:13:55:36 -0700] \"GET / HTTP/1.0\" 200 2326", None),
        ('ncated": "x"}\n' + "\n".join(json.dumps(call(number)) for number in range(3)), "aws_cloudtrail"),
        ("oops\n" + json.dumps({"message": flow(1)}) + "\n", "aws_vpc_flow"),
        ("# Notes\n\nA record looks like this:\n\n```\n" + json.dumps(call(1)) + "\n```\n", None),
        ("INFO start\nINFO got " + json.dumps(call(1)) + "\nINFO end\n", None),
        (json.dumps(call(1, requestParameters={"q": '"query_name": 1, "srcaddr": 2'})), "aws_cloudtrail"),
        (json.dumps({"x": call(1)}), None),
        (json.dumps(call(1, userAgent="\ud83d")), "aws_cloudtrail"),
        (in_cloudwatch(call(1, userAgent="\ud83d")), "aws_cloudtrail"),
        (json.dumps(in_eventbridge("GuardDuty Finding", {"title": "\ud83d"})), "aws_guardduty"),
        (json.dumps({"note": json.dumps(call(1)), "srcaddr": "10.0.0.1"}), "aws_vpc_flow"),
        (json.dumps({"Records": [{"eventVersion": "2.1", "eventSource": "aws:s3", "awsRegion": "eu-west-1"}]}), None),
        (CONTROL, None),
        (CONTROL + in_cloudwatch(call(1)), "aws_cloudtrail"),
        (CONTROL + "\n" + in_cloudwatch(QUERY), "aws_route53_resolver"),
        (CONTROL + in_cloudwatch(flow(1)), "aws_vpc_flow"),
        (in_cloudwatch(in_eventbridge("GuardDuty Finding", FINDING)), "aws_guardduty"),
        (json.dumps(in_eventbridge("GuardDuty Malware Protection Object Scan Result", {})), "aws_guardduty"),
        (json.dumps(in_eventbridge("Security Hub Findings - Imported", {"findings": [ASFF]})), "aws_securityhub"),
        (json.dumps({"Findings": [ASFF]}), "aws_securityhub"),
        (json.dumps({"Findings": [FINDING]}), "aws_guardduty"),
        (json.dumps(ASFF), "aws_securityhub"),
        (json.dumps({"fileVersion": "1.0", "configurationItems": [ITEM]}), "aws_config"),
        (json.dumps({"fileVersion": "1.0", "configurationItems": []}), "aws_config"),
        (json.dumps(in_eventbridge("Config Configuration Item Change", {"configurationItem": ITEM})), "aws_config"),
        (json.dumps({"invokingEvent": "{}", "configRuleName": "r"}), "aws_config"),
        (json.dumps(in_eventbridge("Findings Imported V2", {"findings": [OCSF]})), "aws_securityhub_ocsf"),
        (json.dumps({"Findings": [OCSF]}), "aws_securityhub_ocsf"),
        (json.dumps(OCSF | {"metadata": {"product": {"uid": "x"}}}), None),
        (json.dumps(in_eventbridge("EC2 Instance State-change Notification", {}, "aws.ec2")), None),
        (json.dumps(in_eventbridge("AWS API Call via CloudTrail", call(1, text='"query_name":'))), "aws_cloudtrail"),
        (json.dumps({"Type": "Notification", "TopicArn": "t", "MessageId": "1", "Message": json.dumps(FINDING)}),
         "aws_guardduty"),
        (f"2025-03-11T09:00:00.000Z {json.dumps(call(1))}\n", "aws_cloudtrail"),
        (f"2025-03-11T09:00:00.000Z {flow(1)}\n", "aws_vpc_flow"),
        ("2025-03-11T09:00:00.000Z INFO started\n", None),
        (json.dumps({"Records": [call(1, requestParameters={"x": "y" * 300_000})]}), "aws_cloudtrail"),
        ("", None),
        ("\0\1\2", None),
    ],
)
def test_the_first_bytes_tell_the_source(text: str, source: str | None) -> None:
    assert discovery.of_bytes(io.BytesIO(text.encode()), Limits()) == source


@pytest.mark.slow
def test_no_document_is_too_deep_to_look_at() -> None:
    for depth in (*range(400, 500), *range(900, 1000)):
        inside = '{"body":' * depth + "1" + "}" * depth
        assert content.of_content(f'{{"timestamp":1,"id":"1","message":"hello","body":{inside}}}'.encode()) is None


def test_parquet_is_told_by_its_columns() -> None:
    def parquet(*names: str) -> io.BytesIO:
        sink = io.BytesIO()
        pq.write_table(pa.table({name: ["x"] for name in names}), sink)
        sink.seek(0)
        return sink

    assert discovery.of_bytes(parquet("account_id", "srcaddr", "dstaddr", "action"), Limits()) == "aws_vpc_flow"
    assert discovery.of_bytes(parquet("a", "b"), Limits()) is None
    assert discovery.of_bytes(io.BytesIO(b"PAR1 and nothing"), Limits()) is None


TOLD = [
    *("aws_cloudtrail", "aws_eks_audit", "aws_network_firewall", "aws_route53_resolver"),
    *("aws_vpc_flow", "aws_vpc_lattice", "aws_waf"),
]


@pytest.mark.parametrize("source", TOLD)
def test_every_sample_is_told_by_its_content(source: str) -> None:
    wrong = []
    for path in sorted((SAMPLES / source).iterdir()):
        if path.name.endswith((".md", ".expected.json")) or not path.stat().st_size:
            continue
        with path.open("rb") as file:
            if discovery.of_bytes(file, Limits()) != source:
                wrong.append(path.name)
    assert wrong == []


def test_digests_are_set_aside_by_name_and_by_content() -> None:
    mapper = registry.load("aws_cloudtrail")
    key = "s3://b/AWSLogs/1/CloudTrail-Digest/eu-west-1/2025/03/11/x.json.gz"
    assert "digest" in (discovery.set_aside_reason(key, mapper) or "")
    assert discovery.set_aside_reason(key.replace("-Digest", ""), mapper) is None
    elsewhere = f"s3://bucket/CloudTrail-Digest-and-logs/{key.replace('-Digest', '').partition('://')[2]}"
    assert discovery.set_aside_reason(elsewhere, mapper) is None
    assert discovery.without_records(b'{"awsAccountId":"1","digestStartTime":"2025"}')
    assert discovery.without_records(b'{"Records":[{"requestParameters":{"digestStartTime":"2025"}}]}') is None


@pytest.mark.parametrize("source", registry.names())
def test_the_content_of_samples_does_not_name_another_source(source: str) -> None:
    for path in (SAMPLES / source).glob("*.json*"):
        if ".expected." not in path.name and path.stat().st_size:
            with path.open("rb") as file:
                found = discovery.of_bytes(file, Limits())
            assert found in (source, None), path.name
            assert found == source or source != "aws_guardduty" or path.name == "rejects.jsonl", path.name


@pytest.mark.parametrize(
    ("uri", "text", "found"),
    [
        ("s3://b/firehose/1", CONTROL + CONTROL, content.CONTROL_REASON),
        ("s3://b/firehose/1", CONTROL + in_cloudwatch("text"), None),
        ("s3://b/export/aws-logs-write-test", "Permission Check Successful", content.EXPORT_TEST_REASON),
        ("s3://b/export/other", "Permission Check Successful", None),
    ],
)
def test_what_a_service_wrote_to_try_the_way_holds_nothing_to_read(uri: str, text: str, found: str | None) -> None:
    assert discovery.sniffed(uri, io.BytesIO(text.encode()), Limits()).nothing == found


def test_a_digest_under_another_name_is_set_aside() -> None:
    found = discovery.sniffed("s3://b/x.json", io.BytesIO(b'{"awsAccountId":"1","digestStartTime":"2025"}'), Limits())
    assert "digest" in (found.nothing or "")


OCSF = b'{"class_uid": 4001, "metadata": {"version": "1.1.0"}, "time": 1, "activity_id": 6}'


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "it is empty"),
        (gzip.compress(b"", mtime=0), "it is empty"),
        (gzip.compress(b"x" * 99, mtime=0)[:10], "the gzip stream is truncated"),
        (b"PAR1 and no footer", "the Parquet file is damaged"),
        (OCSF, "it holds events that are OCSF already"),
        (gzip.compress(OCSF + b"\n" + OCSF, mtime=0), "it holds events that are OCSF already"),
        (b"[" + OCSF + b"]", "it holds events that are OCSF already"),
        (b'{"class_uid": 4001}', ""),
        (b"no log\n", ""),
    ],
)
def test_an_object_of_no_source_is_said_what_it_is(data: bytes, says: str) -> None:
    found = discovery.sniffed("s3://b/x", io.BytesIO(data), Limits())
    assert (found.source, found.nothing) == (None, None)
    assert (found.stranger or "").startswith(says)
    assert bool(found.stranger) == bool(says)


def test_parquet_files_of_ocsf_events_are_said_to_be_such() -> None:
    buffer = io.BytesIO()
    pq.write_table(pa.table({"class_uid": [1], "metadata": [{"version": "1.1.0"}], "time": [1]}), buffer)
    buffer.seek(0)
    assert discovery.sniffed("s3://b/x", buffer, Limits()).stranger == content.OCSF_REASON


def test_of_sources_with_the_same_columns_one_that_reads_the_format_and_has_the_fewest_others_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def source(reader: Reader, columns: str) -> Source:
        mapper = replace(registry.load("aws_vpc_flow"), readers=[reader])
        return Source(mapper, marks=Marks(columns=frozenset(columns.split())))

    found = {
        "text": source(Delimited(("a", "b", "c"), ("a", "b", "c")), "a b c"),
        "wider": source(ParquetRows(), "a b c d e"),
        "exact": source(ParquetRows(), "a b c d"),
    }
    monkeypatch.setattr(registry, "sources", lambda: found)
    assert content.of_columns(["a", "B", "c"], 3, lambda reader: isinstance(reader, ParquetRows)) == "exact"
    assert content.of_columns(["a", "b", "c"], 2, lambda reader: reader.accepts(b"a b c\n")) == "text"
    assert content.of_columns(["a", "b"], 3, lambda _: True) is None
