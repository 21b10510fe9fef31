"""What a backtest found, for people: how much better than chance the best leads were, per model.

Only words and columns; every number is in the result already.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.markup import escape
from rich.table import Table

from leadstream.show import out, rows, say, warn

Told = Mapping[str, Any]


def tell(result: Told) -> None:
    pooled = result["pooled"]
    names = list(pooled)
    first = pooled[names[0]]
    rows(
        "Backtest",
        {
            "Conversion": result["conversion"],
            "Cutoffs": len(result["cutoffs"]),
            "Every": f"{result['every_days']:g} days",
            "Horizon": f"{result['horizon_days']:g} days",
            "Leads ranked, over all cutoffs": first["leads"],
            "Of them converted": f"{first['converted']:,} ({_percent(first['conversion_rate'])})",
        },
    )
    _tell_limits(result, names[0])
    _tell_choice(result, names)
    for name in names:
        _tell_deciles(name, pooled[name])
    _tell_cutoffs(result["cutoffs"], names, result["capacity"])
    say(
        "Leads of equal scores count as in no order: every figure is the mean over all of their orders. Intervals are "
        "Wilson's 95%, and take leads for independent; a lead is ranked anew at each cutoff."
    )


def _tell_limits(result: Told, name: str) -> None:
    everybody = [
        cutoff for cutoff in result["cutoffs"] if cutoff["models"][name]["leads"] <= result["capacity"]
    ]
    if everybody:
        warn(
            f"At {len(everybody)} of {len(result['cutoffs'])} cutoffs there are no more leads than --capacity: everybody "
            "is chosen there, which tells no model from chance. Give a smaller one."
        )
    if result["horizon_days"] > result["every_days"]:
        warn(
            "The horizon is longer than --every: one conversion counts at several cutoffs, and the intervals are "
            "narrower than they ought to be."
        )


def _tell_choice(result: Told, names: Sequence[str]) -> None:
    table = Table(title=f"The first {result['capacity']} at each cutoff", title_justify="left")
    table.add_column("model", no_wrap=True)
    for column in ("chosen", "converted", "precision", "95%", "recall", "x chance", "AUC"):
        table.add_column(column, justify="right", no_wrap=True)
    for name in names:
        told = result["pooled"][name]
        chosen = told["capacity"]
        table.add_row(
            escape(name),
            f"{chosen['chosen']:,}",
            f"{chosen['converted']:.1f}",
            _percent(chosen["precision"]),
            _between(chosen["interval"]),
            _percent(chosen["recall"]),
            _times(chosen["times_chance"]),
            _share(told["auc"]),
        )
    chosen = result["pooled"][names[0]]["capacity"]
    blind, most = chosen["converted_by_chance"], max(chosen["chosen"], 1)
    table.add_row("by chance", "", f"{blind:.1f}", _percent(blind / most), "", "", "1.00", "0.500")
    out.print(table)
    for name, more in result["more_converted_than"].items():
        out.print(
            f"{names[0]} finds {abs(more):.1f} conversions {'more' if more >= 0 else 'fewer'} than {name}.",
            markup=False,
        )


def _tell_deciles(name: str, told: Told) -> None:
    table = Table(title=f"{escape(name)}: by tenths, the highest scores first", title_justify="left")
    for column in ("tenth", "leads", "converted", "rate", "95%", "lift", "of all so far"):
        table.add_column(column, justify="right", no_wrap=True)
    for tenth in told["deciles"]:
        table.add_row(
            str(tenth["decile"]),
            f"{tenth['leads']:,}",
            f"{tenth['converted']:.1f}",
            _percent(tenth["conversion_rate"]),
            _between(tenth["interval"]),
            _times(tenth["lift"]),
            _percent(tenth["gain"]),
        )
    out.print(table)


def _tell_cutoffs(cutoffs: Sequence[Told], names: Sequence[str], capacity: int) -> None:
    table = Table(title="At each cutoff", title_justify="left")
    table.add_column("cutoff")
    for column in ("leads", "converted"):
        table.add_column(column, justify="right")
    for name in names:
        table.add_column(f"of the first {capacity}\n{escape(name)}", justify="right")
    for cutoff in cutoffs:
        told = cutoff["models"]
        first = told[names[0]]
        found = [f"{told[name]['capacity']['converted']:.1f}" for name in names]
        table.add_row(
            f"{cutoff['at']:%Y-%m-%d %H:%M}", f"{first['leads']:,}", f"{first['converted']:,}", *found
        )
    out.print(table)


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f}%"


def _share(share: float | None) -> str:
    return "-" if share is None else f"{share:.3f}"


def _times(times: float | None) -> str:
    return "-" if times is None else f"{times:.2f}"


def _between(interval: Sequence[float] | None) -> str:
    return "-" if interval is None else f"{100 * interval[0]:.1f}-{100 * interval[1]:.1f}%"
