"""`python -m ocsf_lake` is `ocsf-lake`."""

from ocsf_lake.cli.main import entry_point

if __name__ == "__main__":
    entry_point()
