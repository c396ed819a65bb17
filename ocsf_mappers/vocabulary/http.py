"""What logs of HTTP requests have in common: methods and outcomes as OCSF has them, and how a request line is cut."""

from __future__ import annotations

from ocsf_mappers.vocabulary.expr import Expr, sql, when

METHODS = ("CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "POST", "PUT", "TRACE")
"""The methods that every OCSF version knows. `http_method` may hold no other text; PATCH is one from 1.8.0 on only."""

HTTP_ACTIVITIES = {name: name.capitalize() for name in METHODS}
"""Method -> activity of HTTP Activity, of those that OCSF knows in every version."""

URL = (
    r"(?P<url>(?P<scheme>[A-Za-z]+)://(?P<host>\[[^\]]*\]|[^/:?]*)(?::(?P<port>\d+))?(?P<path>/[^?]*)?"
    r"(?:\?(?P<query>.*))?"
    r"|(?P<own_path>/[^?]*)(?:\?(?P<own_query>.*))?|.*)"
)
REQUEST_LINE = rf"(?P<method>[^\s-]\S*) {URL} (?P<http_version>\S+)"
"""For `parts` of a reader: method, whole URL and its parts (`own_path`, `own_query` of one that begins with a path),
and version. The URL may hold blanks and quotes. What says that there was no request, such as `- - - `, does not fit."""

REQUEST_COLUMNS = "method url scheme host port path query own_path own_query http_version"
"""The columns that `REQUEST_LINE` gives."""


def http_method(method: Expr) -> Expr:
    """A method for `http_request.http_method`; another text, which is invalid there, stays in `unmapped`."""
    return method.where(method.is_in(*METHODS))


def http_activity(method: Expr) -> Expr:
    """A method for `activity_id` of HTTP Activity; what is no method of HTTP's is Other and keeps its text.

    PATCH, too, is Other before OCSF 1.8.0.
    """
    patch = sql("CASE WHEN {0} = 'PATCH' THEN 'Patch' END", reads=[method], carries=False)
    return when(method == "PATCH").then(patch).otherwise(method.replace(HTTP_ACTIVITIES))


def http_status(code: Expr) -> Expr:
    """A code for `status_id`: below 400 Success, from 400 Failure, and so is 000, where the client left before."""
    failed = code.matches("^([4-9]|0)")
    return when(code.matches("^[123]")).then("Success").when(failed).then("Failure").otherwise("Unknown")


def http_code(code: Expr) -> Expr:
    """A code for `http_response.code`; 0, which is none of HTTP's, where there is none: OCSF 1.1.0 wants one."""
    return when(code.matches("^[1-9]")).then(code).otherwise("0")


_ADDRESSES = (
    "to_json(nullif(list_filter(list_transform(string_split({0}, ','), "
    r"lambda part: regexp_replace(trim(part), '^((\d+\.){{3}}\d+):\d+$', '\1')), "
    r"lambda part: regexp_full_match(part, '(\d{{1,3}}\.){{3}}\d{{1,3}}|[0-9a-fA-F:]*:[0-9a-fA-F:.]+')), []))"
)


def forwarded_for(header: Expr) -> Expr:
    """The addresses in an X-Forwarded-For header, without ports; what is none is left out, so that the header stays."""
    return sql(_ADDRESSES, reads=[header], carries=False)


_ONE_ADDRESS = "^([0-9.]+|[0-9a-fA-F:]*:[0-9a-fA-F:.]*)$"


def encoded_forwarded_for(header: Expr) -> Expr:
    """The same of a header whose blanks are percent-encoded, as CloudFront logs it."""
    alone = when(header.matches(_ONE_ADDRESS)).then(sql("to_json([{0}])", reads=[header]))
    return alone.otherwise(forwarded_for(sql("replace({0}, '%20', ' ')", reads=[header], carries=False)))


_ENCODED = "CASE WHEN contains({0}, '%20') THEN {0} ELSE replace({0}, '%25', '%') END"
_AGENT = f"CASE WHEN contains({_ENCODED}, '%00') THEN {{0}} ELSE coalesce(TRY(url_decode({_ENCODED})), {{0}}) END"


def encoded_user_agent(agent: Expr) -> Expr:
    """A user agent as it was sent, of one that is percent-encoded, as CloudFront logs it.

    Old logs encode it twice, so that there is no blank in it; one with a blank was not encoded.
    """
    return when(agent.contains("%") & ~agent.contains(" ")).then(sql(_AGENT, reads=[agent])).otherwise(agent)
