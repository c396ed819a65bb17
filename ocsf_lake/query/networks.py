"""`in_network(address, network)` in SQL: addresses are text in OCSF, and text knows no networks.

By arithmetic, as DuckDB's extension for addresses is not in its wheel and nothing is loaded from outside. A query may
have a network as a parameter or in a column. Rules know theirs when they are compiled, and have conditions of their
own, which take a sixth of the time to plan: `ocsf_lake.detections.dialects`.
"""

from __future__ import annotations

import duckdb

NAME = "in_network"

_DOTTED = r"[0-9]{1,3}(\.[0-9]{1,3}){3}"
_SOME_GROUPS = "([0-9A-Fa-f]{1,4}(:[0-9A-Fa-f]{1,4})*)?"

_OCTETS = " + ".join(
    f"TRY_CAST(split_part(address, '.', {number}) AS UTINYINT)::BIGINT * {256 ** (4 - number)}"
    for number in range(1, 5)
)

_BASE = "split_part(network, '/', 1)"
_PREFIX = "TRY_CAST(split_part(network, '/', 2) AS INTEGER)"


def _groups(half: int) -> str:
    """The groups left or right of `::`."""
    return f"list_filter(string_split(split_part(address, '::', {half}), ':'), LAMBDA part : part <> '')"


_MACROS = (
    # An IPv4 address as a number; null of any other text.
    f"_ipv4(address) AS CASE WHEN regexp_full_match(address, '{_DOTTED}') THEN {_OCTETS} END",
    # An IPv6 address as eight groups; null of any other text.
    f"""_ipv6_groups(address) AS CASE
        WHEN NOT regexp_full_match(address, '{_SOME_GROUPS}(::{_SOME_GROUPS})?') THEN NULL
        WHEN contains(address, '::') THEN list_concat(
            {_groups(1)},
            list_transform(range(greatest(1, 8 - len({_groups(1)}) - len({_groups(2)}))), LAMBDA part : '0'),
            {_groups(2)}
        )
        ELSE string_split(address, ':') END""",
    # As 32 digits.
    """_ipv6(address) AS CASE WHEN len(_ipv6_groups(address)) = 8
        THEN array_to_string(list_transform(_ipv6_groups(address), LAMBDA part : lpad(lower(part), 4, '0')), '') END""",
    "_digit(digits, number) AS strpos('0123456789abcdef', substr(digits, number, 1)) - 1",
    # The first bits of 32 digits: whole digits, and what is left of the next one.
    """_bits(digits, bits) AS left(digits, bits // 4) || CASE bits % 4
        WHEN 0 THEN '' ELSE (_digit(digits, bits // 4 + 1) >> (4 - bits % 4))::VARCHAR END""",
    # How many bits of an address are the network's; null where that is no number of them.
    f"""_length(network, bits) AS CASE
        WHEN NOT contains(network, '/') THEN bits
        WHEN regexp_full_match(network, '[^/]*/[0-9]{{1,3}}') AND {_PREFIX} <= bits THEN {_PREFIX} END""",
    """_in_ipv4(number, base, bits) AS coalesce((number >> (32 - bits)) = (base >> (32 - bits)), false)""",
    """_in_ipv6(digits, base, bits) AS coalesce(_bits(digits, bits) = _bits(base, bits), false)""",
    f"""{NAME}(address, network) AS CASE
        WHEN address IS NULL OR network IS NULL THEN NULL
        WHEN _ipv4({_BASE}) IS NOT NULL AND _length(network, 32) IS NOT NULL
        THEN _in_ipv4(_ipv4(address), _ipv4({_BASE}), _length(network, 32))
        WHEN _ipv6({_BASE}) IS NOT NULL AND _length(network, 128) IS NOT NULL
        THEN _in_ipv6(_ipv6(address), _ipv6({_BASE}), _length(network, 128))
        ELSE error(format('{NAME}: {{}} is no network, as 10.1.0.0/16 and 2001:db8::/32 are', network)) END""",
)


def create(connection: duckdb.DuckDBPyConnection) -> None:
    """Makes the function: whether an address is one of a network's, false where it is of the other family, or none.

    So `NOT in_network(...)` has all others; null has neither. A network is text in CIDR notation, of either family; a
    single address is one, too. What is none is an error.
    """
    for macro in _MACROS:
        connection.execute(f"CREATE TEMP MACRO {macro}")
