"""Whether it is usual that a stream is silent, by the hours of its other days.

For each hour of a silence it is estimated how often the stream had objects around that time of day, on weekdays or at
weekends; a silence is suspicious when it would come by chance less than once in a thousand times. So a stream that
always delivers is missed after an hour, one of office hours not at night, and a thin one only after many hours.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

DAY = 24
CHANCE = 1 / 1000
"""A silence is suspicious if it is less likely."""
FEWEST = 10
"""With objects in fewer slots it is not known what is usual."""
_WEIGHT = 2.0
"""So many hours of the average are added to those of a time of day."""
_MOST = 1 - 1e-9
_WEEK = 7
_THURSDAY = 3
"""1 January 1970 was one."""


class Usual:
    """What is usual of a stream.

    Args:
        present: The slots in which it had objects: hours since 1970, or days.
        by_day: Whether they are days.
    """

    def __init__(self, present: Iterable[int], *, by_day: bool = False) -> None:
        self._size = 1 if by_day else DAY
        self.present = sorted(set(present))
        self.first = self.present[0] if self.present else None
        self.last = self.present[-1] if self.present else None
        # Whether at a weekend, and the hour -> slots with objects, and all.
        self._with: dict[tuple[bool, int], int] = {}
        self._all: dict[tuple[bool, int], int] = {}
        for slot in self.present:
            key = self._key(slot)
            self._with[key] = self._with.get(key, 0) + 1
        if self.first is not None and self.last is not None:
            for slot in range(self.first, self.last + 1):
                key = self._key(slot)
                self._all[key] = self._all.get(key, 0) + 1
        self.total = sum(self._all.values())

    @property
    def is_known(self) -> bool:
        """Whether there is enough to judge by."""
        return len(self.present) >= FEWEST

    def silences(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """Slots without objects that follow each other, from the first to before the last one.

        Args:
            start: Silences that end before are left out.
            end: Slots from here on are left out.
        """
        if self.first is None:
            return
        before = self.first
        for slot in [*(slot for slot in self.present if slot < end), end]:
            if slot > before + 1 and slot > start:
                yield before + 1, slot
            before = slot

    def chance(self, start: int, end: int) -> float:
        """How likely a silence of these slots is."""
        own: dict[tuple[bool, int], int] = {}
        last = self.last if self.last is not None else start
        for slot in range(start, min(end, last + 1)):
            own[self._key(slot)] = own.get(self._key(slot), 0) + 1
        silent = sum(own.values())
        average = (len(self.present) + 0.5) / (self.total - silent + 1)
        logarithm = 0.0
        for slot in range(start, end):
            logarithm += math.log(1 - self._rate(self._key(slot), own, average))
            if logarithm < math.log(CHANCE) * 2:
                break
        return math.exp(logarithm)

    def _rate(self, key: tuple[bool, int], own: dict[tuple[bool, int], int], average: float) -> float:
        """The share of slots around this time of day that had objects, leaving out those of the silence itself."""
        weekend, hour = key
        count = of = 0
        for kind in (weekend, not weekend):
            for step in (-1, 0, 1) if self._size > 1 else (0,):
                near = kind, (hour + step) % self._size
                count += self._with.get(near, 0)
                of += self._all.get(near, 0) - own.get(near, 0)
            if of:
                break  # days of the other kind count only where there are none of this one
        return min((count + _WEIGHT * min(average, _MOST)) / (max(of, count) + _WEIGHT), _MOST)

    def _key(self, slot: int) -> tuple[bool, int]:
        day, hour = divmod(slot, self._size)
        return (self._size > 1 and (day + _THURSDAY) % _WEEK >= _WEEK - 2), hour
