from __future__ import annotations

import csv
import io
import json
import sys

import pytest

from ocsf_lake.cli import output, terminal
from ocsf_lake.text import Lines
from ocsf_mappers import shown


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
    output.print_table(columns, [range(9), Lines(["x"] * 9)])
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["column_0  0", "column_1  1"]
    assert max(map(len, lines)) < 40


def test_csv_on_a_terminal_spells_control_characters_out(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    output.print_csv(["x"], [["\x1b[2J"]])
    assert capsys.readouterr().out == "x\n\\x1b[2J\n"


@pytest.mark.parametrize("direct", [True, False])
def test_csv_has_no_formula_and_nothing_that_steers_wherever_it_goes(
    direct: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: direct)
    texts = ["=1+1", "+cmd", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "\uff1d1"]
    texts += ["-5", "+1.5e3", "-", "a=b", "", "\x1b[2Jx", "\x9b\u202e", "a\rb"]
    output.print_csv(["=x", "n"], [[value, -5] for value in texts])
    out = capsys.readouterr().out
    rows = list(csv.reader(io.StringIO(out)))
    tab = r"\t" if direct else "\t"
    assert [row[0] for row in rows] == [
        "'=x", "'=1+1", "'+cmd", "'-2+3", "'@SUM(A1)", f"'{tab}=1", r"'\r=1", "'\uff1d1",
        "-5", "+1.5e3", "-", "a=b", "", r"\x1b[2Jx", r"\x9b\u202e", r"a\rb",
    ]  # fmt: skip
    assert {row[1] for row in rows[1:]} == {"-5"}
    assert not set(out) & set(map(chr, shown.STEERING)) - {"\n", "\t"}


def test_lines_within_a_cell_stay_in_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_csv(["x"], [["one\ntwo\tthree"]])
    assert capsys.readouterr().out == 'x\n"one\ntwo\tthree"\n'


def test_json_lines_mean_the_same_and_steer_nothing(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    value = {"x": "".join(map(chr, shown.STEERING)) + "Zo\u00eb \u96ea"}
    output.print_json_lines([json.dumps(value, ensure_ascii=False).encode(), b'{"a":1}'])
    first, second = capfdbinary.readouterr().out.decode().splitlines()
    assert json.loads(first) == value
    assert second == '{"a":1}'
    assert not set(first) & set(map(chr, shown.STEERING))
    assert "Zo\u00eb \u96ea" in first
