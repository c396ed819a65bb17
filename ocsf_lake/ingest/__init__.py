"""Raw objects into the lake: planned, mapped, written and committed, batch by batch."""
