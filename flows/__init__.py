"""The command line, and the flows that run on a schedule: thin wrappers over plain functions of lake/."""
