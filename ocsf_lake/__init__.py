"""The lake: raw objects in, OCSF events in partitioned Parquet out, each record once, and the means to query them."""
