"""What a policy hides is nowhere in the lake, in its ledger, in what is printed, in what Prefect keeps."""

from __future__ import annotations

import gzip
import io
import json
import logging
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq
import pytest

from flows.report import Report
from ocsf_lake.cli.main import app
from ocsf_lake.config import Settings
from ocsf_lake.ingest import run as ingest
from ocsf_lake.ingest import summary as summaries
from ocsf_lake.lake import opened
from ocsf_lake.ledger import redactions
from ocsf_lake.redaction import hiding
from ocsf_lake.redaction import policy as redaction
from ocsf_lake.redaction.rules import Rule
from ocsf_lake.storage import parquet
from ocsf_lake.upkeep import check, rebuild, rebuild_ledger, remap, replay, trace
from ocsf_lake.upkeep.trace_rows import Narrowed
from ocsf_mappers import Mapped, RawObject, registry
from ocsf_mappers.engine.engine import FEW_ROWS
from ocsf_mappers.errors import ConfigError
from ocsf_mappers.readers.streams import Blocks
from tests.ocsf_lake.conftest import HEADER, Make, call, flow, sqlite_database, write
from tests.ocsf_lake.test_ingest import rows
from tests.support import SAMPLE_LOGS, engine

DEFAULT = redaction.Policy((), None, default=True)
KEY = "a key of tests, which is long enough"
TOKEN = "ghp_PLANTED0123456789abcdefghij012345678"
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJQTEFOVEVEIn0.c2lnbmF0dXJl"
PLANTED = ("PLANTED", "eyJzdWIiOiJQTEFOVEVEIn0", "UExBTlRFRA")
"""What must be nowhere: in plain, and inside a token."""


def planted(number: int) -> list[dict[str, Any]]:
    """Records with a secret in each place and form."""
    key = "-----BEGIN PRIVATE KEY-----\nPLANTED\n-----END PRIVATE KEY-----"
    listed = {"users": [{"password": 'PLANTED"x'}], "inner": '{"clientSecret":"PLANTED"}'}
    odd = dict.fromkeys(("prod/db/password", "Master\u00a0password", 'my "db" password', "tab\tpassword"), "PLANTED")
    pair = {"name": "/prod/db/password", "type": "PLAINTEXT", "value": "PLANTED"}
    denied = {"errorMessage": "at https://u:PLANTED@h/", "errorCode": "E"}
    commands = [
        'DB_PASSWORD="a; PLANTED" ./run', r'curl -d "{\"password\":\"PLANTED\"}" -H "X-Api-Key: PLANTED123"',
        "app --token PLANTED", "a: b\ndb_password: PLANTED", f"sk-ant-{'0' * 20}PLANTED",
        "ALTER USER a IDENTIFIED WITH b BY 'PLANTED'",
    ]  # fmt: skip
    refused = {"password": "PLANTED", "note": JWT, "commands": commands, **odd}
    return [
        call(number, responseElements={"credentials": {"sessionToken": "PLANTED", "accessKeyId": "ASIAKEPT"}}),
        call(number + 1, requestParameters=listed),
        call(number + 2, userAgent="curl Bearer PLANTED1234567890", **denied),
        call(number + 3, stranger={"password": "PLANTED", "kept": "yes", **odd}, note=JWT),
        call(number + 4, **{TOKEN: "a member's name"}),
        call(number + 5, requestParameters={"script": key, "env": [pair], "commands": commands, **odd}),
        call(number + 6, eventVersion=TOKEN, sourceIPAddress=f"x{JWT}"),
        call(number + 7, requestParameters={"url": "https://b/k?X-Amz-Signature=PLANTED&a=1"}),
        call(number + 8, eventTime=f"not a time {TOKEN}", requestParameters=refused),
    ]


def held(settings: Settings) -> bytes:
    """All bytes of a lake and its ledger, with what is compressed in them decompressed."""
    parts = []
    for path in Path(settings.lake).rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            parts.append(data)
            if path.name.endswith(".gz"):
                parts.append(gzip.decompress(data))
            if path.suffix == ".parquet":
                # Dictionaries with all they have, also what no row refers to.
                file = pq.ParquetFile(path, read_dictionary=[])
                parts.append(f"{file.read().to_pylist()}{file.metadata.to_dict()}".encode())
                copy = path.parent / "copy"
                columns = [file.schema.column(number).path for number in range(len(file.schema))]
                coded = pq.ParquetFile(path, read_dictionary=columns).read()
                pq.write_table(coded, copy, compression="none")
                parts.append(copy.read_bytes())
                copy.unlink()
    ledger = Path(settings.lake) / "_ledger" / "ledger.db"
    with sqlite_database(ledger) as connection:
        parts += [line.encode() for line in connection.iterdump()]
    return b"\n".join(parts)


@pytest.mark.slow
@pytest.mark.parametrize("number", [0, pytest.param(2_100, marks=pytest.mark.slow)])
def test_a_planted_secret_is_nowhere(
    number: int, tmp_path: Path, settings: Make, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """With few records, which are mapped row by row, and with many, which are mapped value by value."""
    caplog.set_level(logging.INFO)
    records = [call(1_000 + each) for each in range(number)] + planted(0)
    write(tmp_path / "logs" / "one.json", json.dumps({"Records": records}))
    cut = json.dumps({"Records": [call(90)]})[:-2] + ', {"eventID":"cut","requestParameters":{"password":"PLANTED'
    write(tmp_path / "logs" / "two.json", cut)
    write(tmp_path / "logs" / "three.json", f'{{"Records": {TOKEN} password=PLANTED')
    found = settings(part_rows=65_536)
    summary = ingest.ingest([str(tmp_path / "logs")], found, source="aws_cloudtrail")
    counts = summary.sources["aws_cloudtrail"].counts
    assert (counts.events, counts.quarantined >= 2) == (number + 9, True)
    report = Report("run", "aws_cloudtrail", summary=summary)
    printed = json.dumps([summaries.as_dict(summary), report.markdown(), report.failure_rows(), report.message])
    app(["status", "aws_cloudtrail", "--lake", found.lake], standalone_mode=False)
    app(["quarantine", "show", "--lake", found.lake], standalone_mode=False)
    shown = capsys.readouterr()
    everything = held(found) + f"{printed}{shown.out}{shown.err}{caplog.text}".encode()
    for secret in PLANTED:
        place = everything.find(secret.encode())
        assert place < 0, everything[max(place - 200, 0) : place + 50]
    assert b"[redacted:credentials]" in everything
    assert b"ASIAKEPT" in everything
    assert "values hidden" in shown.out


def test_without_a_policy_a_secret_is_there(tmp_path: Path, settings: Make) -> None:
    """So the test before finds what it looks for."""
    write(tmp_path / "logs" / "one.json", json.dumps({"Records": planted(0)}))
    found = settings(redact_default=False)
    ingest.ingest([str(tmp_path / "logs")], found, source="aws_cloudtrail")
    assert held(found).count(b"PLANTED") > 5
    assert rows(found, "SELECT count(*) FROM ledger_redaction_batches") == [(0,)]


# -- rules of one's own -----------------------------------------------------------------------------------------------
PEOPLE = [
    call(number, account, requestParameters={"mail": f"{name}@example.com", "tags": [{"value": "v"}]},
         userIdentity={"type": "IAMUser", "userName": name, "accountId": account, "arn": f"arn:{name}"},
         additionalEventData={"secretive": name})
    for number, (account, name) in enumerate(
        [("111122223333", "ann"), ("444455556666", "bob"), ("111122223333", "ann"), ("444455556666", "ann")]
    )
]  # fmt: skip


@pytest.fixture
def people(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv(hiding.KEY_VARIABLE, KEY)
    write(tmp_path / "logs" / "one.json", json.dumps({"Records": [*PEOPLE, {"userIdentity": {"userName": "ann"}}]}))
    return str(tmp_path / "logs")


def ingested(logs: str, found: Settings) -> Settings:
    ingest.ingest([logs], found, source="aws_cloudtrail")
    return found


NAMES = "SELECT accountid, actor.user.name FROM cloud_trail_mgmt ORDER BY metadata.uid"


def test_an_attribute_is_hashed_also_among_observables_and_in_quarantine(people: str, settings: Make) -> None:
    rule = Rule(name="who", path="actor.user.name", action="hash", sources=("aws_cloudtrail",))
    found = ingested(people, settings(redact=(rule,)))
    key = hiding.Key(KEY.encode())
    given = [("111122223333", "ann"), ("444455556666", "bob"), ("111122223333", "ann"), ("444455556666", "ann")]
    hashes = [(account, key.hashed(name)) for account, name in given]
    assert rows(found, NAMES) == hashes
    values = "SELECT DISTINCT unnest(observables).value AS v FROM cloud_trail_mgmt"
    assert not {("ann",), ("bob",)} & set(rows(found, values))
    ((raw,),) = rows(found, "SELECT raw FROM quarantine")
    assert raw == json.dumps({"userIdentity": {"userName": key.hashed("ann")}})
    assert KEY.encode() not in held(found)


def test_a_rule_for_an_account_leaves_others_and_their_dictionaries(people: str, settings: Make) -> None:
    rule = Rule(name="who", path="actor.user.name", accounts=("444455556666",), sources=("aws_cloudtrail",))
    found = ingested(people, settings(redact=(rule,)))
    assert rows(found, NAMES) == [
        ("111122223333", "ann"), ("444455556666", "[redacted:who]"), ("111122223333", "ann"),
        ("444455556666", "[redacted:who]"),
    ]  # fmt: skip
    for path in Path(found.lake).rglob("accountId=444455556666/**/*.parquet"):
        copy = path.parent / "copy"
        pq.write_table(pq.ParquetFile(path, read_dictionary=["actor.user.name"]).read(), copy, compression="none")
        assert b'"bob"' not in copy.read_bytes()


@pytest.mark.parametrize(
    ("rule", "sql", "expected"),
    [
        ({"path": "api.request.data", "member": "$.mail"}, "api.request.data",
         '{"mail":"[redacted:r]","tags":[{"value":"v"}]}'),
        ({"path": "requestParameters", "member": "$.tags[*].value", "action": "drop"}, "api.request.data",
         '{"mail":"ann@example.com","tags":[{}]}'),
        ({"path": "requestParameters"}, "api.request.data", "[redacted:r]"),
        ({"path": "api.request.data", "action": "drop"}, "api.request.data", None),
        ({"path": "actor.user", "action": "drop"}, "actor.user.name", None),
        ({"path": "api.request.data", "detect": "email"}, "api.request.data",
         '{"mail":"[redacted:r]","tags":[{"value":"v"}]}'),
        ({"path": "additionalEventData", "member": "$.secretive"}, "unmapped['additionalEventData.secretive']",
         "[redacted:r]"),
        ({"path": "unmapped.additionalEventData.secretive", "action": "drop"},
         "unmapped['additionalEventData.secretive']", None),
        ({"member": "$..secretive"}, "unmapped['additionalEventData.secretive']", "[redacted:r]"),
        ({"path": "userIdentity.userName"}, "actor.user.name", "[redacted:r]"),
    ],
)  # fmt: skip
def test_rules_by_path_and_member(
    rule: dict[str, Any], sql: str, expected: str | None
) -> None:
    given = Rule.model_validate({"name": "r", "sources": ["aws_cloudtrail"], **rule})
    policy = redaction.Policy([given], None, default=True)
    policy.check()
    for records in (PEOPLE, [*PEOPLE, *(call(100 + number) for number in range(FEW_ROWS))]):
        mapped, hidden = policy.of_source(registry.load("aws_cloudtrail")).mapped(mapped_by_cloudtrail(records))
        events = mapped.events
        assert duckdb.sql(f"SELECT {sql} AS v FROM events ORDER BY metadata.uid LIMIT 1").fetchall() == [(expected,)]
        assert hidden["r"] >= 4
        plain = parquet.split(events)
        assert sum(len(rows) for *_, rows in plain) == len(records)


@pytest.mark.parametrize("times", [1, FEW_ROWS])
def test_headers_are_hidden_by_their_names(times: int) -> None:
    given = {"Host": "a", "X-Api-Key": "PLANTED", "x-page-token": "b", "Authorization": "Bearer PLANTED1234567890"}
    line = json.loads((SAMPLE_LOGS / "aws_waf" / "blocked.jsonl").read_text().splitlines()[0])
    line["httpRequest"]["headers"] = [{"name": name, "value": value} for name, value in given.items()]
    mapped = mapped_by("aws_waf", "\n".join([json.dumps(line)] * times))
    mapped, hidden = DEFAULT.of_source(registry.load("aws_waf")).mapped(mapped)
    headers = mapped.events["http_request"].combine_chunks().field("http_headers").to_pylist()
    expected = ["a", "[redacted:credentials]", "b", "Bearer [redacted:bearer]"]
    assert [[one["value"] for one in row] for row in headers] == [expected] * times
    assert hidden == {"credentials": times, "bearer": times}


def mapped_by_cloudtrail(records: Sequence[dict[str, Any]]) -> Mapped:
    return mapped_by("aws_cloudtrail", json.dumps({"Records": records}, separators=(",", ":")))


def mapped_by(source: str, text: str) -> Mapped:
    chunks = registry.load(source).readers[0].read(Blocks(io.BytesIO(text.encode())))
    return engine(source).map([(RawObject("file:///one.json"), chunk) for chunk in chunks])


def test_a_line_that_is_no_json_is_hidden_as_a_whole_in_quarantine(tmp_path: Path, settings: Make) -> None:
    write(tmp_path / "logs" / "a.log", "\n".join([HEADER, flow(1), flow(2).rsplit(" ", 6)[0]]))
    rule = Rule(name="ip", path="src_endpoint.ip", sources=("aws_vpc_flow",))
    found = settings(redact=(rule,))
    ingest.ingest([str(tmp_path / "logs")], found, source="aws_vpc_flow")
    assert rows(found, "SELECT src_endpoint.ip AS ip FROM vpc_flow") == [("[redacted:ip]",)]
    assert [raw for (raw,) in rows(found, "SELECT raw FROM quarantine")] == ["[redacted:ip]"]
    assert b"10.0.0." not in held(found)


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({"path": "api.requst.data", "sources": ["aws_cloudtrail"]}, "did you mean 'api.request.data'"),
        ({"path": "metadata.uid", "sources": ["aws_cloudtrail"]}, "it stays"),
        ({"path": "time", "action": "drop", "sources": ["aws_cloudtrail"]}, "it stays"),
        ({"path": "cloud.account.uid", "sources": ["aws_cloudtrail"]}, "it stays"),
        ({"path": "status_id", "action": "hash", "sources": ["aws_cloudtrail"]}, "use drop"),
        ({"detect": "email", "sources": ["aws_cloudtrial"]}, "did you mean 'aws_cloudtrail'"),
    ],
)
def test_a_rule_that_cannot_be_followed_stops_before_any_work(
    rule: dict[str, Any], message: str, people: str, settings: Make
) -> None:
    found = settings(redact=({"name": "r", **rule},))
    with pytest.raises(ConfigError, match=message):
        ingest.ingest([people], found, source="aws_cloudtrail")
    assert not Path(found.lake).exists()


# -- what must not change ---------------------------------------------------------------------------------------------
IDENTITY = (
    "SELECT metadata.uid, source_object, source_etag, source_record, mapper_version, region, accountid, eventday "
    "FROM cloud_trail_mgmt ORDER BY ALL"
)


@pytest.mark.slow
def test_batches_and_events_keep_their_identity(people: str, settings: Make) -> None:
    rule = Rule(name="who", path="actor", action="drop", sources=("aws_cloudtrail",))
    plain = ingested(people, settings("plain", redact_default=False))
    hiding_all = ingested(people, settings("hiding", redact=(rule, Rule(name="mails", detect="email"))))
    for sql in (IDENTITY, "SELECT id FROM ledger_batches"):
        assert rows(plain, sql) == rows(hiding_all, sql)


def test_a_lost_file_is_made_again_as_it_was_under_the_policy_of_then(people: str, settings: Make) -> None:
    rule = Rule(name="who", path="actor.user.name", action="hash", sources=("aws_cloudtrail",))
    before = ingested(people, settings(redact=(rule,)))
    files = {path: path.read_bytes() for path in Path(before.lake).rglob("eventDay=*/*.parquet")}
    now = settings(redact=(Rule(name="mails", detect="email"),))
    with opened(now) as lake:
        ((batch_id,),) = rows(now, "SELECT id FROM ledger_batches")
        for path in files:
            path.unlink()
        lost = {str(path.relative_to(now.lake)) for path in files}
        assert rebuild.rebuild_batch(lake, batch_id, lost) is None
    assert {path: path.read_bytes() for path in files} == files


def test_without_the_key_of_then_a_lost_file_is_not_made(
    people: str, settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    rule = Rule(name="who", path="actor.user.name", action="hash", sources=("aws_cloudtrail",))
    found = ingested(people, settings(redact=(rule,)))
    monkeypatch.setenv(hiding.KEY_VARIABLE, f"another {KEY}")
    ((batch_id,),) = rows(found, "SELECT id FROM ledger_batches")
    lost = {str(path.relative_to(found.lake)) for path in Path(found.lake).rglob("eventDay=*/*.parquet")}
    with opened(found) as lake:
        reason = rebuild.rebuild_batch(lake, batch_id, lost)
    assert reason is not None
    assert "hashed with the key" in reason


@pytest.mark.slow
def test_a_rebuilt_ledger_knows_policies_and_counts(people: str, settings: Make) -> None:
    found = ingested(people, settings(redact=(Rule(name="mails", detect="email"),)))
    with opened(found) as lake:
        text = redactions.policy_of(lake.ledger, rows(found, "SELECT id FROM ledger_batches")[0][0])
    assert text is not None
    assert redaction.of_text(text, found).text == text
    tables = [f"SELECT * FROM ledger_{name} ORDER BY ALL" for name in ("redacted", "redaction_batches")]
    before = [rows(found, sql) for sql in tables]
    rebuild_ledger.rebuild(found, replacing=True)
    assert [rows(found, sql) for sql in tables] == before
    assert before[0]


# -- replay, trace ----------------------------------------------------------------------------------------------------
REFUSED = {name: value for name, value in call(9).items() if name != "eventTime"} | {
    "apiVersion": "2025-03-11T09:00:00Z", "requestParameters": {"password": "PLANTED", "pin": 1234},
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("is_gone", [False, True])
def test_a_hidden_record_is_replayed(
    is_gone: bool, tmp_path: Path, settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.ocsf_lake.test_replay import mended_cloudtrail

    path = write(tmp_path / "logs" / "one.json", json.dumps({"Records": [call(1), REFUSED]}))
    pin = Rule(name="pin", member="$..pin")
    found = settings(redact=(pin,))
    ingest.ingest([str(tmp_path / "logs")], found, source="aws_cloudtrail")
    if is_gone:
        path.unlink()
    load, mapper = registry.load, mended_cloudtrail()
    monkeypatch.setattr(registry, "load", lambda name: mapper if name == mapper.name else load(name))
    again = settings()  # under another policy than that of the record's text
    summary = replay.replay(again)
    assert (summary.closed, dict(summary.open)) == (1, {})
    ((data,),) = rows(again, "SELECT api.request.data AS d FROM cloud_trail_mgmt WHERE api.request.data IS NOT NULL")
    assert json.loads(str(data)) == {
        "password": "[redacted:credentials]", "pin": "[redacted:pin]" if is_gone else 1234,
    }  # fmt: skip
    assert b"PLANTED" not in held(again)


def test_trace_compares_what_is_hidden_alike(tmp_path: Path, settings: Make) -> None:
    write(tmp_path / "logs" / "one.json", json.dumps({"Records": planted(0)[:1]}))
    found = settings()
    ingest.ingest([str(tmp_path / "logs")], found, source="aws_cloudtrail")
    asked = trace.asked(str(call(0)["eventID"]), None, None, Narrowed(), found)
    (event,) = trace.trace(found, asked).events
    assert event.changes == []
    assert event.record.text is not None
    assert "PLANTED" in event.record.text


def test_check_finds_nothing_wrong(people: str, settings: Make) -> None:
    found = ingested(people, settings())
    with opened(found) as lake:
        assert check.check(lake) == []


@pytest.mark.slow
def test_a_redelivered_record_is_a_duplicate_with_its_secrets_hidden(tmp_path: Path, settings: Make) -> None:
    found = settings(duplicates={"aws_cloudtrail": "drop"})
    for name in ("one", "two"):
        write(tmp_path / "logs" / f"{name}.json", json.dumps({"Records": planted(0)[:2]}))
        summary = ingest.ingest([str(tmp_path / "logs")], found, source="aws_cloudtrail")
    assert summary.sources["aws_cloudtrail"].duplicates == 2
    assert rows(found, "SELECT count(*) FROM cloud_trail_mgmt") == [(2,)]


@pytest.mark.slow
def test_remap_hides_what_came_in_before_there_was_a_policy(tmp_path: Path, settings: Make) -> None:
    write(tmp_path / "logs" / "one.json", json.dumps({"Records": planted(0)[:1]}))
    ingest.ingest([str(tmp_path / "logs")], settings(redact_default=False), source="aws_cloudtrail")
    now = settings()
    chosen = remap.Chosen("aws_cloudtrail", date(2025, 3, 11), date(2025, 3, 11))
    summaries_ = [remap.remap(now, chosen) for _ in range(2)]
    assert [(one.rows, one.current, one.refused) for one in summaries_] == [(1, 0, {}), (0, 1, {})]
    ((data,),) = rows(now, "SELECT api.response.data AS d FROM cloud_trail_mgmt")
    assert "[redacted:credentials]" in str(data)


@pytest.mark.slow
def test_remap_without_a_policy_is_not_taken_for_one_with_it(tmp_path: Path, settings: Make) -> None:
    write(tmp_path / "logs" / "one.json", json.dumps({"Records": planted(0)[:1]}))
    hidden, plain = settings(), settings(redact_default=False)
    ingest.ingest([str(tmp_path / "logs")], hidden, source="aws_cloudtrail")
    chosen = remap.Chosen("aws_cloudtrail", date(2025, 3, 11), date(2025, 3, 11))
    seen = []
    for used in (plain, hidden):
        assert remap.remap(used, chosen).rows == 1
        ((data,),) = rows(used, "SELECT api.response.data AS d FROM cloud_trail_mgmt")
        seen.append("PLANTED" in str(data))
    assert seen == [True, False]
