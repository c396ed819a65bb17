"""Requests to Amazon OpenSearch signed with AWS's Signature Version 4, by botocore.

https://docs.aws.amazon.com/opensearch-service/latest/developerguide/request-signing.html
https://docs.aws.amazon.com/opensearch-service/latest/developerguide/serverless-clients.html
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from ocsf_mappers.errors import ConfigError

SERVICES = ("es", "aoss")
"""Amazon OpenSearch Service, and its Serverless."""
_REGION = re.compile(r"[a-z]{2,}(-[a-z]+)+-\d+")
_FORM = (
    "--sign takes es (Amazon OpenSearch Service) or aoss (Serverless), and where the host says no region es:REGION"
)
HIDDEN = "[hidden]"


@dataclass(frozen=True)
class Signer:
    """Signs requests as the credentials in force allow.

    Args:
        service: One of `SERVICES`.
        region: Region of the domain or collection.
        credentials: botocore's, which get new ones in time where they end.
    """

    service: str
    region: str
    credentials: Any

    def headers(self, method: str, url: str, body: bytes, content: str) -> dict[str, str]:
        """The headers of a request, its own type of content among them; they count for some minutes.

        Raises:
            ConfigError: There are no credentials any more.
        """
        from botocore.auth import SigV4Auth
        from botocore.awsrequest import AWSRequest
        from botocore.exceptions import BotoCoreError

        # Serverless wants the hash as a header, Service takes it.
        given = {"Content-Type": content, "X-Amz-Content-SHA256": hashlib.sha256(body).hexdigest()}
        request = AWSRequest(method, url, headers=given, data=body)
        try:
            SigV4Auth(self.credentials.get_frozen_credentials(), self.service, self.region).add_auth(request)
        except BotoCoreError as error:
            raise ConfigError(f"requests cannot be signed: {type(error).__name__}") from None
        return dict(request.headers.items())

    def without_secrets(self, text: str) -> str:
        """An answer without the session's token, which AWS repeats when it refuses a signature."""
        token = self.credentials.get_frozen_credentials().token
        return text.replace(token, HIDDEN) if token else text


def signer(asked: str, root: str) -> Signer:
    """The signer of a domain or collection.

    Args:
        asked: `es` or `aoss`, and perhaps a colon and the region.
        root: Its URL.

    Raises:
        ConfigError: It is none of them, the region is not known, or there are no credentials.
    """
    from botocore.exceptions import BotoCoreError
    from botocore.session import get_session

    service, _, region = asked.partition(":")
    region = region or _region_of(root)
    if service not in SERVICES or (region and not _REGION.fullmatch(region)):
        raise ConfigError(_FORM)
    if not region:
        raise ConfigError(f"{root} does not say its region: --sign {service}:REGION")
    try:
        credentials = get_session().get_credentials()
    except BotoCoreError as error:
        raise ConfigError(f"requests cannot be signed: {error}") from error
    if credentials is None:
        raise ConfigError("requests cannot be signed: there are no AWS credentials, in the environment or by a role")
    return Signer(service, region, credentials)


def _region_of(root: str) -> str:
    """The region in the name of a host of AWS's, empty where there is none."""
    host = urlsplit(root).hostname or ""
    if not host.endswith((".amazonaws.com", ".amazonaws.com.cn", ".on.aws")):
        return ""
    return next((step for step in host.split(".") if _REGION.fullmatch(step)), "")
