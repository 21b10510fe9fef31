"""Prints the report of a backtest: how much better than chance each model's best leads were.

It only lays out text and tables; the report has every number already.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from leadstream.console import print_facts, print_line, print_status, print_table, print_warning

ENOUGH_CONVERSIONS = 10
"""Conversions; with fewer, chance decides."""

BacktestResult = Mapping[str, Any]


def print_backtest(result: BacktestResult) -> None:
    pooled = result["pooled"]
    names = list(pooled)
    first = pooled[names[0]]
    print_facts(
        "Backtest",
        {
            "Conversion": result["conversion"],
            "Cutoffs": len(result["cutoffs"]),
            "Every": f"{result['every_days']:g} days",
            "Horizon": f"{result['horizon_days']:g} days",
            "Leads ranked, over all cutoffs": first["leads"],
            "Of them converted": f"{first['converted']:,} ({_percent_text(first['conversion_rate'])})",
        },
    )
    _warn_of_limits(result, names[0])
    _print_choice(result, names)
    for name in names:
        _print_deciles(name, pooled[name])
    _print_cutoffs(result["cutoffs"], names, result["capacity"])
    print_status(
        "Leads with equal scores have no order: every figure is the mean over all of their orders. Intervals are "
        "Wilson's 95%, and take leads as independent; a lead is ranked again at each cutoff."
    )


def _warn_of_limits(result: BacktestResult, name: str) -> None:
    without_choice = [
        cutoff for cutoff in result["cutoffs"] if cutoff["models"][name]["leads"] <= result["capacity"]
    ]
    if without_choice:
        print_warning(
            f"At {len(without_choice)} of {len(result['cutoffs'])} cutoffs there are no more leads than --capacity: all leads "
            "are chosen there, so no model can differ from chance. Use a smaller one."
        )
    converted = result["pooled"][name]["converted"]
    if converted < ENOUGH_CONVERSIONS:
        print_warning(
            f"Only {converted} leads converted: chance decides between models. Let more time pass, or name a more frequent "
            "event with --conversion."
        )
    if result["horizon_days"] > result["every_days"]:
        print_warning(
            "The horizon is longer than --every: one conversion counts at several cutoffs, and the intervals are "
            "narrower than they should be."
        )


def _print_choice(result: BacktestResult, names: Sequence[str]) -> None:
    chosen = result["pooled"][names[0]]["capacity"]
    by_chance, most = chosen["converted_by_chance"], max(chosen["chosen"], 1)
    rows = [_choice_row(name, result["pooled"][name]) for name in names]
    rows.append(
        ("by chance", "", f"{by_chance:.1f}", _percent_text(by_chance / most), "", "", "1.00", "0.500")
    )
    columns = ("model", "chosen", "converted", "precision", "95%", "recall", "x chance", "AUC")
    print_table(f"The first {result['capacity']} at each cutoff", columns, rows, "lrrrrrrr")
    for name, more in result["more_converted_than"].items():
        print_line(_comparison(names[0], name, more))


def _comparison(name: str, other: str, more: float) -> str:
    if f"{abs(more):.1f}" == "0.0":
        return f"{name} finds as many conversions as {other}."
    return f"{name} finds {abs(more):.1f} conversions {'more' if more > 0 else 'fewer'} than {other}."


def _choice_row(name: str, figures: BacktestResult) -> tuple[str, ...]:
    chosen = figures["capacity"]
    return (
        name,
        f"{chosen['chosen']:,}",
        f"{chosen['converted']:.1f}",
        _percent_text(chosen["precision"]),
        _interval_text(chosen["interval"]),
        _percent_text(chosen["recall"]),
        _times_text(chosen["times_chance"]),
        _share_text(figures["auc"]),
    )


def _print_deciles(name: str, figures: BacktestResult) -> None:
    rows = [
        (
            str(tenth["decile"]),
            f"{tenth['leads']:,}",
            f"{tenth['converted']:.1f}",
            _percent_text(tenth["conversion_rate"]),
            _interval_text(tenth["interval"]),
            _times_text(tenth["lift"]),
            _percent_text(tenth["gain"]),
        )
        for tenth in figures["deciles"]
    ]
    columns = ("tenth", "leads", "converted", "rate", "95%", "lift", "of all so far")
    print_table(f"{name}: by tenths, the highest scores first", columns, rows, "rrrrrrr")


def _print_cutoffs(cutoffs: Sequence[BacktestResult], names: Sequence[str], capacity: int) -> None:
    rows = []
    for cutoff in cutoffs:
        figures = cutoff["models"]
        first = figures[names[0]]
        converted = [f"{figures[name]['capacity']['converted']:.1f}" for name in names]
        rows.append(
            (f"{cutoff['at']:%Y-%m-%d %H:%M}", f"{first['leads']:,}", f"{first['converted']:,}", *converted)
        )
    columns = ("cutoff", "leads", "converted", *(f"of the first {capacity}, {name}" for name in names))
    print_table("At each cutoff", columns, rows, "l" + "r" * (len(columns) - 1))


def _percent_text(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f}%"


def _share_text(share: float | None) -> str:
    return "-" if share is None else f"{share:.3f}"


def _times_text(times: float | None) -> str:
    return "-" if times is None else f"{times:.2f}"


def _interval_text(interval: Sequence[float] | None) -> str:
    return "-" if interval is None else f"{100 * interval[0]:.1f}-{100 * interval[1]:.1f}%"
