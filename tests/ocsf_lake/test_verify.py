"""What was done to log files and digests is found and named, each time, and what nobody touched is proved."""

from __future__ import annotations

import gzip
import itertools
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import date, timedelta
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from fsspec.implementations.local import LocalFileSystem

from ocsf_lake.config import Settings
from ocsf_lake.evidence.keys import PublicKeys, from_files
from ocsf_lake.evidence.report import Fault, Proof, Summary
from ocsf_lake.evidence.tree import in_tree
from ocsf_lake.evidence.verify import Asked, verify
from ocsf_mappers import registry
from ocsf_mappers.errors import ConfigError
from tests import digests
from tests.digests import HOUR, Tree, moment
from tests.servers.rgw import S3Server

ACCOUNT, OTHER = "111122223333", "444455556666"
REGION, SECOND = "us-east-1", "eu-west-1"
DAY = date(2026, 5, 4)
START = moment("2026-05-04T00:01:31")
"""End of the first digest that covers some of the day."""
NOW = moment("2026-05-09T12:00:00")
HOURS = 28
"""Digests of a chain: the day, and the hours after it that sign and name what is in it."""


@cache
def _delivered() -> tuple[Tree, dict[tuple[str, str], list[str]]]:
    tree = Tree()
    places = [(ACCOUNT, REGION), (ACCOUNT, SECOND), (OTHER, REGION)]
    return tree, {place: tree.chain(*place, START, HOURS) for place in places}


@pytest.fixture
def tree() -> Tree:
    """Three chains of a trail, as they were delivered."""
    return _delivered()[0].copy()


@pytest.fixture
def chain() -> list[str]:
    """The digests of the first one, in order."""
    return list(_delivered()[1][ACCOUNT, REGION])


@pytest.fixture
def keys(tmp_path: Path) -> PublicKeys:
    file = tmp_path / "keys.json"
    file.write_text(digests.public_keys(digests.key()), encoding="utf-8")
    return PublicKeys(from_files([file]))


Check = Callable[..., tuple[list[Fault], list[Proof], Summary]]


@pytest.fixture
def check(tmp_path: Path, keys: PublicKeys) -> Check:
    """Verifies the day of a tree, copied to a folder of its own."""
    numbers = itertools.count()

    def run(tree: Tree, keys: PublicKeys | None = keys, **asked: object) -> tuple[list[Fault], list[Proof], Summary]:
        uri = str(tree.write(tmp_path / f"copy{next(numbers)}"))
        return of(Asked(uri, **{"first": DAY, "last": DAY, **asked}), keys)  # type: ignore[arg-type]

    return run


def of(asked: Asked, keys: PublicKeys | None) -> tuple[list[Fault], list[Proof], Summary]:
    summary = Summary()
    found = list(verify(registry.source("aws_cloudtrail"), asked, Settings(), keys, summary, NOW))
    faults = [item for item in found if isinstance(item, Fault)]
    assert summary.faults == len(faults)
    return faults, [item for item in found if isinstance(item, Proof)], summary


def said(faults: list[Fault]) -> list[tuple[str, str]]:
    """What each is, and its object's key."""
    return [(fault.what, in_tree(fault.object) or fault.object) for fault in faults]


def logs_of(tree: Tree, digest: str) -> list[str]:
    return [log["s3Object"] for log in tree.read(digest)["logFiles"]]


# -- nothing was done -------------------------------------------------------------------------------------------------
def test_what_nobody_touched_is_proved(tree: Tree, check: Check) -> None:
    faults, proofs, summary = check(tree)
    assert not faults
    assert [(proof.account, proof.region, proof.digests, proof.proved) for proof in proofs] == [
        (ACCOUNT, SECOND, 25, 25), (ACCOUNT, REGION, 25, 25), (OTHER, REGION, 25, 25),
    ]  # fmt: skip
    assert (summary.proved, summary.seconds, summary.empty, summary.files) == (75, 75 * 3600, 51, 48)
    assert (proofs[0].first, proofs[0].last) == (START - HOUR, START + 24 * HOUR)
    assert not summary.pending


def test_all_of_it_needs_the_signature_of_the_last_digest(tree: Tree, chain: list[str], check: Check) -> None:
    faults, _, summary = check(tree, first=None, last=None, accounts=(ACCOUNT,), regions=(REGION,))
    assert said(faults) == [("digest not signed", chain[-1])]
    assert (summary.digests, summary.proved) == (HOURS, HOURS - 1)


def test_an_account_and_a_region_can_be_chosen(tree: Tree, check: Check) -> None:
    _, proofs, _ = check(tree, accounts=(ACCOUNT,), regions=(SECOND,))
    assert [(proof.account, proof.region) for proof in proofs] == [(ACCOUNT, SECOND)]
    with pytest.raises(ConfigError, match=f"for account 999988887777 .*there: {ACCOUNT}, {OTHER}"):
        check(tree, accounts=("999988887777",))


@pytest.mark.parametrize(
    "below", ["AWSLogs", f"AWSLogs/{digests.ORGANIZATION}", f"AWSLogs/{digests.ORGANIZATION}/{ACCOUNT}"]
)
def test_a_folder_in_the_tree_can_be_named(tree: Tree, keys: PublicKeys, tmp_path: Path, below: str) -> None:
    faults, proofs, _ = of(Asked(str(tree.write(tmp_path) / below), DAY, DAY), keys)
    assert not faults
    assert len(proofs) == (2 if below.endswith(ACCOUNT) else 3)


def test_a_copy_is_matched_by_keys_and_said_to_be_one(tree: Tree, keys: PublicKeys, tmp_path: Path) -> None:
    moved = Tree(prefix="audit/2026/")
    moved.chain(ACCOUNT, REGION, START, HOURS)
    for own, data in moved.objects.items():
        path = tmp_path / "case 7" / own.removeprefix(moved.prefix)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    faults, _, summary = of(Asked(str(tmp_path / "case 7"), DAY, DAY), keys)
    assert not faults
    assert summary.copied == {"org-logs/audit/2026": 25}


def test_log_files_that_were_decompressed_are_the_same(tree: Tree, check: Check) -> None:
    tree.objects |= {own: gzip.decompress(data) for own, data in tree.objects.items() if "_CloudTrail_" in own}
    faults, _, summary = check(tree)
    assert not faults
    assert summary.files == 48


# -- log files --------------------------------------------------------------------------------------------------------
def test_a_changed_log_file(tree: Tree, chain: list[str], check: Check) -> None:
    log = logs_of(tree, chain[5])[1]
    tree.objects[log] = gzip.compress(b'{"Records":[]}')
    faults, _, summary = check(tree)
    assert said(faults) == [("log file changed", log)]
    assert (faults[0].start, faults[0].account, faults[0].region, faults[0].trail) == (
        START + 4 * HOUR, ACCOUNT, REGION, "org-trail",
    )  # fmt: skip
    assert (summary.proved, summary.files) == (75, 47)


def test_a_deleted_log_file(tree: Tree, chain: list[str], check: Check) -> None:
    log = logs_of(tree, chain[5])[0]
    del tree.objects[log]
    assert said(check(tree)[0]) == [("log file missing", log)]


def test_an_added_log_file(tree: Tree, check: Check) -> None:
    log = tree.log(ACCOUNT, REGION, moment("2026-05-04T13:30"))
    assert said(check(tree)[0]) == [("log file not named", log)]


@pytest.mark.parametrize("time", ["20310504T1330Z", "20260503T1330Z", "1330", "20260504T0001Z"])
def test_an_added_log_file_with_a_name_that_hides_it(tree: Tree, check: Check, time: str) -> None:
    log = tree.log(ACCOUNT, REGION, moment("2026-05-04T13:30"))
    hidden = log.replace("20260504T1330Z", time)
    tree.objects[hidden] = tree.objects.pop(log)
    assert said(check(tree)[0]) == [("log file not named", hidden)]


def test_a_folder_that_is_called_as_no_region(tree: Tree, check: Check) -> None:
    log = tree.log(ACCOUNT, "US EAST", moment("2026-05-04T13:30"))
    assert said(check(tree)[0]) == [("folder not read", log.partition("2026/")[0].rstrip("/"))]


def test_two_trails_in_one_place(tree: Tree, check: Check) -> None:
    """Each has digests of its own; what one names is named."""
    other = Tree(trail="second_trail_x", home=SECOND)
    other.chain(ACCOUNT, REGION, START + timedelta(minutes=13), HOURS, every=2)
    tree.objects |= other.objects
    faults, proofs, _ = check(tree)
    assert not faults
    assert [(proof.trail, proof.home_region) for proof in proofs if proof.account == ACCOUNT][1:] == [
        ("org-trail", REGION), ("second_trail_x", SECOND),
    ]  # fmt: skip


def test_records_appended_to_a_log_file(tree: Tree, chain: list[str], check: Check) -> None:
    log = logs_of(tree, chain[5])[0]
    tree.objects[log] += gzip.compress(b'{"Records":[{"eventID":"forged"}]}')
    assert said(check(tree)[0]) == [("log file changed", log)]


def test_a_truncated_log_file(tree: Tree, chain: list[str], check: Check) -> None:
    log = logs_of(tree, chain[5])[0]
    tree.objects[log] = tree.objects[log][:-9]
    faults = check(tree)[0]
    assert said(faults) == [("log file unreadable", log)]
    assert "truncated" in faults[0].reason


def test_a_log_file_that_would_fill_the_disk(
    tree: Tree, chain: list[str], keys: PublicKeys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = logs_of(tree, chain[5])[0]
    tree.objects[log] = gzip.compress(bytes(1 << 20))
    monkeypatch.setenv("OCSF_LAKE_MAX_OBJECT_BYTES", "100000")
    faults, _, _ = of(Asked(str(tree.write(tmp_path)), DAY, DAY), keys)
    assert said(faults) == [("log file unreadable", log)]


def test_two_log_files_in_each_others_place(tree: Tree, chain: list[str], check: Check) -> None:
    one, other = logs_of(tree, chain[5])
    tree.objects[one], tree.objects[other] = tree.objects[other], tree.objects[one]
    assert said(check(tree)[0]) == [("log file changed", one), ("log file changed", other)]


def test_log_files_before_the_chain_and_of_places_without_one(tree: Tree, check: Check) -> None:
    early = [tree.log(ACCOUNT, REGION, moment(f"2026-05-03T1{hour}:00")) for hour in range(3)]
    none = tree.log(OTHER, SECOND, moment("2026-05-04T07:00"))
    faults, _, _ = check(tree, first=date(2026, 5, 3))
    assert said(faults) == [("log files not proved", early[0]), ("log files not proved", none)]
    assert "3 log files" in faults[0].reason
    assert (faults[0].start, faults[0].end) == (moment("2026-05-03T10:00"), moment("2026-05-03T12:00"))


def test_objects_in_no_folder_of_a_day(tree: Tree, check: Check) -> None:
    place = f"AWSLogs/{digests.ORGANIZATION}/{ACCOUNT}"
    deep, loose = (f"{place}/CloudTrail/{REGION}/2026/{name}.json.gz" for name in ("05/04/more/more", "more"))
    digest = f"{place}/CloudTrail-Digest/{REGION}/2026/05/04/more/more.json.gz"
    tree.objects |= dict.fromkeys((deep, loose, digest), b"{}")
    assert sorted(said(check(tree)[0])) == [("digest misplaced", digest), ("log file not named", deep)]
    found = said(check(tree, first=None, last=None)[0])
    assert found.count(("log file not named", loose)) == found.count(("log file not named", deep)) == 1


def test_a_hash_of_another_kind(check: Check) -> None:
    tree = Tree()
    log = tree.log(ACCOUNT, REGION, START - HOUR / 2)
    named = {"s3Bucket": "org-logs", "s3Object": log, "hashValue": "00", "hashAlgorithm": "MD5"}
    before = tree.digest(ACCOUNT, REGION, START, [log], None, logFiles=[named])
    tree.chain(ACCOUNT, REGION, START + HOUR, HOURS - 1, before, every=99)
    faults, _, _ = check(tree)
    assert said(faults) == [("log file not checked", log)]
    assert "'MD5'" in faults[0].reason


# -- digests ----------------------------------------------------------------------------------------------------------
def test_a_changed_digest(tree: Tree, chain: list[str], check: Check) -> None:
    log = logs_of(tree, chain[5])[0]
    forged = tree.read(chain[5])
    forged["logFiles"] = forged["logFiles"][1:]
    tree.objects[chain[5]] = gzip.compress(json.dumps(forged).encode())
    del tree.objects[log]
    faults, _, summary = check(tree)
    assert said(faults) == [("digest changed", chain[5])]
    assert "signature does not fit" in faults[0].reason
    assert "not what the next digest has the hash of" in faults[0].reason
    assert (summary.proved, summary.files) == (74, 46)


def test_a_deleted_digest(tree: Tree, chain: list[str], check: Check) -> None:
    del tree.objects[chain[8]]
    faults, _, _ = check(tree)
    # Its log files are there, and nothing proves them; the signature of the digest before it stood in it.
    assert said(faults) == [
        ("digest missing", chain[8]), ("digest not signed", chain[7]),
        ("log files not proved", logs_of(_delivered()[0], chain[8])[0]),
    ]  # fmt: skip
    assert (faults[0].start, faults[0].end) == (START + 7 * HOUR, START + 8 * HOUR)
    assert "1 h" in faults[0].reason


def test_two_digests_deleted_in_a_row(tree: Tree, chain: list[str], check: Check) -> None:
    for digest in chain[9:11]:
        del tree.objects[digest]
    faults, _, _ = check(tree)
    assert said(faults) == [("digest missing", chain[10]), ("digest not signed", chain[8])]
    assert (faults[0].start, faults[0].end) == (START + 8 * HOUR, START + 10 * HOUR)
    assert "nothing proves the 2 h" in faults[0].reason


def test_the_first_digests_deleted(tree: Tree, chain: list[str], check: Check) -> None:
    for digest in chain[:2]:
        del tree.objects[digest]
    faults, _, _ = check(tree)
    assert said(faults) == [("digest missing", chain[1])]
    assert "no earlier digest" in faults[0].reason


def test_the_last_digests_deleted(tree: Tree, chain: list[str], check: Check) -> None:
    for digest in chain[24:]:
        del tree.objects[digest]
    faults, _, _ = check(tree)
    assert said(faults) == [("digest not signed", chain[23]), ("chain ends", chain[23])]
    assert (faults[1].start, faults[1].end) == (START + 23 * HOUR, moment("2026-05-05T00:00"))


def test_all_digests_of_a_region_deleted_from_some_day_on(tree: Tree, chain: list[str], check: Check) -> None:
    before = tree.chain(ACCOUNT, REGION, START - 25 * HOUR, 25, every=99)
    for own in [*chain, *(log for digest in chain for log in logs_of(tree, digest))]:
        tree.objects.pop(own)
    faults, proofs, _ = check(tree)
    assert said(faults) == [("chain ends", before[-1])]
    assert (faults[0].start, faults[0].trail) == (START - HOUR, "org-trail")
    assert len(proofs) == 2


def test_a_chain_that_ends_before_others_of_its_trail(tree: Tree, chain: list[str], check: Check) -> None:
    del tree.objects[chain[-1]]
    faults, _, _ = check(tree, last=None)
    assert ("chain ends", chain[-2]) in said(faults)


def test_a_trail_that_moved_to_another_bucket(check: Check) -> None:
    """Both buckets together are a chain; of the later one alone, the one before it is missing, and its bucket named."""
    early = Tree("first-bucket")
    before = early.chain(ACCOUNT, REGION, START, 9, every=2)
    late = replace(early, bucket="second-bucket", objects=dict(early.objects), metadata=dict(early.metadata))
    own = late.chain(ACCOUNT, REGION, START + 9 * HOUR, 1, before[-1], every=99)
    moved = {**late.read(own[0]), "previousDigestS3Bucket": "first-bucket"}
    late.put(own[0], moved)
    late.chain(ACCOUNT, REGION, START + 10 * HOUR, HOURS - 10, own[0], every=2)
    faults, _, summary = check(late)
    assert not faults
    assert summary.copied == {"first-bucket": 9, "second-bucket": 16}
    late.objects = {key: data for key, data in late.objects.items() if key not in early.objects}
    faults, _, _ = check(late)
    assert said(faults) == [("digest missing", before[-1])]
    assert "another bucket, first-bucket" in faults[0].reason


def test_a_digest_that_another_key_signed(tree: Tree, chain: list[str], check: Check) -> None:
    forger = replace(tree, private=digests.key(1))
    log = forger.log(ACCOUNT, REGION, START + 14 * HOUR + timedelta(minutes=20))
    before = chain[13]
    for number in (14, 15):
        before = forger.digest(ACCOUNT, REGION, START + number * HOUR, [log], before)
    faults, _, _ = check(tree)
    wrong = ("digest not checked", "digest changed")
    assert {key for what, key in said(faults) if what in wrong} == {chain[14], chain[15]}
    assert any(digests.fingerprint(digests.key(1)) in fault.reason for fault in faults)


def test_a_chain_that_another_key_signed_as_if_it_were_known(check: Check) -> None:
    forger = Tree(private=digests.key(1))
    known = {"digestPublicKeyFingerprint": digests.fingerprint(digests.key())}
    before = None
    for number in range(HOURS):
        before = forger.digest(ACCOUNT, REGION, START + number * HOUR, [], before, **known)
    faults, _, summary = check(forger)
    assert {fault.what for fault in faults} == {"digest changed"}
    assert (len(faults), summary.proved) == (25, 0)


def test_swapped_digests(tree: Tree, chain: list[str], check: Check) -> None:
    tree.objects[chain[6]], tree.objects[chain[7]] = tree.objects[chain[7]], tree.objects[chain[6]]
    faults, _, _ = check(tree)
    assert [found for found in said(faults) if found[0] == "digest misplaced"] == [
        ("digest misplaced", chain[6]), ("digest misplaced", chain[7]),
    ]  # fmt: skip


def test_a_digest_of_another_trail(tree: Tree, chain: list[str], check: Check) -> None:
    other = Tree(trail="other-trail")
    others = other.chain(ACCOUNT, REGION, START, 9)
    tree.objects[chain[8]] = other.objects[others[8]]
    faults, _, _ = check(tree)
    assert ("digest misplaced", chain[8]) in said(faults)
    assert any("other-trail" in fault.reason for fault in faults)


def test_a_digest_of_another_account(tree: Tree, chain: list[str], check: Check) -> None:
    """Whoever has an account of their own has AWS sign what they want there: it counts as theirs alone."""
    own = chain[8].removeprefix(tree.prefix)
    attacker = Tree(bucket="attacker", prefix=f"{own}/")
    digest = attacker.digest("999988887777", REGION, START + 8 * HOUR, [], None)
    tree.objects[chain[8]] = attacker.objects[digest]
    assert ("digest misplaced", chain[8]) in said(check(tree)[0])


@pytest.mark.parametrize(
    "content",
    [
        b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b"",
        b"no gzip and no JSON",
        gzip.compress(b"{}", mtime=0),
        gzip.compress(b'{"awsAccountId":"1"}', mtime=0)[:-5],
    ],
    ids=["nested", "empty", "other", "without members", "truncated"],
)
def test_an_unreadable_digest(tree: Tree, chain: list[str], check: Check, content: bytes) -> None:
    tree.objects[chain[8]] = content
    faults, _, summary = check(tree)
    assert ("digest unreadable", chain[8]) in said(faults)
    assert summary.proved >= 73


def test_an_unreadable_digest_hides_no_gap_before_it(tree: Tree, chain: list[str], check: Check) -> None:
    for digest in chain[9:11]:
        del tree.objects[digest]
    tree.objects[chain[11]] = b""
    faults, _, _ = check(tree)
    assert ("gap", chain[11]) in said(faults)


def test_a_chain_that_was_begun_anew(tree: Tree, chain: list[str], check: Check) -> None:
    for digest in chain[10:]:
        del tree.objects[digest]
    again = tree.chain(ACCOUNT, REGION, START + 14 * HOUR, HOURS - 14, every=99)
    faults, _, _ = check(tree)
    assert ("chain begun anew", again[0]) in said(faults)
    [fault] = [fault for fault in faults if fault.what == "chain begun anew"]
    assert (fault.start, fault.end) == (START + 9 * HOUR, START + 13 * HOUR)


def test_a_gap_between_digests_that_name_each_other(check: Check) -> None:
    tree = Tree()
    before = tree.chain(ACCOUNT, REGION, START, 5, every=99)[-1]
    later = tree.chain(ACCOUNT, REGION, START + 7 * HOUR, HOURS - 7, before, every=99)
    faults, _, _ = check(tree)
    assert said(faults) == [("gap", later[0])]
    assert "2 h" in faults[0].reason


def test_a_digest_that_no_other_one_names(check: Check) -> None:
    tree = Tree()
    first = tree.chain(ACCOUNT, REGION, START, 5, every=99)
    extra = tree.digest(ACCOUNT, REGION, START + 5 * HOUR - timedelta(minutes=30), [], first[-1])
    tree.chain(ACCOUNT, REGION, START + 5 * HOUR, HOURS - 5, first[-1], every=99)
    faults, _, _ = check(tree)
    assert ("digest not signed", extra) in said(faults)
    assert "names another one" in next(fault.reason for fault in faults if fault.object.endswith(extra))


@pytest.mark.parametrize("member", ["digestSignatureAlgorithm", "previousDigestHashAlgorithm"])
def test_algorithms_that_nobody_knows(check: Check, member: str) -> None:
    tree = Tree()
    before = tree.chain(ACCOUNT, REGION, START, 5, every=99)[-1]
    odd = tree.digest(ACCOUNT, REGION, START + 5 * HOUR, [], before, **{member: "MD2"})
    tree.chain(ACCOUNT, REGION, START + 6 * HOUR, HOURS - 6, odd, every=99)
    faults, _, _ = check(tree)
    assert said(faults) == [("digest not checked", odd)]
    assert "'MD2'" in faults[0].reason


def test_a_digest_in_a_place_that_is_none(tree: Tree, chain: list[str], check: Check) -> None:
    wrong = chain[8].replace("2026/05/04", "2026/05/03")
    tree.objects[wrong] = tree.objects[chain[8]]
    faults, _, _ = check(tree, first=None)
    assert said(faults) == [("digest misplaced", wrong)]


@pytest.mark.parametrize("day", ["0001/01/01", "9999/12/31", "2026/02/30"])
def test_days_of_no_calendar(tree: Tree, check: Check, day: str) -> None:
    place = f"AWSLogs/{digests.ORGANIZATION}/{ACCOUNT}"
    stamp = f"{day.replace('/', '')}T0000"
    log = f"{place}/CloudTrail/{REGION}/{day}/{ACCOUNT}_CloudTrail_{REGION}_{stamp}Z_a.json.gz"
    name = f"{ACCOUNT}_CloudTrail-Digest_{REGION}_t_{REGION}_{stamp}00Z.json.gz"
    digest = f"{place}/CloudTrail-Digest/{REGION}/{day}/{name}"
    tree.objects |= {log: b"{}", digest: b"{}"}
    found = said(check(tree, first=None, last=None)[0])
    assert ("digest misplaced", digest) in found
    assert ("log file not named", log) in found
    with pytest.raises(ConfigError, match="no logs of"):
        check(tree, last=date.max)


def test_trails_of_one_name_in_accounts_of_no_organization(keys: PublicKeys, tmp_path: Path) -> None:
    """One that was stopped says nothing about the other."""
    tree = Tree(folder="")
    chains = [tree.chain(ACCOUNT, REGION, START, 6, every=99), tree.chain(OTHER, REGION, START, 9, every=99)]
    faults, _, _ = of(Asked(str(tree.write(tmp_path))), keys)
    assert said(faults) == [("digest not signed", chain[-1]) for chain in chains]


def test_a_key_that_leads_out_of_the_tree(check: Check) -> None:
    tree = Tree()
    key = f"AWSLogs/{digests.ORGANIZATION}/../../../etc/passwd"
    named = {"s3Bucket": "org-logs", "s3Object": key, "hashValue": "00", "hashAlgorithm": "SHA-256"}
    before = tree.digest(ACCOUNT, REGION, START, [], None, logFiles=[named])
    tree.chain(ACCOUNT, REGION, START + HOUR, HOURS - 1, before, every=99)
    faults, _, _ = check(tree)
    assert [fault.what for fault in faults] == ["log file missing"]


# -- backfill digests -------------------------------------------------------------------------------------------------
def test_backfill_digests_name_late_log_files(tree: Tree, check: Check) -> None:
    late = [tree.log(ACCOUNT, REGION, START + number * HOUR + timedelta(minutes=7)) for number in (3, 9, 25)]
    before = None
    for number, log in zip((4, 10, 26), late, strict=True):
        before = tree.digest(ACCOUNT, REGION, START + number * HOUR, [log], before, "_backfill")
    faults, proofs, summary = check(tree)
    assert not faults
    assert [(proof.digests, proof.proved) for proof in proofs if proof.backfill] == [(2, 2)]
    assert summary.files == 50


def test_backfill_digests_in_the_order_in_which_they_were_made(tree: Tree, check: Check) -> None:
    before = None
    for number in (10, 4, 20, 26):
        log = tree.log(ACCOUNT, REGION, START + number * HOUR - timedelta(minutes=33))
        before = tree.digest(ACCOUNT, REGION, START + number * HOUR, [log], before, "_backfill")
    faults, proofs, _ = check(tree)
    assert not faults
    assert [(proof.digests, proof.proved) for proof in proofs if proof.backfill] == [(3, 3)]


def test_a_deleted_backfill_digest(tree: Tree, check: Check) -> None:
    before, made = None, []
    for number in (4, 10, 14, 26):
        log = tree.log(ACCOUNT, REGION, START + number * HOUR - timedelta(minutes=30))
        before = tree.digest(ACCOUNT, REGION, START + number * HOUR, [log], before, "_backfill")
        made.append((before, log))
    del tree.objects[made[1][0]]
    faults, _, _ = check(tree)
    assert said(faults) == [
        ("digest missing", made[1][0]), ("digest not signed", made[0][0]), ("log file not named", made[1][1])
    ]  # fmt: skip


# -- keys -------------------------------------------------------------------------------------------------------------
def test_without_signatures_what_fits_is_not_called_proved(tree: Tree, chain: list[str], check: Check) -> None:
    faults, _, summary = check(tree, keys=None)
    assert not faults
    assert not summary.signatures
    tree.objects[chain[5]] = gzip.compress(json.dumps(tree.read(chain[5])).encode() + b" ")
    assert said(check(tree, keys=None)[0]) == [("digest changed", chain[5])]


def test_unknown_keys_are_named_once_for_digests_that_follow_each_other(tree: Tree, check: Check) -> None:
    faults, _, summary = check(tree, keys=PublicKeys({}))
    assert [fault.what for fault in faults] == ["digest not checked"] * 3
    assert all("25 digests" in fault.reason for fault in faults)
    assert (summary.proved, summary.files) == (0, 0)


def test_a_file_holds_the_keys_of_several_regions(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    file.write_text("\n".join(digests.public_keys(digests.key(number)) for number in (0, 1)), encoding="utf-8")
    assert from_files([file]).keys() == {digests.fingerprint(digests.key(number)) for number in (0, 1)}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no keys"),
        ('{"PublicKeyList":[]}', "holds no keys"),
        ("{", "no JSON"),
        ('{"Keys":[]}', "no PublicKeyList"),
        ('{"PublicKeyList":[{"Fingerprint":"a"}]}', "no Fingerprint or no Value"),
        ('{"PublicKeyList":[{"Fingerprint":"a","Value":"AAAA"}]}', "cannot be read"),
        ('{"PublicKeyList":[{"Fingerprint":"a","Value":"%"}]}', "cannot be read"),
    ],
)
def test_a_file_that_holds_no_keys(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "keys.json"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=message):
        from_files([file])


# -- folders ----------------------------------------------------------------------------------------------------------
def test_a_folder_that_cannot_be_listed_is_named(tree: Tree, check: Check, monkeypatch: pytest.MonkeyPatch) -> None:
    closed = f"AWSLogs/{digests.ORGANIZATION}/{ACCOUNT}/CloudTrail-Digest/{REGION}/2026/05/04"
    listed = LocalFileSystem.ls

    def ls(self: LocalFileSystem, path: str, detail: bool = False, **more: object) -> list[object]:
        if path.endswith(closed):
            raise PermissionError(path)
        found: list[object] = listed(self, path, detail=detail, **more)
        return found

    monkeypatch.setattr(LocalFileSystem, "ls", ls)
    assert ("folder not read", closed) in said(check(tree)[0])


def test_days_in_the_wrong_order(tree: Tree, check: Check) -> None:
    with pytest.raises(ConfigError, match="is after the last one"):
        check(tree, first=DAY + timedelta(days=1))


def test_a_source_without_digests(tmp_path: Path, keys: PublicKeys) -> None:
    with pytest.raises(ConfigError, match="no digests of aws_waf"):
        list(verify(registry.source("aws_waf"), Asked(str(tmp_path)), Settings(), keys, Summary(), NOW))


def test_a_folder_without_logs(tmp_path: Path, keys: PublicKeys) -> None:
    with pytest.raises(ConfigError, match="no folders of aws_cloudtrail"):
        of(Asked(str(tmp_path)), keys)


# -- S3 ---------------------------------------------------------------------------------------------------------------
def put(tree: Tree, s3: S3Server, bucket: str) -> None:
    for own, data in tree.objects.items():
        s3.client().put_object(Bucket=bucket, Key=own, Body=data, Metadata=tree.metadata.get(own, {}))


@pytest.mark.slow
def test_signatures_in_metadata(s3_owner: S3Server, bucket: str, keys: PublicKeys) -> None:
    """Where digests have their metadata, each one is proved by itself, the last one too."""
    uri = f"s3://{bucket}"

    def made(prefix: str) -> tuple[Tree, list[str]]:
        tree = Tree(bucket, f"{prefix}/")
        return tree, tree.chain(ACCOUNT, REGION, START, 6, every=2)

    whole, _ = made("whole")
    deleted, chain_of_deleted = made("deleted")
    stripped, chain_of_stripped = made("stripped")
    damaged, chain_of_damaged = made("damaged")
    forged, chain_of_forged = made("forged")
    del deleted.objects[chain_of_deleted[2]]
    for number in (2, 5):
        del stripped.metadata[chain_of_stripped[number]]
    damaged.metadata[chain_of_damaged[2]] = {"signature": "00" * 128, "signature-algorithm": "SHA256withRSA"}
    log = logs_of(forged, chain_of_forged[3])[0]
    forged.objects[log] = gzip.compress(b"{}")
    content = forged.read(chain_of_forged[3])
    content["logFiles"] = content["logFiles"][1:]
    replace(forged, private=digests.key(1)).put(chain_of_forged[3], content)
    for tree in (whole, deleted, stripped, damaged, forged):
        put(tree, s3_owner, bucket)

    def found(prefix: str, **asked: date) -> tuple[list[tuple[str, str]], Summary]:
        faults, _, summary = of(Asked(f"{uri}/{prefix}", **asked), keys)
        return said(faults), summary

    inside = [in_tree(key) for key in chain_of_deleted]
    nothing, summary = found("whole")
    assert not nothing
    assert (summary.proved, summary.files, summary.copied) == (6, 6, {})
    assert found("whole", first=DAY, last=DAY)[0] == [("chain ends", inside[5])]
    assert found("deleted")[0] == [("digest missing", inside[2])]
    assert found("stripped")[0] == [("digest not signed", inside[5])]
    assert found("damaged")[0] == [("metadata changed", inside[2])]
    assert found("forged")[0] == [("digest changed", inside[3]), ("log files not proved", in_tree(log))]


# -- the keys of AWS --------------------------------------------------------------------------------------------------
class CloudTrail(BaseHTTPRequestHandler):
    """Answers ListPublicKeys as AWS does: one key a page, of one region alone."""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append((self.headers["X-Amz-Target"].rpartition(".")[2], asked))  # type: ignore[attr-defined]
        if f"/{SECOND}/" in self.headers["Authorization"]:
            body, status = {"__type": "AccessDeniedException", "Message": "no"}, 400
        else:
            number = int(asked.get("NextToken", 1))
            [item] = json.loads(digests.public_keys(digests.key(number)))["PublicKeyList"]
            item |= {"ValidityStartTime": 1_777_593_600, "ValidityEndTime": 1_780_272_000}
            body, status = {"PublicKeyList": [item], **({"NextToken": "0"} if number else {})}, 200
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/x-amz-json-1.1")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def asked_of_aws(models: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[str, dict[str, object]]]]:
    """The requests that such a service gets; what asks AWS asks it."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), CloudTrail)
    server.asked = []  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    monkeypatch.setenv("AWS_ENDPOINT_URL_CLOUDTRAIL", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "anybody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "anything")
    yield server.asked  # type: ignore[attr-defined]
    server.shutdown()
    thread.join()
    server.server_close()


def test_aws_is_asked_for_keys(tree: Tree, check: Check, asked_of_aws: list[tuple[str, dict[str, object]]]) -> None:
    """Once for each region and key, and a region that gives none is named once for each chain."""
    faults, _, summary = check(tree, keys=PublicKeys({}, "cloudtrail"))
    assert [(fault.what, fault.region) for fault in faults] == [("digest not checked", SECOND)]
    assert "AccessDenied" in faults[0].reason
    assert "cloudtrail:ListPublicKeys" in faults[0].reason
    assert summary.proved == 50
    assert [name for name, _ in asked_of_aws] == ["ListPublicKeys"] * 3
