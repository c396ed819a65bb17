"""`python -m ocsf_lake` is `ocsf-lake`."""

from ocsf_lake.cli.main import main

if __name__ == "__main__":
    main()
