"""Files that CloudWatch Logs export tasks write: a line a message, the time of its log event and a blank before it.

The message of an event may go over several lines; only the first of them has the time.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import msgspec

from ocsf_mappers.readers.json_split import RECORD_BYTES

TIME_BYTES = 25
TIME = re.compile(rb"(?m)^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z ")


def is_exported(head: bytes) -> bool:
    """Whether an object that begins like this is such a file."""
    return is_timed(head[: 4 * TIME_BYTES].lstrip())


def is_timed(line: bytes) -> bool:
    """Whether a line begins with the time of a log event."""
    return TIME.match(line) is not None


def as_log_events(blocks: Iterator[bytes]) -> Iterator[bytes]:
    """The file as log events in JSON, one a line: `{"timestamp": ..., "message": ...}`."""
    buffer = b""
    for block in blocks:
        buffer += block
        starts = [match.start() for match in TIME.finditer(buffer)]
        # The last event may go on in the next block.
        end = starts[-1] if starts else 0
        if end:
            yield _events(buffer[:end])
            buffer = buffer[end:]
        elif len(buffer) > 2 * RECORD_BYTES:
            yield _events(buffer)
            buffer = b""
    if buffer:
        yield _events(buffer)


def _events(text: bytes) -> bytes:
    starts = [match.start() for match in TIME.finditer(text)]
    if not starts or starts[0]:
        starts.insert(0, 0)
    ends = [*starts[1:], len(text)]
    return b"".join(_event(text[start:end]) for start, end in zip(starts, ends, strict=True) if text[start:end].strip())


def _event(text: bytes) -> bytes:
    if not is_timed(text):
        return text  # the rest of a message that is too long
    time, message = text[: TIME_BYTES - 1], text[TIME_BYTES:].rstrip(b"\r\n")
    # Most messages are JSON on one line, and stay as they are. What is wrong with others shows when they are read.
    whole = message[:1] == b"{" and message[-1:] == b"}" and _parses(message)
    value = message.replace(b"\n", b" ") if whole else msgspec.json.encode(message.decode(errors="backslashreplace"))
    return b'{"timestamp":"' + time + b'","message":' + value + b"}\n"


def _parses(message: bytes) -> bool:
    try:
        msgspec.json.decode(message, type=msgspec.Raw)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return False
    return True
