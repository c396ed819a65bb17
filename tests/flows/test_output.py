from __future__ import annotations

import sys

import pytest

from flows import output, terminal


@pytest.mark.parametrize(
    ("number", "shown"),
    [(0, "0 B"), (999, "999 B"), (1_000, "1.0 kB"), (9_960, "10 kB"), (247_015, "247 kB"), (2_500_000_000, "2.5 GB")],
)
def test_sizes_are_short(number: int, shown: str) -> None:
    assert terminal.size(number) == shown


def test_what_steers_a_terminal_is_spelled_out() -> None:
    assert terminal.escaped("a\x1b[0m\x07\x9b\u202eb\tc\r\n") == r"a\x1b[0m\x07\x9b\u202eb\tc\r\n"


def test_other_text_stays() -> None:
    assert terminal.escaped("Zoë 雪 'x' \\n") == "Zoë 雪 'x' \\n"


def test_a_table_that_does_not_fit_is_printed_upright(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    columns = [f"column_{number}" for number in range(9)]
    output.print_table(columns, [range(9), output.Lines(["x"] * 9)])
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["column_0  0", "column_1  1"]
    assert max(map(len, lines)) < 40


def test_csv_on_a_terminal_spells_control_characters_out(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    output.print_csv(["x"], [["\x1b[2J"]])
    assert capsys.readouterr().out == "x\n\\x1b[2J\n"
