"""A lake as a page to look at: what is covered, late, refused, new, found, paid, and what to do next."""
