"""What logs of HTTP requests have in common: methods as OCSF has them, and how a request line is cut."""

HTTP_ACTIVITIES = {
    "CONNECT": "Connect",
    "DELETE": "Delete",
    "GET": "Get",
    "HEAD": "Head",
    "OPTIONS": "Options",
    "POST": "Post",
    "PUT": "Put",
    "TRACE": "Trace",
}
"""Method -> activity of HTTP Activity, of those that OCSF knows in every version; PATCH came with 1.8.0."""

URL = (
    r"(?P<url>(?P<scheme>[A-Za-z]+)://(?P<host>\[[^\]]*\]|[^/:?]*)(?::(?P<port>\d+))?(?P<path>/[^?]*)?"
    r"(?:\?(?P<query>.*))?|(?P<own_path>/[^?]*)(?:\?(?P<own_query>.*))?|.*)"
)
REQUEST_LINE = rf"(?P<method>[^\s-]\S*) {URL} (?P<http_version>\S+)"
"""For `parts` of a reader: method, whole URL and its parts (`own_path`, `own_query` of one that begins with a path), and
version. The URL may hold blanks and quotes. What says that there was no request, such as `- - - `, does not fit."""

REQUEST_COLUMNS = "method url scheme host port path query own_path own_query http_version"
"""The columns that `REQUEST_LINE` gives."""
