"""Rules on the lake, and what they find.

`rules` reads Sigma files; `backend` makes trees of their conditions over `places`, which are where `logs` and
`inverse` say that members of raw records stand; `dialects` spells trees as SQL, which `asked` has as data and
`compiled` keeps; `statements`, `windows` and `correlations` make queries of it, `connections` shows what they read.
`scan` asks a lake, `grouped` for findings, and `collect` reads the events of rules that count once for all of them.
`check` finds rules that cannot match: it holds `alternatives` of their conditions against `operations` and `facts`,
and tries each on a record that `inject` makes. `pack` has the rules that come along.
"""
