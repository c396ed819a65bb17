"""What was done to a lake's files, records or ledger is found and named; a lake that nobody touched has no fault."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from datetime import date
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from typer.testing import CliRunner

from ocsf_lake.cli.main import app
from ocsf_lake.config import Settings
from ocsf_lake.lake import opened
from ocsf_lake.ledger import chain, marker, signing, versions
from ocsf_lake.ledger.tables import VERSIONS
from ocsf_lake.upkeep import compact, rebuild_ledger, verify
from ocsf_mappers.errors import ConfigError
from tests.ocsf_lake.compacting import Make, files, ledger, take
from tests.ocsf_lake.conftest import sqlite_database
from tests.ocsf_lake.test_chain import documents, faults, summary


@pytest.fixture
def used(compactable: Make) -> Settings:
    """A lake of five records and four files, and its ledger."""
    return compactable()


@pytest.fixture
def copied(used: Settings) -> Settings:
    """The same without its ledger."""
    shutil.rmtree(Path(used.lake) / "_ledger")
    return used


def record(settings: Settings, number: int) -> Path:
    return Path(settings.lake) / chain.name(number)


def flip(path: Path, place: int = -1, bit: int = 1) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= bit
    path.write_bytes(data)


def forge(path: Path, **members: object) -> None:
    """Writes a record with other members, whose own hash is right."""
    document = {**json.loads(path.read_bytes().partition(b"\n")[0]), **members}
    body = chain.canonical(document)
    path.write_bytes(chain.content(body.decode(), hashlib.sha256(body).hexdigest(), ""))


def in_ledger(settings: Settings, statement: str) -> None:
    with sqlite_database(Path(settings.lake) / "_ledger/ledger.db") as connection:
        assert connection.execute(statement).rowcount == 1


def first_file(settings: Settings) -> str:
    return min(path.relative_to(settings.lake).as_posix() for path in Path(settings.lake).glob("aws/**/*.parquet"))


# -- files ------------------------------------------------------------------------------------------------------------
def test_a_lake_that_nobody_touched_has_no_fault(used: Settings) -> None:
    made = summary(used)
    assert (made.records, made.files, made.live, made.ledger) == (5, 9, 4, "compared")
    shutil.rmtree(Path(used.lake) / "_ledger")
    assert summary(used).ledger == "there is none here"


@pytest.mark.parametrize("place", [0, 4, 999, -1])
def test_a_flipped_byte_of_a_file_is_found(copied: Settings, place: int) -> None:
    path = first_file(copied)
    flip(Path(copied.lake) / path, place)
    assert faults(copied) == [f"file changed: {path}"]


def test_a_file_that_is_gone_or_was_added_is_named(copied: Settings) -> None:
    path, lake = first_file(copied), Path(copied.lake)
    (lake / path).rename(lake / f"{path}.moved")
    assert faults(copied) == [f"file missing: {path}", f"file added: {path}.moved"]


def test_a_file_with_other_rows_says_how_many(copied: Settings) -> None:
    path = Path(copied.lake) / first_file(copied)
    rows = pq.read_table(path, partitioning=None)
    pq.write_table(rows.slice(1), path)
    (fault,) = verify.verify(copied, verify.Asked(), verify.Summary())
    assert fault.what == "file changed"
    assert "5 rows now, and 6 then" in fault.reason
    assert fault.number in (2, 3, 4, 5)


@pytest.mark.parametrize("folder", ["ext", "compacted/aws", "_quarantine/source=x", "_duplicates", "aws/a/b"])
def test_an_added_file_is_found_in_each_folder(copied: Settings, folder: str) -> None:
    stranger = Path(copied.lake) / folder / "x.parquet"
    stranger.parent.mkdir(parents=True, exist_ok=True)
    stranger.write_bytes(b"")
    assert faults(copied) == [f"file added: {folder}/x.parquet"]


def test_an_added_file_whose_name_is_no_text_is_named(copied: Settings) -> None:
    Path(copied.lake, os.fsdecode(b"aws/\xff.parquet")).touch()
    assert faults(copied) == ["file added: aws/\\xff.parquet"]


def test_what_took_a_tables_folder_is_no_folder(copied: Settings) -> None:
    shutil.rmtree(Path(copied.lake) / "aws")
    (Path(copied.lake) / "aws").touch()
    assert {fault.partition(":")[0] for fault in faults(copied)} == {"file missing"}


def test_what_took_a_files_place_is_no_file(copied: Settings) -> None:
    path = Path(copied.lake) / first_file(copied)
    path.unlink()
    os.mkfifo(path)
    assert faults(copied) == [f"file changed: {first_file(copied)}"]


def test_a_removed_file_that_lies_there_again_is_named(compactable: Make) -> None:
    used = compactable(compact_grace_hours=0)
    old = files(used)[0]
    data = old.read_bytes()
    compact.compact(used)
    old.parent.mkdir(parents=True, exist_ok=True)
    old.write_bytes(data)
    assert faults(used) == [f"file added: {old.relative_to(used.lake)}"]


def test_the_record_of_a_batch_and_the_plan_of_a_compaction_are_checked(used: Settings) -> None:
    compact.compact(used)
    plan = next(Path(used.lake).rglob("_plan.json"))
    batch = sorted((Path(used.lake) / "_lake/records").iterdir())[0]
    for path in (plan, batch):
        flip(path, 20)
    assert sorted(faults(used)) == sorted(f"file changed: {path.relative_to(used.lake)}" for path in (plan, batch))
    plan.unlink()
    assert f"file missing: {plan.relative_to(used.lake)}" in faults(used)


def test_the_marker_of_a_lake_is_checked(used: Settings) -> None:
    path = Path(used.lake) / marker.NAME
    path.write_bytes(path.read_bytes().replace(b"sqlite", b"sqlits"))
    assert faults(used) == [f"file changed: {marker.NAME}"]
    path.unlink()
    assert faults(used) == [f"file missing: {marker.NAME}"]
    with opened(used):
        pass  # writes it anew
    assert faults(used) == []


# -- records ----------------------------------------------------------------------------------------------------------
def test_a_flipped_byte_anywhere_in_a_record_is_found_and_named(copied: Settings) -> None:
    """Without a ledger; the next record has the hash and signature."""
    path = record(copied, 3)
    data = path.read_bytes()
    for place in range(len(data)):
        if place % 61 == 0 or (place > len(data) - 100 and place % 7 == 0):
            flip(path, place)
            assert any(chain.name(3) in fault for fault in faults(copied)), place
            path.write_bytes(data)
    assert faults(copied) == []


def test_a_flipped_byte_in_the_last_record_is_found_by_the_ledger(used: Settings) -> None:
    path = record(used, 5)
    data = path.read_bytes()
    for place in range(0, len(data), 197):
        flip(path, place)
        assert any(chain.name(5) in fault for fault in faults(used)), place
        path.write_bytes(data)


def test_a_record_written_anew_with_its_own_hash_is_found(copied: Settings) -> None:
    forge(record(copied, 3), counts={"read": 1})
    assert faults(copied) == [f"chain broken: {chain.name(3)}"]


def test_a_file_and_all_records_from_it_on_written_anew_are_found_by_a_head(copied: Settings) -> None:
    """Whoever can write the whole lake can make a chain that fits; not one that fits a hash that was noted."""
    head = summary(copied).head
    previous = ""
    for number in range(1, 6):
        forge(record(copied, number), previous=previous, at="2020-01-01")
        previous = hashlib.sha256(record(copied, number).read_bytes().partition(b"\n")[0]).hexdigest()
    assert faults(copied) == []
    assert faults(copied, head=head) == [f"head not in chain: {head}"]


def test_an_earlier_head_is_in_the_chain(copied: Settings) -> None:
    earlier = hashlib.sha256(record(copied, 2).read_bytes().partition(b"\n")[0]).hexdigest()
    assert faults(copied, head=earlier) == []


@pytest.mark.parametrize("has_ledger", [True, False])
def test_a_record_that_is_gone_is_named(used: Settings, has_ledger: bool) -> None:
    record(used, 3).unlink()
    if not has_ledger:
        shutil.rmtree(Path(used.lake) / "_ledger")
    assert faults(used)[0] == f"record missing: {chain.name(3)}"
    # The ledger still says what it listed.
    assert len(faults(used)) == (1 if has_ledger else 2)


def test_records_in_another_order_are_named(copied: Settings) -> None:
    three, four = (record(copied, number).read_bytes() for number in (3, 4))
    record(copied, 3).write_bytes(four)
    record(copied, 4).write_bytes(three)
    assert {f"record misplaced: {chain.name(number)}" for number in (3, 4)} <= set(faults(copied))


def test_a_chain_cut_off_at_its_end_is_found_by_the_ledger_or_by_a_head(used: Settings) -> None:
    head = summary(used).head
    for number in (4, 5):
        record(used, number).unlink()
    assert len(documents(Path(used.lake))) == 3
    assert faults(used) == [f"record missing: {chain.name(4)} to 5"]
    shutil.rmtree(Path(used.lake) / "_ledger")
    assert f"head not in chain: {head}" in faults(used, head=head)


def test_a_chain_without_its_beginning_is_named(copied: Settings) -> None:
    for number in (1, 2):
        record(copied, number).unlink()
    assert faults(copied)[0] == f"record missing: {chain.name(1)} to 2"


def test_a_file_that_a_forged_record_lists_is_named_too(used: Settings) -> None:
    head = summary(used).head
    stranger = Path(used.lake) / "aws/x.parquet"
    stranger.write_bytes(b"x")
    shutil.copy(record(used, 5), record(used, 6))
    forge(record(used, 6), number=6, previous=head, added=[["aws/x.parquet", hashlib.sha256(b"x").hexdigest(), 1, 1]])
    assert faults(used) == [f"record added: {chain.name(6)}", "file added: aws/x.parquet"]


def test_records_that_the_ledger_has_not_are_named(used: Settings) -> None:
    previous = summary(used).head
    shutil.copy(record(used, 5), record(used, 6))
    forge(record(used, 6), number=6, previous=previous, added=[], detail={})
    shutil.copy(record(used, 6), record(used, 999_999_999_999))
    (Path(used.lake) / chain.FOLDER / "notes.txt").write_text("hello")
    assert faults(used) == [f"file added: {chain.FOLDER}/notes.txt", f"record added: {chain.name(6)} and on"]


@pytest.mark.parametrize(
    "members",
    [
        {"added": [["../../etc/passwd", "00", 1, 1]]},
        {"added": [["/etc/passwd", "00", 1, 1]]},
        {"added": [["a", "b", 10**30, 1]]},
        {"added": "x"},
        {"detail": {"beside": 7}},
        {"detail": {"beside": [[["x"], "00", 1]]}},
        {"detail": {"beside_removed": [["x"]]}},
        {"counts": None},
        {"format": 2},
    ],
)
def test_a_hostile_record_is_a_fault_and_no_crash(copied: Settings, members: dict[str, object]) -> None:
    forge(record(copied, 3), **members)
    assert any(chain.name(3) in fault for fault in faults(copied))


@pytest.mark.parametrize("listed", [7, ["a"], {"a": 7}, {"a": [["b"]]}])
def test_a_hostile_record_is_no_crash_of_a_rebuilt_ledger(copied: Settings, listed: object) -> None:
    forge(record(copied, 3), detail={"versions": listed, "versions_removed": listed})
    rebuild_ledger.rebuild(copied)
    assert ledger(copied, VERSIONS) == []


def test_versions_of_a_file_that_the_lake_has_never_go(copied: Settings) -> None:
    live = first_file(copied)
    forge(record(copied, 3), detail={"versions": {live: ["v1"], "aws/gone.parquet": ["v2"]}})
    rebuild_ledger.rebuild(copied)
    with opened(copied, reading=True) as lake, lake.ledger.engine.connect() as connection:
        assert [item.id for item in versions.due(connection, "9999")] == ["v2"]


def test_a_hostile_beginning_is_a_fault_and_no_crash(copied: Settings) -> None:
    forge(record(copied, 1), detail={"files": "many", "listed": False})
    assert f"chain broken: {chain.name(1)}" in faults(copied)


def test_what_is_no_file_among_the_records_is_a_fault_and_no_crash(used: Settings) -> None:
    record(used, 3).unlink()
    os.mkfifo(record(used, 3))
    (Path(used.lake) / chain.FOLDER / "folder").mkdir()
    assert faults(used) == [f"record changed: {chain.name(3)}", f"file added: {chain.FOLDER}/folder"]


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"\xff\n\xff\n", b"[" * 100_000, b"null\nnull\n", b'{"format":1}\n{}\n']
)
def test_what_is_no_record_is_a_fault_and_no_crash(used: Settings, content: bytes) -> None:
    record(used, 3).write_bytes(content)
    assert faults(used) == [f"record changed: {chain.name(3)}"]


# -- the ledger -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "change",
    [
        "hash = replace(hash, substr(hash, 9, 1), 'x')", "body = replace(body, 'ingest', 'Ingest')", "kind = 'x'",
        "subject = ''", "at = '2020'", "signature = 'ab'",
    ],
)  # fmt: skip
def test_a_changed_row_of_the_ledgers_chain_is_named(used: Settings, change: str) -> None:
    in_ledger(used, f"UPDATE chain SET {change} WHERE number = 3")
    assert faults(used) == [f"record and ledger differ: {chain.name(3)}"]


@pytest.mark.parametrize(
    ("statement", "what"),
    [
        ("UPDATE files SET rows = 7 WHERE path = '{}'", "file and ledger differ"),
        ("UPDATE files SET sha256 = 'ab' WHERE path = '{}'", "file and ledger differ"),
        ("DELETE FROM files WHERE path = '{}'", "file not in ledger"),
    ],
)
def test_a_changed_row_of_the_ledgers_files_is_named(used: Settings, statement: str, what: str) -> None:
    path = first_file(used)
    in_ledger(used, statement.format(path))
    assert faults(used) == [f"{what}: {path}"]


def test_a_file_smuggled_into_lake_and_ledger_is_named(used: Settings) -> None:
    path = first_file(used)
    other = path.replace("-00000-", "-00009-")
    shutil.copy(Path(used.lake) / path, Path(used.lake) / other)
    columns = "batch_id, table_name, partition, class_uid, rows, bytes, sha256"
    in_ledger(used, f"INSERT INTO files SELECT '{other}', {columns} FROM files WHERE path = '{path}'")
    assert faults(used) == [f"file not in chain: {other}"]


def test_another_lakes_ledger_is_a_fault(compactable: Make, tmp_path: Path) -> None:
    one, other = compactable("one"), compactable("other", state=str(tmp_path / "state"))
    shutil.copytree(Path(one.lake) / "_ledger", tmp_path / "state/_ledger")
    with sqlite_database(tmp_path / "state/_ledger/ledger.db") as connection:
        connection.execute("UPDATE about SET value = 'another' WHERE key = 'ledger'")
    assert [fault.partition(":")[0] for fault in faults(other)] == ["ledger not compared"]


# -- signatures -------------------------------------------------------------------------------------------------------
def key(folder: Path, name: str) -> tuple[Path, Path]:
    """Files with a private key and its public one."""
    private = Ed25519PrivateKey.generate()
    paths = folder / f"{name}.pem", folder / f"{name}.pub.pem"
    paths[0].write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    paths[1].write_bytes(private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return paths


@pytest.fixture
def signed(compactable: Make, tmp_path: Path) -> tuple[Settings, list[Path]]:
    """A lake of five records without signatures, one of a key and one of the next key; and the keys."""
    keys = []
    for number in (1, 2):
        private, public = key(tmp_path, f"key{number}")
        take(tmp_path / "more", compactable(chain_key=str(private)), 10 + number)
        keys.append(public)
    return compactable(), keys


def test_signatures_are_checked_with_the_keys_of_their_time(signed: tuple[Settings, list[Path]]) -> None:
    used, keys = signed
    assert summary(used).signed == 0
    assert summary(used, public_keys=tuple(keys)).signed == 2
    both = keys[0].with_name("both.pem")
    both.write_bytes(keys[0].read_bytes() + keys[1].read_bytes())
    assert summary(used, public_keys=(both,)).signed == 2
    assert faults(used, public_keys=(keys[1],)) == [f"signature not checked: {chain.name(6)}"]


def test_a_chain_made_anew_without_the_key_is_found(signed: tuple[Settings, list[Path]]) -> None:
    used, keys = signed
    shutil.rmtree(Path(used.lake) / "_ledger")
    previous = ""
    for number in range(1, 8):
        forge(record(used, number), previous=previous, previous_signature="", at="2020-01-01")
        previous = hashlib.sha256(record(used, number).read_bytes().partition(b"\n")[0]).hexdigest()
    assert faults(used) == []
    assert faults(used, public_keys=tuple(keys)) == [f"record not signed: {chain.name(7)}"]


def test_a_flipped_bit_of_the_last_signature_is_found_by_the_key(signed: tuple[Settings, list[Path]]) -> None:
    used, keys = signed
    shutil.rmtree(Path(used.lake) / "_ledger")
    path = record(used, 7)
    sealed = json.loads(path.read_bytes().split(b"\n")[1])
    other = ("0" if sealed["signature"][0] != "0" else "1") + sealed["signature"][1:]
    path.write_bytes(path.read_bytes().replace(sealed["signature"].encode(), other.encode()))
    assert f"signature wrong: {chain.name(7)}" in faults(used, public_keys=tuple(keys))


@pytest.mark.slow
def test_records_after_the_last_signature_are_a_fault(
    signed: tuple[Settings, list[Path]], tmp_path: Path
) -> None:
    used, keys = signed
    take(tmp_path / "unsigned", used, 30)
    assert faults(used, public_keys=tuple(keys)) == [f"record not signed: {chain.name(8)}"]


@pytest.mark.slow
def test_what_a_ledger_made_anew_adds_is_signed_too(signed: tuple[Settings, list[Path]], tmp_path: Path) -> None:
    used, keys = signed
    private, public = key(tmp_path, "key3")
    shutil.rmtree(Path(used.lake) / "_ledger")
    rebuild_ledger.rebuild(used.model_copy(update={"chain_key": str(private)}))
    assert faults(used, public_keys=(*keys, public)) == []


def test_the_key_may_be_in_the_variable_itself(compactable: Make, tmp_path: Path) -> None:
    private, public = key(tmp_path, "key")
    take(tmp_path / "more", compactable(chain_key=private.read_text()), 11)
    assert summary(compactable(), public_keys=(public,)).signed == 1


@pytest.mark.parametrize("content", ["", "hello", "-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n"])
def test_what_is_no_key_is_refused_before_any_work_and_not_shown(
    compactable: Make, tmp_path: Path, content: str
) -> None:
    path = tmp_path / "key.pem"
    path.write_text(content)
    for given in (str(path), content) if content.startswith("-----") else (str(path), "c2VjcmV0" * 50):
        with pytest.raises(ConfigError, match="chain_key") as raised, opened(compactable(chain_key=given)):
            pass
        assert "c2VjcmV0" not in str(raised.value)
    with pytest.raises(ConfigError, match="public key"):
        signing.public_keys([path])


# -- days, and the command line ---------------------------------------------------------------------------------------
def test_days_choose_the_records_whose_files_are_read(used: Settings) -> None:
    day = date.fromisoformat(documents(Path(used.lake))[1]["at"][:10])
    assert summary(used, first=day, last=day).files == 9
    assert summary(used, first=date(2020, 1, 1), last=date(2020, 1, 2)).files == 0
    flip(Path(used.lake) / first_file(used))
    assert faults(used, last=date(2020, 1, 2)) == []
    assert faults(used, first=day) == [f"file changed: {first_file(used)}"]


def test_the_command_gives_a_line_or_an_object_for_each_fault(used: Settings) -> None:
    done = CliRunner().invoke(app, ["verify", "lake", "--lake", used.lake])
    assert (done.exit_code, done.stdout) == (0, "")
    assert "5 records, 4 files in the lake, 9 hashed" in done.stderr
    assert f"head: record 5 of {documents(Path(used.lake))[4]['at']}, {summary(used).head}" in done.stderr
    flip(Path(used.lake) / first_file(used))
    done = CliRunner().invoke(app, ["verify", "lake", "--lake", used.lake])
    assert done.exit_code == 1
    assert done.stdout.count("\n") == 1
    assert f"file changed: {first_file(used)}" in done.stdout
    done = CliRunner().invoke(app, ["verify", "lake", "--lake", used.lake, "--json"])
    fault, last = map(json.loads, done.stdout.splitlines())
    assert (fault["type"], fault["what"], fault["object"]) == ("fault", "file changed", first_file(used))
    assert (last["type"], last["faults"], last["records"]) == ("summary", 1, 5)


@pytest.mark.parametrize(
    "args",
    [
        ["lake", "s3://bucket"], ["lake", "--account", "111122223333"], ["lake", "--no-signatures"],
        ["lake", "--head", "abc"], ["lake", "--from", "2026-01-02", "--to", "2026-01-01"], ["aws_cloudtrail"],
        ["aws_cloudtrail", "logs", "--head", "0" * 64], ["lake", "--lake", "/nowhere/at/all"],
        ["lake", "--public-key", "/nowhere.pem"],
    ],
)  # fmt: skip
def test_misuse_is_told(used: Settings, args: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from ocsf_lake.cli import main

    monkeypatch.setenv("OCSF_LAKE_LAKE", used.lake)
    done = CliRunner().invoke(app, ["verify", *args])
    assert isinstance(done.exception, ConfigError)
    assert main.report(done.exception) == 2
