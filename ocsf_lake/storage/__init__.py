"""Bytes by name: file systems, S3, the layout of a lake, the form of its Parquet files."""
