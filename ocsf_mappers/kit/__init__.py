"""Beginnings: a source proposed from real records, and OCSF to look things up in."""
