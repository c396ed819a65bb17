"""Compile a checkout of the OCSF schema into the facts that this package ships.

The schema is written as many small files that lean on each other: a class extends another class, an attribute takes
its type from the dictionary, a profile is included, an extension patches a core object. Compiling resolves all of
that once, and drops the prose, so that readers of the facts look up and never resolve:

    python -m scripts.compile_ocsf path/to/ocsf-schema --ref refs/tags/1.8.0 -o schemas/ocsf-1.8.0.json

The facts hold, in this order: `format`, `ocsf_version`, `source`, `categories`, `extensions`, `profiles`, `types`,
`dictionary`, `classes`, `objects`. A name that an extension defines is written `extension/name` (`win/reg_key`);
names of attributes and types have no prefix. What is not there has no key.

A class has `uid`, `caption`, `category`, `category_uid`, `extends` (the parent may be abstract and not listed),
`extension`, `profiles`, `constraints`, `associations`, `observable`, `observables` (number by attribute path),
`deprecated` (the version it began in) and `attributes`; an object has the same without the first ids. `profiles` are
those of the class and of all objects below it. An attribute has `type` (`object_t` goes with `object`), `is_array`,
`requirement`, `profiles` (it exists only if one of them is applied; without the key always), `enum` (caption by
value), `enum_deprecated`, `sibling`, `observable`, `deprecated` and `caption`.
"""

import argparse
import sys
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import orjson

__all__ = ["CompileError", "compile_schema", "dump"]

FORMAT = 1
REPOSITORY = "ocsf/ocsf-schema"
BASE_CLASS = "base_event"
DATETIME = "datetime"
OBSERVABLE = "observable"

JSON = dict[str, Any]

_INHERITED = ("category", "constraints", "associations", "observable", "observables")
_TYPE_LIMITS = ("regex", "range", "max_len", "values", "observable")
_OPTIONAL_MEMBERS = (
    "extends",
    "extension",
    "profiles",
    "constraints",
    "associations",
    "observable",
    "observables",
    "deprecated",
)
_ATTRIBUTE_MEMBERS = (
    "type",
    "object",
    "is_array",
    "requirement",
    "profiles",
    "enum",
    "enum_deprecated",
    "sibling",
    "observable",
    "deprecated",
    "caption",
)


class CompileError(Exception):
    """The checkout is incomplete or contradicts itself; the message names the file."""


@dataclass(frozen=True, slots=True)
class Extension:
    """One folder below `extensions/`."""

    name: str
    uid: int
    folder: Path
    facts: JSON


@dataclass(frozen=True, slots=True)
class Definition:
    """A class or an object as one file writes it, with its includes already in place.

    Attributes:
        key: The name, with the prefix of its extension.
        path: The file.
        extension: None in the core schema.
        body: The file's members; each attribute that a profile gates carries the list `profiles`.
    """

    key: str
    path: Path
    extension: Extension | None
    body: JSON


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """What definitions refer to by name.

    Attributes:
        root: The checkout.
        extensions: Sorted by name, the order in which they are applied.
        categories: Entry by name.
        profiles: File by key.
        types: Entry by name.
        objects: Keys, those of abstract objects too.
        dictionary: Entry by attribute name, core and extensions merged.
    """

    root: Path
    extensions: tuple[Extension, ...]
    categories: JSON
    profiles: dict[str, Path]
    types: JSON
    objects: frozenset[str]
    dictionary: JSON

    def profile_key(self, name: str, path: Path, extension: Extension | None) -> str:
        """Give the key of a profile that a file calls by its name."""
        key = _find(name, extension, self.profiles)
        if key is None:
            raise CompileError(f"{path}: unknown profile {name}")
        return key

    def typed(self, entry: JSON, path: Path, extension: Extension | None) -> JSON:
        """Split the `type` that a file writes into a data type and, for `object_t`, the key of the object."""
        name = entry["type"]
        if name in self.types:
            return entry | {"object": None}
        key = _find(name, extension, self.objects)
        if key is None:
            raise CompileError(f"{path}: type {name} is neither a data type nor an object")
        return entry | {"type": "object_t", "object": key}


def compile_schema(checkout: Path, source: Mapping[str, str] | None = None) -> JSON:
    """Compile the schema in a folder.

    Args:
        checkout: The folder that holds `version.json`.
        source: Where the checkout comes from: `repo`, `ref`, `commit`; copied into the facts.

    Raises:
        CompileError: A file is missing or unreadable, `extends` runs in a circle, or a name is unknown.
    """
    vocabulary = _read_vocabulary(checkout)
    written_objects = _definitions("objects", vocabulary)
    written_classes = _definitions("events", vocabulary)
    observables = _observable_captions(written_objects, written_classes, vocabulary)
    objects = _resolve_all(_with_observables(written_objects, observables), vocabulary)
    classes = _resolve_all(written_classes, vocabulary)
    object_facts = {key: _object_facts(item, objects, vocabulary) for key, item in objects.items() if _is_public(key)}
    class_facts = [
        (item.key, _class_facts(item, objects, vocabulary)) for item in classes.values() if _is_concrete(item)
    ]
    return {
        "format": FORMAT,
        "ocsf_version": _load(checkout / "version.json")["version"],
        "source": dict(source or {"repo": REPOSITORY}),
        "categories": {
            name: {"uid": entry["uid"], "caption": entry["caption"]}
            for name, entry in sorted(vocabulary.categories.items(), key=lambda item: item[1]["uid"])
        },
        "extensions": {extension.name: extension.facts for extension in vocabulary.extensions},
        "profiles": dict(sorted((key, _profile_facts(path)) for key, path in vocabulary.profiles.items())),
        "types": {name: _type_facts(entry) for name, entry in sorted(vocabulary.types.items())},
        "dictionary": _dictionary_facts(vocabulary),
        "classes": dict(sorted(class_facts, key=lambda pair: pair[1]["uid"])),
        "objects": dict(sorted(object_facts.items())),
    }


def dump(facts: Mapping[str, Any]) -> bytes:
    """Write facts as JSON with one class, object, dictionary entry, type or profile a line."""
    members = (b"%s:%s" % (orjson.dumps(key), _dump_section(value)) for key, value in facts.items())
    return b"{\n" + b",\n".join(members) + b"\n}\n"


def _dump_section(value: Any) -> bytes:
    if not isinstance(value, dict) or not all(isinstance(entry, dict) for entry in value.values()):
        return orjson.dumps(value)
    entries = (b"%s:%s" % (orjson.dumps(key), orjson.dumps(entry)) for key, entry in value.items())
    return b"{\n" + b",\n".join(entries) + b"\n}"


# --- reading -------------------------------------------------------------------------------------------------------


def _load(path: Path) -> JSON:
    try:
        content = orjson.loads(path.read_bytes())
    except FileNotFoundError:
        raise CompileError(f"{path}: no such file") from None
    except orjson.JSONDecodeError as error:
        raise CompileError(f"{path}: not JSON: {error}") from None
    if not isinstance(content, dict):
        raise CompileError(f"{path}: not a JSON object")
    return content


def _key(name: str, extension: Extension | None) -> str:
    return f"{extension.name}/{name}" if extension else name


def _find(name: str, extension: Extension | None, keys: Container[str]) -> str | None:
    """Give the key that a name in a file of the extension stands for: its own, else the one written in full."""
    return next((key for key in (_key(name, extension), name) if key in keys), None)


def _read_vocabulary(root: Path) -> Vocabulary:
    extensions = _read_extensions(root)
    places = (None, *extensions)
    dictionaries = [(place, path, _load(path)) for place in places for path in _dictionary_files(root, place)]
    types: JSON = {}
    for _, _, content in dictionaries:
        types |= content.get("types", {}).get("attributes", {})
    vocabulary = Vocabulary(
        root=root,
        extensions=extensions,
        categories=_load(root / "categories.json")["attributes"],
        profiles={key: path for place in places for key, path in _named_files("profiles", root, place)},
        types=types,
        objects=frozenset(key for place in places for key, _ in _named_files("objects", root, place)),
        dictionary={},
    )
    for place, path, content in dictionaries:
        typed = {name: vocabulary.typed(entry, path, place) for name, entry in content["attributes"].items()}
        vocabulary = replace(vocabulary, dictionary=_merge_attributes(vocabulary.dictionary, typed))
    return vocabulary


def _dictionary_files(root: Path, extension: Extension | None) -> list[Path]:
    """Find the dictionary; only an extension can do without one."""
    path = _folder(root, extension) / "dictionary.json"
    return [path] if extension is None or path.exists() else []


def _read_extensions(root: Path) -> tuple[Extension, ...]:
    extensions = []
    for path in root.glob("extensions/*/extension.json"):
        content = _load(path)
        facts: JSON = {key: content[key] for key in ("uid", "caption", "version") if key in content}
        extensions.append(Extension(content["name"], content["uid"], path.parent, facts))
    return tuple(sorted(extensions, key=lambda extension: extension.name))


def _named_files(kind: str, root: Path, extension: Extension | None) -> Iterator[tuple[str, Path]]:
    for path in sorted((_folder(root, extension) / kind).rglob("*.json")):
        name = _load(path).get("name")
        if name is not None:
            yield _key(name, extension), path


def _folder(root: Path, extension: Extension | None) -> Path:
    return extension.folder if extension else root


def _definitions(kind: str, vocabulary: Vocabulary) -> dict[str, Definition]:
    """Read all classes (`events`) or `objects`; what extensions patch is patched."""
    definitions: dict[str, Definition] = {}
    for extension in (None, *vocabulary.extensions):
        for path in sorted((_folder(vocabulary.root, extension) / kind).rglob("*.json")):
            new = _read_definition(path, extension, vocabulary)
            old = definitions.get(new.key)
            if "name" not in new.body:
                if old is None:
                    raise CompileError(f"{path}: patches {new.key}, which does not exist")
                definitions[new.key] = _patch(old, new)
            elif old is not None:
                raise CompileError(f"{path}: {new.key} is already defined in {old.path}")
            else:
                definitions[new.key] = new
    return definitions


def _read_definition(path: Path, extension: Extension | None, vocabulary: Vocabulary) -> Definition:
    """Read one file; without a name it is a patch, and its key is that of the definition it extends."""
    body = _load(path)
    try:
        key = _key(body["name"], extension) if "name" in body else body["extends"]
    except KeyError:
        raise CompileError(f"{path}: neither name nor extends") from None
    body["profiles"] = [vocabulary.profile_key(name, path, extension) for name in body.get("profiles", [])]
    body["attributes"] = _expand(body.get("attributes", {}), path, extension, vocabulary)
    return Definition(key, path, extension, body)


def _expand(attributes: JSON, path: Path, extension: Extension | None, vocabulary: Vocabulary) -> JSON:
    """Put included attributes in place, and mark each attribute with the profiles that gate it.

    What the file itself says about an attribute wins over what it includes. A `profile` of null makes an included
    attribute ungated; it stays as `profiles: None`, because it also wins over an inherited gate.
    """
    own = dict(attributes)
    included: JSON = {}
    for name in _as_list(own.pop("$include", [])):
        included = _merge_attributes(included, _include(name, path, extension, vocabulary))
    for name, entry in own.items():
        if name not in vocabulary.dictionary:
            raise CompileError(f"{path}: attribute {name} is not in the dictionary")
        for target in _as_list(entry.get("$include", [])):
            own[name] = _merge_attribute(_load_included(target, path, extension, vocabulary)[1], own[name])
        if "type" in entry:
            own[name] = vocabulary.typed(own[name], path, extension)
        if "profile" in entry:
            gate = entry["profile"]
            own[name] |= {"profiles": gate and [vocabulary.profile_key(gate, path, extension)]}
    return _merge_attributes(included, own)


def _include(name: str, path: Path, extension: Extension | None, vocabulary: Vocabulary) -> JSON:
    """Read the attributes of an included file; if it is a profile, the profile gates them."""
    target, content = _load_included(name, path, extension, vocabulary)
    attributes = _expand(content["attributes"], target, extension, vocabulary)
    gates = [key for key, profile in vocabulary.profiles.items() if profile == target]
    return {name: {"profiles": gates} | entry for name, entry in attributes.items()} if gates else attributes


def _load_included(name: str, path: Path, extension: Extension | None, vocabulary: Vocabulary) -> tuple[Path, JSON]:
    """Find what a file of an extension includes: in the extension, else in the core schema."""
    for place in (extension, None):
        target = _folder(vocabulary.root, place) / name
        if target.exists():
            return target, _load(target)
    raise CompileError(f"{path}: includes {name}, which does not exist")


def _as_list(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value


def _observable_captions(
    objects: Mapping[str, Definition], classes: Mapping[str, Definition], vocabulary: Vocabulary
) -> dict[int, str]:
    """Name every observable number after what declares it; the first declaration wins."""
    captions: dict[int, str] = {}
    for entry in (*vocabulary.types.values(), *vocabulary.dictionary.values(), *(o.body for o in objects.values())):
        if "observable" in entry:
            captions.setdefault(entry["observable"], entry["caption"])
    for kind, definitions in (("Object", objects), ("Class", classes)):
        for body in (definition.body for definition in definitions.values()):
            own = {path: entry["observable"] for path, entry in body["attributes"].items() if "observable" in entry}
            for path, number in (own | body.get("observables", {})).items():
                captions.setdefault(number, f"{body['caption']} {kind}: {path}")
    return captions


def _with_observables(objects: dict[str, Definition], captions: Mapping[int, str]) -> dict[str, Definition]:
    """Add the observables of the whole schema to the values of `observable.type_id`; no file lists them."""
    item = objects.get(OBSERVABLE)
    if item is None or "type_id" not in item.body["attributes"]:
        return objects
    listed = {"type_id": {"enum": {str(number): {"caption": caption} for number, caption in captions.items()}}}
    body = item.body | {"attributes": _merge_attributes(listed, item.body["attributes"])}
    return objects | {OBSERVABLE: replace(item, body=body)}


# --- merging and inheriting ----------------------------------------------------------------------------------------


def _merge_attributes(base: JSON, over: JSON) -> JSON:
    return base | {name: _merge_attribute(base.get(name, {}), entry) for name, entry in over.items()}


def _merge_attribute(base: JSON, over: JSON) -> JSON:
    """Lay one entry over another: enum values join, gates join unless the upper one lifts them, the rest replaces."""
    merged = base | over
    if "enum" in base and "enum" in over:
        values = {value: base["enum"].get(value, {}) | entry for value, entry in over["enum"].items()}
        merged["enum"] = base["enum"] | values
    if base.get("profiles") and over.get("profiles"):
        merged["profiles"] = _union(base["profiles"], over["profiles"])
    return merged


def _union(*lists: Iterable[str]) -> list[str]:
    return sorted({name for names in lists for name in names})


def _patch(target: Definition, patch: Definition) -> Definition:
    """Add what an extension says about a class or object of another part of the schema."""
    body = target.body | {key: patch.body[key] for key in _INHERITED if key in patch.body}
    return replace(target, body=body | _joined(target.body, patch.body))


def _joined(lower: JSON, upper: JSON) -> JSON:
    return {
        "profiles": _union(lower["profiles"], upper["profiles"]),
        "attributes": _merge_attributes(lower["attributes"], upper["attributes"]),
    }


def _resolve_all(definitions: dict[str, Definition], vocabulary: Vocabulary) -> dict[str, Definition]:
    """Give every definition the attributes, profiles and rules of what it extends, and the dictionary's entries."""
    resolved: dict[str, Definition] = {}
    for key in definitions:
        _resolve(key, definitions, resolved, ())
    return {key: _with_dictionary(definition, vocabulary) for key, definition in resolved.items()}


def _resolve(
    key: str, definitions: dict[str, Definition], resolved: dict[str, Definition], below: tuple[str, ...]
) -> Definition:
    if key in resolved:
        return resolved[key]
    definition = definitions[key]
    if key in below:
        raise CompileError(f"{definition.path}: extends itself: {' -> '.join((*below, key))}")
    parent_key = _parent_key(definition, definitions)
    if parent_key is not None:
        parent = _resolve(parent_key, definitions, resolved, (*below, key)).body
        inherited = {name: parent[name] for name in _INHERITED if name in parent}
        body = inherited | definition.body | _joined(parent, definition.body)
        definition = replace(definition, body=body)
    resolved[key] = definition
    return definition


def _parent_key(definition: Definition, definitions: dict[str, Definition]) -> str | None:
    name = definition.body.get("extends")
    if name is None:
        return None
    own = {definition.key} if definition.extension else set()  # an extension's process may extend the core's process
    key = _find(name, definition.extension, definitions.keys() - own)
    if key is None:
        raise CompileError(f"{definition.path}: extends {name}, which does not exist")
    return key


def _with_dictionary(definition: Definition, vocabulary: Vocabulary) -> Definition:
    attributes = {
        name: _merge_attribute(vocabulary.dictionary[name], entry)
        for name, entry in definition.body["attributes"].items()
    }
    return replace(definition, body=definition.body | {"attributes": attributes})


# --- facts ---------------------------------------------------------------------------------------------------------


def _is_public(key: str) -> bool:
    return not key.rpartition("/")[2].startswith("_")


def _is_concrete(item: Definition) -> bool:
    return _is_public(item.key) and ("uid" in item.body or item.key == BASE_CLASS)


def _class_facts(item: Definition, objects: dict[str, Definition], vocabulary: Vocabulary) -> JSON:
    body = item.body
    category_uid, category_caption = _category(item, vocabulary)
    uid = category_uid * 1000 + body.get("uid", 0)
    if item.extension:
        uid += item.extension.uid * 100_000
    captions: dict[str, dict[int, str]] = {}
    if item.key != BASE_CLASS:
        captions = {"category_uid": {category_uid: category_caption}, "class_uid": {uid: body["caption"]}}
    activities = body["attributes"]["activity_id"]["enum"]
    captions["type_uid"] = {
        uid * 100 + int(value): f"{body['caption']}: {entry['caption']}" for value, entry in activities.items()
    }
    attributes = body["attributes"] | {
        name: body["attributes"][name] | {"enum": {str(value): {"caption": text} for value, text in values.items()}}
        for name, values in captions.items()
    }
    facts = {"uid": uid, "caption": body["caption"], "category": body["category"], "category_uid": category_uid}
    return facts | _shared_facts(item, attributes, objects, vocabulary)


def _category(item: Definition, vocabulary: Vocabulary) -> tuple[int, str]:
    name = item.body.get("category")
    if name in vocabulary.categories:
        return vocabulary.categories[name]["uid"], vocabulary.categories[name]["caption"]
    if item.key == BASE_CLASS:
        return 0, ""
    raise CompileError(f"{item.path}: unknown category {name}")


def _object_facts(item: Definition, objects: dict[str, Definition], vocabulary: Vocabulary) -> JSON:
    return {"caption": item.body["caption"]} | _shared_facts(item, item.body["attributes"], objects, vocabulary)


def _shared_facts(item: Definition, attributes: JSON, objects: dict[str, Definition], vocabulary: Vocabulary) -> JSON:
    """Facts that classes and objects have in common, attributes last."""
    siblings = _datetime_siblings(attributes) if DATETIME in vocabulary.profiles else {}
    profiles = _profiles_in_reach(item, objects)
    facts: JSON = item.body | {
        "extension": item.extension and item.extension.name,
        "profiles": _union(profiles, [DATETIME] if siblings else []),
        "deprecated": _deprecated_since(item.body),
    }
    described = {
        name: _attribute_facts({"requirement": "optional"} | entry)
        for name, entry in sorted((siblings | attributes).items())
    }
    return {key: facts[key] for key in _OPTIONAL_MEMBERS if facts.get(key)} | {"attributes": described}


def _profiles_in_reach(item: Definition, objects: dict[str, Definition]) -> set[str]:
    """Collect the profiles of a class or object and of all objects below it."""
    seen: set[str] = set()
    profiles = set(item.body["profiles"])
    waiting = _objects_of(item)
    while waiting:
        key = waiting.pop()
        if key not in seen:
            seen.add(key)
            profiles.update(objects[key].body["profiles"])
            waiting |= _objects_of(objects[key])
    return profiles


def _objects_of(item: Definition) -> set[str]:
    return {entry["object"] for entry in item.body["attributes"].values() if entry["object"]}


def _datetime_siblings(attributes: JSON) -> JSON:
    """Make the `*_dt` attribute of each timestamp; it is there only under the datetime profile."""
    return {
        f"{name}_dt": {
            "type": "datetime_t",
            "is_array": entry.get("is_array"),
            "requirement": "optional",
            "profiles": [DATETIME],
            "caption": entry["caption"],
        }
        for name, entry in attributes.items()
        if entry["type"] == "timestamp_t"
    }


def _attribute_facts(entry: JSON) -> JSON:
    facts = {key: entry.get(key) for key in _ATTRIBUTE_MEMBERS}
    if entry.get("enum"):
        values = dict(sorted(entry["enum"].items(), key=_enum_order))
        facts["enum"] = {value: meaning["caption"] for value, meaning in values.items()}
        facts["enum_deprecated"] = [value for value, meaning in values.items() if _deprecated_since(meaning)]
    facts["deprecated"] = _deprecated_since(entry)
    return {key: value for key, value in facts.items() if value not in (None, False, [], {})}


def _enum_order(item: tuple[str, JSON]) -> tuple[bool, int, str]:
    value = item[0]
    return (False, int(value), "") if value.lstrip("-").isdigit() else (True, 0, value)


def _deprecated_since(entry: JSON) -> str | None:
    return entry["@deprecated"]["since"] if "@deprecated" in entry else None


def _dictionary_facts(vocabulary: Vocabulary) -> JSON:
    entries = vocabulary.dictionary
    if DATETIME in vocabulary.profiles:
        entries = _datetime_siblings(entries) | entries
    unused = ("requirement", "profiles")
    return {
        name: {key: value for key, value in _attribute_facts(entry).items() if key not in unused}
        for name, entry in sorted(entries.items())
    }


def _profile_facts(path: Path) -> JSON:
    content = _load(path)
    return {"caption": content["caption"], "attributes": sorted(content["attributes"])}


def _type_facts(entry: JSON) -> JSON:
    facts = {"caption": entry["caption"], "base": entry.get("type")}
    return {
        key: value
        for key, value in (facts | {name: entry.get(name) for name in _TYPE_LIMITS}).items()
        if value is not None
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; 0 done, 1 the checkout does not compile."""
    parser = argparse.ArgumentParser(prog="python -m scripts.compile_ocsf", description="Compile an OCSF schema.")
    parser.add_argument("checkout", type=Path, help="folder of a checkout of ocsf/ocsf-schema")
    parser.add_argument("-o", "--output", type=Path, help="file to write; standard output when left out")
    parser.add_argument("--repo", default=REPOSITORY, help="repository to name in the facts (%(default)s)")
    parser.add_argument("--ref", help="branch or tag to name in the facts")
    parser.add_argument("--commit", help="commit to name in the facts")
    options = parser.parse_args(arguments)
    source = {key: value for key in ("repo", "ref", "commit") if (value := getattr(options, key))}
    try:
        content = dump(compile_schema(options.checkout, source))
    except CompileError as error:
        print(error, file=sys.stderr)
        return 1
    if options.output:
        options.output.write_bytes(content)
    else:
        sys.stdout.buffer.write(content)
    return 0


if __name__ == "__main__":
    sys.exit(main())
