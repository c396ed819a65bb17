from __future__ import annotations

import dataclasses

import pytest

from ocsf_mappers import coalesce, col, sql, when
from ocsf_mappers.errors import MappingError
from ocsf_mappers.vocabulary.expr import Expr, as_word
from ocsf_mappers.vocabulary.values import Literal, columns


def _paths(value: Expr) -> list[str]:
    return [".".join(column.path) for column in columns(as_word(value))]


def test_an_expression_has_no_truth_value() -> None:
    with pytest.raises(MappingError, match="no truth value"):
        bool(col.a == "x")
    with pytest.raises(MappingError, match="when"):
        _ = col.a and col.b


@pytest.mark.parametrize("value", [None, 1.5, {"a": 1}, object()], ids=["None", "float", "dict", "object"])
def test_a_value_without_a_meaning_is_refused(value: object) -> None:
    with pytest.raises(MappingError, match="cannot stand in a mapping"):
        as_word(value)


def test_a_word_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        as_word(col.a).path = ("b",)  # type: ignore[attr-defined]


def test_words_are_equal_by_structure() -> None:
    def written() -> Expr:
        return when(col.a.matches("x") & ~col.b.is_null()).then(coalesce(col.c.json("k").iso8601(), "y"))

    assert as_word(written()) == as_word(written())
    assert len({as_word(written()), as_word(written())}) == 1
    assert as_word(written()) != as_word(written().replace(y="z"))
    assert Literal(True) != Literal(1)


def test_members_are_named_by_dot_or_bracket() -> None:
    assert _paths(col.a.b) == _paths(col["a"]["b"]) == ["a.b"]
    assert _paths(col["detail-type"]) == ["detail-type"]


def test_a_column_is_no_container_by_accident() -> None:
    with pytest.raises(AttributeError):
        col.a.__iter__  # noqa: B018 - the look-up is the test


def test_columns_names_every_column_read_conditions_included() -> None:
    value = when((col.a == "x") & ~col.b.is_null()).then(coalesce(col.c, col.d.json("k"))).otherwise([col.e, "y"])
    assert _paths(value) == ["a", "b", "c", "d", "e"]


@pytest.mark.parametrize(
    ("value", "read"),
    [
        (col.a.replace(x="y", otherwise=col.b), ["a", "b"]),
        (col.a.replace_prefix({"x": "y"}, otherwise=col.b), ["a", "b"]),
        (col.a.extract("(x)"), ["a"]),
        (col.a.epoch_seconds(), ["a"]),
        (col.a.epoch_millis(), ["a"]),
        (col.a.epoch_micros(), ["a"]),
        (col.a.iso8601(), ["a"]),
        (col.a.is_in("x", "y") | col.b.matches("x"), ["a", "b"]),
        (col.a.contains("x") | col.b.starts_with("x") | col.c.ends_with("x"), ["a", "b", "c"]),
        (sql("{0} || {1}", reads=[col.a, col.b]), ["a", "b"]),
        (col.a != col.b, ["a", "b"]),
    ],
)
def test_every_word_of_the_vocabulary_knows_what_it_reads(value: Expr, read: list[str]) -> None:
    assert _paths(value) == read


@pytest.mark.parametrize(
    ("value", "passes"),
    [
        (col.a, True),
        (col.a.replace(x="y"), True),
        (coalesce(col.a.extract("(x)"), "y"), True),
        (when(col.b == "x").then(col.a), True),
        (when(col.b == "x").then("y").otherwise(col.a), False),
        (col.a.replace({"x": "y"}, otherwise=col.a), False),
        (col.a.replace_prefix({"x": "y"}, otherwise=col.a), False),
        ("y", False),
    ],
)
def test_a_text_that_nobody_expected_is_told_from_one_that_an_otherwise_takes(value: object, passes: bool) -> None:
    assert as_word(value).passes_text is passes
