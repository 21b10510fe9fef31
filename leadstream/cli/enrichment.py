"""`leadstream enrichment`: what sources would answer about a lead, and how much was asked."""

from typing import TYPE_CHECKING, Annotated

import typer

from leadstream.cli.options import OPERATE, AsJson, DatabaseUrl, DataDir, Tenant, settings_of_store
from leadstream.console import Failure, print_json, print_line, print_records, print_status
from schemas.envelope import DEFAULT_TENANT

if TYPE_CHECKING:
    from delivery.configuration import DeliveryConfiguration
    from delivery.enrichment.enrichment_state import PersonToAsk
    from delivery.enrichment.enrichment_worker import SourceAnswer

app = typer.Typer()
enrichment = typer.Typer(
    help="Data services that fill what leads lack. `leadstream serve` asks them by itself when a lead has a new address."
)
app.add_typer(enrichment, name="enrichment", rich_help_panel=OPERATE)


@enrichment.command("preview")
def preview(
    lead_id: Annotated[str, typer.Argument(metavar="LEAD", help="Id of a lead.")],
    tenant: Tenant = DEFAULT_TENANT,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Ask the sources about one lead and show what they would fill. The lead stays as it is.

    It asks as the server does: kept answers are not asked for again, and
    a request counts for the budget.
    """
    import asyncio

    from delivery.enrichment.enrichment_state import person_of_lead
    from delivery.enrichment.enrichment_worker import fields_to_fill, may_be_asked_about
    from leadstream.delivery_configuration import delivery_configuration
    from leadstream.operations.accounts import record_entry
    from leadstream.operations.open_store import open_database_url
    from projections.connection import connect_watched

    settings = settings_of_store(data_dir=data_dir, database_url=database_url)
    configuration = delivery_configuration(settings)
    if not configuration.enrichment:
        raise Failure("No source is configured: docs/enrichment.md says how.")
    with open_database_url(settings) as url:
        with connect_watched(url, options="-c timezone=UTC") as connection:
            person = person_of_lead(connection, tenant, lead_id)
        if person is None:
            raise Failure(f"There is no lead {lead_id!r}.")
        if not may_be_asked_about(person):
            raise Failure("Nobody is asked about this lead: it is anonymous, or objects to profiling.")
        record_entry(
            url, tenant, "leadstream enrichment preview", None, lead_id=lead_id
        )  # it tells others of a person
        answers = asyncio.run(_answers(configuration, url, person))
    for answer in answers:
        if isinstance(answer, str):
            print_line(answer)
            continue
        fields = fields_to_fill(person.fields or {}, answer)
        print_line(f"{answer.source} ({answer.result})")
        for name, value in answer.fields.items():
            print_line(f"  {name}: {value}{'' if name in fields else ' (the lead has its own)'}")
        if not answer.fields:
            print_line("  nothing")


async def _answers(
    configuration: "DeliveryConfiguration", url: str, person: "PersonToAsk"
) -> "list[SourceAnswer | str]":
    from collections.abc import Sequence

    from delivery.enrichment.enrichment_worker import EnrichmentPorts, EnrichmentWorker
    from delivery.outcomes import DeliveryError
    from leadstream.clock import utc_now
    from schemas.record import Outgoing

    async def append(_records: Sequence[Outgoing]) -> None:
        raise AssertionError("a preview appends nothing")

    worker = EnrichmentWorker(configuration, EnrichmentPorts(lambda: url, append, utc_now))
    answers: list[SourceAnswer | str] = []
    try:
        for name in worker.sources_of(person.tenant):
            try:
                answers.append(await worker.answer_of(name, person))
            except DeliveryError as cause:
                answers.append(f"{name}: {cause.reason}")
    finally:
        await worker.close()
    return answers


@enrichment.command("status")
def status(
    as_json: AsJson = False,  # noqa: FBT002 - a switch
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Show how many requests each source had today and in this month (UTC), and how many persons wait."""
    from msgspec import json

    from delivery.enrichment.enrichment_state import enrichment_status
    from leadstream.clock import utc_now
    from leadstream.operations.open_store import open_database_url
    from projections.connection import connect_watched

    settings = settings_of_store(data_dir=data_dir, database_url=database_url)
    with open_database_url(settings) as url, connect_watched(url, options="-c timezone=UTC") as connection:
        rows, waiting = enrichment_status(connection, utc_now().date())
    if as_json:
        print_json(json.encode({"requests": rows, "waiting": waiting}))
        return
    if rows:
        print_records(
            ("tenant", "source", "today", "this month"),
            [(row["tenant"], row["source"], str(row["today"] or 0), str(row["this_month"])) for row in rows],
        )
    print_status(
        f"Persons who wait: {waiting:,}. Requests of this month: {sum(row['this_month'] for row in rows):,}."
    )
