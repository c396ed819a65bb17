"""What makes the work on some records fail is found by halving: until an object, then a record, stands alone.

Work is tried without consequences: mapped, encoded, counted and thrown away. Whether a half fails decides where the
search goes on, so the same failures are found in the same order however often it is done.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import duckdb
import pyarrow as pa

from ocsf_lake.ingest.parts import Piece
from ocsf_lake.ledger.results import CountError, Outcome, State
from ocsf_lake.storage.objects import ObjectError, ObjectRef
from ocsf_mappers import Engine
from ocsf_mappers.engine.mapped import REJECTS
from ocsf_mappers.errors import ConfigError, RetriableError, WriteError
from ocsf_mappers.readers import Bad, Chunk

MOST_RECORDS = 100
"""An object of which more records (or stretches of records) than this make the work fail is left out as a whole."""

NONE_OF = 16
"""An object of which so many stretches of records fail, and none passes, is left out as a whole."""

Try = Callable[[Sequence[Piece]], object]
"""Does the work on some pieces without consequences; raises what makes it fail."""


class PartialReadError(Exception):
    """Objects failed when some of their records had been given out, so that the parts so far are void."""

    def __init__(self, failures: Iterable[Failure]) -> None:
        super().__init__("objects failed")
        self.failures = list(failures)


@dataclass(frozen=True)
class Failure:
    """Why an object is left out of its batch.

    Args:
        ref: The object.
        reason: For the report.
        lasting: Whether reading it again fails again, unless the mapper or this program changes.
        error: What was raised.
    """

    ref: ObjectRef
    reason: str
    lasting: bool
    error: Exception

    @property
    def outcome(self) -> Outcome:
        """What became of the object."""
        return Outcome(state=State.FAILED, reason=self.reason, lasting=self.lasting)

    @property
    def is_defect(self) -> bool:
        """Whether the program failed, instead of finding that the object cannot be had or is no log."""
        return not isinstance(self.error, ObjectError)


@dataclass(frozen=True)
class Culprit:
    """One record that makes the work fail.

    Args:
        piece: The record alone.
        reason: What it made fail.
    """

    piece: Piece
    reason: str


@dataclass
class Division:
    """What a search found.

    Args:
        passed: The other records, in groups of neighbours that pass together.
        records: Records that make the work fail.
        objects: Objects that do as a whole.
    """

    passed: list[list[Piece]] = field(default_factory=list)
    records: list[Culprit] = field(default_factory=list)
    objects: list[Failure] = field(default_factory=list)


def is_surroundings(error: Exception) -> bool:
    """Whether an error comes from a store, a database, a disk or the setup, so that no record is to blame."""
    if isinstance(error, RetriableError | WriteError | ConfigError | duckdb.IOException):
        return True
    return isinstance(error, OSError) and error.errno is not None


def ends_attempt(error: Exception) -> bool:
    """Whether to stop here instead of looking for what makes the work fail: the time is over, or see above."""
    return isinstance(error, TimeoutError) or is_surroundings(error)


def without_frames(error: Exception) -> Exception:
    """An error that keeps nothing alive of what was in memory when it was raised."""
    current: BaseException | None = error
    while current is not None:
        current.__traceback__ = None
        current = current.__cause__ or current.__context__
    return error


def described(error: Exception) -> str:
    """An error in one line, with its kind; records' own text may be in it."""
    message = _encodable((str(error).strip().splitlines() or [""])[0])
    return f"{type(error).__name__}: {message}" if message else type(error).__name__


def search(pieces: Sequence[Piece], attempt: Try, error: Exception, passed: frozenset[ObjectRef]) -> Division:
    """Finds what makes the work on some pieces fail.

    Args:
        pieces: They fail together.
        attempt: The work.
        error: What it raised.
        passed: Objects of which records have passed before: it is no fault of the whole object.

    Raises:
        Exception: An error that is no record's fault, see `ends_attempt`.
    """
    search = _Search(attempt, passed)
    segments: list[_Segment] = [_Segment(list(pieces), without_frames(error))]
    while any(segment.error is not None and not segment.alone for segment in segments):
        segments = search.halved(segments)
    return search.result(segments)


@dataclass(frozen=True)
class _Segment:
    """Neighbours, and what they raise together; None when they pass."""

    pieces: list[Piece]
    error: Exception | None

    @property
    def alone(self) -> bool:
        return len(self.pieces) == 1 and _items(self.pieces[0].chunk) <= 1


class _Search:
    def __init__(self, attempt: Try, passed: frozenset[ObjectRef]) -> None:
        self.attempt = attempt
        self.passed = set(passed)
        self.something_passed = bool(passed)
        self.objects: dict[ObjectRef, Failure] = {}

    def halved(self, segments: Sequence[_Segment]) -> list[_Segment]:
        """One level deeper, without objects that are found to fail as a whole."""
        after: list[_Segment] = []
        for segment in segments:
            if segment.error is None or segment.alone:
                after.append(segment)
                continue
            after += [_Segment(half, self._tried(half)) for half in _halves(segment.pieces)]
        self._give_up(after)
        return [left for segment in after if (left := self._without_objects(segment)).pieces]

    def result(self, segments: Sequence[_Segment]) -> Division:
        """What is known when every record that fails stands alone."""
        culprits: dict[ObjectRef, list[Culprit]] = {}
        for segment in segments:
            if (error := segment.error) is not None:
                (piece,) = segment.pieces
                culprits.setdefault(piece.ref, []).append(Culprit(piece, described(error)))
                if piece.ref not in self.passed or not _items(piece.chunk) or isinstance(error, CountError):
                    self._fails(piece.ref, error)
        return Division(
            [left.pieces for segment in segments if (left := self._without_objects(segment)).pieces and not left.error],
            [item for ref, items in culprits.items() if ref not in self.objects for item in items],
            list(self.objects.values()),
        )

    def _tried(self, pieces: list[Piece]) -> Exception | None:
        try:
            self.attempt(pieces)
        except Exception as error:
            if ends_attempt(error):
                raise
            return without_frames(error)
        self.something_passed = True
        self.passed.update(piece.ref for piece in pieces if len(piece.chunk.records))
        return None

    def _give_up(self, segments: Sequence[_Segment]) -> None:
        failing = [segment for segment in segments if segment.error is not None]
        if not self.something_passed and len(failing) >= NONE_OF:
            # Nothing passes: it is not for single records that this fails.
            for segment in failing:
                for piece in segment.pieces:
                    self._fails(piece.ref, segment.error)
        numbers: Counter[ObjectRef] = Counter()
        for segment in failing:
            refs = {piece.ref for piece in segment.pieces}
            if len(refs) > 1:
                continue
            (ref,) = refs
            numbers[ref] += 1
            many = numbers[ref] > MOST_RECORDS or (ref not in self.passed and numbers[ref] >= NONE_OF)
            if many or isinstance(segment.error, CountError):
                self._fails(ref, segment.error)

    def _fails(self, ref: ObjectRef, error: Exception | None) -> None:
        assert error is not None
        self.objects.setdefault(ref, Failure(ref, f"its records cannot be mapped: {described(error)}", True, error))

    def _without_objects(self, segment: _Segment) -> _Segment:
        if not self.objects:
            return segment
        return replace(segment, pieces=[piece for piece in segment.pieces if piece.ref not in self.objects])


def rejects(culprits: Sequence[Culprit], engine: Engine) -> pa.Table:
    """Records that make the work fail, as quarantine has them."""
    rows = []
    for culprit in culprits:
        piece = culprit.piece
        numbers = piece.chunk.records["_record"].to_pylist() or [bad.record for bad in piece.chunk.bad]
        row = (piece.raw_object.uri, piece.raw_object.etag, numbers[0], culprit.reason, _text(piece.chunk, engine))
        rows.append(dict(zip(REJECTS.names, row, strict=True)))
    return pa.Table.from_pylist(rows, REJECTS)


def _text(chunk: Chunk, engine: Engine) -> str:
    """A record's text as a reject has it, as far as that can be had: what made the work fail may be in it."""
    if not len(chunk.records):
        return _encodable(chunk.bad[0].text)
    try:
        return _encodable(engine.texts(chunk.records)[0])
    except Exception:
        pass
    try:
        return _encodable(str({name: chunk.records[name][0].as_py() for name in chunk.records.column_names}))
    except Exception:
        return ""


def _encodable(text: str) -> str:
    """Text that files and databases take: without halves of characters, and without NUL, which PostgreSQL refuses."""
    return text.encode("utf-8", errors="backslashreplace").decode().replace("\0", "\\u0000")


# -- halves -----------------------------------------------------------------------------------------------------------
def _items(chunk: Chunk) -> int:
    """Parts that a chunk can be divided into: its records, its bad records, and its drops together."""
    return len(chunk.records) + len(chunk.bad) + bool(chunk.dropped)


def _halves(pieces: Sequence[Piece]) -> list[list[Piece]]:
    if len(pieces) > 1:
        middle = len(pieces) // 2
        return [list(pieces[:middle]), list(pieces[middle:])]
    (piece,) = pieces
    return [[replace(piece, chunk=chunk)] for chunk in _halves_of(piece.chunk)]


def _halves_of(chunk: Chunk) -> list[Chunk]:
    def part(records: pa.Table, bad: Sequence[Bad] = (), dropped: Mapping[str, int] | None = None) -> Chunk:
        return replace(chunk, records=records, bad=bad, dropped=dropped or {})

    none = chunk.records.slice(0, 0)
    if len(chunk.records) and (chunk.bad or chunk.dropped):
        return [part(chunk.records), part(none, chunk.bad, chunk.dropped)]
    if len(chunk.records):
        middle = len(chunk.records) // 2
        return [part(chunk.records.slice(0, middle)), part(chunk.records.slice(middle))]
    if chunk.bad and chunk.dropped:
        return [part(none, chunk.bad), part(none, (), chunk.dropped)]
    middle = len(chunk.bad) // 2
    return [part(none, chunk.bad[:middle]), part(none, chunk.bad[middle:])]
