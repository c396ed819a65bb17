"""What is hidden in texts: members of JSON wherever they stand, secrets by how they look, and nothing else."""

from __future__ import annotations

import json
import re
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from functools import reduce
from itertools import cycle
from random import Random
from time import process_time

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from pydantic import ValidationError

from ocsf_lake.redaction import events, hiding, members, rules
from ocsf_lake.redaction.members import Members, Rewriter
from ocsf_lake.redaction.policy import Policy
from ocsf_lake.redaction.rules import Action, Rule
from ocsf_lake.redaction.texts import BLOCK_BYTES, Texts, found_in
from ocsf_mappers import registry, secret_forms
from ocsf_mappers.errors import ConfigError
from ocsf_mappers.shown import redacted
from tests.support import SAMPLE_LOGS, is_json

KEY = hiding.Key(b"a key of tests, which is long enough")
DEFAULT = Policy((), None, default=True)
MEMBERS = Rewriter([one.members for one in DEFAULT._messages.members])


def hidden(text: str, *rules: Rule, default: bool = False) -> str:
    return Policy(rules, KEY, default=default).message(text)


# -- members of JSON --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("text", "after"),
    [
        ('{"p": "a", "q": {"p": "b", "n": 1.00}}', '{"p": "X", "q": {"p": "b", "n": 1.00}}'),
        ('[{"p":"a"},{"p":null}]', '[{"p":"X"},{"p":null}]'),
        ('{"p":{"a":[1,{"b":"c"}]},"z":1}', '{"p":"X","z":1}'),
        ('{"p":"a","p":"b"}', '{"p":"X","p":"X"}'),
        ('{"p":"cut off', '{"p":"X"'),
        ('{"p":"a \\" quote","z":"p"}', '{"p":"X","z":"p"}'),
        ('{"p":["a"', '{"p":"X"'),
        ('{"\\u0070":"a"}', '{"\\u0070":"X"}'),
        ('{"x":"{\\"p\\":\\"q\\"}"}', '{"x":"{\\"p\\":\\"X\\"}"}'),
        ('no JSON "p" : "x"', 'no JSON "p" : "X"'),
        ('}}]]{"p":1}', '}}]]{"p":"X"}'),
        ("", ""),
        ('"', '"'),
    ],
)
def test_a_member_is_replaced_where_it_stands_and_the_rest_is_as_it_was(text: str, after: str) -> None:
    paths = (members.steps("$.p"), members.steps("$.x.p"))
    assert Rewriter([Members(paths, lambda _: "X")]).rewritten(text) == after


@pytest.mark.parametrize(
    ("text", "after"),
    [
        ('{"p":1}', "{}"),
        ('{"p":1, "q":2}', '{"q":2}'),
        ('{"q":2 , "p":1, "r":3}', '{"q":2 , "r":3}'),
        ('{"p":1,"p":2}', "{}"),
        ('{"a":1,"p":1,"p":{"b":2}}', '{"a":1}'),
        ('[{"p":1,"p":2,"q":3}]', '[{"q":3}]'),
    ],
)
def test_a_dropped_member_leaves_json(text: str, after: str) -> None:
    assert Rewriter([Members((members.steps("$.p"),), lambda _: "", drop=True)]).rewritten(text) == after


@pytest.mark.parametrize("path", ["", "$", "p", "$.", "$.a b", "$.a[0]", "$..", "$.a.*"])
def test_what_is_no_path_of_members_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match="is not a JSON path"):
        members.steps(path)


def test_paths_go_through_lists_and_to_any_depth() -> None:
    text = '{"a":[{"b":[{"c":"1"}]}],"c":"2","d":{"c":"3"}}'
    assert hidden(text, Rule(name="r", member="$.a[*].b.c")) == text.replace('"1"', '"[redacted:r]"')
    deep = hidden(text, Rule(name="r", member="$..c"))
    assert [deep.count(f'"{number}"') for number in "123"] == [0, 0, 0]


@pytest.mark.parametrize("value", ['"a"', '"a\\"b"', "12", "true", '["a"]', '{"x":"a"}', '"a', '{"x":"a"', "-1.5e3"])
def test_a_member_at_any_depth_is_hidden_whatever_its_value_is(value: str) -> None:
    for text in (f'{{"p":{value}', f'{{"o":[{{"p" : {value}'):
        actions: tuple[Action, ...] = ("mask", "hash")
        for action in actions:
            after = hidden(text, Rule(name="r", member="$..p", action=action))
            assert value not in after
            assert after.startswith(text.removesuffix(value))
    assert hidden('{"p":null,"pp":"a"}', Rule(name="r", member="$..p")) == '{"p":null,"pp":"a"}'


# -- secrets ----------------------------------------------------------------------------------------------------------
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJub2JvZHkifQ.c2lnbmF0dXJl"
SECRETS = [
    '{"credentials":{"sessionToken":"SECRET"}}',
    '{"list":[{"MasterUserPassword":"SECRET"}]}',
    '{"passwords":["SECRET"]}',
    '{"password":"SECRET',
    '{"pass\\u0077ord":"SECRET"}',
    json.dumps({"inner": json.dumps({"deeper": json.dumps({"client_secret": "SECRET"})})}),
    "https://user:SECRET@host/path",
    "GET /k?X-Amz-Signature=SECRET&X-Amz-Date=1 HTTP/1.1",
    "redirect=https%3A%2F%2Fh%3Faccess_token%3DSECRET",
    "Server=db;Uid=app;Pwd=SECRET;",
    "mysql --password=SECRET --host=h",
    "Authorization: Bearer SECRET1234567890",
    '{"value":"Basic dXNlcjpTRUNSRVQ="}',
    "-----BEGIN RSA PRIVATE KEY-----\nSECRET\n-----END RSA PRIVATE KEY-----",
    '{"key":"-----BEGIN PRIVATE KEY-----\\nSECRET\\n-----END PRIVATE KEY-----\\n","n":1}',
    "-----BEGIN OPENSSH PRIVATE KEY-----\nSECRET",
    f"cookie {JWT} end",
    "ghp_SECRET0123456789abcdefghij0123456789",
    "glpat-SECRET0123456789abcdef",
    "xoxb-SECRET-0123456789",
    "https://hooks.slack.com/services/T0/B0/SECRET",
    "https://hooks.slack.com/triggers/T0/1/SECRET",
    "glrt-SECRET0123456789abcdef",
    "xoxe.xoxp-1-SECRET0123456789",
    f"sk-SECRET{'0' * 14}T3BlbkFJ{'SECRET' * 4} sk_live_SECRET{'0' * 20}",
    "client-key-data: LS0tLS1CRUdJTiBSU0EgUFJJVkFURSBLRVktLS0tLQpSECRET",
    "aws_secret_access_key = SECRET/wJalrXUtnFEMIK7MDENG",
    "aws configure set aws_secret_access_key SECRET/wJalrXUtnFEMIK7MDENG",
    '{"credentials":{"secretKey":"SECRET"},"bindPassword":"SECRET","sharedSecret":"SECRET","sAMLAssertion":"SECRET"}',
    '{"variables":{"DB_PASSWORD":"SECRET","GITHUB_TOKEN":"SECRET","x-api-key":"SECRET"}}',
    json.dumps({"inner": json.dumps({"DB_PASSWORD": "SECRET"})}),
    '{"prod/db/password":"SECRET","Master Password":"SECRET","$db:api-key":"SECRET","ci/GITHUB_TOKEN":"SECRET"}',
    '{"env":[{"name":"/prod/db/password","value":"SECRET"}]}',
    '{"My API Key":"SECRET","AWS Secret Access Key":"SECRET","Secret access key":"SECRET","x Session Token":"SECRET"}',
    r'{"prod\/db\/password":"SECRET","C:\\db\\password":"SECRET","db|password":"SECRET","a@GITHUB_TOKEN":"SECRET"}',
    '{"env":[{"name":"\\/prod\\/db\\/password","value":"SECRET"},{"value":"SECRET","name":"Master\u00a0password"}]}',
    json.dumps({"spec": r'{"name":"DB_PASSWORD","description":"two\nlines","min-size":-1.5,"value":"SECRET"}'}),
    '{"env":[{"name":"DB_PASSWORD","type":"PLAINTEXT","value":"SECRET"}]}',
    json.dumps({"spec": '{"value":"SECRET","overwrite":false,"description":"of x","type":"String","name":"API_KEY"}'}),
    r'{"env":[{"name":"DB_PASSWORD","value":"a\"SECRET"},{"value":"a\" SECRET","name":"API_KEY"}]}',
    json.dumps({"spec": r'{"name":"DB_PASSWORD","description":"a \"b\" c","value":"a\"SECRET","type":"PLAINTEXT"}'}),
    '{"parameterKey":"DBPassword","usePreviousValue":false,"parameterValue":"SECRET"}',
    '{"env":[{"name":"DB_PASSWORD","value":"SECRET"}]}',
    '{"environmentVariables":[{"type":"PLAINTEXT", "value":"SECRET", "name":"API_KEY"}]}',
    '{"parameters":[{"parameterKey":"DBPassword","parameterValue":"SECRET"}]}',
    json.dumps({"spec": json.dumps({"env": [{"name": "SLACK_TOKEN", "value": "SECRET"}]})}),
    # behind a name that is none of a credential's
    json.dumps({"parameterKey": "ConfigKey", "parameterValue": '{"name":"DB_PASSWORD","value":"SECRET"}'}),
    '{"spec":"page_token= password=SECRET"}',
    "page_token= password = SECRET",
    "request_token='password=SECRET'",
    "GET /k?next_token=a?password=SECRET HTTP/1.1",
    '{"command":["app","--db-password","SECRET"]}',
    "mysql --password SECRET -h h",
    "DB_PASSWORD=SECRET ./run",
    "MYSQL_PWD=SECRET mysql",
    "java -Dspring.datasource.password=SECRET",
    "{masterUserPassword=SECRET, n=1}",
    "CREATE USER nora PASSWORD 'SECRET'",
    "CREATE USER nora PASSWORD 'it''s SECRET'",
    r"ALTER USER nora IDENTIFIED WITH caching_sha2_password BY \'SECRET\'",
    "SET PASSWORD FOR 'nora'@'%' = PASSWORD('SECRET')",
    "CREATE LOGIN nora WITH PASSWORD=N'SECRET'",
    'ALTER USER nora IDENTIFIED BY "SECRET"',
    "COPY t FROM 's3://b/k' access_key_id 'AKIAIOSFODNN7EXAMPLE' secret_access_key 'SECRET'",
    # values in quotes to their end, in JSON as well; names behind an escaped line break
    r'{"command":["sh","-c","DB_PASSWORD=\"a SECRET\" ./run"]}',
    r'{"commands":["read PASSWORD=\"a; b, SECRET\"\nexport B=\"x\""]}',
    "DB_PASSWORD='a;b &SECRET' ./run",
    r'{"properties":"a=1\nspring.datasource.password=SECRET\nb=2"}',
    r'{"files":"[db]\npassword  =  \"SECRET\""}',
    '$env:DB_PASSWORD = "SECRET"',
    "'db_password' => 'SECRET'",
    "https://h/callback#access_token=SECRET",
    "u=https%253A%252F%252Fh%253Faccess_token%253DSECRET",
    "https://storage.googleapis.com/b/o?X-Goog-Signature=SECRET",
    "AccountName=a;AccountKey=SECRET0123==;EndpointSuffix=core.windows.net",
    '{"aws-secret-access-key":"SECRET"}',
    # JSON in a text that is none, or deeper than it is gone into; Python, YAML, HTTP, XML
    r'failed: body={\"n\":1,\"password\" : \"a SECRET\"} at x',
    json.dumps({"message": r'curl -d "{\"user\":\"a\",\"github_token\":\"SECRET\"}" https://h'}),
    reduce(lambda text, _: json.dumps({"inner": text}), range(7), '{"password":"SECRET"}'),
    "got {'user': 'a', 'sessionToken': 'SECRET'}",
    '{"template":"Db:\\n  - MasterUserPassword: SECRET\\n    x: y"}',
    'env:\n  API_KEY: "SECRET"\n  NPM_TOKEN: SECRET  # of nora',
    "TOKEN: SECRET",
    "GET /login?password==SECRET HTTP/1.1",
    """curl -H 'X-Api-Key: SECRET0123' -H "Authorization: token SECRET0123" https://h""",
    "<Db><MasterPassword>SECRET</MasterPassword><pre_shared_key>SECRET</pre_shared_key></Db>",
    # arguments
    '{"command":["app","--token","SECRET","--github-token","SECRET","--db_password","a SECRET"]}',
    "['app', '--secret', 'SECRET']",
    "app --secret-access-key SECRET --session-token=SECRET --spring.datasource.password 'a SECRET' -passwd SECRET",
    "GET /reset?token=SECRET0123 HTTP/1.1",
    "GET /k?api_key=SECRET HTTP/1.1",
    "postgresql://app:SE@CRET@db.example.com:5432/app",
    "header IQoJb3JpZ2luX2VjSECRET".replace("_", "0") + "abcdefghij" * 6,
    "token=SECRET0123&x=1",
    "sig=SECRET0123",
    "basic dXNlcjpTRUNSRVQ=",
    "pwd=SECRET",
]
KNOWN_TO_STAY = [
    '{"masterUserPassword":"****","secretString":"HIDDEN_DUE_TO_SECURITY_REASONS","password":null}',
    '{"passwordResetRequired":true,"secretId":"arn:aws:secretsmanager:x","clientToken":"c","nextToken":"n"}',
    "USER=root ; PWD=/home/ec2-user ; COMMAND=/bin/ls",
    "list-type=2&continuation-token=abc",
    "arn:aws:iam::123456789012:role/password",
    "Basic authentication is required",
    "Bearer authentication-is-required",
    "host://a:8080/path@v1",
    "AKIAIOSFODNN7EXAMPLE",
    "[redacted:password]",
    "password=null&client_secret=required",
    '{"password":"true","privateKey":"arn:aws:secretsmanager:x"}',
    "kind=secret,secret=arn:aws:secretsmanager:eu-west-1:111122223333:secret:db-AbCdEf",
    "https://host:443?mail=a@b.example",
    "PWD=C:\\Users",
    '{"environmentVariables":[{"name":"DB_PASSWORD","value":"/prod/db/password","type":"PARAMETER_STORE"}]}',
    '{"environmentVariables":[{"name":"DB_PASSWORD","type":"SECRETS_MANAGER","value":"/prod/db/password"}]}',
    '{"tokenValidityUnits":{"accessToken":"hours","idToken":"minutes","refreshToken":"days"}}',
    '{"Reset my password/now":"x","aws:TokenIssueTime":"x","db/passwords.txt":"x"}',
    '{"name":"DB_PASSWORD","valueFrom":{"secretKeyRef":{"name":"db-password","key":"password"}}}',
    '{"resources":["secrets"],"resourceNames":["db-password"],"tags":[{"key":"Name","value":"password"}]}',
    "aws login --password-stdin registry",
    "aws s3api list-objects --starting-token abcdefgh --next-token 'abcdefgh' --client-request-token \"abcdefgh\"",
    "aws secretsmanager get-secret-value --secret-id db --version-id a",
    '{"cmd":"export DB_PASSWORD=","next":"x","cmd2":"x --token"}',
    '{"cmd":{"read secret-key=":{"a":"b"}}}',
    'DB_PASSWORD=${DB_PASSWORD} ./run --token "$TOKEN" --api-key $(cat key) --password file:///run/secrets/db',
    '{"MasterUserPassword":"{{resolve:secretsmanager:db:SecretString:password}}","masterKey":"alias/a"}',
    "docker build --secret id=npmrc,src=.npmrc; docker pull docker://nginx:1.25@sha256:abcd",
    "if password == other",
    "SELECT * FROM users WHERE password='' OR '1'='1'",
    "CREATE USER bob IDENTIFIED BY <secret>",
    r'failed: body={\"next_token\":\"abcdefgh\",\"secretId\":\"a\",\"password\":\"\"}',
    "got {'next_token': 'abcdefgh', 'secretName': 'a', 'compass': 'north'}",
    "a:\n  page_token: abcdefgh\n  Password: !Ref P\n  DBPassword: ${PASSWORD}\n  password: reset by nora",
    "password: {{resolve:secretsmanager:db}}\nexpected token: SELECT\nx-amz-request-token: abcd0123",
    "Authorization: AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20260317/eu-west-1/s3/aws4_request",
    "<NextContinuationToken>abc</NextContinuationToken><page_token>abcdefgh</page_token>",
    "usage: login <user> <password> x",
    "a secret identified by 'arn:aws:secretsmanager:x' and a user identified by number",
    r'{"list":"a\nnext_token=abcdefgh"}',
    "https://h/list?u=%2526next_token%253Dabcdefgh",
    "GET /list?page_token=abcdefghij&next-token=abcdefghij HTTP/1.1",
    '{"headers":[{"name":"Authorization","value":"AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20260317"}]}',
]


@pytest.mark.parametrize("text", SECRETS)
def test_secrets_are_hidden_by_default(text: str) -> None:
    after = DEFAULT.message(text)
    assert "[redacted:" in after
    for secret in ("SECRET", "CRET@", "dXNlcjpTRUNSRVQ", "eyJzdWIiOiJub2JvZHkifQ"):
        assert secret not in after
    assert DEFAULT.message(after) == after


SERVICE_TOKENS = (
    *("sk_live_0A", "rk_test_0A", "whsec_0A", "sk-ant-api03-0A", "sk-proj-0A", "npm_0A", "pypi-AgEIcHlwaS5vcmc0A"),
    *("rubygems_", "dckr_pat_0A", "ya29.0A", "GOCSPX-0A", f"SG.{'0A' * 11}.", "hf_0A", "hvs.0A", "atlasv1."),
    *("dop_v1_", "shpat_", "ATATT3x0A", "glsa_0A", "ABSK", "lin_api_0A", "sntrys_0A"),
)


def test_tokens_of_services_are_hidden() -> None:
    tokens = [f"{begin}{'0123456789abcdef' * 6}" for begin in SERVICE_TOKENS]
    tokens += [f"AIza{'0A' * 17}0", f"dapi{'0a' * 16}", f"NRAK-{'0A' * 14}", f"AGE-SECRET-KEY-1{'0A' * 29}"]
    assert {DEFAULT.message(f"see {token} here") for token in tokens} == {"see [redacted:service_token] here"}
    assert [DEFAULT.message(name) for name in ("task-ant-farm", "npm_config_cache", "pypi-mirror")] == [
        "task-ant-farm", "npm_config_cache", "pypi-mirror",
    ]  # fmt: skip


@pytest.mark.parametrize("text", KNOWN_TO_STAY)
def test_what_is_no_secret_stays(text: str) -> None:
    assert DEFAULT.message(text) == text


def test_hidden_json_is_json() -> None:
    for text in SECRETS:
        if text.startswith('{"') and text.endswith("}"):
            json.loads(DEFAULT.message(text))


def test_messages_of_the_program_are_without_secrets() -> None:
    in_quotes = (r'{"cmd":"DB_PASSWORD=\"a SECRET\" ./run"}', "CREATE LOGIN nora WITH PASSWORD=N'SECRET'")
    for secret in (JWT, "ghp_SECRET0123456789abcdefghij0123456789", "-----BEGIN PRIVATE KEY-----\nSECRET", *in_quotes):
        assert secret not in redacted(f"it says {secret}")


@pytest.mark.parametrize(
    ("detector", "found", "left"),
    [
        ("email", ["nora@example.com", "a.b+c@mail.example.co.uk", "x%40example.com"], ["a@b", "@example.com"]),
        ("payment_card", ["4111111111111111", "4111 1111 1111 1111", "3782-822463-10005"],
         ["4111111111111112", "123456789012", "1741683600000", "0000000000000000"]),
        ("us_ssn", ["078-05-1120"], ["000-12-3456", "900-12-3456", "2025-03-11"]),
        ("uk_nino", ["AB123456C", "AB 12 34 56 C"], ["AB123456E"]),
        ("es_dni", ["12345678Z", "X1234567L"], ["12345678A"]),
        ("fr_nir", ["255081416802538", "2 55 08 14 168 025 38"], ["255081416802539"]),
        ("it_codice_fiscale", ["RSSMRA85T10A562S"], ["AIDAEXAMPLENORA0"]),
        ("br_cpf", ["529.982.247-25"], ["529.982.247-26", "111.111.111-11"]),
    ],
)  # fmt: skip
def test_detectors_check_what_they_find(detector: str, found: list[str], left: list[str]) -> None:
    rule = Rule(name="r", detect=detector)
    assert [hidden(f"of {text}.", rule) for text in found] == ["of [redacted:r]."] * len(found)
    assert [hidden(f"of {text}.", rule) for text in left] == [f"of {text}." for text in left]


def test_equal_values_have_one_hash_wherever_they_stand() -> None:
    by_look, by_name = Rule(name="m", detect="email", action="hash"), Rule(name="n", member="$..mail", action="hash")
    expected = KEY.hashed("nora@example.com")
    assert expected.startswith(f"hmac-sha256:{KEY.id}:")
    assert hidden("of nora@example.com", by_look) == f"of {expected}"
    assert hidden('{"mail":"nora@example.com"}', by_name) == json.dumps({"mail": expected}, separators=(",", ":"))
    assert KEY.secret.decode() not in repr(KEY)


def test_a_hash_of_ones_own_is_not_masked_by_default() -> None:
    rule = Rule(name="mine", member="$..password", action="hash")
    assert KEY.hashed("x") in hidden('{"password":"x"}', rule, default=True)


def cost(work: Callable[[str], str], text: str, times: int) -> float:
    """Seconds of a processor that a text costs, the least of so many times."""
    found = []
    for _ in range(times):
        before = process_time()
        work(text)
        found.append(process_time() - before)
    return min(found)


@pytest.mark.parametrize(
    "piece",
    [
        "-----BEGIN A", "://a:", "://a:b", '{"password":"', "bearer ", "[", "\\", "-", "_a", "--a-", '"name":"',
        '"value":"a', '"value":"a' + "\\" * 40_000, "?next_token=", "next_token= ", "eyJ", "eyJhbGciOiJ",
        '"name":"sort key","value":"',
    ],
    ids=lambda piece: piece[:10],
)  # fmt: skip
def test_a_text_costs_what_its_length_does(piece: str) -> None:
    short, long = ((piece * (length // len(piece) + 1))[:length] for length in (2_500, 40_000))
    for work in (redacted, MEMBERS.rewritten):
        assert cost(work, long, 1) < 60 * cost(work, short, 3)  # what went back for each letter would be 256


def test_a_long_name_is_looked_at_once_however_many_names_there_are() -> None:
    name = "-" * 100_000
    text = json.dumps({name: "x"})
    (known,) = (one.members.also for one in DEFAULT.default_members)
    assert known is not None
    assert MEMBERS.rewritten(text) == text
    assert cost(MEMBERS.rewritten, text, 2) < 3 * cost(lambda text: f"{known.match(text)}", name, 2)


@pytest.mark.parametrize(
    "text",
    [
        r'{"x":"{\"authToken\"\n:\t\"SECRET\"}"}',
        r'"{\"x\":\"{\\\"authToken\\\"\\n:\\\"SECRET\\\"}\"}"',
        r'{"x":"{\"my\u0041uth_token\" \r\n :1,\"authToken\"\n:\"SECRET\"}"}',
        # Token by token, the password would stand between two strings.
        r'{"mySecret_AccessKey\" : {"password":"SECRET"}}',
        'a disk of 5" {"clientSecret":{"Ref":"x"},"password":"SECRET"}',
        'a disk of 5" {"password":12,"sharedSecret":"SECRET"}',
    ],
)
def test_members_are_hidden_however_what_is_around_them_is_spelled(text: str) -> None:
    after = DEFAULT.message(text)
    assert "SECRET" not in after
    assert "[redacted:credentials]" in after


def test_long_names_are_not_kept_in_memory() -> None:
    rules_of_all = DEFAULT._messages
    events._matching(pa.array(["a"]), rules_of_all.hint)
    tracemalloc.start()
    try:
        for number in range(50):
            name = f"{number}{'a' * 100_000}_password"
            assert rules_of_all.message(f'{{"{name}":"x"}}') == f'{{"{name}":"[redacted:credentials]"}}'
            assert events._matching(pa.array([name]), "_password$").tolist() == [True]
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 1_000_000, kept


def test_a_text_cannot_hold_the_marks() -> None:
    text = '\ue000abc\ue001 {"password":"a"}'
    assert DEFAULT.message(text) == '\ue000abc\ue001 {"password":"[redacted:credentials]"}'


# -- replay: is a text that was kept this record's? -------------------------------------------------------------------
@pytest.mark.parametrize(
    ("kept", "text", "same"),
    [
        ('{"a":"[redacted:r]","b":1}', '{"a":"x","b":1}', True),
        ('{"a":"[redacted:r]","b":1}', '{"a":12,"b":1}', True),
        ('{"a":"[redacted:r]","b":1}', '{"a":"x","b":2}', False),
        (f'{{"a":"{KEY.hashed("x")}"}}', '{"a":"x"}', True),
        ("[redacted:r]", "anything", True),
        ("nothing hidden", "nothing hidden", False),
        ("a[redacted:r]a", "a", False),
    ],
)
def test_a_kept_text_is_compared_but_for_what_is_hidden(kept: str, text: str, same: bool) -> None:
    assert hiding.is_redacted(kept, text) is same


# -- rules ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "rule",
    [
        {"name": "r"},
        {"name": "Bad Name", "detect": "email"},
        {"name": "r", "detect": "emial"},
        {"name": "r", "member": "password"},
        {"name": "r", "member": "$.a", "detect": "email"},
        {"name": "r", "detect": "email", "accounts": ["12"]},
        {"name": "r", "detect": "email", "action": "encrypt"},
        {"name": "r", "path": "a'; DROP TABLE x", "action": "drop"},
    ],
)
def test_a_rule_that_cannot_be_meant_is_refused(rule: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Rule.model_validate(rule)


def test_rules_have_names_of_their_own_and_hashes_a_key() -> None:
    twice = [Rule(name="r", detect="email"), Rule(name="r", detect="us_ssn")]
    with pytest.raises(ConfigError, match=r"two rules have the name .r."):
        Policy(twice, None, default=False)
    with pytest.raises(ConfigError, match="OCSF_LAKE_REDACTION_KEY"):
        Policy([Rule(name="r", detect="email", action="hash")], None, default=False)


def test_only_texts_that_a_rule_concerns_are_changed() -> None:
    texts = pa.array(["a", None, "of nora@example.com", "b"])
    policy = Policy([Rule(name="r", detect="email")], None, default=False)
    changed = policy._messages.changed(texts)
    assert changed is not None
    assert changed.texts.to_pylist() == ["a", None, "of [redacted:r]", "b"]
    assert {rule: places.tolist() for rule, places in changed.places.items()} == {"r": [2]}
    assert policy._messages.changed(texts.slice(0, 2)) is None


def test_texts_are_found_wherever_they_stand_among_others() -> None:
    """Columns are searched many texts at a time: where one begins or ends makes no difference."""
    other = "y" * (BLOCK_BYTES // 64)
    for place, text in zip(cycle((0, 1, 30, 31, 32, 33, 95, 192)), SECRETS, strict=False):
        texts = ["x", *(["", other, None] * 64)]
        texts[place] = text
        columns = [pa.array(["a"]), pa.array([], pa.string()), pa.array(texts), pa.array(["z", *texts, "z"])[1:-1]]
        found = found_in(columns, DEFAULT._messages.hint)
        assert [places.tolist() for places in found] == [[], [], [place], [place]], text


def _mutated(texts: list[str], times: int) -> list[str]:
    """Texts with a few places of each written otherwise, the same every time."""
    chance = Random(7)
    pieces = (*'"\\: ={},-', '\\"', "null", "12", "password", '"password":', "_TOKEN", "%3D", "")
    mutated = []
    for text in texts * times:
        for _ in range(chance.randint(1, 3)):
            at = chance.randint(0, len(text))
            text = text[:at] + chance.choice(pieces) + text[at + chance.randint(0, 4) :]
        mutated.append(chance.choice((str, str.swapcase, str.upper))(text))
    return mutated


def finds(form: secret_forms.Form, text: str) -> bool:
    """Whether a form's pattern finds a secret, with the name that it has to have."""
    if form.inner:
        return form.replaced(text, lambda _: "")[1]
    return any(form.holds(*found.groups()) for found in re.finditer(form.pattern, text, re.ASCII))


def test_no_text_is_passed_over_in_which_a_detector_would_find_something() -> None:
    """Texts are searched for hints first; whatever a detector's own pattern finds has to be among what these find."""
    samples = [line for file in SAMPLE_LOGS.glob("*/*.json") for line in file.read_text().splitlines()[:200]]
    texts = pa.array([*SECRETS, *KNOWN_TO_STAY, *samples, *_mutated(SECRETS + KNOWN_TO_STAY, 60)])
    hinted = set(found_in([texts], DEFAULT._messages.hint)[0].tolist())
    for name, forms in secret_forms.SECRETS.items():
        for form in forms:
            found = pc.match_substring_regex(texts, form.pattern).to_numpy(zero_copy_only=False).nonzero()[0].tolist()
            assert found, f"no text of the test has {name}: {form.pattern}"
            missed = [text for place in found if place not in hinted and finds(form, text := texts[place].as_py())]
            # Where a text is cut off behind the name's own quote, nothing says that it is no member's.
            assert [text for text in missed if name != "named_value" or not text.endswith('"')] == []


def test_a_text_with_names_of_others_alone_is_left_at_once_and_no_other() -> None:
    """Whether there is more than tokens of pages is told by counting; each text is as it is without that."""
    texts = pa.array(_mutated(SECRETS + KNOWN_TO_STAY + ["GET /k?page_token=a&next_token=b&password=SECRET"], 60))
    slow = [
        replace(one, forms=[replace(form, other="") for form in one.forms]) for one in DEFAULT._messages.detections
    ]
    one, other = (Texts(forms).changed(texts) for forms in (DEFAULT._messages.detections, slow))
    assert one is not None
    assert other is not None
    assert one.texts.equals(other.texts)


def test_every_name_of_a_credential_is_found_in_any_case_and_however_it_is_quoted() -> None:
    names = [spelled for name in rules.MEMBERS for spelled in (name, name.upper(), name.lower())]
    values = (':"SECRET"}', ' : 12}', ': ["SECRET"]}', ':"SECRET')
    texts = [f'{{"{name}"{value}' for name in [*names, *NAMES_OF_CREDENTIALS, "A_PWD"] for value in values]
    texts += [json.dumps({"inner": text}) for text in texts]
    changed = DEFAULT._messages.changed(pa.array(texts))
    assert changed is not None
    assert [text for text, after in zip(texts, changed.texts.to_pylist(), strict=True) if text == after] == []


NAMES_OF_CREDENTIALS = (
    *("ci/github_token", "prod/dbpassword", "/app/dbpasswd", "my-apikey", "clientsecret", "app/token", "gitlab-token"),
    *("githubToken", "npmtoken", "context_token", "x-csrf-token", "NEXT_TOKEN", "PGPASSWORD", "app-secret", "db_pass"),
    *("prod/app/secret", "googleApiKey", "sshprivatekey", "addPrivateKey", "idpClientSecret", "dbpwd", "sessionToken"),
    *("secretAccessKey", "secret access key", "masterUserPassword", "client_access_token", "secret-access-key"),
    *("TOKEN", "APIKEY", "GITHUB_PAT", "MASTER_KEY", "APP_ENCRYPTION_KEY", "SECRET_KEY_BASE", "DB_PASSWORD2"),
    *("password1", "signingSecret", "radius-shared-secret", "webhook_secret", "keystorePass", "SharedAccessKey"),
)
NAMES_OF_OTHERS = (
    *("nextToken", "next_token", "x/next-page-token", "continuation-token", "clientToken"),
    *("client_token", "client-request-token", "idempotency_token", "Page Token", "sync_token", "syncSessionToken"),
    *("token_type", "tokenType", "tokenCount", "max_tokens", "passwordLastUsed", "password-policy", "PasswordPolicy"),
    *("secretName", "secret-arn", "image_pull_secret", "removePrivateKey", "keyId", "access_key_id", "public_key"),
    *("kms_key", "subjectFromWebIdentityToken", "compass", "bypass", "PWD_BEFORE", "KMS_KEY", "ACCESS_KEY", "SORT_KEY"),
    *("masterKey", "encryption_key", "tokens", "TOKENS", "SECRETS", "password12", "PATH", "storage_key", "keyPass2x"),
)


def _with_name(name: str) -> list[str]:
    """A value beside a name, in the ways in which logs have it."""
    listed = {"name": name, "keyId": "alias/k", "description": "of x", "tier": "Standard", "value": "hunter22"}
    return [
        json.dumps({name: "hunter22"}),
        json.dumps({"inner": json.dumps({name: "hunter22"})}),
        json.dumps({"env": [{"name": name, "value": "hunter22"}, {"name": "other", "value": "x"}]}),
        json.dumps({"env": [{"value": "hunter22", "type": "PLAINTEXT", "name": name}]}),
        json.dumps({"inner": json.dumps({"parameterKey": name, "parameterValue": "hunter22"})}),
        json.dumps(listed),
        json.dumps({"optionName": name, "value": "hunter22", "namespace": "aws:rds:dbinstance"}),
        json.dumps({"optionName": name, "resourceName": "r", "namespace": "aws:rds:dbinstance", "value": "hunter22"}),
        json.dumps({"name": name, "type": "String", "tags": [{"key": "a", "value": "b"}], "value": "hunter22"}),
        *([] if " " in name else [f"run {name}=hunter22 x", f"GET /k?{name}=hunter22&x=1"]),
    ]


def test_a_value_beside_a_name_of_a_credential_is_hidden() -> None:
    given = [(name, text) for name in NAMES_OF_CREDENTIALS for text in _with_name(name)]
    changed = DEFAULT._messages.changed(pa.array([text for _, text in given]))
    assert changed is not None
    after = changed.texts.to_pylist()
    assert [text for (_, text), found in zip(given, after, strict=True) if "hunter22" in found] == []
    assert [text for (name, text), found in zip(given, after, strict=True) if name not in found] == []


def test_a_value_beside_a_name_that_only_resembles_one_stays() -> None:
    texts = [text for name in NAMES_OF_OTHERS for text in _with_name(name)]
    assert DEFAULT._messages.changed(pa.array(texts)) is None


def test_values_in_unmapped_are_hidden_by_the_same_names() -> None:
    [key] = DEFAULT.of_source(registry.load("aws_vpc_flow"))._of(frozenset()).keys
    for place in ("{}", "requestParameters.{}", "list.{}.3"):
        for names, are_hidden in ((NAMES_OF_CREDENTIALS, True), (NAMES_OF_OTHERS, False)):
            found = key.of(pa.array([place.format(name) for name in names])).tolist()
            assert found == [are_hidden] * len(names), place


@pytest.mark.parametrize("value", ["no", "Disabled", "arn:aws:secretsmanager:eu-west-1:111122223333:secret:x"])
def test_whether_there_is_a_secret_and_which_stays(value: str) -> None:
    texts = [text.replace("hunter22", value) for text in _with_name("rotate_token")]
    assert [text for text in texts if DEFAULT.message(text) != text] == []


def test_members_are_hidden_at_once_as_they_are_token_by_token() -> None:
    """Most texts are not gone through token by token; in JSON without escapes, it makes no difference."""
    whole = [text for text in _mutated(SECRETS + KNOWN_TO_STAY, 99) if "\\" not in text and is_json(text)]
    assert len(whole) > 300, len(whole)
    only_members = Texts((), DEFAULT._messages.members)
    assert [only_members.message(text) for text in whole] == [MEMBERS.rewritten(text) for text in whole]


@pytest.mark.parametrize("name", ["contraseña_password", "пароль-password", "pa\u017f\u017fword"])
def test_letters_of_all_alphabets_may_be_in_a_name(name: str) -> None:
    texts = [json.dumps({name: "hunter22"}, ensure_ascii=False), json.dumps({name: {"secret": 1}, "b": [name]})]
    texts.append(json.dumps({"inner": texts[0]}, ensure_ascii=False))
    after = [DEFAULT._messages.message(text) for text in texts]
    assert ["hunter22" in text for text in after] == [False] * 3
    assert after[1] == texts[1]
