"""`leadstream explain`: one lead and its scores."""

from typing import Annotated, Literal

import typer

from leadstream.cli.options import SCORES, DatabaseUrl, DataDir, Tenant, settings_of_store
from leadstream.console import print_line
from schemas.envelope import DEFAULT_TENANT

app = typer.Typer()
Knowledge = Literal["then", "now"]


@app.command(rich_help_panel=SCORES)
def explain(
    lead: Annotated[str, typer.Argument(help="Id of the lead, as the board shows it.")],
    model: Annotated[
        str | None, typer.Option(help="Show only this model's score.", show_default=False)
    ] = None,
    as_of: Annotated[
        str | None,
        typer.Option(help="A moment, past or future: 2030-01-31, 2030-01-31T12:00.", show_default="now"),
    ] = None,
    knowledge: Annotated[
        Knowledge,
        typer.Option(
            "--known",
            help="Of a past moment. then: as it was recorded by then. now: by what is known today, late events included.",
        ),
    ] = "then",
    changes: Annotated[
        int, typer.Option(help="Number of latest changes, and of workflows, to show.", min=0, max=500)
    ] = 10,
    tenant: Tenant = DEFAULT_TENANT,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Explain a lead: who it is, each score line by line, the latest changes, and what workflows did.

    The lines add up to the score. Everything is of one moment, as GET
    /api/leads/ID shows it: of the past what was recorded by then, of the
    future what follows if nothing more happens. It works with or without
    a running server.
    """
    from leadstream.clock import utc_now
    from leadstream.operations.explain import ExplainRequest, explanation_of_lead
    from leadstream.operations.open_store import open_database_url, settings_as_served

    settings = settings_of_store(data_dir=data_dir, database_url=database_url)
    request = ExplainRequest(tenant, lead, model, as_of, changes, knowledge)
    with open_database_url(settings_as_served(settings)) as url:
        lines = explanation_of_lead(url, request, utc_now())
    for line in lines:
        print_line(line if line.startswith(" ") else (line, "bold"))
