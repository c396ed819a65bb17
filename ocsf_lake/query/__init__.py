"""The lake as SQL, for those who may only read."""
