"""The catalogs, which queries read: the local one, AWS Glue, Apache Iceberg; what they have in common is in `base`."""
