"""The exception tree, sorted by what the caller does with it.

```
OcsfMappersError              every message ends with where: source, object, record, column
├─ MappingError   fix the code   raised on import: unknown path, caption or column, with the nearest match
├─ SchemaError    fix the data   an OCSF version or a table is missing or inconsistent
├─ ConfigError    fix the setup  reported before any input is read
├─ QueryError     fix the query  it is no SQL, or names what is not there
├─ ReadError      quarantine     this object cannot be decoded; the run goes on
├─ RetriableError try again      throttled or timed out
└─ WriteError     stop           the lake refused; nothing is half-written
```

A bad record is data, not an exception: it travels as a row of the quarantine table.
"""

import difflib
from collections.abc import Iterable

from ocsf_mappers.shown import escaped, redacted


class OcsfMappersError(Exception):
    """Base of every error of this project.

    Args:
        message: What went wrong and what to do next.
        where: Names of the places concerned (`source=`, `object=`, `record=`, `column=`), appended to the message.
    """

    def __init__(self, message: str, **where: object) -> None:
        self.where = where
        places = ", ".join(f"{key} {value}" for key, value in where.items() if value is not None)
        # It may be logged by whoever catches it, so nothing in it steers a terminal.
        super().__init__(escaped(redacted(f"{message} ({places})" if places else message), kept="\t\n"))


class MappingError(OcsfMappersError):
    """A mapper names a path, caption or column that does not exist.

    `problems` has each of several that are reported together.
    """

    problems: tuple[str, ...] = ()


class SchemaError(OcsfMappersError):
    """An OCSF version, class or lake table is unknown or inconsistent."""


class ConfigError(OcsfMappersError):
    """The setup cannot work as given."""


class QueryError(OcsfMappersError):
    """A query cannot run as it is written."""


class ReadError(OcsfMappersError):
    """An object cannot be decoded; it goes to quarantine and the run goes on."""


class RetriableError(OcsfMappersError):
    """Trying again may help."""


class WriteError(OcsfMappersError):
    """The lake refused a write; nothing was half-written."""


def nearest(word: str, words: Iterable[str]) -> str:
    """A hint such as `; did you mean 'src_endpoint'?`, or nothing when no known word is close."""
    matches = difflib.get_close_matches(word, list(words), n=1, cutoff=0.5)
    return f"; did you mean {matches[0]!r}?" if matches else ""
