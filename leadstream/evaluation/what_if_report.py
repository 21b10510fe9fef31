"""Prints the result of a what-if: which leads would move, between which bands, which thresholds would fire.

It only lays out text and tables; the result has every number already.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from leadstream.console import print_facts, print_line, print_status, print_table, print_warning

BAR_CHARACTERS = 30
"""The longest bar of a histogram, in characters."""
MOVERS_SHOWN = 10
LINES_SHOWN = 3

WhatIfResult = Mapping[str, Any]


def print_what_if(result: WhatIfResult) -> None:
    leads, anonymous = result["leads"], result["anonymous"]
    _warn_of_limits(result)
    version = result["version_in_force"]
    against = "no active model of this name" if version is None else f"the active version {version}"
    print_facts(
        f"{result['model']}: the draft beside {against}",
        {
            "Compared with": against,
            "Leads": leads["leads"],
            "  that rise": leads["up"],
            "  that fall": leads["down"],
            "  that stay": leads["same"],
            "  that change a band": leads["change_band"],
            "Anonymous visitors": anonymous["leads"],
            "  that rise or fall": anonymous["up"] + anonymous["down"],
        },
    )
    _print_distribution(leads["distribution"])
    _print_flows(leads["bands"])
    _print_fires(leads, anonymous)
    print_workflows_set_off(result["workflows"])
    for stage in leads["stages"]:
        print_line(f"{_counted_text(stage['leads'])} would go from stage {stage['from']} to {stage['to']}.")
    _print_movers(leads["movers"])
    print_status(f"{result['seconds']:.1f} s, {result['leads_per_second']:,} leads a second.")


def _warn_of_limits(result: WhatIfResult) -> None:
    if result["tenants_own"]:
        print_warning(
            f"{result['tenant']} has its own {result['model']} model: only a publication with --tenant {result['tenant']} "
            "changes what scores these leads."
        )
    if not result["leads"]["leads"] + result["anonymous"]["leads"]:
        print_warning(f"{result['tenant']} has no leads to compare: is that the tenant's name?")
    needed = result["needs_replay"]
    if needed:
        print_warning(
            f"No active model counts {_names_text(needed['signals'])}, so there is no history of "
            f"{'it' if len(needed['signals']) == 1 else 'them'}: counted as zero here, as publishing "
            f"would at first, too. --replay counts from the first event on: {needed['events']:,} events, about "
            f"{_duration_text(needed['seconds'])}."
        )
        if needed["recuts_clicks"]:
            print_warning(
                "Clicks in existing web sessions keep the importance that they had when they happened."
            )
    if result["replayed"]:
        print_status("Replayed: each model as if it had been active from the first event on.")
    if result["not_readable_yet"]:
        print_warning(
            f"{_counted_text(result['not_readable_yet'])} left out: an older version projected only a part of their "
            "state. `leadstream rebuild` adds the rest."
        )


def _print_distribution(distribution: WhatIfResult) -> None:
    before, after = distribution["before"], distribution["after"]
    names = [*dict.fromkeys([*(n for n in ("below 0",) if n in before | after), *before, *after])]
    most = max(*before.values(), *after.values(), 1)
    counts = [(name, before.get(name, 0), after.get(name, 0)) for name in names]
    rows = [
        (name, f"{first:,}", f"{second:,}", "█" * round(BAR_CHARACTERS * second / most))
        for name, first, second in counts
    ]
    print_table("Leads by score", ("points", "before", "after", ""), rows, "rrrl")


def _print_flows(flows: Sequence[WhatIfResult]) -> None:
    moving = [flow for flow in flows if flow["from"] != flow["to"]]
    if not moving:
        print_line("No lead changes a band.")
        return
    rows = [
        (flow["scale"], flow["from"] or "-", flow["to"] or "-", f"{flow['leads']:,}")
        for flow in sorted(moving, key=lambda flow: (flow["scale"], -flow["leads"]))
    ]
    print_table("Between bands", ("bands", "from", "to", "leads"), rows, "lllr")


def _print_fires(leads: WhatIfResult, anonymous: WhatIfResult) -> None:
    if not leads["fires"] and not anonymous["fires"]:
        print_line("No threshold would fire.")
        return
    print_line("With --fire, publishing would fire these thresholds:")
    anonymous_leads = {(fired["scale"], fired["band"]): fired["leads"] for fired in anonymous["fires"]}
    identified = {(fired["scale"], fired["band"]): fired["leads"] for fired in leads["fires"]}
    for scale, band in sorted(identified.keys() | anonymous_leads.keys()):
        anonymous_count = anonymous_leads.get((scale, band), 0)
        more = f", and for {_counted_text(anonymous_count, 'anonymous visitor')}" if anonymous_count else ""
        print_line(f"  {scale} {band}: for {_counted_text(identified.get((scale, band), 0))}{more}")


def print_workflows_set_off(workflows: Sequence[WhatIfResult]) -> None:
    """What a publication with --fire would start."""
    if not workflows:
        print_line("Publishing with --fire would set off no workflow.")
        return
    print_line("Publishing with --fire would set off these workflows; without --fire, none:")
    for each in workflows:
        anonymous = (
            f" and {_counted_text(each['anonymous'], 'anonymous visitor')}" if each["anonymous"] else ""
        )
        named = ", ".join(first["lead_id"] for first in each["first"][:LINES_SHOWN])
        print_line(
            f"  {each['workflow_id']} {each['workflow']} ({each['action']}): for {_counted_text(each['leads'])}{anonymous}, "
            f"such as {named}"
        )


def _print_movers(movers: Sequence[WhatIfResult]) -> None:
    if not movers:
        return
    rows = [
        (
            mover["name"] or mover["lead_id"],
            f"{mover['before']:g}",
            f"{mover['after']:g}",
            ", ".join(f"{b['from'] or '-'} to {b['to'] or '-'}" for b in mover["bands"]),
            ", ".join(map(_line_text, mover["lines"][:LINES_SHOWN])),
        )
        for mover in movers[:MOVERS_SHOWN]
    ]
    print_table("Leads that move most", ("lead", "before", "after", "bands", "because"), rows, "lrrll")


def _counted_text(count: int, what: str = "lead") -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def _line_text(line: WhatIfResult) -> str:
    kind = "" if line["kind"] == "points" else line["kind"]
    return f"{line['points']:+g} {line['rule'] or line['group']} {kind}".strip()


def _names_text(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _duration_text(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} minutes"
