"""What a mapper is written with: expressions, event maps, records, and what is checked when they are imported."""
