"""Tables are whole wherever they are printed: on a terminal of any width, into a file, through a pipe."""

import io
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from bench import report
from leadstream import console as show
from leadstream.evaluation import backtest_report as backtest_told
from leadstream.evaluation import experiment_report as experimenting
from leadstream.evaluation import what_if_report as whatif_told
from scoring.experiments.experiment_text import built_in_experiments_by_name

COLUMNS = ("model", "chosen", "converted", "precision", "95%", "recall", "x chance", "AUC")
ROWS = [
    ("temperature, the one of the expo", "1,250", "312.5", "25.0%", "22.7-27.5%", "61.2%", "3.41", "0.787"),
    ("by chance", "", "91.6", "7.3%", "", "", "1.00", "0.500"),
]
WIDTHS = (None, 20, 40, 80, 100, 200)
"""None: no terminal."""


@pytest.fixture
def printed(monkeypatch: pytest.MonkeyPatch):
    """Calls something, and returns what it prints at a width."""

    def run(width: int | None, work) -> str:
        file = io.StringIO()
        for name in ("out", "err"):
            monkeypatch.setattr(
                show,
                name,
                Console(file=file, force_terminal=width is not None, width=width or 80, color_system=None),
            )
        work()
        return file.getvalue()

    return run


@pytest.mark.parametrize("width", WIDTHS)
def test_every_cell_is_printed_whole_beside_or_below_its_name(printed, width):
    told = printed(width, lambda: show.print_table("Chosen", COLUMNS, ROWS, "lrrrrrrr"))
    assert "…" not in told
    lines = told.splitlines()
    assert all(any(cell in line for line in lines) for row in ROWS for cell in row)
    for name in COLUMNS:
        assert all(word in told for word in name.split())
    if width is None:
        assert [re.split(r"\s{2,}", line.strip()) for line in lines[1:3]] == [list(COLUMNS), list(ROWS[0])]


@pytest.mark.parametrize("width", [80, 100, 200])
def test_a_table_that_fits_stays_a_table(printed, width):
    told = printed(width, lambda: show.print_table("", COLUMNS[:4], [row[:4] for row in ROWS], "lrrr"))
    assert "│" in told
    assert max(map(len, told.splitlines())) <= width


@given(
    st.lists(st.lists(st.text(max_size=30), min_size=3, max_size=3), max_size=4),
    st.sampled_from(WIDTHS),
)
def test_no_text_is_cut_whatever_is_in_it(rows, width):
    file = io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        console = Console(file=file, force_terminal=width is not None, width=width or 80, color_system=None)
        patch.setattr(show, "out", console)
        show.print_table("A title", ("first", "", "third"), rows, "lrl")
    told = file.getvalue()
    for cell in (cell for row in rows for cell in row):
        assert show.one_line(cell).strip() in told


RESULT = {
    "conversion": "purchase_made",
    "every_days": 30.0,
    "horizon_days": 30.0,
    "capacity": 50,
    "more_converted_than": {"rules": 7.25},
    "pooled": {
        name: {
            "leads": 12_345,
            "converted": 678,
            "conversion_rate": 0.0549,
            "auc": auc,
            "capacity": {
                "chosen": 150,
                "converted": 77.5,
                "converted_by_chance": 8.2,
                "precision": 0.5167,
                "interval": (0.4377, 0.5949),
                "recall": 0.1143,
                "times_chance": 9.45,
            },
            "deciles": [
                {
                    "decile": number,
                    "leads": 1_234,
                    "converted": 67.8,
                    "conversion_rate": 0.0549,
                    "interval": (0.0437, 0.0691),
                    "lift": 1.23,
                    "gain": 0.987,
                }
                for number in range(1, 11)
            ],
        }
        for name, auc in (("a_model_with_a_long_name.toml", 0.8765), ("rules", 0.5432))
    },
}


@pytest.mark.parametrize("width", WIDTHS)
def test_a_backtest_tells_its_auc_at_every_width(printed, width):
    told = printed(width, lambda: backtest_told.print_backtest({**RESULT, "cutoffs": []}))
    assert "…" not in told
    assert "0.876" in told or "0.877" in told
    assert "0.543" in told
    assert "43.8-59.5%" in told
    assert told.count("4.4-6.9%") == 20
    assert told.count("98.7%") == 20


@pytest.mark.parametrize("width", WIDTHS)
def test_other_tables_are_whole_too(printed, width):
    movers = [
        {
            "name": "Ahmad Rezaei of the expo in Dubai",
            "lead_id": "x",
            "before": 12.5,
            "after": 98.75,
            "bands": [{"from": "cold", "to": "burning"}],
            "lines": [
                {
                    "points": 86.25,
                    "rule": "A rule with many words in its name",
                    "group": "g",
                    "kind": "points",
                }
            ],
        }
    ]
    told = printed(width, lambda: whatif_told._print_movers(movers))
    assert "…" not in told
    for text in (
        "Ahmad Rezaei of the expo in Dubai",
        "98.75",
        "cold to burning",
        "+86.25 A rule with many words",
    ):
        assert text in told
    told = printed(width, lambda: experimenting.print_experiments(built_in_experiments_by_name()))
    assert "…" not in told
    assert all(experiment.about in told for experiment in built_in_experiments_by_name().values())
    columns = (
        "",
        "events/s",
        "acknowledged p50",
        "p99",
        "visible p50",
        "p99",
        "sent again",
        "cores",
        "kept up",
    )
    row = ("embedded", "5,000", "12", "345", "67", "8,901", "23", "1.98", "no: 42 s behind, 17 missing")
    told = printed(
        width,
        lambda: report.print_results("From an event to its score, over HTTP", columns, [row], ["A note."]),
    )
    assert "…" not in told
    assert all(cell in told for cell in row)
    assert "A note." in told
