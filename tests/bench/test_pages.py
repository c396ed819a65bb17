"""The pages about cost say what their results say, and the reckoning is right."""

import json
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from bench import __main__ as command
from bench import chart, pages, reckon, s3_requests, scale_tables, stages, startup, tables
from bench.ways import FLOOR, OURS

ROOT = Path(__file__).parents[2]
SVG = "{http://www.w3.org/2000/svg}"


def cost(records: int, seconds: float) -> dict[str, Any]:
    return {
        "records": records, "wall_seconds": seconds, "cpu_seconds": seconds, "peak_rss_bytes": 5 * 10**8,
        "bytes_in": 10**6, "bytes_out": 9 * 10**5, "files_out": 3, "rows_out": records,
    }  # fmt: skip


@pytest.fixture
def results() -> dict[str, Any]:
    """Round numbers: a record has 1,000 bytes, 100 of them gzipped; ours takes 100,000 in a second."""
    logs = {"files": 10, "records": 100_000, "raw_bytes": 10**8, "gzip_bytes": 10**7}
    lake = {"files": 4, "batches": 2, "bytes": 8 * 10**6}
    sources = list(tables.TITLES)
    return {
        "machine": {
            "cpu": "CPU", "cpus": 2, "memory_bytes": 2**33, "system": "Linux", "python": "3.11",
            "reader": "compiled", "libraries": {"a": "1"},
        },
        "measured": {
            "ways": {"at": "2026-01-01 00:00 UTC", "commit": "abc", "load": 0.1, "command": "python -m bench"},
        },
        "logs": dict.fromkeys(sources, logs),
        "ways": [
            {"source": source, "way": way, "note": "", "cost": cost(100_000, seconds), "lake": lake}
            for source in sources for way, seconds in ((FLOOR, 0.5), (OURS, 1.0))
        ],
        "stages": [
            {"source": source, "records": 100_000, "seconds": {"Parquet": 0.25, stages.REST: 0.75}}
            for source in sources
        ],
        "small": {
            "objects": 1_000, "records_each": 40, "gzip_bytes": 4 * 10**6,
            "rows": [{"way": "s3", "step": "ingest", "cpu_seconds": 1.4, "wall_seconds": 2.0, "peak": 4 * 10**8}],
        },
        "cores": [
            {"source": "cloudtrail", "workers": workers, "cpus": workers, "cost": cost(100_000, seconds)}
            for workers, seconds in ((1, 1.0), (2, 0.625))
        ],
        "start": [{"command": "`ocsf-lake --help`", "wall_seconds": 0.1, "cpu_seconds": 0.1, "peak": 10**8}],
        "requests": [
            {"case": case, "objects": objects, "batches": batches, "files": 30 * batches, "asked": {"GET logs": 1}}
            for case, (objects, batches) in s3_requests.CASES.items()
        ],
        "ledger": [{
            "database": "SQLite", "objects": 10, "bytes": 2_000, "files": 4, "bytes_of_files": 1_200, "batches": 2,
            "bytes_of_batches": 800, "planned": 4_000.0, "finished": 4_000.0,
        }],
    }  # fmt: skip


def test_the_pages_say_what_the_stored_results_say() -> None:
    stored = json.loads((ROOT / "docs" / pages.RESULTS).read_text(encoding="utf-8"))
    for page, text in pages.render(ROOT / "docs", stored):
        assert page.read_text(encoding="utf-8") == text, f"{page}: python -m bench --no-run --results ... --write docs"


def test_every_block_stands_on_a_page() -> None:
    files = (ROOT / "README.md", *(ROOT / "docs" / name for name in ("benchmarks.md", "scale.md")))
    shown = [found[2] for file in files for found in pages.BLOCK.finditer(file.read_text(encoding="utf-8"))]
    assert sorted(shown) == sorted(pages.BLOCKS)


def test_lists_are_counted_as_reckoned() -> None:
    stored = json.loads((ROOT / "docs" / pages.RESULTS).read_text(encoding="utf-8"))
    row = next(row for row in stored["requests"] if row["case"] == s3_requests.BY_DAY)
    assert row["asked"]["LIST logs"] == reckon.lists_a_run(accounts=5, sources_each=1, folders_of_years=5)


def test_an_object_is_one_get_and_a_batch_its_files_and_two_more() -> None:
    stored = json.loads((ROOT / "docs" / pages.RESULTS).read_text(encoding="utf-8"))
    for row in stored["requests"]:
        if row["case"] in s3_requests.CASES:
            assert row["asked"]["GET logs"] == row["objects"]
            assert row["asked"]["PUT lake"] == row["files"] + 2 * row["batches"] + 2  # two more of a new lake


def test_a_terabyte(results: dict[str, Any]) -> None:
    source = reckon.sources(results)["cloudtrail"]
    assert (source.raw, source.gzipped, source.stored, source.rate) == (1_000, 100, 80, 100_000)
    assert source.records(1, gzipped=True) == 10**10
    assert source.cpu_hours(1, gzipped=True) == pytest.approx(10**5 / 3_600)
    assert source.cpu_hours(1, gzipped=False) == pytest.approx(10**4 / 3_600)
    row = next(line for line in scale_tables.terabytes(results).splitlines() if "CloudTrail" in line)
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    # 27.8 hours at $0.03625; 10^10 records of 80 bytes are 745.06 GB as AWS counts them, at $0.023.
    assert cells == ["CloudTrail", "gzipped", "100.0", "10,000", "100,000", "27.8", "$1.01", "800 GB", "$17.14"]


@pytest.mark.parametrize(("terabytes", "expected"), [(1, 2), (10, 17), (100, 166)])
def test_workers_keep_up_while_they_rest_three_hours_of_ten(
    results: dict[str, Any], terabytes: int, expected: int
) -> None:
    # 27.78 CPU hours a terabyte / 24 / 0.7 = 1.65
    assert reckon.sources(results)["cloudtrail"].workers(terabytes, gzipped=True) == expected


def test_requests_and_their_price() -> None:
    asked = reckon.requests(objects=1_000_000, batches=1_000, files_a_batch=8)
    assert (asked.gets, asked.lists, asked.puts) == (1_000_000, 1_000, 10_000)
    assert asked.usd == pytest.approx(0.40 + 0.005 + 0.05)


def test_a_year_is_its_records_and_its_objects(results: dict[str, Any]) -> None:
    assert reckon.seconds_an_object(results) == pytest.approx(0.0014 - 0.0004)
    of = reckon.Organisation(accounts=1, regions=1, minutes=5, records=(("cloudtrail", 1_000_000),))
    (year,) = reckon.backfill(results, of)
    assert (year.records, year.objects) == (365_000_000, 288 * 365)
    assert year.cpu_hours == pytest.approx((3_650 + 288 * 365 * 0.001) / 3_600)
    assert year.stored == 365_000_000 * 80
    # 50,000 records a batch make more batches than 1,000 objects: 7,300, of two files.
    assert (year.batches, year.files) == (pytest.approx(7_300), pytest.approx(14_600))
    assert year.requests.puts == pytest.approx(7_300 * 4)


def test_stages_are_microseconds_and_shares(results: dict[str, Any]) -> None:
    rows = {line.split("|")[1].strip(): line.split("|")[2].strip() for line in tables.stages(results).splitlines()}
    assert (rows["Parquet"], rows[stages.REST], rows["all"]) == ("2.50 (25%)", "7.50 (75%)", "10.00")
    assert rows["hiding secrets"] == "0.00 (0%)"


def test_efficiency_and_ledger(results: dict[str, Any]) -> None:
    assert reckon.efficiency(results, "cloudtrail") == pytest.approx(0.8)
    (ledger,) = reckon.ledgers(results)
    assert (ledger.object, ledger.file, ledger.batch) == (200, 300, 400)
    assert ledger.rate == pytest.approx(2_000)
    assert ledger.bytes(objects=10, files=3, batches=1) == 2_000 + 900 + 400


def test_pages_are_filled_between_their_marks_and_nowhere_else(results: dict[str, Any]) -> None:
    text = "before\n<!-- bench: start -->\nold\n<!-- /bench -->\nafter\n"
    filled = pages.filled(text, results)
    assert filled.startswith("before\n<!-- bench: start -->\n\n| command")
    assert filled.endswith("\n\n<!-- /bench -->\nafter\n")
    assert pages.filled(filled, results) == filled
    with pytest.raises(ValueError, match="no block 'nonsense'"):
        pages.filled("<!-- bench: nonsense -->\n<!-- /bench -->", results)


def test_every_block_renders(results: dict[str, Any]) -> None:
    for name, block in pages.BLOCKS.items():
        assert block(results).strip(), name


def test_a_busy_machine_is_told(results: dict[str, Any]) -> None:
    assert "Other programs" not in tables.machine(results)
    results["measured"]["ways"]["load"] = 4.0
    assert "Other programs ran beside while these were measured: ways." in tables.machine(results)


def test_a_way_that_failed_is_shown_without_figures(results: dict[str, Any]) -> None:
    results["ways"][0] |= {"cost": None, "note": "failed: out of memory"}
    shown = tables.ways(results)
    assert "out of memory" in shown
    assert "failed" not in tables.summary(results)


def test_the_chart_is_text_without_script(results: dict[str, Any]) -> None:
    drawn = pages.drawn(results)
    root = ET.fromstring(drawn)
    texts = [found.text for found in root.iter(f"{SVG}text")]
    assert "100,000" in texts
    assert "ocsf-lake" in texts
    assert not list(root.iter(f"{SVG}script"))
    assert "prefers-color-scheme: dark" in drawn
    widths = [float(found.get("width", "")) for found in root.iter(f"{SVG}rect")]
    assert widths[:2] == [chart.BAR, chart.BAR / 2]


def test_labels_of_a_chart_are_escaped() -> None:
    drawn = chart.bars("a & b", [chart.Panel("<p>", [chart.Bar("<script>", 1.0)])])
    assert [found.text for found in ET.fromstring(drawn).iter(f"{SVG}text")][-2:] == ["<script>", "1"]


@pytest.mark.parametrize(
    ("value", "expected"), [(0, "0"), (0.123456, "0.123"), (12.34, "12.3"), (1_234, "1,230"), (9_876_543, "9,880,000")]
)
def test_three_digits_count(value: float, expected: str) -> None:
    assert scale_tables.number(value) == expected


def test_the_command_shows_results_without_measuring(
    results: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "r.json").write_text(json.dumps(results))
    assert command.main(["--no-run", "--results", str(tmp_path / "r.json")]) == 0
    assert "| ocsf-lake" in capsys.readouterr().out


def test_the_command_refuses_what_it_does_not_know(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command.main(["--only", "nonsense"])
    assert "--only nonsense: no such part, source or way" in capsys.readouterr().err


def test_a_page_is_not_written_from_half_of_the_results(
    results: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    del results["ledger"]
    (tmp_path / "r.json").write_text(json.dumps(results))
    with pytest.raises(SystemExit):
        command.main(["--no-run", "--results", str(tmp_path / "r.json"), "--write", str(tmp_path)])
    assert "not measured and not in --results: ledger" in capsys.readouterr().err


def test_requests_are_told_apart() -> None:
    assert s3_requests.kind("GET", "/bucket/?list-type=2&prefix=raw/AWSLogs/") == "LIST logs"
    assert s3_requests.kind("GET", "/bucket/raw/1/a.json.gz") == "GET logs"
    assert s3_requests.kind("PUT", "/bucket/lake/0/_batches/a") == "PUT lake"
    assert s3_requests.kind("HEAD", "/bucket") == "HEAD bucket"


@pytest.mark.slow
def test_peak_memory_of_a_command_is_its_own() -> None:
    held = bytearray(b"x") * (300 << 20)  # of this process, which starts the command
    found = startup._cost(["--help"])
    assert len(held) > found["peak"] > 10 << 20
    assert 0 < found["cpu_seconds"] < 60


def test_a_command_that_fails_is_no_measurement() -> None:
    with pytest.raises(RuntimeError, match="exit code 2"):
        startup._cost(["nonsense"])
