"""What a policy is written with: one rule says what is hidden, where, and how."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator, model_validator

from ocsf_lake.redaction import members
from ocsf_lake.redaction.detectors import GROUPS
from ocsf_mappers.errors import nearest
from ocsf_mappers.secret_forms import CREDENTIAL_END, CREDENTIAL_NAME

Action = Literal["mask", "drop", "hash"]
Account = Annotated[str, StringConstraints(pattern="^[0-9]{12}$")]


class Rule(BaseModel):
    """One rule of a policy.

    Args:
        name: Stands in what takes a value's place, and where values are counted.
        path: OCSF path of an attribute or object, or of a member of the source's records.
        member: JSON path of members inside JSON texts: those at `path`, or in any text of an event.
        detect: Name of a detector or of a group of them: in texts at `path`, or in any.
        action: `mask` leaves the rule's name, `drop` nothing, `hash` a keyed hash.
        sources: Only in logs of these sources; in all without.
        accounts: Only in events of these accounts; of all without.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern="^[a-z][a-z0-9_-]{0,39}$")
    path: str | None = Field(None, pattern=r"^[A-Za-z_][\w-]*(\.[^.\s]+)*$")
    member: str | None = None
    detect: str | None = None
    action: Action = "mask"
    sources: tuple[str, ...] = ()
    accounts: tuple[Account, ...] = ()

    @field_validator("member")
    @classmethod
    def _json_path(cls, member: str | None) -> str | None:
        if member is not None:
            members.steps(member)
        return member

    @field_validator("detect")
    @classmethod
    def _detector(cls, detect: str | None) -> str | None:
        if detect is not None and detect not in GROUPS:
            raise ValueError(f"no detector {detect!r}; there are {', '.join(GROUPS)}{nearest(detect, GROUPS)}")
        return detect

    @model_validator(mode="after")
    def _something(self) -> Rule:
        if not (self.path or self.member or self.detect):
            raise ValueError(f"rule {self.name!r} names none of path, member, detect")
        if self.member and self.detect:
            raise ValueError(f"rule {self.name!r} has a member and a detector; make two rules of it")
        return self


MEMBERS = (
    "passwords", "passwordData", "secretString", "secretBinary", "clientSecretValue", "sharedSecret", "appSecret",
    "webhookSecret", "apiKeySecret", "serviceCredentialSecret", "api_key", "apiKeyValue", "preSharedKey",
    "privateKeyPlaintext", "keyMaterial", "hostKeyBody", "sseCustomerKey", "idToken", "joinToken",
    "authenticationToken", "authorizationToken", "webIdentityToken", "basicAuthCredentials", "samlAssertion",
    "x-amz-signature", "api-key", "base32StringSeed", "qrCodePng", "secretCode", "secretHash", "secret_hash",
    "secretToken", "signinToken", "tokenValue", "cliToken", "webToken", "subjectToken", "identityToken", "tradeInToken",
    "workloadIdentityToken", "authCode", "authorizationCode", "codeVerifier", "activationCode", "streamKey",
    "secretToAuthenticateInitiator", "secretToAuthenticateTarget", "x-amz-server-side-encryption-customer-key",
    "x-amz-copy-source-server-side-encryption-customer-key", "copySourceSseCustomerKey", "platformCredential",
)
"""Members, in whatever JSON and however deep, whose texts are credentials though they have not the form of
`CREDENTIAL_NAME`: those that AWS's services and Kubernetes have under these names, among them those that AWS's own
descriptions of its services mark as sensitive. Names that only contain one (`secretId`, `clientToken`,
`passwordResetRequired`) are not."""

CREDENTIALS = "credentials"
"""Name of the rule that hides `MEMBERS`, and members with names of the form of credentials."""


def members_pattern() -> str:
    """A pattern for any of `MEMBERS`, and for names of their form."""
    return f"(?:{_any_of(MEMBERS)}|{CREDENTIAL_NAME})"


def other_members_pattern() -> str:
    """A pattern for the ends of those of them that do not end as `CREDENTIAL_END` has it."""
    names = {name.lower() for name in MEMBERS if not re.search(f"{CREDENTIAL_END}$", name)}
    return _any_of(sorted(name for name in names if not any(name.endswith(one) for one in names - {name})))


def _any_of(names: Sequence[str]) -> str:
    return f"(?i:{'|'.join(re.escape(name) for name in names)})"
