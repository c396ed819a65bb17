"""The lake in Python: what `import ocsf_lake` offers. The names to use are those of `ocsf_lake.__all__`."""
