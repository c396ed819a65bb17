"""How much of a log its mapper maps, and what OCSF asks for that it does not give."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from ocsf_mappers.engine.batch import RawObject
from ocsf_mappers.engine.mapped import Mapped
from ocsf_mappers.ocsf import schema
from ocsf_mappers.readers import Chunk
from ocsf_mappers.testing import lossless
from ocsf_mappers.testing.samples import as_events, leaves
from ocsf_mappers.vocabulary.mapper import Mapper


@dataclass
class Coverage:
    """What of the records is mapped, and what OCSF asks for besides.

    Args:
        members: Path of each member -> how many records have a value there.
        unmapped: Those of them that end in `unmapped`, wholly or in some records -> in how many.
        dropped: Those that the mapper drops -> why.
        required: Caption of an event class -> its required attributes that no row fills.
        recommended: Caption of an event class -> its recommended attributes that no row fills.
    """

    members: Counter[str] = field(default_factory=Counter)
    unmapped: Counter[str] = field(default_factory=Counter)
    dropped: dict[str, str] = field(default_factory=dict)
    required: dict[str, list[str]] = field(default_factory=dict)
    recommended: dict[str, list[str]] = field(default_factory=dict)

    @property
    def mapped(self) -> list[str]:
        """Members that are mapped in every record that has them."""
        return [path for path in self.members if path not in self.unmapped and path not in self.dropped]


def coverage(mapper: Mapper, parts: Sequence[tuple[RawObject, Chunk]], mapped: Mapped) -> Coverage:
    """What the mapper makes of some records, member by member."""
    result = Coverage()
    events = {(lake["source_object"], lake["source_record"]): event for event, lake in as_events(mapped.events)}
    for where, chunk in parts:
        for number, record in lossless.records(chunk):
            if (event := events.get((where.uri, number))) is None:
                continue
            unmapped = event.get("unmapped", {}).keys()
            for path in {path.replace("[]", "") for path, value in leaves(record) if value is not None}:
                result.members[path] += 1
                if lossless.dropped(mapper, path):
                    result.dropped[path] = _reason(mapper, path)
                elif any(path == name or path.startswith(f"{name}.") for name in unmapped):
                    result.unmapped[path] += 1
    for event_map in mapper.events:
        event_class = schema.load().classes.get(event_map.event_class)
        if event_class is None:
            continue  # a later version's
        filled = {path.partition(".")[0] for path in event_map.words} | DERIVED
        for name, attribute in event_class.attributes.items():
            if attribute.profiles and not attribute.profiles & {*event_map.all_profiles}:
                continue
            if name in filled or name in {other.sibling for other in event_class.attributes.values()}:
                continue
            gaps = {"required": result.required, "recommended": result.recommended}.get(attribute.requirement)
            if gaps is not None and name not in (names := gaps.setdefault(event_class.caption, [])):
                names.append(name)
    return result


DERIVED = frozenset([
    "category_uid", "category_name", "class_uid", "class_name", "type_uid", "type_name", "metadata", "observables",
    "unmapped", "raw_data", "osint", "time_dt", "timezone_offset",
])  # fmt: skip
"""What the machinery fills, and what no mapper is expected to."""


def _reason(mapper: Mapper, path: str) -> str:
    return next(reason for name, reason in mapper.drop.items() if path == name or path.startswith(f"{name}."))
