"""Odd JSON: each oddity is quarantined with a reason, and the record beside it is an event."""

from __future__ import annotations

import json

import pytest

from tests.ocsf_mappers.records import call
from tests.support import engine, map_bytes, ocsf

GOOD = json.dumps(call(7))
ODD = {
    "null": "null", "true": "true", "number": "5", "text": '"x"', "list": "[]", "empty": "{}", "NaN": '{"a":NaN}',
    "control character": '{"a":"x\x01y"}', "trailing comma": '{"a":1,}', "large number": '{"a":1e999}',
    "many digits": '{"a":' + "9" * 400 + "}", "deep": '{"a":' + "[" * 20_000 + "]" * 20_000 + "}",
    "rather deep": '{"a":' + "[" * 900 + "]" * 900 + "}",
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    "wrap", ['{{"Records":[{0},{1}]}}', "[{1},{0}]", "{1}\n{0}\n{1}"], ids=["list", "array", "lines"]
)
@pytest.mark.parametrize("odd", ODD.values(), ids=ODD.keys())
def test_an_odd_record_costs_itself(odd: str, wrap: str) -> None:
    mapped = map_bytes(engine("aws_cloudtrail"), wrap.format(odd, GOOD).encode())
    found = [event["metadata"]["uid"] for event in ocsf(mapped.events)]
    assert found == ["e7"] * wrap.count("{1}")
    (reject,) = mapped.rejects.to_pylist()
    assert reject["reason"]
    assert reject["raw"] == odd


@pytest.mark.parametrize("text", ['{"Records": null}', '{"Records": {}}', '{"Records": "x"}'])
def test_a_document_whose_list_is_none_is_quarantined(text: str) -> None:
    mapped = map_bytes(engine("aws_cloudtrail"), text.encode())
    assert mapped.rejects["raw"].to_pylist() == [text]


@pytest.mark.parametrize("text", ["", " \n", "[]", '{"Records": []}', '{"Records": [ ]}'])
def test_an_object_without_records_gives_none(text: str) -> None:
    assert map_bytes(engine("aws_cloudtrail"), text.encode()).read == 0
