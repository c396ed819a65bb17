"""Events of the lake into custom sources of Amazon Security Lake."""
