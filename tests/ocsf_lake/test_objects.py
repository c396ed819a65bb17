"""What URIs stand for, and that an object is what was listed."""

import builtins
import hashlib
import io
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest

from ocsf_lake import config
from ocsf_lake.ingest import run as ingest
from ocsf_lake.inputs import listing
from ocsf_lake.storage import objects
from ocsf_lake.storage.objects import ObjectError, ObjectRef
from ocsf_mappers.errors import ConfigError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    logs, others = ("b/2.json", "a.log", "b/1.json"), ("b/.y.json", "SOURCE.md", "a.expected.json", "g.py")
    for name in (*logs, *others, ".hidden/x.json"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return tmp_path


@pytest.fixture
def memory() -> Iterator[str]:
    fs = fsspec.filesystem("memory")
    fs.pipe({"/objects-test/b": b"bb", "/objects-test/a/c.json": b"c"})
    yield "memory://objects-test"
    fs.rm("/objects-test", recursive=True)


def listed(uris: list[str]) -> list[ObjectRef]:
    pages = (page for uri in objects.without_nested(uris) for page in listing.pages(uri, listing.Calls()))
    return [objects.with_etag(ref) for page in pages for ref in page]


def names(uris: list[str], root: Path) -> list[str]:
    return [ref.uri.removeprefix(f"file://{root}/") for ref in listed(uris)]


def test_a_folder_stands_for_the_logs_below_it_in_order(folder: Path) -> None:
    assert names([str(folder)], folder) == ["a.log", "b/1.json", "b/2.json"]
    assert names([f"file://{folder}/"], folder) == ["a.log", "b/1.json", "b/2.json"]


def test_a_glob_stands_for_what_it_matches(folder: Path) -> None:
    assert names([f"{folder}/*/*.json"], folder) == ["b/1.json", "b/2.json"]
    assert names([f"{folder}/*"], folder) == ["a.log", "b/1.json", "b/2.json"]


def test_a_file_stands_for_itself_whatever_it_is_called(folder: Path) -> None:
    assert names([str(folder / "SOURCE.md")], folder) == ["SOURCE.md"]


def test_a_pattern_below_a_folder_that_is_not_there_stands_for_nothing(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"there is nothing at '.*/nowhere', where .* begins"):
        objects.check([f"{folder}/nowhere/x-*.json"])
    objects.check([f"{folder}/b/x-*.json", f"{folder}/*/nowhere/*", "*.log"])


def test_an_empty_uri_is_not_the_working_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    with pytest.raises(ConfigError, match="a URI is empty"):
        listed([""])
    with pytest.raises(ConfigError, match="a URI is empty"):
        ingest.ingest([" "], config.load(lake=str(folder / "lake")))
    assert not (folder / "lake").exists()
    assert names(["."], folder) == ["a.log", "b/1.json", "b/2.json"]


def test_an_object_is_listed_once(folder: Path) -> None:
    assert names([str(folder), str(folder / "b"), f"{folder}/b/1.json"], folder) == ["a.log", "b/1.json", "b/2.json"]


def test_the_etag_of_a_file_is_the_md5_of_its_bytes(folder: Path) -> None:
    ref = listed([str(folder / "a.log")])[0]
    assert (ref.etag, ref.size) == (hashlib.md5(b"a.log").hexdigest(), 5)


def test_objects_in_memory(memory: str) -> None:
    found = listed([memory])
    assert [ref.uri for ref in found] == ["memory:///objects-test/a/c.json", "memory:///objects-test/b"]
    assert [ref.size for ref in found] == [1, 2]
    assert found[1].etag == hashlib.md5(b"bb").hexdigest()
    with objects.opened(found[1]) as file:
        assert file.read() == b"bb"


def test_a_touched_file_is_the_same_object(folder: Path) -> None:
    ref = listed([str(folder / "a.log")])[0]
    os.utime(folder / "a.log", ns=(1, 1))
    with objects.opened(ref) as file:
        assert file.read() == b"a.log"


def test_a_file_written_anew_is_not_the_object_that_was_listed(folder: Path) -> None:
    ref = listed([str(folder / "a.log")])[0]
    (folder / "a.log").write_text("other")
    with pytest.raises(ObjectError, match="changed since"), objects.opened(ref):
        pass


def test_a_file_that_vanished_is_said_to_be_gone(folder: Path) -> None:
    ref = listed([str(folder / "a.log")])[0]
    (folder / "a.log").unlink()
    with pytest.raises(ObjectError, match="gone"), objects.opened(ref):
        pass


def test_a_file_that_grows_while_it_is_read_is_not_the_object_that_was_listed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objects, "KEPT_FILE_BYTES", 0)  # what is kept from hashing is the object that was listed
    ref = listed([str(folder / "a.log")])[0]
    with pytest.raises(ObjectError, match="changed while"), objects.opened(ref), (folder / "a.log").open("a") as more:
        more.write("more")


def test_nothing_at_a_uri_is_a_mistake(folder: Path) -> None:
    with pytest.raises(ConfigError, match="nothing at"):
        listed([str(folder / "none")])
    with pytest.raises(ConfigError, match="no file system"):
        listed(["gopher9://x/y"])


def test_what_gives_its_bytes_once_is_a_mistake(folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    reading, writing = os.pipe()
    for name in (str(folder / "pipe"), f"/dev/fd/{reading}", f"file:///dev/fd/{reading}"):
        with pytest.raises(ConfigError, match=r"is neither a file nor a folder: .* write stdin or a pipe to a file"):
            objects.check([name])
    with pytest.raises(ConfigError, match=r"nothing at '-': .* write stdin or a pipe to a file"):
        objects.check(["-"])
    os.close(reading)
    os.close(writing)


def test_a_pipe_in_a_folder_is_named(folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    calls = listing.Calls()
    refs = [ref for page in listing.pages(str(folder), calls) for ref in page]
    assert not [ref for ref in refs if ref.uri.endswith("pipe")]
    assert [name.rpartition("/")[2] for name in calls.passed[objects.NO_FILE].some] == ["pipe"]


# -- links and odd names ----------------------------------------------------------------------------------------------
def test_links_are_followed_and_a_file_has_one_name(tmp_path: Path) -> None:
    logs, elsewhere = tmp_path / "logs", tmp_path / "elsewhere"
    for path in (logs / "a.json", elsewhere / "deep" / "b.json"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(path.name)
    (logs / "again.json").symlink_to("a.json")
    (logs / "circle").symlink_to(".")
    (logs / "linked").symlink_to(elsewhere)
    (logs / "linked_twice").symlink_to(elsewhere / "deep")
    expected = ["elsewhere/deep/b.json", "logs/a.json"]
    assert sorted(set(names([str(logs)], tmp_path))) == expected
    assert sorted(set(names([f"{logs}/*"], tmp_path))) == expected
    assert names([f"{logs}/again.json", f"{tmp_path}/elsewhere/../logs/a.json"], tmp_path) == ["logs/a.json"]


def test_a_link_that_leads_nowhere_is_not_passed_over(tmp_path: Path) -> None:
    (tmp_path / "a.json").symlink_to("gone")
    (found,) = listed([str(tmp_path)])
    with pytest.raises(ObjectError, match="gone since it was listed"), objects.opened(found):
        pass


def test_a_name_is_no_chain_of_file_systems(tmp_path: Path) -> None:
    (tmp_path / "a::b.json").write_text("{}")
    (found,) = listed([str(tmp_path)])
    with objects.opened(found) as file:
        assert file.read() == b"{}"


def test_a_name_that_is_not_utf_8_is_said(tmp_path: Path) -> None:
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.json")).write_text("{}")
    (found,) = listed([str(tmp_path)])
    with pytest.raises(ObjectError, match="not UTF-8"), objects.opened(found):
        pass


# -- one read of small local files ------------------------------------------------------------------------------------
def opens(path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The times that a file is opened from now on."""
    found: list[Path] = []
    really = io.open

    def noted(file: Any, *given: Any, **named: Any) -> Any:
        if file in (path, str(path)):
            found.append(path)
        return really(file, *given, **named)

    for module in (builtins, io):
        monkeypatch.setattr(module, "open", noted)
    return found


def test_a_small_local_file_is_read_once_by_an_ingest(
    tmp_path: Path, logs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = shutil.copy(next(logs.rglob("*vpcflowlogs*.log.gz")), tmp_path)
    found = opens(Path(path), monkeypatch)
    assert ingest.ingest([str(path)], config.load(lake=str(tmp_path / "lake")), "aws_vpc_flow").counts.events == 15
    assert len(found) == 1


def test_a_local_file_that_changes_after_it_was_hashed_is_told(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text("before")
    ref = objects.with_etag(the_ref(path))
    path.write_text("after!")
    os.utime(path, ns=(1, 1))
    with pytest.raises(ObjectError, match="changed since it was listed"), objects.opened(ref):
        pass


def test_no_more_bytes_of_local_files_are_kept_than_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objects, "KEPT_BYTES", 25)
    monkeypatch.setattr(objects, "KEPT_FILE_BYTES", 10)
    monkeypatch.setattr(objects, "_small_files", objects._SmallFiles())
    texts = ["0123456789", "abcdefghij", "too large for it", "ABCDEFGHIJ"]
    refs = []
    for number, text in enumerate(texts):
        (tmp_path / str(number)).write_text(text)
        refs.append(objects.with_etag(the_ref(tmp_path / str(number))))
    assert [ref.uri[-1] for ref in objects._small_files._files] == ["1", "3"]
    for ref, text in zip(refs * 2, texts * 2, strict=True):
        with objects.opened(ref) as file:
            assert file.read() == text.encode()
    assert (objects._small_files._files, objects._small_files._bytes) == ({}, 0)


def the_ref(path: Path) -> ObjectRef:
    """A file as it is listed."""
    ((ref,),) = listing.pages(str(path), listing.Calls())
    return ref
