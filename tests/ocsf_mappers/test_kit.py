"""A source proposed from real records: what is seen in them, the class, the rows, and that the module runs."""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ocsf_mappers import DEFAULT_VERSION, registry
from ocsf_mappers.errors import ConfigError, ReadError
from ocsf_mappers.kit import scaffold
from ocsf_mappers.kit.look import BYTES, KEYS, MEMBERS, RECORDS, look
from ocsf_mappers.kit.propose import propose
from ocsf_mappers.testing import Report, check, samples_of
from tests.support import VERSIONS

PROXY = [
    {
        "ts": "2026-03-16T10:00:00Z", "client_ip": "10.0.0.7", "method": "GET", "url": "https://a.example/x",
        "status": 200,
    },
    {
        "ts": "2026-03-16T10:00:01Z", "client_ip": "2001:db8::1", "method": "POST", "url": "https://b.example/",
        "status": 403, "tags": ["a"], "tls": {"version": "1.3", "sni": "b.example"},
    },
]  # fmt: skip
FLOW = "srcaddr dstaddr srcport dstport protocol bytes start\n10.0.0.1 10.0.0.2 443 50000 6 120 1767225600\n"


def lines(*records: object) -> bytes:
    return "".join(f"{json.dumps(record)}\n" for record in records).encode()


def made(
    tmp_path: Path, data: bytes, event_class: str | None = None, name: str = "acme_log", *, versions: Sequence[str] = ()
) -> tuple[str, Report]:
    """The module that is proposed, and what its sample shows, in the version that lakes have where none is named."""
    seen = look(data)
    text = scaffold.module(name, seen, propose(name, seen.members, event_class))
    folder = tmp_path / name
    (folder / "samples").mkdir(parents=True)
    (folder / "__init__.py").write_text(text)
    (folder / "samples" / f"a{seen.suffix}").write_bytes(seen.sample)
    registry.use_file(folder / "__init__.py")
    return text, check(name, versions=versions or [DEFAULT_VERSION], update_golden=True)


def test_members_are_seen_with_their_kinds_and_looks() -> None:
    found = {member.name: member for member in look(lines(*PROXY)).members}
    assert list(found) == ["ts", "client_ip", "method", "url", "status", "tags", "tls.version", "tls.sni"]
    assert found["ts"].looks == {"time in ISO 8601"}
    assert found["client_ip"].looks == {"address"}
    assert "HTTP status" in (found["status"].looks or ())
    assert (found["tags"].is_json, found["tags"].count, found["status"].count) == (True, 1, 2)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("data", "records"),
    [
        (lines(*PROXY), 2),
        (gzip.compress(lines(*PROXY)), 2),
        (json.dumps({"Records": PROXY}).encode(), 2),
        (json.dumps(PROXY).encode(), 2),
        (lines({"version": "0", "detail-type": "x", "source": "y", "detail": PROXY[0]}), 1),
        (FLOW.encode(), 1),
        (FLOW.replace(" ", ",").encode(), 1),
        (b'2026-03-16T10:00:00Z "a b" 10.0.0.1\n2026-03-16T10:00:01Z "c" 10.0.0.2\n', 2),
        (b'at=2026-03-16T10:00:00Z who="a b" from=10.0.0.1\nat=2026-03-16T10:00:01Z who=c from=10.0.0.2\n', 2),
        (b"#Version: 1.0\n#Fields: time c-ip cs-method\n2026-03-16T10:00:00Z\t10.0.0.1\tGET\n", 1),
        (b"1773655200.125\t10.0.0.1\tGET\n1773655201\t10.0.0.2\tPOST\n", 2),
        (b'{"at":1773655200125000,"who":"a"}\n', 1),
    ],
    ids=[
        "lines", "gzip", "list member", "array", "EventBridge", "blanks", "commas", "quotes", "pairs", "W3C",
        "seconds with decimals", "microseconds",
    ],
)
def test_each_format_gives_a_module_whose_records_become_valid_events(
    tmp_path: Path, data: bytes, records: int
) -> None:
    _, report = made(tmp_path, data)
    assert report.problems == []
    assert (report.counts["events"], report.counts["quarantined"]) == (records, 0)


def test_the_module_s_events_are_valid_in_each_version_and_as_its_golden_says(tmp_path: Path) -> None:
    _, report = made(tmp_path, lines(*PROXY), versions=VERSIONS)
    assert (report.problems, report.versions) == ([], VERSIONS)
    assert check("acme_log").problems == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sender", "sender_port", "receiver", "receiver_port"),
    [
        ("src", "sport", "dst", "dport"),
        ("saddr", "spt", "daddr", "dpt"),
        ("source_ip", "src_port", "target", "dst_port"),
    ],
)
def test_short_names_of_both_ends_give_them_away(
    tmp_path: Path, sender: str, sender_port: str, receiver: str, receiver_port: str
) -> None:
    flow = {"ts": "2026-03-02T10:00:00Z", "proto": "tcp", "bytes": 5312, "packets": 9}
    flow |= {sender: "10.0.0.5", sender_port: 51544, receiver: "198.51.100.7", receiver_port: 443}
    text, report = made(tmp_path, lines(flow))
    assert (report.counts["events"], report.problems) == (1, [])
    assert f'"src_endpoint.ip": col.{sender},' in text
    assert f'"src_endpoint.port": col.{sender_port},' in text
    assert f'"dst_endpoint.ip": col.{receiver},' in text
    assert f'"dst_endpoint.port": col.{receiver_port},' in text


def test_lines_of_no_known_form_are_a_column_for_a_regular_expression() -> None:
    seen = look(b"Mar 16 10:00:00 host sshd[1]: Accepted publickey for ann\nMar 16 10:00:01 host kernel: hello\n")
    assert [member.name for member in seen.members] == ["line"]
    assert "Pattern(" in scaffold.module("acme_log", seen, propose("acme_log", seen.members))


@pytest.mark.slow
def test_a_log_s_own_message_is_a_member_and_no_wrapping(tmp_path: Path) -> None:
    plain = {"time": "2026-03-16T10:00:00Z", "level": "info", "message": "hello", "host": "a.example"}
    held = {**plain, "message": json.dumps({"inner": 1})}
    text, report = made(tmp_path, lines(plain, held))
    assert (report.counts["events"], report.problems) == (2, [])
    assert '"message": col.message' in text


def test_a_sample_with_a_broken_record_keeps_the_others(tmp_path: Path) -> None:
    data = b"{broken\n" + lines(*PROXY)
    assert b"broken" not in look(data).sample
    assert look(data).sample.count(b"client_ip") == 2


@pytest.mark.slow
def test_parquet_is_a_format_too(tmp_path: Path) -> None:
    sink = BytesIO()
    flow = {"Src-Addr": ["10.0.0.1"], "dstaddr": ["10.0.0.2"], "start": [1767225600], "bytes": [1]}
    pq.write_table(pa.table(flow), sink)
    _, report = made(tmp_path, sink.getvalue(), "network_activity")
    assert (report.problems, report.counts["events"]) == ([], 1)


@pytest.mark.slow
def test_names_and_values_give_rows_away(tmp_path: Path) -> None:
    text, _ = made(tmp_path, lines(*PROXY))
    for row in (
        'EventMap("http_activity"', '"activity_id": col.method.replace(GET="Get", POST="Post"),',
        '"time": col.ts.iso8601(),', '"src_endpoint.ip": col.client_ip,', '"http_response.code": col.status,',
        '# "?": col.tls.sni,', 'all_of=("client_ip", "method", "status", "url")',
    ):  # fmt: skip
        assert row in text


def test_a_class_that_is_asked_for_is_taken() -> None:
    assert propose("acme_log", look(lines(*PROXY)).members, "3002").event_class == "authentication"
    with pytest.raises(ConfigError, match="did you mean 'authentication'"):
        propose("acme_log", look(lines(*PROXY)).members, "authentcation")


@pytest.mark.slow
def test_records_that_speak_of_no_class_are_base_events(tmp_path: Path) -> None:
    text, report = made(tmp_path, lines({"at": "2026-03-16T10:00:00Z", "colour": "red"}))
    assert 'EventMap("base_event"' in text
    assert report.counts["events"] == 1


@pytest.mark.slow
def test_names_from_the_data_are_only_ever_text(tmp_path: Path) -> None:
    hostile = {
        "at": "2026-03-16T10:00:00Z",
        'x"); raise SystemExit("y': "1",
        "import": "a\nraise SystemExit",
        "is_null": {"where": "b", "class": "\"\"\""},
        "Colour": "red",
        "colour": "blue",
        "a b": "c",
        "\u202e": "d",
    }
    _, report = made(tmp_path, lines(hostile))
    assert report.problems == []
    assert report.coverage is not None
    assert {'x"); raise SystemExit("y', "colour", "\u202e"} <= report.coverage.unmapped.keys()


def test_a_member_that_is_an_object_now_and_then_stays_whole() -> None:
    found = {member.name for member in look(lines({"a": {"b": {"c": 1}}}, {"a": "x"}, {"a": {"b": 2}})).members}
    assert found == {"a"}


@pytest.mark.parametrize("data", [b"", b"\0\1\2\n", b"{}\n", b"[1, 2]\n", b"a,b,c\n"])
def test_a_sample_without_records_is_refused_in_words(data: bytes) -> None:
    with pytest.raises(ConfigError):
        look(data)


def test_a_sample_keeps_the_records_that_show_most() -> None:
    data = lines(*({"at": str(number)} for number in range(100)), {"rare": 1})
    assert b'"rare"' in look(data).sample
    assert look(data).sample.count(b"\n") == 20


@pytest.mark.slow
def test_two_samples_have_two_goldens(tmp_path: Path) -> None:
    made(tmp_path, lines(*PROXY))
    samples = tmp_path / "acme_log" / "samples"
    before = (samples / "a.expected.json").read_bytes()
    (samples / "a.two.jsonl").write_bytes(lines(PROXY[0]))
    (problem,) = check("acme_log", update_golden=True).problems
    assert problem.startswith("a.jsonl, a.two.jsonl: all have the golden a.expected.json")
    assert (samples / "a.expected.json").read_bytes() == before


def test_a_file_below_the_root_has_no_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "file_of", lambda name: Path("/acme_log.py"))
    assert samples_of("acme_log") is None


def test_of_a_document_that_is_cut_off_the_records_are_looked_at() -> None:
    record = {"time": "2026-03-16T10:00:00Z", "client": "10.0.0.7", "pad": "x" * 400}
    data = json.dumps({"version": "1", "Hits": [record] * (BYTES // 400)}).encode()
    assert len(data) > BYTES
    seen = look(data)
    assert seen.code.startswith('JsonRecords(lists=("Hits",)')
    assert {member.name for member in seen.members} == {"time", "client", "pad"}


@pytest.mark.slow
def test_members_are_not_without_end() -> None:
    wide = look(lines({f"k{number}": 1 for number in range(MEMBERS + 7)}))
    assert (len(wide.members), wide.more) == (MEMBERS, 7)
    assert "# 7 more members" in scaffold.module("acme_log", wide, propose("acme_log", wide.members))
    records = [{"t": 1, "by": {f"u{number}": 1}, "odd": {f"10.0.0.{number}": 1}} for number in range(KEYS * 2)]
    maps = look(lines(*records))
    assert {member.name: set(member.kinds) for member in maps.members} == {
        "t": {"number"}, "by": {"object"}, "odd": {"object"},
    }  # fmt: skip


@pytest.mark.slow
def test_what_is_very_deep_or_long_is_looked_at_without_end_of_time_or_stack(tmp_path: Path) -> None:
    deep = '{"a":' * 5_000 + "1" + "}" * 5_000
    long = json.dumps({"at": "2026-03-16T10:00:00Z", "m": "a@" + "." * 200_000 + " x"})
    seen = look(f"{deep}\n{long}\n".encode())
    assert [sorted(member.looks or ()) for member in seen.members if member.name == "m"] == [[]]
    _, report = made(tmp_path, f"{long}\n{deep}\n".encode(), "base_event")
    assert report.problems == []


def test_of_a_parquet_file_only_the_first_rows_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    sink = BytesIO()
    pq.write_table(pa.table({"at": ["2026-03-16T10:00:00Z"] * 50_000}), sink, row_group_size=1_000)
    monkeypatch.setattr(pq, "read_table", None)
    assert look(sink.getvalue()).records == RECORDS


def test_a_damaged_parquet_file_is_refused_in_words() -> None:
    with pytest.raises(ReadError, match="not a whole Parquet file"):
        look(b"PAR1" + b"x" * 100)
