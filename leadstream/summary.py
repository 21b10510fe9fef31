"""What a command did, told afterwards: what an import took, what not and why, and how it scored; whom a
publication moved.
"""

from collections import Counter
from collections.abc import Iterable

from authoring.authoring import Publication
from leadstream.console import print_facts, warn
from leadstream.operations.imports import ImportCounts
from projections.connection import connect
from projections.tables import READ_OPTIONS, lead_row_key
from schemas.envelope import DEFAULT_TENANT

BANDS = ((0, 20), (20, 40), (40, 60), (60, 80), (80, 101))
MOVERS = 10
_AT_ONCE = 10_000


def count_leads(database_url: str) -> int:
    """Leads of every tenant that somebody is behind."""
    with connect(database_url, options=READ_OPTIONS) as connection:
        row = connection.execute("select count(*) from leads where identities > 0").fetchone()
    return row[0] if row else 0


def distribution(database_url: str, people: Iterable[tuple[str, str]], model: str) -> dict[str, int]:
    """How many of these leads score how much by a model."""
    keys = [lead_row_key(tenant, lead_id) for tenant, lead_id in people]
    found: Counter[int] = Counter()
    with connect(database_url, options=READ_OPTIONS) as connection:
        for begin in range(0, len(keys), _AT_ONCE):
            found.update(
                dict(
                    connection.execute(
                        """select least(floor(greatest(total, 0) / 20), 4)::int, count(*) from lead_scores
                           where model = %s and lead_key = any(%s) group by 1""",
                        (model, keys[begin : begin + _AT_ONCE]),
                    ).fetchall()
                )
            )
    return {f"{low} to {high - 1}": found[number] for number, (low, high) in enumerate(BANDS)}


def print_moves(database_url: str, said: Publication) -> None:
    """Whose score a publication changed, most first; anonymous visitors apart, as a what-if tells them."""
    cause = f"model:{said.tenant}:{said.model}:{said.version}"
    with connect(database_url, options=READ_OPTIONS) as connection:
        moved = connection.execute(
            """select l.identified, l.tenant, l.lead_id, h.previous, h.total
               from score_history h join leads l using (lead_key)
               where h.model = %s and h.version = %s and h.caused_by = %s and h.change <> 0
               order by abs(h.change) desc, l.lead_id""",
            (said.model, said.version, cause),
        ).fetchall()
    leads = [row[1:] for row in moved if row[0]]
    anonymous = len(moved) - len(leads)
    print_facts(
        "Moved",
        {
            "Leads that rose": sum(total > previous for *_, previous, total in leads),
            "Leads that fell": sum(total < previous for *_, previous, total in leads),
            **({"Anonymous visitors that rose or fell": anonymous} if anonymous else {}),
            **{
                f"  {lead_id if tenant == DEFAULT_TENANT else f'{tenant}/{lead_id}'}": f"{float(previous):g} to {float(total):g}"
                for tenant, lead_id, previous, total in leads[:MOVERS]
            },
        },
    )


def print_import(
    tally: ImportCounts, *, unit: str, new_leads: int, scores: dict[str, int], model: str
) -> None:
    print_facts(
        "Import",
        {
            "Lines": tally.lines,
            f"{unit} imported": tally.taken,
            "Visitors and leads among them": len(tally.people),
            "By bots (kept, never scored)": tally.bots.total(),
            **{f"  {name}": times for name, times in tally.bots.most_common(5)},
            "Skipped": tally.skipped.total(),
            **{f"  {reason}": times for reason, times in tally.skipped.most_common()},
            "New leads": new_leads,
            **{f"{model} {band}": leads for band, leads in scores.items() if tally.taken},
        },
    )
    for complaint in tally.complaints:
        warn(f"line {complaint.line}: {complaint.reason}")
