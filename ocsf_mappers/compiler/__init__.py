"""A mapper and an OCSF version, compiled to a program."""
