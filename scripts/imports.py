"""Which room of the packages imports which: `python -m scripts.imports`, or `make imports`.

A room is a folder of `ocsf_lake` or `ocsf_mappers`; a module beside the folders is a room of its own. Rooms stand above
those that they import.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

PACKAGES = ("ocsf_mappers", "ocsf_lake")
ROOT = Path(__file__).parents[1]


def rooms() -> dict[str, dict[str, int]]:
    """Room -> rooms that it imports, and by how many modules."""
    graph: dict[str, dict[str, int]] = {}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            # flows/ stands in ocsf_lake under its installed name, and is no part of it.
            steps = path.relative_to(ROOT).with_suffix("").parts
            if steps[1] == "flows" or steps[-1] == "__main__":
                continue
            own = _room(".".join(steps))
            targets = {_room(name) for name in _imported(ast.parse(path.read_text(encoding="utf-8")))}
            for target in sorted(targets - {own, f"{package}.__init__", "ocsf_lake.flows"}):
                counted = graph.setdefault(own, {})
                counted[target] = counted.get(target, 0) + 1
            graph.setdefault(own, {})
    return graph


def _imported(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                yield f"{node.module}.{alias.name}"
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def _room(name: str) -> str:
    package, *rest = name.split(".")
    if package not in PACKAGES or not rest:
        return f"{package}.__init__" if package in PACKAGES else f"{PACKAGES[0]}.__init__"
    folder = ROOT / package / rest[0]
    is_room = folder.is_dir() or folder.with_suffix(".py").exists()
    return f"{package}.{rest[0]}" if is_room else f"{package}.__init__"


def main() -> None:
    """Prints the rooms, those that import most first."""
    graph = rooms()
    heights: dict[str, int] = {}

    def height(name: str, above: tuple[str, ...] = ()) -> int:
        if name in above:
            return 0
        if name not in heights:
            heights[name] = max((height(low, (*above, name)) + 1 for low in graph.get(name, ())), default=0)
        return heights[name]

    for name in sorted(graph, key=lambda room: (-height(room), room)):
        imported = sorted(graph[name].items(), key=lambda item: (-height(item[0]), item[0]))
        targets = ", ".join(f"{target} ({number})" for target, number in imported)
        print(f"{height(name):>2}  {name:<24} {targets}".rstrip())


if __name__ == "__main__":
    main()
