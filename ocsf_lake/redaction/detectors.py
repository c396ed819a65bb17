"""Detectors: values that are found by how they look, wherever they stand.

Secrets are those of `ocsf_mappers.secret_forms`, which messages are rid of too. What is about people is found only
where a policy asks for it: e-mail addresses and numbers of cards are what an investigation may look for.
"""

from __future__ import annotations

from collections.abc import Mapping

from ocsf_mappers.secret_forms import SECRETS, Form

_CARD_BEGINNINGS = (
    *(("4", length) for length in (13, 16, 19)),
    *((str(number), 16) for number in (*range(51, 56), *range(2221, 2721))),
    *((number, 15) for number in ("34", "37")),
    *((number, length) for number in ("6011", "644", "645", "646", "647", "648", "649", "65", "35", "62")
      for length in (16, 19)),
    *((number, 14) for number in ("300", "301", "302", "303", "304", "305", "36", "38", "39")),
)  # fmt: skip
"""First digits and length of the numbers that card schemes give out (ISO/IEC 7812)."""


def _digits(text: str) -> list[int]:
    return [int(letter) for letter in text if letter.isdigit()]


def is_card(text: str) -> bool:
    """Whether a number has the beginning, length and check digit (Luhn) of a payment card's."""
    digits = _digits(text)
    number = "".join(map(str, digits))
    doubled = [digit if place % 2 == 0 else digit * 2 - 9 * (digit > 4) for place, digit in enumerate(digits[::-1])]
    of_scheme = any(len(number) == length and number.startswith(first) for first, length in _CARD_BEGINNINGS)
    return of_scheme and sum(doubled) % 10 == 0


def _is_ssn(text: str) -> bool:
    """Whether the United States give out such a number."""
    area, group, serial = text[:3], text[4:6], text[7:]
    return area not in ("000", "666") and area < "900" and group != "00" and serial != "0000"


def _is_dni(text: str) -> bool:
    """Whether the letter of a Spanish DNI or NIE is right."""
    number = text.upper().replace("-", "")
    return "TRWAGMYFPDXBNJZSQVHLCKE"[int(number[:-1].translate(str.maketrans("XYZ", "012"))) % 23] == number[-1]


def _is_nir(text: str) -> bool:
    """Whether the key of a French NIR is right; Corsica's departments count as 19 and 18."""
    number = text.upper().replace(" ", "").replace("2A", "19", 1).replace("2B", "18", 1)
    return number.isdigit() and 97 - int(number[:13]) % 97 == int(number[13:])


def _is_cpf(text: str) -> bool:
    """Whether both check digits of a Brazilian CPF are right."""
    digits = _digits(text)
    for length in (9, 10):
        weighted = sum(digit * (length + 1 - place) for place, digit in enumerate(digits[:length]))
        if weighted * 10 % 11 % 10 != digits[length]:
            return False
    return len(set(digits)) > 1


PERSONAL: Mapping[str, tuple[Form, ...]] = {
    "email": (
        Form(
            "", r"[A-Za-z0-9._%+'-]+(?:@|%40)[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*\.[A-Za-z]{2,24}", "",
            "(?:@|%40)[A-Za-z0-9-]",
        ),
    ),
    "payment_card": (
        Form(
            "", r"\b(?:[0-9]{13,19}|[0-9]{4}[ -][0-9]{4}[ -][0-9]{4}[ -][0-9]{1,7}|[0-9]{4}[ -][0-9]{6}[ -][0-9]{5})\b",
            "", "[0-9]{13}|[0-9]{4}[ -][0-9]{4}", is_card,
        ),
    ),
    "us_ssn": (Form("", r"\b[0-9]{3}-[0-9]{2}-[0-9]{4}\b", "", "[0-9]{3}-[0-9]{2}-[0-9]{4}", _is_ssn),),
    "uk_nino": (
        Form("", r"\b(?i:[a-ceghj-prstw-z][a-ceghj-nprstw-z]) ?(?:[0-9]{2} ?){3}(?i:[a-d])\b", "",
             "(?:[0-9]{2} ?){3}[A-Da-d]"),
    ),
    "es_dni": (
        Form("", r"\b(?:[0-9]{8}|[XYZxyz]-?[0-9]{7})-?[A-Za-z]\b", "", "[0-9]{7}-?[A-Za-z]", _is_dni),
    ),
    "fr_nir": (
        Form("", r"\b[12] ?[0-9]{2} ?[0-9]{2} ?(?:[0-9]{2}|2[ABab]) ?[0-9]{3} ?[0-9]{3} ?[0-9]{2}\b", "",
             "[0-9]{3} ?[0-9]{3} ?[0-9]{2}", _is_nir),
    ),
    "it_codice_fiscale": (
        Form("", r"\b(?i:[a-z]{6}[0-9lmnp-v]{2}[abcdehlmprst][0-9lmnp-v]{2}[a-z][0-9lmnp-v]{3}[a-z])\b", "",
             "(?i:[a-z]{6}[0-9lmnp-v]{2}[a-z])"),
    ),
    "br_cpf": (
        Form("", r"\b[0-9]{3}\.[0-9]{3}\.[0-9]{3}-[0-9]{2}\b", "", r"[0-9]{3}\.[0-9]{3}-[0-9]{2}", _is_cpf),
    ),
}  # fmt: skip
"""Detectors of what is about people, by name."""

DETECTORS: Mapping[str, tuple[Form, ...]] = {**SECRETS, **PERSONAL}
GROUPS: Mapping[str, tuple[str, ...]] = {
    "secrets": tuple(SECRETS),
    "national_id": ("us_ssn", "uk_nino", "es_dni", "fr_nir", "it_codice_fiscale", "br_cpf"),
    **{name: (name,) for name in DETECTORS},
}
"""What `detect` may name, and the detectors that each is."""
