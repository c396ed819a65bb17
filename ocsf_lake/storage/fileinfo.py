"""What is known of a file of the lake; who only looks files up does without what writes them."""

from __future__ import annotations

from dataclasses import dataclass

from ocsf_lake.storage.layout import Partition


@dataclass(frozen=True)
class FileInfo:
    """One Parquet file of the lake.

    Args:
        path: Below the lake's root.
        partition: The table and partition it belongs to.
        class_uid: OCSF class of its events; None for rejects.
        rows: Number of rows.
        bytes: Size.
        sha256: Checksum of its bytes, in hex.
        min_time: Earliest `time`, epoch milliseconds; None for rejects.
        max_time: Latest `time`.
    """

    path: str
    partition: Partition
    class_uid: int | None
    rows: int
    bytes: int
    sha256: str
    min_time: int | None = None
    max_time: int | None = None
