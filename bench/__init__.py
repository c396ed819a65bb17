"""Benchmark: the same logs through our engine, through what a user would write by hand, and through a floor.

Run it with `python -m bench`; nothing here is installed with the project.
"""
