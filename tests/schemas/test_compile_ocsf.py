"""The compiler against a schema of invented names, against real checkouts, and the sanity of the shipped facts."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from ocsf_mappers.ocsf import shipped
from scripts.compile_ocsf import CompileError, compile_schema, dump, main

MINI = Path(__file__).parent / "mini_schema"
CHECKOUTS = "OCSF_SCHEMA_CHECKOUTS"

# Slips of the schema itself, kept as they are; the misspelt name is the one OCSF gives the class.
ABSENT_SIBLINGS = {"1.1.0": {"related_event.type_uid"}, "1.8.0": {"observable.type_uid"}}
ABSENT_IN_CONSTRAINTS = {"1.5.0": {"event_log_actvity.log_file"}, "1.8.0": {"event_log_actvity.log_file"}}


@pytest.fixture(scope="module")
def mini() -> dict[str, Any]:
    return compile_schema(MINI)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return Path(shutil.copytree(MINI, tmp_path / "schema"))


def edit(path: Path, **members: Any) -> None:
    content = orjson.loads(path.read_bytes()) if path.exists() else {}
    path.write_bytes(orjson.dumps(content | members))


# --- the whole -----------------------------------------------------------------------------------------------------


def test_sections_stand_in_a_fixed_order(mini):
    assert list(mini) == [
        *("format", "ocsf_version", "source", "categories", "extensions"),
        *("profiles", "types", "dictionary", "classes", "objects"),
    ]
    assert (mini["format"], mini["ocsf_version"]) == (1, "0.9.0")


def test_source_is_copied_into_the_facts(mini):
    assert mini["source"] == {"repo": "ocsf/ocsf-schema"}
    source = {"repo": "me/mine", "ref": "refs/tags/1", "commit": "abc"}
    assert compile_schema(MINI, source)["source"] == source


def test_categories_extensions_and_profiles_are_listed(mini):
    assert list(mini["categories"].items()) == [
        ("garden", {"uid": 1, "caption": "Garden"}),
        ("kitchen", {"uid": 2, "caption": "Kitchen"}),
    ]
    assert mini["extensions"] == {"bees": {"uid": 7, "caption": "Bees", "version": "0.1.0"}}
    assert mini["profiles"] == {
        "bees/pollination": {"caption": "Pollination", "attributes": ["hive", "sun"]},
        "datetime": {"caption": "Date/Time", "attributes": []},
        "weather": {"caption": "Weather", "attributes": ["rain", "sun"]},
    }


def test_abstract_classes_and_objects_are_left_out(mini):
    assert list(mini["classes"]) == ["base_event", "watering", "deep_watering", "bees/swarming"]
    assert list(mini["objects"]) == ["bees/hive", "bees/tree", "gardener", "observable", "plant", "tree"]


def test_dump_writes_one_entry_a_line_and_loads_back(mini):
    text = dump(mini)
    assert orjson.loads(text) == mini
    lines = text.splitlines()
    assert sum(line.startswith(b'"deep_watering":{') for line in lines) == 1
    assert sum(line.startswith(b'"taste":{') for line in lines) == 1


# --- types and dictionary ------------------------------------------------------------------------------------------


def test_types_name_their_base_and_their_limits(mini):
    assert mini["types"] == {
        "boolean_t": {"caption": "Boolean", "values": [False, True]},
        "datetime_t": {"caption": "Datetime", "base": "string_t", "regex": r"^\d{4}-"},
        "integer_t": {"caption": "Integer"},
        "latin_name_t": {"caption": "Latin Name", "base": "string_t", "max_len": 40, "observable": 1},
        "long_t": {"caption": "Long"},
        "ph_t": {"caption": "pH", "base": "integer_t", "range": [0, 14]},
        "queen_name_t": {"caption": "Queen Name", "base": "string_t", "observable": 4},
        "string_t": {"caption": "String"},
        "timestamp_t": {"caption": "Timestamp", "base": "long_t"},
    }


def test_dictionary_entries_split_data_types_from_objects(mini):
    assert mini["dictionary"]["acidity"] == {"type": "ph_t", "caption": "Acidity"}
    assert mini["dictionary"]["neighbors"] == {
        "type": "object_t",
        "object": "plant",
        "is_array": True,
        "caption": "Neighbors",
    }


def test_dictionary_of_an_extension_joins_the_core_dictionary(mini):
    assert mini["dictionary"]["hive"] == {"type": "object_t", "object": "bees/hive", "caption": "Hive"}
    assert mini["dictionary"]["gardener"]["caption"] == "Bee Keeper"


def test_deprecation_is_the_version_it_began(mini):
    assert mini["dictionary"]["taste"]["deprecated"] == "0.8.0"
    assert mini["objects"]["plant"]["attributes"]["taste"]["deprecated"] == "0.8.0"
    assert mini["classes"]["deep_watering"]["deprecated"] == "0.9.0"
    assert mini["classes"]["watering"]["attributes"]["activity_id"]["enum_deprecated"] == ["2"]


# --- classes -------------------------------------------------------------------------------------------------------


def test_a_class_is_identified_by_category_and_extension(mini):
    classes = mini["classes"]
    assert {name: facts["uid"] for name, facts in classes.items()} == {
        "base_event": 0,
        "watering": 1001,
        "deep_watering": 1002,
        "bees/swarming": 701004,
    }
    assert classes["watering"]["category"] == "garden"
    assert classes["watering"]["category_uid"] == 1
    assert classes["base_event"]["category"] == "other"
    assert classes["bees/swarming"]["extension"] == "bees"


def test_class_attributes_carry_the_ids_of_the_class(mini):
    attributes = mini["classes"]["watering"]["attributes"]
    assert attributes["class_uid"]["enum"] == {"1001": "Watering"}
    assert attributes["category_uid"]["enum"] == {"1": "Garden"}
    assert attributes["type_uid"] == {
        "type": "long_t",
        "requirement": "required",
        "enum": {
            "100100": "Watering: Unknown",
            "100101": "Watering: Sprinkle",
            "100102": "Watering: Pour",
            "100199": "Watering: Other",
        },
        "sibling": "type_name",
        "caption": "Type ID",
    }


def test_base_event_keeps_its_own_ids(mini):
    attributes = mini["classes"]["base_event"]["attributes"]
    assert attributes["class_uid"]["enum"] == {"0": "Base Event"}
    assert attributes["category_uid"]["enum"] == {"0": "Uncategorized"}
    assert attributes["type_uid"]["enum"] == {"0": "Base Event: Unknown", "99": "Base Event: Other"}


def test_attributes_come_down_a_chain_of_extends(mini):
    attributes = mini["classes"]["deep_watering"]["attributes"]
    assert attributes["time"] == mini["classes"]["base_event"]["attributes"]["time"]
    assert attributes["plant"]["requirement"] == "recommended"
    assert attributes["gardener"] == {
        "type": "object_t",
        "object": "gardener",
        "requirement": "required",
        "caption": "Who Waters",
    }


def test_enum_values_of_dictionary_parent_and_child_join(mini):
    assert mini["classes"]["deep_watering"]["attributes"]["activity_id"]["enum"] == {
        "0": "Unknown",
        "1": "Flood",
        "2": "Pour",
        "3": "Drip",
        "99": "Other",
    }
    color = mini["objects"]["plant"]["attributes"]["color_id"]
    assert list(color["enum"].items()) == [
        *(("0", "Unknown"), ("1", "Green"), ("2", "Red"), ("10", "Blue"), ("99", "Other")),
    ]
    assert color["sibling"] == "color"


def test_an_attribute_without_requirement_is_optional(mini):
    assert mini["classes"]["watering"]["attributes"]["acidity"]["requirement"] == "optional"


def test_constraints_and_associations_are_inherited_until_replaced(mini):
    watering, deep = mini["classes"]["watering"], mini["classes"]["deep_watering"]
    assert watering["constraints"] == {"at_least_one": ["plant", "gardener"]}
    assert "constraints" not in deep
    assert watering["associations"] == deep["associations"] == {"plant": ["gardener"]}
    assert mini["objects"]["bees/hive"]["constraints"] == {"at_least_one": ["name", "label"]}
    assert "constraints" not in mini["objects"]["tree"]


# --- profiles ------------------------------------------------------------------------------------------------------


def test_included_profile_gates_its_attributes(mini):
    attributes = mini["classes"]["bees/swarming"]["attributes"]
    assert attributes["sun"] == {
        "type": "boolean_t",
        "requirement": "recommended",
        "profiles": ["weather"],
        "caption": "Sun",
    }
    assert attributes["rain"]["profiles"] == ["weather"]


def test_profile_of_null_lifts_the_gate(mini):
    for name in ("watering", "deep_watering"):
        rain = mini["classes"][name]["attributes"]["rain"]
        assert rain == {"type": "long_t", "requirement": "required", "caption": "Rain"}


def test_an_attribute_can_be_gated_by_name_and_by_several_profiles(mini):
    assert mini["objects"]["bees/hive"]["attributes"]["sun"]["profiles"] == ["weather"]
    assert mini["objects"]["plant"]["attributes"]["sun"]["profiles"] == ["bees/pollination", "weather"]


def test_profiles_rise_from_objects_to_what_holds_them(mini):
    assert mini["objects"]["gardener"]["profiles"] == ["bees/pollination", "weather"]
    assert mini["classes"]["watering"]["profiles"] == ["bees/pollination", "datetime", "weather"]
    assert mini["classes"]["base_event"]["profiles"] == ["datetime"]


def test_timestamps_have_datetime_siblings_under_the_datetime_profile(mini):
    assert mini["classes"]["watering"]["attributes"]["time_dt"] == {
        "type": "datetime_t",
        "requirement": "optional",
        "profiles": ["datetime"],
        "caption": "Time",
    }
    assert mini["objects"]["plant"]["attributes"]["blossom_times_dt"]["is_array"] is True
    assert mini["dictionary"]["time_dt"] == {"type": "datetime_t", "caption": "Time"}
    assert "datetime" in mini["objects"]["plant"]["profiles"]
    assert "datetime" not in mini["objects"]["gardener"]["profiles"]


def test_without_a_datetime_profile_there_are_no_datetime_siblings(copy):
    (copy / "profiles/datetime.json").unlink()
    edit(copy / "events/base_event.json", profiles=[])
    assert "time_dt" not in compile_schema(copy)["classes"]["watering"]["attributes"]


# --- extensions ----------------------------------------------------------------------------------------------------


def test_an_extension_patches_a_core_object_and_its_children(mini):
    for name in ("plant", "tree"):
        assert mini["objects"][name]["attributes"]["hive"] == {
            "type": "object_t",
            "object": "bees/hive",
            "requirement": "recommended",
            "profiles": ["bees/pollination"],
            "caption": "Hive",
        }
    plant = mini["objects"]["plant"]
    assert (plant["caption"], plant["extends"]) == ("Plant", "_living")
    assert "extension" not in plant
    assert plant["constraints"] == {"at_least_one": ["name", "hive"]}


def test_an_extension_object_can_extend_the_core_object_of_its_name(mini):
    tree = mini["objects"]["bees/tree"]
    assert (tree["caption"], tree["extends"], tree["extension"]) == ("Bee Tree", "tree", "bees")
    assert tree["attributes"].keys() == mini["objects"]["tree"]["attributes"].keys()


# --- observables ---------------------------------------------------------------------------------------------------


def test_observables_stand_where_they_are_declared(mini):
    assert mini["types"]["latin_name_t"]["observable"] == 1
    assert mini["dictionary"]["label"]["observable"] == 3
    assert mini["objects"]["gardener"]["attributes"]["name"]["observable"] == 10
    assert mini["classes"]["deep_watering"]["attributes"]["label"]["observable"] == 11
    assert mini["classes"]["watering"]["observables"] == {"gardener.name": 12}
    assert mini["objects"]["tree"]["observable"] == 20


def test_observable_type_id_lists_the_observables_of_the_whole_schema(mini):
    assert mini["objects"]["observable"]["attributes"]["type_id"]["enum"] == {
        "0": "Unknown",
        "1": "Latin Name",
        "3": "Label",
        "4": "Queen Name",
        "10": "Gardener Object: name",
        "11": "Deep Watering Class: label",
        "12": "Watering Class: gardener.name",
        "20": "Living",
        "99": "Other",
    }


def test_an_object_can_narrow_the_type_of_an_attribute(mini):
    assert mini["objects"]["plant"]["attributes"]["name"]["type"] == "string_t"
    assert mini["objects"]["tree"]["attributes"]["name"]["type"] == "latin_name_t"


# --- errors --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["version.json", "categories.json", "dictionary.json"])
def test_a_missing_file_is_named(copy, name):
    (copy / name).unlink()
    with pytest.raises(CompileError, match=rf"{name}: no such file"):
        compile_schema(copy)


def test_a_file_that_is_not_json_is_named(copy):
    (copy / "objects/tree.json").write_text("{")
    with pytest.raises(CompileError, match=r"tree\.json: not JSON"):
        compile_schema(copy)


def test_a_file_that_is_not_an_object_is_named(copy):
    (copy / "objects/tree.json").write_text("[]")
    with pytest.raises(CompileError, match=r"tree\.json: not a JSON object"):
        compile_schema(copy)


@pytest.mark.parametrize(
    ("file", "members", "message"),
    [
        ("objects/_living.json", {"extends": "tree"}, "extends itself: "),
        ("objects/tree.json", {"extends": "bush"}, "extends bush, which does not exist"),
        ("objects/tree.json", {"attributes": {"bark": {}}}, "attribute bark is not in the dictionary"),
        ("objects/tree.json", {"attributes": {"name": {"type": "bark"}}}, "type bark is neither"),
        ("objects/tree.json", {"attributes": {"$include": "includes/none.json"}}, "includes includes/none.json"),
        ("objects/tree.json", {"profiles": ["frost"]}, "unknown profile frost"),
        ("objects/tree.json", {"attributes": {"name": {"profile": "frost"}}}, "unknown profile frost"),
        ("objects/twin.json", {"name": "tree", "caption": "Twin"}, "tree is already defined in "),
        ("objects/loose.json", {"caption": "Loose"}, "neither name nor extends"),
        ("extensions/bees/objects/bush.json", {"extends": "bush"}, "patches bush, which does not exist"),
        ("events/garden/garden.json", {"category": "cellar"}, "unknown category cellar"),
    ],
)
def test_a_contradiction_names_its_file(copy, file, members, message):
    edit(copy / file, **members)
    with pytest.raises(CompileError, match=message) as caught:
        compile_schema(copy)
    assert str(caught.value).startswith(str(copy))


def test_an_unknown_attribute_is_reported_with_the_file_that_writes_it(copy):
    edit(copy / "profiles/weather.json", attributes={"frost": {}})
    with pytest.raises(CompileError, match=r"profiles/weather\.json: attribute frost"):
        compile_schema(copy)


# --- command line --------------------------------------------------------------------------------------------------


def test_command_line_writes_a_file(tmp_path, mini):
    output = tmp_path / "facts.json"
    assert main([str(MINI), "-o", str(output), "--ref", "refs/tags/9", "--commit", "abc"]) == 0
    source = {"repo": "ocsf/ocsf-schema", "ref": "refs/tags/9", "commit": "abc"}
    assert orjson.loads(output.read_bytes()) == mini | {"source": source}


def test_command_line_writes_to_standard_output(capsysbinary, mini):
    assert main([str(MINI)]) == 0
    assert orjson.loads(capsysbinary.readouterr().out) == mini


def test_command_line_reports_an_error(tmp_path, capsys):
    assert main([str(tmp_path)]) == 1
    assert "no such file" in capsys.readouterr().err


# --- shipped facts -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=shipped.versions())
def facts(request) -> dict[str, Any]:
    return orjson.loads(shipped.read(f"ocsf-{request.param}.json"))


def owners(facts: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    yield from facts["classes"].items()
    yield from facts["objects"].items()


def attributes(facts: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    for owner, described in owners(facts):
        for name, attribute in described["attributes"].items():
            yield f"{owner}.{name}", attribute, described["attributes"]


def resolves(path: str, members: dict[str, Any], facts: dict[str, Any]) -> bool:
    head, _, rest = path.partition(".")
    if head not in members or not rest:
        return head in members
    return resolves(rest, facts["objects"][members[head]["object"]]["attributes"], facts)


def test_three_versions_are_shipped():
    assert shipped.versions() == ("1.1.0", "1.5.0", "1.8.0")


def test_a_missing_data_file_is_an_error():
    with pytest.raises(FileNotFoundError):
        shipped.read("ocsf-0.0.0.json")


def test_shipped_facts_equal_a_fresh_compilation(facts):
    folder = os.environ.get(CHECKOUTS)
    if not folder:
        pytest.skip(f"{CHECKOUTS} names no folder of ocsf-schema checkouts")
    version = facts["ocsf_version"]
    compiled = compile_schema(Path(folder) / version, facts["source"])
    for section, expected in facts.items():
        assert compiled[section] == expected, section
    assert dump(compiled) == shipped.read(f"ocsf-{version}.json")


def test_shipped_objects_of_attributes_exist(facts):
    described = [a for _, a, _ in attributes(facts)] + list(facts["dictionary"].values())
    assert all(a["object"] in facts["objects"] for a in described if "object" in a)
    assert all(("object" in a) == (a["type"] == "object_t") for a in described)


def test_shipped_types_are_known(facts):
    known = facts["types"].keys() | {"object_t"}
    assert [path for path, a, _ in attributes(facts) if a["type"] not in known] == []
    assert all(entry.get("base", "string_t") in known for entry in facts["types"].values())


def test_shipped_attributes_are_in_the_dictionary(facts):
    assert {path for path, _, _ in attributes(facts) if path.rpartition(".")[2] not in facts["dictionary"]} == set()


def test_shipped_requirements_and_captions_are_known(facts):
    for path, attribute, _ in attributes(facts):
        assert attribute["requirement"] in {"required", "recommended", "optional"}, path
        assert attribute["caption"], path


def test_shipped_enums_fit_the_type_of_their_attribute(facts):
    for path, attribute, _ in attributes(facts):
        values = attribute.get("enum", {})
        if attribute["type"] in {"integer_t", "long_t"}:
            assert all(value.isdigit() for value in values), path
        assert set(attribute.get("enum_deprecated", ())) <= values.keys(), path
        assert all(isinstance(caption, str) and caption for caption in values.values()), path


def test_shipped_siblings_exist(facts):
    absent = {path for path, a, beside in attributes(facts) if "sibling" in a and a["sibling"] not in beside}
    assert absent == ABSENT_SIBLINGS.get(facts["ocsf_version"], set())


def test_shipped_constraints_name_existing_attributes(facts):
    absent = set()
    for owner, described in owners(facts):
        constraints = described.get("constraints", {})
        assert constraints.keys() <= {"at_least_one", "just_one"}, owner
        for path in (path for paths in constraints.values() for path in paths):
            if not resolves(path, described["attributes"], facts):
                absent.add(f"{owner}.{path}")
    assert absent == ABSENT_IN_CONSTRAINTS.get(facts["ocsf_version"], set())


def test_shipped_profiles_are_known(facts):
    for owner, described in owners(facts):
        assert set(described.get("profiles", ())) <= facts["profiles"].keys(), owner
    for path, attribute, _ in attributes(facts):
        assert set(attribute.get("profiles", ())) <= facts["profiles"].keys(), path


def test_shipped_classes_are_identified_once(facts):
    uids = [described["uid"] for described in facts["classes"].values()]
    assert len(set(uids)) == len(uids)
    for name, described in facts["classes"].items():
        assert list(described["attributes"]["class_uid"]["enum"]) == [str(described["uid"])], name


def test_shipped_observables_are_values_of_observable_type_id(facts):
    known = facts["objects"]["observable"]["attributes"]["type_id"]["enum"]
    described = [*(a for _, a, _ in attributes(facts)), *facts["types"].values(), *facts["objects"].values()]
    assert {str(entry["observable"]) for entry in described if "observable" in entry} <= known.keys()


def test_security_lake_tables_have_columns_of_known_classes():
    tables = orjson.loads(shipped.read("security_lake_v2_tables.json"))["tables"]
    classes = orjson.loads(shipped.read("ocsf-1.1.0.json"))["classes"]
    assert len(tables) == 8
    for name, table in tables.items():
        assert set(table["classes"]) <= classes.keys(), name
        assert {"accountid", "region", "time", "class_uid"} <= table["columns"].keys(), name
