"""What a user writes with the package: no test, `make types` reads it, and its types have to be those of the face."""

from __future__ import annotations

import ocsf_lake

lake: ocsf_lake.Lake = ocsf_lake.open("x", writable=True, workers=2)
number: int = len(lake.sql("SELECT $a", a=1))
done: ocsf_lake.Result = lake.backfill("s", "u", since="d", until="d")
events: list[dict[str, object]] = list(ocsf_lake.map("f"))
lake.backfill("s", "u", since="d", until="d", dry_run=True).objects  # noqa: B018
