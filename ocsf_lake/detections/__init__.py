"""Rules on the lake, and what they find.

`rules` reads Sigma files; `backend` makes trees of their conditions over `places`, which are where `logs` and `inverse`
say that members of raw records stand; `dialects` spells trees as SQL; `statements` and `correlations` make queries of
them, and `scan` asks those of a lake. `check` finds rules that cannot match: it holds `alternatives` of their
conditions against `operations` and `facts`, and tries each on a record that `inject` makes. `pack` has the rules that
come along.
"""
