from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Callable

import pytest
import zstandard

from ocsf_mappers.errors import ReadError
from ocsf_mappers.readers import streams
from ocsf_mappers.readers.streams import Blocks, Limits

TEXT = b"".join(b"line %d of a log that is read in blocks\n" % number for number in range(20_000))


def read(data: bytes, limits: Limits | None = None) -> bytes:
    return b"".join(Blocks(io.BytesIO(data), limits))


def read_until_error(data: bytes, limits: Limits | None = None) -> tuple[bytes, str]:
    """What could be read, and what the error said."""
    found: list[bytes] = []
    try:
        found.extend(Blocks(io.BytesIO(data), limits))
    except ReadError as error:
        return b"".join(found), str(error)
    raise AssertionError("no error")


@pytest.fixture(params=[7, 4096, 4 << 20], ids=lambda size: f"blocks of {size}")
def block_bytes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    size: int = request.param
    monkeypatch.setattr(streams, "BLOCK_BYTES", size)
    return size


SHORT = TEXT[:3000]


@pytest.mark.parametrize(
    "packed",
    [
        pytest.param(SHORT, id="plain"),
        pytest.param(gzip.compress(SHORT), id="gzip"),
        pytest.param(gzip.compress(gzip.compress(SHORT)), id="gzip twice"),
        pytest.param(gzip.compress(SHORT[:1000]) + gzip.compress(SHORT[1000:]), id="gzip of two members"),
        pytest.param(gzip.compress(SHORT) + gzip.compress(b""), id="gzip with an empty member"),
        pytest.param(gzip.compress(SHORT) + bytes(512), id="gzip padded with zeros"),
        pytest.param(zstandard.compress(SHORT), id="zstd"),
        pytest.param(zstandard.compress(SHORT[:1000]) + zstandard.compress(SHORT[1000:]), id="zstd of two frames"),
        pytest.param(gzip.compress(zstandard.compress(SHORT)), id="zstd inside gzip"),
        pytest.param(b"\xef\xbb\xbf" + SHORT, id="UTF-8 with a byte order mark"),
        pytest.param(b"\xff\xfe" + SHORT.decode().encode("utf-16-le"), id="UTF-16 little-endian"),
        pytest.param(b"\xfe\xff" + SHORT.decode().encode("utf-16-be"), id="UTF-16 big-endian"),
        pytest.param(gzip.compress(b"\xff\xfe" + SHORT.decode().encode("utf-16-le")), id="UTF-16 in gzip"),
    ],
)
def test_bytes_come_out_as_they_went_in(packed: bytes, block_bytes: int) -> None:
    assert read(packed) == SHORT


@pytest.mark.parametrize("data", [b"", gzip.compress(b""), zstandard.compress(b"")], ids=["plain", "gzip", "zstd"])
def test_an_empty_object_has_no_bytes(data: bytes) -> None:
    assert Blocks(io.BytesIO(data)).head == b""
    assert read(data) == b""


def test_a_truncated_gzip_gives_what_is_there_and_says_so() -> None:
    found, said = read_until_error(gzip.compress(TEXT)[:-200])
    assert TEXT.startswith(found)
    assert len(found) > 1000
    assert "truncated" in said


@pytest.mark.parametrize("missing", [1, 4, 8])
def test_a_gzip_without_its_whole_checksum_is_truncated(missing: int) -> None:
    found, said = read_until_error(gzip.compress(TEXT)[:-missing])
    assert found == TEXT
    assert "truncated" in said


def test_a_corrupt_gzip_says_so() -> None:
    packed = bytearray(gzip.compress(TEXT))
    packed[len(packed) // 2] ^= 0xFF
    assert "corrupt" in read_until_error(bytes(packed))[1]


def test_a_gzip_with_a_wrong_checksum_is_corrupt() -> None:
    packed = bytearray(gzip.compress(TEXT))
    packed[-6] ^= 0xFF
    assert "corrupt" in read_until_error(bytes(packed))[1]


def test_damage_is_an_error_of_the_reading_not_of_the_opening() -> None:
    packed = bytearray(gzip.compress(TEXT))
    packed[-6] ^= 0xFF
    assert Blocks(io.BytesIO(bytes(packed))) is not None


def test_what_stands_before_the_damage_is_given() -> None:
    packed = bytearray(gzip.compress(TEXT))
    packed[-6] ^= 0xFF
    assert read_until_error(bytes(packed))[0] == TEXT


def test_bytes_after_a_gzip_stream_are_refused() -> None:
    found, said = read_until_error(gzip.compress(SHORT) + b"not gzip")
    assert found == SHORT
    assert "followed by bytes that are not gzip" in said


@pytest.mark.parametrize("share", [0.3, 0.6, 0.99])
def test_a_truncated_zstd_says_so(share: float) -> None:
    packed = zstandard.compress(TEXT)
    found, said = read_until_error(packed[: int(len(packed) * share)])
    assert TEXT.startswith(found)
    assert "zstd" in said


def test_a_corrupt_zstd_says_so() -> None:
    packed = bytearray(zstandard.ZstdCompressor(write_checksum=True).compress(TEXT))
    packed[len(packed) // 2] ^= 0xFF
    assert "zstd stream is corrupt" in read_until_error(bytes(packed))[1]


def test_an_object_larger_than_allowed_stops_with_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "BLOCK_BYTES", 1000)
    found, said = read_until_error(gzip.compress(TEXT), Limits(max_bytes=10_000))
    assert TEXT.startswith(found)
    assert len(found) <= 10_000
    assert "10000 bytes" in said


def test_a_zip_bomb_is_told_by_its_ratio() -> None:
    bomb = gzip.compress(bytes(64 << 20))
    found, said = read_until_error(bomb, Limits(max_ratio=250, ratio_from_bytes=1 << 20))
    assert len(found) < 32 << 20
    assert "250 times" in said


def test_a_bomb_inside_a_bomb_is_told_too() -> None:
    bomb = gzip.compress(gzip.compress(bytes(64 << 20)))
    assert "times its size" in read_until_error(bomb, Limits(max_ratio=250, ratio_from_bytes=1 << 20))[1]


def test_what_compresses_well_without_being_a_bomb_is_read() -> None:
    repetitive = TEXT[:400] * 5000
    assert len(repetitive) / len(gzip.compress(repetitive)) > 100
    assert read(gzip.compress(repetitive), Limits()) == repetitive


def test_only_some_layers_are_opened() -> None:
    packed = SHORT
    for _ in range(streams.LAYERS + 1):
        packed = gzip.compress(packed)
    assert read(packed) == gzip.compress(SHORT, mtime=0) or read(packed).startswith(streams.GZIP)


def test_other_compressions_are_passed_through() -> None:
    packed = zlib.compress(SHORT)
    assert read(packed) == packed


def archive(kind: str) -> bytes:
    file = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(file, "w") as zipped:
            zipped.writestr("a.log", SHORT)
    else:
        with tarfile.open(fileobj=file, mode="w") as packed:
            packed.addfile(tarfile.TarInfo("a.log"))
    return file.getvalue()


@pytest.mark.parametrize(
    ("pack", "kind"),
    [
        (lambda: archive("zip"), "a ZIP archive"),
        (lambda: archive("tar"), "a tar archive"),
        (lambda: gzip.compress(archive("tar")), "a tar archive"),
        (lambda: bz2.compress(SHORT), "compressed by bzip2"),
        (lambda: lzma.compress(SHORT), "compressed by xz"),
    ],
    ids=["zip", "tar", "tar.gz", "bz2", "xz"],
)
def test_what_is_not_opened_is_no_text(pack: Callable[[], bytes], kind: str) -> None:
    said = f"it is {kind}, which is not opened: unpack it, and name what was in it"
    assert read_until_error(pack()) == (b"", said)


def test_a_utf_16_text_with_an_odd_byte_keeps_the_rest() -> None:
    assert read(b"\xff\xfe" + "ab".encode("utf-16-le") + b"\x63") == "ab\ufffd".encode()


def test_the_head_is_the_beginning_of_the_decompressed_bytes() -> None:
    assert Blocks(io.BytesIO(gzip.compress(SHORT))).head.startswith(SHORT[:100])
