"""The query's flat columns, as the validator sees them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ocsf_mappers.ocsf import validate

if TYPE_CHECKING:
    from ocsf_mappers.compiler.compile import Compiler

MACHINE_MADE = frozenset({
    *("category_name", "category_uid", "class_name", "class_uid", "type_name", "type_uid", "unmapped", "observables"),
})  # fmt: skip


class FlatColumns:
    """The query's flat columns, as the validator sees them for one event map.

    What the compiler makes itself (constants, enum ids, class and type uids, lists gathered later) is right by
    construction and needs no test at run time; what comes from the record does.
    """

    def __init__(self, compiler: Compiler, number: int = 0) -> None:
        self.compiler = compiler
        self.mapped = compiler.mapped[number]

    def of(self, number: int) -> FlatColumns:
        """The same columns for another event map."""
        return FlatColumns(self.compiler, number)

    def _leaf(self, path: str) -> str | None:
        names = (path, path.removesuffix("_dt"), f"{path}_dt")
        return next((name for name in names if name in self.mapped and name in self.compiler.kinds), None)

    def value(self, path: str) -> str:
        """SQL for a value; times are milliseconds."""
        leaf = self._leaf(path)
        number = self.compiler.numbers.get(leaf or "")
        if leaf is None or number is None:
            return "NULL"
        return f"(v{number} // 1000)" if self.compiler.is_time(leaf) else f"v{number}"

    def absent(self, path: str) -> str:
        """SQL that is true where there is nothing at the path: `true` or `false` where that is known beforehand."""
        if path in MACHINE_MADE:
            return "false"
        leaf = self._leaf(path)
        if leaf is not None:
            if self.compiler.kinds[leaf] == "constant":
                return "false"
            required_id = self.compiler.kinds[leaf] == "caption" and self.mapped[leaf].attribute.required
            return "false" if required_id else self.compiler.is_missing(self.compiler.numbers[leaf])
        if (owner := self._id_of_sibling(path)) is not None:
            return self.absent(owner)
        below = [name for name in self.mapped if name.startswith(f"{path}.") and name in self.compiler.kinds]
        return validate.every([self._default(name) or self.absent(name) for name in below])

    def _default(self, path: str) -> str | None:
        """SQL that is true where a value is only its default."""
        return self.compiler.is_default(self.compiler.numbers[path]) if path in self.compiler.defaults else None

    def _id_of_sibling(self, path: str) -> str | None:
        ids = (name for name, mapped in self.mapped.items() if mapped.attribute.sibling and name in self.compiler.kinds)
        return next((name for name in ids if self.compiler.sibling_path(name) == path), None)

    def proven(self, path: str) -> bool:
        """Whether a value at this path needs no test because the compiler made it."""
        leaf = self._leaf(path)
        return leaf is None or self.compiler.kinds[leaf] in ("constant", "caption") or leaf != path
