"""Tests that anybody's source can have: its samples mapped, and what every mapper promises checked with them.

Three lines in a file beside the source are enough:

    from ocsf_mappers.testing import conform

    def test_acme_proxy():
        conform("mappers/acme_proxy")
"""

from ocsf_mappers.testing.conformance import Report, check, conform, line_of, samples_of
from ocsf_mappers.testing.samples import Case, cases_in

__all__ = ["Case", "Report", "cases_in", "check", "conform", "line_of", "samples_of"]
