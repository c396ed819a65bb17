"""Invented GuardDuty findings, one a line, as an export to S3 writes them.

They are the findings of `sample_logs/aws_guardduty`, one kind after the other, with other ids, times, accounts,
regions, addresses and resources. A finding is rendered from text: what varies is found once in each sample and
replaced by what is drawn, the same throughout a finding.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path

from bench.cloudtrail import FIRST_DAY

SAMPLES = Path(__file__).parents[1] / "sample_logs" / "aws_guardduty"
CASES = (
    "ec2_network_connection", "ec2_dns_request", "ec2_port_probe", "iam_api_call", "s3", "eks_kubernetes", "runtime",
    "malware_scans", "rds_login", "lambda", "bedrock", "attack_sequence",
)  # fmt: skip
FILE_WINDOW_SECONDS = 900
_ACCOUNT, _REGION = "123456789012", "eu-west-1"
_TIME = re.compile(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d(?=(\.\d+)?Z)")
_VARIES = re.compile(
    rf"(?P<time>{_TIME.pattern})|(?P<account>{_ACCOUNT})|(?P<region>{_REGION})"
    r"|(?P<public>\b(?:192\.0\.2|198\.51\.100|203\.0\.113)\.\d{1,3}\b)|(?P<private>\b10(?:\.\d{1,3}){3}\b)"
    r"|(?P<thing>\b(?:i|eni|vpc|subnet|sg|vol|snap|ami)-0[0-9a-f]{3,}\b)"
)


@cache
def _samples() -> list[tuple[str, list[tuple[str, str]], datetime]]:
    """Of each sample finding: its id, its text in turns of what stays and what varies, its last time."""
    samples = []
    for case in CASES:
        for sample in map(json.loads, (SAMPLES / f"{case}.jsonl").read_text().splitlines()):
            line = json.dumps(sample, separators=(",", ":"), ensure_ascii=False)  # as AWS writes it
            pieces, end = [], 0
            for match in _VARIES.finditer(line):
                pieces.append((line[end : match.start()], f"{match.lastgroup}:{match.group()}"))
                end = match.end()
            pieces.append((line[end:], ""))
            last = max(datetime.fromisoformat(f"{match.group()}+00:00") for match in _TIME.finditer(line))
            samples.append((sample["id"], pieces, last))
    return samples


def lines(seed: str, count: int, account: str, region: str, start_second: int) -> Sequence[str]:
    """The lines of one file.

    Args:
        seed: The same seed and place give the same text.
        count: Findings to make.
        account: Account the file belongs to.
        region: Region of the findings.
        start_second: Where the file's window begins, in seconds since the first day.
    """
    rng, samples = random.Random(seed), _samples()
    place = random.Random(f"{account}/{region}/things")
    things = [f"{place.getrandbits(64):016x}" for _ in range(400)]  # the same account has the same in every file
    out = []
    for number in range(count):
        uid, pieces, last = samples[number % len(samples)]
        moment = FIRST_DAY + timedelta(seconds=start_second + rng.randrange(FILE_WINDOW_SECONDS))
        drawn = {"": "", f"account:{_ACCOUNT}": account, f"region:{_REGION}": region}
        text = []
        for stays, varies in pieces:
            if varies not in drawn:
                drawn[varies] = _draw(varies, rng, things, moment - last)
            text += [stays, drawn[varies]]
        out.append("".join(text).replace(uid, f"{rng.getrandbits(128):032x}"))
    return out


def _draw(varies: str, rng: random.Random, things: list[str], later: timedelta) -> str:
    kind, _, value = varies.partition(":")
    if kind == "time":
        return f"{datetime.fromisoformat(f'{value}+00:00') + later:%Y-%m-%dT%H:%M:%S}"
    if kind == "public":
        return f"{value.rpartition('.')[0]}.{rng.randrange(1, 255)}"
    if kind == "private":
        return f"10.{rng.randrange(12)}.{rng.randrange(64)}.{rng.randrange(4, 255)}"
    return f"{value.partition('-')[0]}-0{rng.choice(things)}"
