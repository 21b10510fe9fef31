"""Prints what restating a store changes: which leads move, and which decisions of the door differ."""

from collections.abc import Sequence

from leadstream.console import print_facts, print_line, print_status, print_table, print_warning
from leadstream.operations.restate import CHANGES
from leadstream.operations.restate_store import Restatement
from leadstream.operations.restated_leads import LeadMoves, MovingLead


def print_restatement(restated: Restatement) -> None:
    leads, (dead_before, dead_after) = restated.leads, restated.dead_letters
    if restated.not_scored:
        print_warning(f"{restated.not_scored:,} records were not scored yet: leads may move because of them.")
    if restated.on_kafka:
        print_warning("The settings of Kafka's folds count from the first event on, as they are now.")
    print_facts(
        "Restated by the rules of this version",
        {
            "Events": restated.events,
            "Decisions of the door that change": sum(restated.changes.values()),
            **{f"  {CHANGES[kind]}": events for kind, events in restated.changes.items()},
            "Dead letters": f"{dead_before:,}, now {dead_after:,}",
            "Leads and visitors": leads.leads,
            "  whose score, band or stage changes": leads.moving,
            "  whose stage changes": sum(leads.stages.values()),
            **{f"    from {stages}": number for stages, number in leads.stages.items()},
            "  that become part of others, or nobody's": leads.merged,
            "New leads and visitors": leads.new,
        },
    )
    if not leads.moving and not leads.new and not leads.merged:
        print_line("Nobody moves.")
    _print_models(leads)
    _print_movers(leads.movers)
    for what, examples in (("New", leads.new_examples), ("Part of others", leads.merged_examples)):
        if examples:
            print_line(f"{what}, for example: {', '.join(examples)}")
    print_status(
        f"{restated.seconds:.1f} s, {restated.events / max(restated.seconds, 0.001):,.0f} events a second."
    )


def _print_models(leads: LeadMoves) -> None:
    if leads.models:
        rows = [
            (model, f"{moves.rise:,}", f"{moves.fall:,}", f"{moves.change_band:,}")
            for model, moves in leads.models.items()
        ]
        print_table("Leads that move, by model", ("model", "rise", "fall", "change band"), rows, "lrrr")


def _print_movers(movers: Sequence[MovingLead]) -> None:
    if movers:
        rows = [
            (
                mover.name or mover.lead_id,
                mover.model,
                f"{mover.before:,}",
                f"{mover.after:,}",
                ", ".join(f"{old or '-'} to {new or '-'}" for _, old, new in mover.bands),
                ", ".join(f"{points:+g} {rule}" for rule, points in mover.lines),
                _reasons(mover),
            )
            for mover in movers
        ]
        columns = ("lead", "model", "before", "after", "bands", "points", "because")
        print_table("Leads that move most", columns, rows, "llrrlll")


def _reasons(mover: MovingLead) -> str:
    if not mover.reasons:
        return "scoring of what is recorded"
    return ", ".join(f"{CHANGES[kind]} ({events:,})" for kind, events in mover.reasons.items())
