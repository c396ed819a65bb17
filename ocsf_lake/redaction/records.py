"""Rules applied to what is kept of records themselves: their texts in quarantine, names and values in statistics.

A record that became no event has no columns to go by, and what is wrong with it may be that it is no JSON. So more is
hidden there than in events: members wherever they stand, rules for single accounts whatever the account, and all of a
text in which a rule's value cannot be told apart from the rest.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ocsf_lake.redaction.hiding import Replace
from ocsf_lake.redaction.texts import Texts
from ocsf_mappers.compiler.statistics import FirstSeen, SchemaDrift, Statistics

QUOTED = r"""'[^']*'|"[^"]*\""""
"""What a message quotes of a record."""
_UNREADABLE = "a value"


@dataclass(frozen=True)
class Records:
    """Rules for records of one source.

    Args:
        texts: Rules for texts.
        whole: Rules that hide all of a text that is no JSON, and what they put in its place.
        values: Names of members and attributes whose values are hidden altogether.
    """

    texts: Texts
    whole: Sequence[tuple[str, Replace]]
    values: Collection[str]

    def rejects(self, rejects: pa.Table) -> tuple[pa.Table, Counter[str]]:
        """Records on their way into quarantine, without what rules hide; and how many of them each rule changed."""
        counts: Counter[str] = Counter()
        if not len(rejects):
            return rejects, counts
        raw, reasons = (rejects[name].combine_chunks() for name in ("raw", "reason"))
        if self.whole:
            raw = self._without_whole(raw, counts)
            reasons = pc.replace_substring_regex(reasons, pattern=QUOTED, replacement=_UNREADABLE)
        changed = self.texts.changed(raw)
        if changed is not None:
            raw = changed.texts
            counts.update({rule: len(places) for rule, places in changed.places.items()})
        if (changed := self.texts.changed(reasons)) is not None:
            reasons = changed.texts
        for name, values in (("raw", raw), ("reason", reasons)):
            rejects = rejects.set_column(rejects.column_names.index(name), name, values)
        return rejects, counts

    def text(self, raw: str) -> str:
        """A record's text as quarantine keeps it."""
        texts = self._without_whole(pa.array([raw], pa.string()), Counter())
        changed = self.texts.changed(texts)
        return str((texts if changed is None else changed.texts)[0].as_py())

    def _without_whole(self, raw: pa.Array, counts: Counter[str]) -> pa.Array:
        """Texts that are no JSON are hidden: which of their values a rule means cannot be determined."""
        if not self.whole:
            return raw
        is_json = pc.fill_null(pc.match_substring_regex(raw, r"^\s*[\[{]"), True)
        flags = pc.invert(is_json).to_numpy(zero_copy_only=False) & pc.not_equal(raw, "").to_numpy(zero_copy_only=False)
        if not flags.any():
            return raw
        name, hide = self.whole[0]
        counts[name] += int(np.count_nonzero(flags))
        chosen = pa.array([hide(text) or text for text in raw.filter(pa.array(flags)).to_pylist()], pa.string())
        return pc.replace_with_mask(raw, pa.array(flags), chosen)

    def names(self, counted: Counter[str]) -> Counter[str]:
        """Counts by name, without what rules hide in names."""
        after = self._redacted(list(counted))
        if after is None:
            return counted
        merged: Counter[str] = Counter()
        for name, number in counted.items():
            merged[after[name]] += number
        return merged

    def statistics(self, counted: Statistics) -> Statistics:
        """What records held, without what rules hide in names and values."""
        drift = dict(counted.drift)
        if any(item.text and item.name in self.values for item in drift):
            drift = _merged(drift, lambda item: replace(item, text=self._value(item)))
        texts = {name for one in (counted.mapped, counted.unmapped, counted.failed) for _, name in one}
        texts |= {text for item in drift for text in (item.name, item.text)}
        after = self._redacted(sorted(texts))
        if after is None:
            return counted if drift == counted.drift else replace(counted, drift=drift)

        def renamed(counts: Counter[tuple[str, str]]) -> Counter[tuple[str, str]]:
            merged: Counter[tuple[str, str]] = Counter()
            for (day, name), number in counts.items():
                merged[day, after[name]] += number
            return merged

        drift = _merged(drift, lambda item: replace(item, name=after[item.name], text=after[item.text]))
        return replace(
            counted, mapped=renamed(counted.mapped), unmapped=renamed(counted.unmapped), failed=renamed(counted.failed),
            drift=drift,
        )  # fmt: skip

    def _value(self, item: SchemaDrift) -> str:
        if item.name not in self.values or not self.whole:
            return item.text
        return self.whole[0][1](item.text) or item.text

    def _redacted(self, texts: Sequence[str]) -> Mapping[str, str] | None:
        """Each text as it may be kept; None where all may as they are."""
        changed = self.texts.changed(pa.array(texts, pa.string()))
        return None if changed is None else dict(zip(texts, changed.texts.to_pylist(), strict=True))


def _merged(
    drift: Mapping[SchemaDrift, FirstSeen], change: Callable[[SchemaDrift], SchemaDrift]
) -> dict[SchemaDrift, FirstSeen]:
    after: dict[SchemaDrift, FirstSeen] = {}
    for item, seen in drift.items():
        changed = change(item)
        if changed in after:
            after[changed].records += seen.records
        else:
            after[changed] = replace(seen)
    return after
