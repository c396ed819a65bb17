"""What a run looked at below a URI, and what lies there that it did not look at: nothing is left out in silence."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from ocsf_lake.inputs.listing import Names

SHOWN = 3
"""Of the names of one kind, so many are shown."""


@dataclass
class Unread:
    """Deliveries before or after the days that were asked for, of which the lake has nothing.

    Args:
        first: Their first day.
        last: Their last day.
        objects: How many objects they are; None where only folders were looked at.
    """

    first: date
    last: date
    objects: int | None = None

    def add(self, day: date) -> None:
        """Takes in a day."""
        self.first, self.last = min(self.first, day), max(self.last, day)


@dataclass(frozen=True)
class Note:
    """One thing to know.

    Args:
        text: In plain English.
        names: URIs or commands that it is about.
        hidden: So many more names are not among them.
    """

    text: str
    names: tuple[str, ...] = ()
    hidden: int = 0


@dataclass
class Coverage:
    """What a listing looked at, and what it left out.

    Args:
        source: Name of the source; None for any.
        uri: Where.
        lake: Root of the lake, as the settings name it.
        first: First day of delivery that was looked at; None where all was.
        last: Last one.
        accounts: Accounts whose folders were found.
        regions: Regions whose folders were found.
        roots: URIs of the folders in which AWS's folders were found.
        beside: URIs of folders and objects beside those; nothing of them was looked at.
        passed: Why a name was passed over -> the names.
        older: Deliveries before the first day, of which the lake has nothing.
        newer: Deliveries after the last day, of which it has nothing.
        folders: How many folders of an account and region there are.
        given: URI of a folder that was looked at -> how it was named; notes name what is in it that way.
        parts: Of each URI whose older days were left out.
        probed: In how many of them other days were looked for; so that this costs little, not in all of very many.
    """

    source: str | None
    uri: str
    lake: str
    first: date | None = None
    last: date | None = None
    accounts: set[str] = field(default_factory=set)
    regions: set[str] = field(default_factory=set)
    roots: Names = field(default_factory=Names)
    beside: Names = field(default_factory=Names)
    passed: dict[str, Names] = field(default_factory=dict)
    older: Unread | None = None
    newer: Unread | None = None
    folders: int = 0
    probed: int = 0
    given: dict[str, str] = field(default_factory=dict)
    parts: list[Coverage] = field(default_factory=list)

    def unread(self, day: date, objects: int | None = None) -> None:
        """Takes in a day, not among those asked for, of which the lake has nothing."""
        if self.first is None or self.last is None:
            return
        name = "older" if day < self.first else "newer"
        unread: Unread | None = getattr(self, name)
        if unread is None:
            setattr(self, name, Unread(day, day, objects))
        else:
            unread.add(day)
            if objects is not None:
                unread.objects = (unread.objects or 0) + objects

    def command(self, unread: Unread) -> str:
        """The command that brings them into the lake."""
        if self.source is None:
            return shlex.join(["ocsf-lake", "ingest", self.uri, "--all", "--lake", self.lake])
        words = ["ocsf-lake", "backfill", str(self.source), self.uri]
        words += ["--from", str(unread.first), "--to", str(unread.last), "--lake", self.lake]
        return shlex.join(words)

    def notes(self) -> list[Note]:
        """What to know about it."""
        notes = [self._looked_at()] if self.first is not None else []
        for part in self.parts:
            looked = f"looked at deliveries from {part.first} on in AWS's folders of {part.uri} and all outside them"
            notes.append(Note(f"{looked}; --all lists everything"))
            notes += part.notes()[1:]
        for word, unread in (("older", self.older), ("newer", self.newer)):
            if unread is not None:
                number = "" if unread.objects is None else f"{unread.objects:,} "
                days = f"delivered {_days(unread.first, unread.last)}"
                notes.append(
                    Note(f"{number}{word} objects have not been read, {days}; this reads them", (self.command(unread),))
                )
        if self.probed < self.folders:
            notes.append(
                Note(f"other days were looked for in {self.probed:,} of {self.folders:,} folders, others next time")
            )
        if self.beside.number:
            notes.append(
                self._note(
                    f"{_plural(self.beside.number, 'folder or object', 'folders and objects')} outside AWS's folders "
                    "not read; `ocsf-lake ingest SOURCE URI` reads what is in one",
                    self.beside,
                )
            )
        for reason, names in sorted(self.passed.items()):
            notes.append(self._note(f"{_plural(names.number, 'name', 'names')} ignored ({reason})", names))
        return notes

    def _looked_at(self) -> Note:
        days = f"deliveries {_days(self.first, self.last)}"
        if not self.roots.number:
            return Note(f"looked at {days}, by the names of all objects", (self.uri,))
        places = _plural(len(self.accounts), "account", "accounts")
        if self.regions:
            places += f" and {_plural(len(self.regions), 'region', 'regions')}"
        return self._note(f"looked at {days}, for {places}, in", self.roots)

    def _note(self, text: str, names: Names) -> Note:
        names_shown = tuple(map(self._as_given, names.some[:SHOWN]))
        return Note(text, names_shown, names.number - len(names_shown))

    def _as_given(self, name: str) -> str:
        for uri, as_named in self.given.items():
            if name == uri or name.startswith(f"{uri}/"):
                return as_named.rstrip("/") + name[len(uri) :]
        return name

    def as_dict(self) -> dict[str, Any]:
        """It in JSON's types."""
        return {
            "uri": self.uri,
            "first_day": self.first and self.first.isoformat(),
            "last_day": self.last and self.last.isoformat(),
            "accounts": sorted(self.accounts),
            "regions": sorted(self.regions),
            "trees": _names(self.roots),
            "not_looked_at": _names(self.beside),
            "passed_over": [{"reason": reason, **_names(names)} for reason, names in sorted(self.passed.items())],
            **{name: self._unread_dict(unread) for name, unread in (("older", self.older), ("newer", self.newer))},
            "parts": [part.as_dict() for part in self.parts],
            "folders": self.folders,
            "folders_probed": self.probed,
        }

    def _unread_dict(self, unread: Unread | None) -> dict[str, Any] | None:
        if unread is None:
            return None
        return {
            "first_day": unread.first.isoformat(),
            "last_day": unread.last.isoformat(),
            "objects": unread.objects,
            "command": self.command(unread),
        }


def _names(names: Names) -> dict[str, Any]:
    return {"number": names.number, "names": names.some}


def _days(first: date | None, last: date | None) -> str:
    return f"on {first}" if first == last else f"from {first} to {last}"


def _plural(number: int, word: str, words: str) -> str:
    return f"{number:,} {word if number == 1 else words}"
