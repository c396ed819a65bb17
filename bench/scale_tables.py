"""What `bench.reckon` reckons, as tables of docs/scale.md: results, and the figures that go into them."""

from __future__ import annotations

from typing import Any

from bench import reckon
from bench.tables import TITLES, table

RARE = ("guardduty",)
"""Nobody has terabytes of these a day."""


def number(value: float) -> str:
    """Three digits that count, thousands apart."""
    if value == 0:
        return "0"
    if value >= 1_000:
        scale = 10 ** max(0, len(str(int(value))) - 3)
        return f"{round(value / scale) * scale:,}"
    return f"{value:.3g}"


def size(value: float) -> str:
    """Bytes in units that people read."""
    for unit, of in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if value >= of:
            return f"{number(value / of)} {unit}"
    return f"{number(value / 1e3)} kB"


def usd(value: float) -> str:
    """Dollars."""
    return f"${value:,.0f}" if value >= 100 else f"${value:,.2f}" if value >= 0.01 or not value else "under 1 cent"


def prices(_: dict[str, Any]) -> str:
    """The prices."""
    rows = [
        [price.of, f"${price.usd * 1_000:g} per 1,000" if price in (reckon.PUT, reckon.GET) else f"${price.usd:g}",
         price.page]
        for price in reckon.PRICES
    ]  # fmt: skip
    return table(["price of", "US dollars", "page"], rows, left=3)


def terabytes(results: dict[str, Any]) -> str:
    """A terabyte of each source, gzipped and raw."""
    rows = []
    for source in reckon.sources(results).values():
        for gzipped in (True, False):
            hours, records = source.cpu_hours(1, gzipped=gzipped), source.records(1, gzipped=gzipped)
            stored, each = records * source.stored, source.gzipped if gzipped else source.raw
            rows.append([
                TITLES[source.source], "gzipped" if gzipped else "raw", f"{each:,.1f}",
                number(records / 1e6), f"{source.rate:,.0f}", number(hours), usd(hours * reckon.CPU_HOUR.usd),
                size(stored), usd(stored / reckon.GB_MONTH_BYTES * reckon.STORED.usd),
            ])  # fmt: skip
    headings = [
        "1 TB of", "", "bytes a record", "million records", "records a CPU second", "CPU hours", "of compute",
        "Parquet", "stored a month",
    ]  # fmt: skip
    return table(headings, rows, left=2)


def bill(results: dict[str, Any]) -> str:
    """Requests and compute of a terabyte gzipped, in objects as large as measured."""
    measured = reckon.sources(results)
    rows = []
    for source in measured.values():
        if source.source in RARE:
            continue
        rows.append(_bill(
            f"{TITLES[source.source]}, {source.object_records:,.0f} records an object", source.records(1, gzipped=True),
            source.object_records, source.batch_records, source.files, source.cpu_hours(1, gzipped=True),
        ))  # fmt: skip
    part = results["small"]
    each = part["records_each"]
    records = reckon.TERABYTE / (part["gzip_bytes"] / part["objects"]) * each
    objects, files = reckon.small_batch(results)
    hours = records / each * reckon.small(results)["cpu_seconds"] / part["objects"] / reckon.HOUR
    rows.insert(1, _bill(f"CloudTrail, {each} records an object", records, each, objects * each, files, hours))
    headings = ["1 TB gzipped of", "million objects", "thousand batches", "files each", "GET", "LIST", "PUT", "compute"]
    return table(headings, rows)


def _bill(name: str, records: float, an_object: float, a_batch: float, files: float, hours: float) -> list[str]:
    objects, batches = records / an_object, records / a_batch
    asked = reckon.requests(objects, batches, files)
    return [
        name, number(objects / 1e6), number(batches / 1e3), f"{files:.1f}", usd(asked.gets * reckon.GET.usd),
        usd(asked.lists * reckon.PUT.usd), usd(asked.puts * reckon.PUT.usd), usd(hours * reckon.CPU_HOUR.usd),
    ]  # fmt: skip


def runs(_: dict[str, Any]) -> str:
    """What runs cost that find nothing new."""
    rows = []
    for accounts, regions, every in ((10, 2, 60), (100, 4, 15), (1_000, 4, 5)):
        sources, a_day = 3, 24 * 60 // every
        lists = reckon.lists_a_run(accounts, sources, accounts * regions * sources)
        rows.append([
            f"{accounts:,} accounts, {regions} regions, {sources} sources", str(every), f"{lists:,}",
            f"{lists * a_day:,}", usd(lists * a_day * reckon.PUT.usd), usd(lists * a_day * 30 * reckon.PUT.usd),
        ])  # fmt: skip
    headings = ["listing of", "every, minutes", "LIST a run", "LIST a day", "a day", "30 days"]
    return table(headings, rows)


def ledger_size(results: dict[str, Any]) -> str:
    """The ledger of a million objects and of the organisation's year."""
    year = reckon.backfill(results)
    objects, files, batches = (sum(getattr(one, name) for one in year) for name in ("objects", "files", "batches"))
    rows = [
        [one.database, number(one.object), number(one.file), number(one.batch), size(one.object * 1e6),
         size(one.bytes(objects, files, batches)), f"{number(one.rate * reckon.DAY / 1e6)} million"]
        for one in reckon.ledgers(results)
    ]  # fmt: skip
    headings = [
        "database", "bytes an object", "a file", "a batch", "a million objects", "the year below",
        "objects a day, one writer",
    ]  # fmt: skip
    sentence = f"The year below has {number(objects / 1e6)} million objects, {number(files / 1e6)} million files and "
    return f"{table(headings, rows)}\n\n{sentence}{number(batches / 1e3)} thousand batches."


def workers(results: dict[str, Any]) -> str:
    """Workers for so many terabytes a day."""
    rows = [
        [TITLES[source.source], "gzipped" if gzipped else "raw", number(source.cpu_hours(1, gzipped=gzipped)),
         *(f"{source.workers(amount, gzipped=gzipped):,}" for amount in reckon.TERABYTES_A_DAY)]
        for source in reckon.sources(results).values() if source.source not in RARE
        for gzipped in (True, False)
    ]  # fmt: skip
    headings = ["source", "", "CPU hours a TB", *(f"{amount} TB a day" for amount in reckon.TERABYTES_A_DAY)]
    return table(headings, rows, left=2)


def organisation(_: dict[str, Any]) -> str:
    """Who the organisation is."""
    of = reckon.ORGANISATION
    rows = [
        [TITLES[source], number(records / 1e6) + " million" if records >= 1e6 else f"{records:,}",
         f"{of.objects(source):,}", f"{records / of.objects(source):,.0f}"]
        for source, records in of.records
    ]  # fmt: skip
    return "\n".join([
        f"{of.accounts} accounts in {of.regions} regions, of each an object every {of.minutes} minutes:", "",
        table(["source", "records a day", "objects a day", "records an object"], rows),
    ])


def backfill(results: dict[str, Any]) -> str:
    """The organisation's year."""
    shares, of = reckon.backfill(results), reckon.ORGANISATION
    rows = [
        [TITLES[one.source], number(one.records / 1e9), number(one.objects / 1e6), number(one.cpu_hours),
         usd(one.cpu_hours * reckon.CPU_HOUR.usd), usd(one.requests.usd), size(one.stored),
         usd(one.stored / reckon.GB_MONTH_BYTES * reckon.STORED.usd)]
        for one in shares
    ]  # fmt: skip
    hours, stored = sum(one.cpu_hours for one in shares), sum(one.stored for one in shares)
    rows.append([
        "all", number(sum(one.records for one in shares) / 1e9), number(sum(one.objects for one in shares) / 1e6),
        number(hours), usd(hours * reckon.CPU_HOUR.usd), usd(sum(one.requests.usd for one in shares)), size(stored),
        usd(stored / reckon.GB_MONTH_BYTES * reckon.STORED.usd),
    ])  # fmt: skip
    share = min(1.0, min(reckon.efficiency(results, row["source"]) for row in results["cores"]))
    headings = [
        "source", "billion records", "million objects", "CPU hours", "of compute", "of requests", "Parquet", "a month",
    ]  # fmt: skip
    objects = sum(one.objects for one in shares)
    waits = [
        f"{number(objects / one.rate / reckon.HOUR)} hours in {one.database}" for one in reckon.ledgers(results)
    ]
    return "\n".join([
        table(headings, rows), "",
        f"With {of.workers} workers on as many processors: {number(hours)} CPU hours / ({of.workers} x {share:.2f}) = "
        f"{number(hours / of.workers / share)} hours by the clock, where {share:.2f} is the least efficiency measured "
        f"of two workers. The ledger plans and finishes {number(objects / 1e6)} million objects in {', '.join(waits)}, "
        "where one process asks it to; that is part of those hours.",
    ])  # fmt: skip

