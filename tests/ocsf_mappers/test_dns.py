"""DNS queries: lists that are empty and not null, names with and without a dot, values told by what they look like."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from ocsf_mappers import Engine, RawObject, registry
from ocsf_mappers.compiler.explain import markdown
from ocsf_mappers.errors import MappingError
from tests.support import VERSIONS, Json, map_bytes

QUERY = {
    "version": "1.100000",
    "account_id": "111122223333",
    "region": "eu-west-1",
    "query_timestamp": "2026-02-03T08:15:30Z",
    "query_name": "WWW.Example.com.",
    "query_type": "A",
    "query_class": "IN",
    "rcode": "NOERROR",
    "srcaddr": "10.0.0.1",
}


@pytest.fixture
def mapped(engine: Callable[[str, str], Engine]) -> Callable[..., Json]:
    def one(version: str = "1.1.0", **more: Any) -> Json:
        found = map_bytes(engine("aws_route53_resolver", version), json.dumps({**QUERY, **more}).encode())
        assert found.rejects.to_pylist() == []
        (event,) = found.events.to_pylist(maps_as_pydicts="strict")
        return event

    return one


def answer(data: object, kind: str = "A") -> dict[str, object]:
    return {"Rdata": data, "Type": kind, "Class": "IN"}


def observed(event: Json, name: str) -> list[tuple[str, str]]:
    return [(found["type"], found["value"]) for found in event["observables"] if found["name"] == name]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("more", [{}, {"answers": None}, {"answers": []}, {"answers": [{}]}, {"answers": [None]}])
def test_no_answer_is_an_empty_list(mapped: Callable[..., Json], version: str, more: Json) -> None:
    event = mapped(version, **more)
    assert event["answers"] == []
    assert "answers" not in (event["unmapped"] or {})


def test_a_single_answer_stands_for_a_list_of_itself(mapped: Callable[..., Json]) -> None:
    single, listed = mapped(answers=answer("10.0.0.9")), mapped(answers=[answer("10.0.0.9")])
    assert single["answers"] == listed["answers"] == [{"type": "A", "rdata": "10.0.0.9", "class": "IN"}]
    assert single["unmapped"] == listed["unmapped"] == {}


def test_what_is_no_list_of_answers_is_kept(mapped: Callable[..., Json]) -> None:
    event = mapped(answers="10.0.0.9")
    assert (event["answers"], event["unmapped"]) == ([], {"answers": "10.0.0.9"})


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("WWW.Example.com.", ["WWW.Example.com.", "www.example.com"]),
        ("WWW.Example.com", ["WWW.Example.com"]),
        (".", ["."]),
    ],
)
def test_an_absolute_name_is_observed_in_its_relative_form_too(
    mapped: Callable[..., Json], name: str, expected: list[str]
) -> None:
    event = mapped(query_name=name)
    assert event["query"]["hostname"] == name
    assert observed(event, "query.hostname") == [("Hostname", value) for value in expected]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ("198.51.100.7", [("IP Address", "198.51.100.7")]),
        ("2001:db8::7", [("IP Address", "2001:db8::7")]),
        ("::ffff:198.51.100.7", [("IP Address", "::ffff:198.51.100.7")]),
        ("Cdn.example.", [("Hostname", "Cdn.example."), ("Hostname", "cdn.example")]),
        ("_sip._tcp.example.com.", [("Hostname", "_sip._tcp.example.com."), ("Hostname", "_sip._tcp.example.com")]),
        ("10 mail.example.com.", []),
        ('"v=spf1 -all"', []),
        ("text", []),
        ("1.5", []),
        ("", []),
    ],
)
def test_an_answer_is_observed_as_what_it_looks_like(
    mapped: Callable[..., Json], data: str, expected: list[tuple[str, str]]
) -> None:
    event = mapped(answers=[answer(data), answer("192.0.2.1")])
    assert [found["rdata"] for found in event["answers"]] == [data, "192.0.2.1"]
    assert sorted(observed(event, "answers[].rdata")) == sorted([*expected, ("IP Address", "192.0.2.1")])


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("action", "expected"),
    [
        ("ALERT", ("Allowed", 1, "Alert", 19)),
        ("BLOCK", ("Denied", 2, "Blocked", 2)),
        ("ALLOW", ("Allowed", 1, "Allowed", 1)),
        ("NEW", ("NEW", 99, "NEW", 99)),
    ],
)
def test_what_dns_firewall_did(
    mapped: Callable[..., Json], version: str, action: str, expected: tuple[Any, ...]
) -> None:
    event = mapped(version, firewall_rule_action=action)
    assert tuple(event[name] for name in ("action", "action_id", "disposition", "disposition_id")) == expected


@pytest.mark.parametrize(("version", "action"), [("1.1.0", ("Unknown", 0)), ("1.5.0", (None, None))])
def test_without_a_rule_nothing_was_done(mapped: Callable[..., Json], version: str, action: tuple[Any, ...]) -> None:
    event = mapped(version)
    assert (event["action"], event["action_id"]) == action
    assert event["disposition"] is event["disposition_id"] is event["firewall_rule"] is None


def test_the_key_s_account_stands_in_for_a_missing_one(engine: Callable[[str, str], Engine]) -> None:
    record = json.dumps({name: value for name, value in QUERY.items() if name != "account_id"}).encode()
    found = map_bytes(engine("aws_route53_resolver", "1.1.0"), record, RawObject("s3://b/k", account="012345678901"))
    assert [(row["accountid"], row["region"]) for row in found.events.to_pylist()] == [("012345678901", "eu-west-1")]


def test_an_observable_type_that_does_not_exist_is_refused() -> None:
    mapper = registry.load("aws_route53_resolver")
    with pytest.raises(MappingError, match=r"answers\.rdata: no observable type 'Host name'.*'Hostname'"):
        replace(mapper, observables={"answers.rdata": ("IP Address", "Host name")})


def test_the_mapping_document_says_that_the_list_is_never_null() -> None:
    page = markdown(registry.load("aws_route53_resolver"), "1.1.0")
    assert "each of `answers`, else an empty list" in page
    assert "observable: IP Address or Hostname" in page
