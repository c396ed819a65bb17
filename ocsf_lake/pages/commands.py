"""Commands that a page offers to be copied into a shell."""

from __future__ import annotations

import shlex
import unicodedata

from ocsf_mappers.shown import escaped, redacted

_UNSEEN = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")
"""Categories of characters that a page cannot show as they are, so that what is copied would not be what was read."""

_MEANT = frozenset('"$`\\!')
"""Characters that mean something to a shell between double quotes."""


def offered(*words: str) -> str | None:
    """A command quoted for a shell; None where one must not be offered.

    A word with a control character, one that changes the direction of text, or a secret would be shown as another one
    than it is, and is not to be pasted.
    """
    if any(not is_plain(word) for word in words):
        return None
    return " ".join(["ocsf-lake", *map(_quoted, words)])


def _quoted(word: str) -> str:
    """A word for a shell; one with apostrophes, as SQL has, in double quotes where nothing in it means something."""
    return f'"{word}"' if "'" in word and not _MEANT & set(word) else shlex.quote(word)


def is_plain(word: str) -> bool:
    """Whether a word can be shown, and copied, as it is."""
    if escaped(word) != word or redacted(word) != word:
        return False
    return all(unicodedata.category(letter) not in _UNSEEN for letter in word)
