"""What a URI stands for, listed page by page: memory holds a page, however many objects there are.

Objects come in the order of their names, so that the same objects are grouped the same way however often a run stops.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from ocsf_lake.storage import objects, retry, s3
from ocsf_lake.storage.objects import ObjectError, ObjectRef
from ocsf_lake.storage.s3 import Access
from ocsf_mappers.errors import ConfigError

KEYS_PER_CALL = 1_000
"""Names that one LIST call of S3 gives at most:
https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectsV2.html"""

USD_PER_CALL = 0.005 / 1_000
"""Price of a LIST call, S3 Standard in us-east-1, from https://aws.amazon.com/s3/pricing/ in 2026-11; other regions
and storage classes have other prices."""

_GLOB = frozenset("*?[")


NAMES_KEPT = 20
"""Of names that are counted, so many are kept."""


@dataclass
class Names:
    """Names of one kind: how many, and the first of them."""

    number: int = 0
    some: list[str] = field(default_factory=list)

    def add(self, name: str) -> None:
        """Counts a name, and keeps it while there are not too many."""
        self.number += 1
        if len(self.some) < NAMES_KEPT:
            self.some.append(name)

    def extend(self, other: Names) -> None:
        """Counts those of another as well."""
        self.number += other.number
        self.some = (self.some + other.some)[:NAMES_KEPT]


@dataclass
class Calls:
    """How often a store was asked for names. A file system that has no pages is counted as if it had S3's.

    Args:
        number: So often.
        refused: URI of a folder that cannot be listed, although the one above it can -> why.
        passed: Why a name was passed over -> the names; a hidden folder on a disk is one, whatever is in it.
    """

    number: int = 0
    refused: dict[str, str] = field(default_factory=dict)
    passed: dict[str, Names] = field(default_factory=dict)

    @property
    def usd(self) -> float:
        """What so many calls cost on S3, in US dollars."""
        return self.number * USD_PER_CALL

    def count(self, names: int) -> None:
        """Counts the calls that give so many names; none cost a call, too."""
        self.number += max(1, -(-names // KEYS_PER_CALL))

    @contextmanager
    def noting(self, fs: Any, path: str) -> Iterator[None]:
        """Notes a folder that cannot be listed; what was listed of it so far counts.

        Args:
            fs: Its file system.
            path: The folder.

        Raises:
            RetriableError: The store is busy or out of reach.
            ConfigError: The store refuses us altogether.
        """
        uri = str(fs.unstrip_protocol(path))
        try:
            with s3.translate_errors(uri, denied=ObjectError):
                yield
        except (FileNotFoundError, NotADirectoryError):
            return
        except (ObjectError, OSError) as error:
            self.refused[uri] = f"the folder cannot be listed: {error}"
    def pass_over(self, fs: Any, path: str, reason: str) -> None:
        """Counts a name that stands for nothing to read, by the reason."""
        self.passed.setdefault(reason, Names()).add(printable_uri(fs, path))


def pages(uri: str, calls: Calls, access: Access = objects.DEFAULT_ACCESS) -> Iterator[list[ObjectRef]]:
    """The objects that a URI stands for: a folder (recursively), a glob, a file.

    A local file has no ETag yet; see `objects.with_etag`.

    Raises:
        ConfigError: The URI stands for nothing, or its store refuses us.
        RetriableError: Its store is busy or out of reach.
    """
    with s3.translate_errors(uri):
        yield from _pages(uri, calls, access)


def _pages(uri: str, calls: Calls, access: Access) -> Iterator[list[ObjectRef]]:
    fs, path = objects.filesystem(uri, access)
    # A listing may be cached by the file system instance; ask the store itself.
    fs.invalidate_cache()
    kind = objects.kind(fs, path)
    if kind == "file":
        yield [objects.unhashed(fs, retry.call(fs.info, path))]
    elif kind == "directory":
        yield from below(fs, path, calls)
    elif _GLOB & set(path):
        yield from _globbed(fs, path, calls)
    else:
        raise ConfigError(f"there is nothing at {uri!r}")


def below(fs: Any, path: str, calls: Calls, after: str = "") -> Iterator[list[ObjectRef]]:
    """The objects below a folder, at any depth, by name; none when there is no such folder.

    Args:
        fs: Its file system.
        path: The folder.
        calls: How often the store was asked, so far.
        after: Only names in the folder that sort after this one; on S3 alone.
    """
    if not _is_s3(fs):
        yield from _walked(fs, path, calls)
        return
    for page in _s3_pages(fs, path, calls, after=after):
        if refs := _refs(fs, page, path, calls):
            yield refs


def level(fs: Any, path: str, calls: Calls, inside: list[str]) -> Iterator[list[ObjectRef]]:
    """The objects directly in a folder on S3.

    Args:
        fs: Its file system.
        path: The folder.
        calls: How often the store was asked, so far.
        inside: Takes the names of the folders in it that may hold logs.
    """
    for page in _s3_pages(fs, path, calls, "/"):
        for item in page.get("CommonPrefixes", ()):
            name = _last(item["Prefix"])
            if reason := objects.skipped(name):
                calls.pass_over(fs, f"{path}/{name}/", reason)
            else:
                inside.append(name)
        if refs := _refs(fs, page, path, calls):
            yield refs


def _refs(fs: Any, page: dict[str, Any], path: str, calls: Calls) -> list[ObjectRef]:
    """The objects of a page that may hold logs; the others are noted."""
    root = len(path)
    refs = []
    for item in page.get("Contents", ()):
        name = f"{page['Name']}/{item['Key']}"
        if name.endswith("/"):
            reason = objects.FOLDER_WITH_CONTENT if item["Size"] else ""  # an empty one only marks a folder
        elif (reason := objects.skipped(name[root:]) or "") == "":
            refs.append(objects.unhashed(fs, {**item, "name": name, "size": item["Size"], "type": "file"}))
        if reason:
            calls.pass_over(fs, name, reason)
    return refs


def folders(fs: Any, path: str, calls: Calls) -> list[str]:
    """Names of the folders directly in a folder, sorted; none when there is no such folder."""
    return entries(fs, path, calls).folders


@dataclass
class Entries:
    """What lies directly in a folder.

    Args:
        folders: Names of folders, sorted.
        files: Paths of the files that could be logs.
        whole: Whether that is all.
    """

    folders: list[str]
    files: Names
    whole: bool


def entries(fs: Any, path: str, calls: Calls, most_pages: int | None = None) -> Entries:
    """What lies directly in a folder.

    Args:
        fs: Its file system.
        path: The folder; there may be none.
        calls: How often the store was asked, so far.
        most_pages: After so many pages of S3 listing ends; None for all.
    """
    inside, files, whole = [], Names(), True
    if _is_s3(fs):
        for number, page in enumerate(_s3_pages(fs, path, calls, "/")):
            if number == most_pages:
                whole = False
                break
            inside += [item["Prefix"] for item in page.get("CommonPrefixes", ())]
            for item in page.get("Contents", ()):
                name = f"{page['Name']}/{item['Key']}"
                # The folder's own marker is among them.
                if name.rstrip("/") != path and not objects.skipped(_last(name)):
                    files.add(name)
    else:
        for info in _listed(fs, path, calls):
            if info["type"] == "directory":
                inside.append(info["name"])
            elif not objects.skipped(_last(info["name"])):
                files.add(info["name"])
    return Entries(sorted(map(_last, inside)), files, whole)


def _is_s3(fs: Any) -> bool:
    return s3.is_s3(fs) and hasattr(fs, "call_s3")


def _s3_pages(
    fs: Any, path: str, calls: Calls, delimiter: str = "", after: str = ""
) -> Iterator[dict[str, Any]]:  # fmt: skip
    bucket, key, _ = fs.split_path(path)
    asked = {"Bucket": bucket, "Prefix": f"{key}/" if key else "", **({"Delimiter": delimiter} if delimiter else {})}
    if after:
        asked["StartAfter"] = f"{asked['Prefix']}{after}"
    if s3.is_aws(fs):
        asked["OptionalObjectAttributes"] = ["RestoreStatus"]
    while True:
        page: dict[str, Any] = {}
        with calls.noting(fs, path):
            page = retry.call(fs.call_s3, "list_objects_v2", getattr(fs, "req_kw", {}), **asked)
        calls.count(0)
        yield {"Name": bucket, **page}
        if not page.get("IsTruncated"):
            return
        asked["ContinuationToken"] = page["NextContinuationToken"]


def _walked(fs: Any, path: str, calls: Calls) -> Iterator[list[ObjectRef]]:
    """Depth first, each folder where its name and a slash stand among the names: the order of whole paths.

    Links are followed, and what they lead to has its own name. A folder that is listed anyway is not listed again, so
    that links in a circle come to an end.
    """
    refs: list[ObjectRef] = []
    roots = [path]
    waiting = _by_name(_listed(fs, path, calls))
    while waiting:
        info = waiting.pop()
        name = _last(info["name"])
        if reason := objects.skipped(name):
            calls.pass_over(fs, info["name"] + ("/" if info["type"] == "directory" else ""), reason)
            continue
        target = objects.followed(fs, info)
        if target["type"] == "directory":
            if target is not info:
                if any(_within(target["name"], root) for root in roots):
                    continue
                roots.append(target["name"])
            waiting += _by_name(_listed(fs, target["name"], calls))
        elif target["type"] == "file":
            refs.append(objects.unhashed(fs, target))
        else:
            calls.pass_over(fs, info["name"], objects.NO_FILE)
        if len(refs) == KEYS_PER_CALL:
            yield refs
            refs = []
    if refs:
        yield refs


def _within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(f"{folder.rstrip('/')}/")


def _listed(fs: Any, path: str, calls: Calls) -> list[dict[str, Any]]:
    infos: list[dict[str, Any]] = []
    with calls.noting(fs, path):
        infos += [info for info in retry.call(fs.ls, path, detail=True) if info["name"].rstrip("/") != path.rstrip("/")]
    calls.count(len(infos))
    return infos


def _by_name(infos: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The last one first, to be taken from the end."""
    return sorted(
        infos, key=lambda info: str(info["name"]) + ("/" if info["type"] == "directory" else ""), reverse=True
    )


def _globbed(fs: Any, path: str, calls: Calls) -> Iterator[list[ObjectRef]]:
    root = len(path.split("*")[0].split("?")[0].split("[")[0])
    listing = fs if _is_s3(fs) else _noting_folders(fs, calls)  # S3 is listed by prefix, without folders
    for name, info in sorted(retry.call(listing.glob, path, detail=True).items()):
        if reason := objects.skipped(name[root:]):
            calls.pass_over(fs, name, reason)
            continue
        target = objects.followed(fs, info)
        if target["type"] == "directory":
            yield from below(fs, target["name"], calls)
        elif target["type"] == "file":
            yield [objects.unhashed(fs, target)]


def _noting_folders(fs: Any, calls: Calls) -> Any:
    """The file system with another `ls`: fsspec's glob leaves out in silence what cannot be listed."""

    def ls(path: str, detail: bool = True, **more: Any) -> list[Any]:
        infos: list[Any] = []
        with calls.noting(fs, path):
            infos += retry.call(fs.ls, path, detail=detail, **more)
        return infos

    noting = object.__new__(type(fs))
    vars(noting).update(vars(fs), ls=ls)
    return noting


def printable_uri(fs: Any, path: str) -> str:
    """A path as the ledger knows it: a URI, of text that can be printed."""
    uri = str(fs.unstrip_protocol(path)).rstrip("/") + ("/" if path.endswith("/") else "")
    return uri.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _last(name: str) -> str:
    return name.rstrip("/").rpartition("/")[2]
