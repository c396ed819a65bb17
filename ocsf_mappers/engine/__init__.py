"""Programs run over raw records."""
