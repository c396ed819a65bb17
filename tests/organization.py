"""The CloudTrail of an invented organisation, as S3 delivers it: as many accounts, regions and days as wanted."""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

_RECORD = (
    '{{"eventVersion":"1.09","userIdentity":{{"type":"IAMUser","arn":"arn:aws:iam::{account}:user/ann","accountId":'
    '"{account}","userName":"ann"}},"eventTime":"{day}T{hour:02d}:{minute:02d}:{record:02d}Z","eventSource":'
    '"ec2.amazonaws.com","eventName":"DescribeInstances","awsRegion":"{region}","sourceIPAddress":"198.51.100.7",'
    '"eventID":"{number:08d}-{record:04d}-4000-8000-{account}","eventType":"AwsApiCall","recipientAccountId":"{account}"}}'
)
REGIONS = ("eu-west-1", "eu-central-1", "us-east-1", "us-west-2")
ORGANIZATION = "o-exampleorg1"


@dataclass(frozen=True)
class Organization:
    """How much there is of it.

    Args:
        accounts: So many, each with a trail in each region.
        regions: At most four.
        first: First day.
        days: So many.
        objects: Of an account in a region on a day.
        records: In an object.
    """

    accounts: int
    regions: int
    first: date
    days: int
    objects: int
    records: int = 2

    @property
    def last(self) -> date:
        """The last day."""
        return self.first + timedelta(days=self.days - 1)

    @property
    def of_objects(self) -> int:
        """How many objects there are."""
        return self.accounts * self.regions * self.days * self.objects

    @property
    def of_records(self) -> int:
        """How many records there are, no two alike."""
        return self.of_objects * self.records

    def write(self, root: Path) -> Path:
        """Writes all of it below a folder; gives the folder."""
        number = 0
        for day in (self.first + timedelta(days=step) for step in range(self.days)):
            for account in (f"{1_000_000 + step:012d}" for step in range(self.accounts)):
                for region in REGIONS[: self.regions]:
                    place = f"AWSLogs/{ORGANIZATION}/{account}/CloudTrail/{region}/{day:%Y/%m/%d}"
                    folder = root / place
                    folder.mkdir(parents=True, exist_ok=True)
                    for step in range(self.objects):
                        number += 1
                        hour, minute = divmod(step * 1439 // self.objects, 60)
                        records = (
                            _RECORD.format(
                                account=account, region=region, day=day, hour=hour, minute=minute, number=number,
                                record=record,
                            )
                            for record in range(self.records)
                        )  # fmt: skip
                        stamp = f"{day:%Y%m%d}T{hour:02d}{minute:02d}Z"
                        name = f"{account}_CloudTrail_{region}_{stamp}_{number:016d}.json.gz"
                        text = f'{{"Records":[{",".join(records)}]}}'
                        (folder / name).write_bytes(gzip.compress(text.encode(), 1, mtime=0))
        return root
