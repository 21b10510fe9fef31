"""`leadstream recalculate`: does every stored score say what its recalculation gives?"""

from datetime import UTC, datetime

import typer

from leadstream.cli.options import OPERATE, AsJson, DatabaseUrl, DataDir, Tenant, settings_of_store
from leadstream.console import Failure, print_facts, print_json, print_line, print_status
from schemas.envelope import DEFAULT_TENANT

app = typer.Typer()


@app.command(rich_help_panel=OPERATE)
def recalculate(
    tenant: Tenant = DEFAULT_TENANT,
    as_json: AsJson = False,  # noqa: FBT002 - a switch
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Compute every lead's scores and stage again, and name what differs from what is stored.

    Changes no lead, and a server may run; it does the same every night at
    02:00 of the tenant's clocks. Nothing is expected to differ. If
    something does, `leadstream restate` computes it again from the events.
    """
    import msgspec
    import psycopg

    from leadstream.operations.open_store import open_database_url, settings_as_served
    from leadstream.operations.publishing import operating_user
    from leadstream.operations.recalculation import begin_recalculation
    from leadstream.operations.recalculation import recalculate as steps_of
    from projections.connection import connect_watched
    from projections.table_definition import READ_OPTIONS

    now, status = datetime.now(UTC), None
    with open_database_url(
        settings_as_served(settings_of_store(data_dir=data_dir, database_url=database_url))
    ) as url:
        try:
            with connect_watched(url, options=READ_OPTIONS) as connection:
                begin_recalculation(connection, tenant, now, operating_user(), now)
            for status in steps_of(url, tenant, now, now):
                print_status(f"{status.checked:,} leads compared.")
        except psycopg.errors.UndefinedTable as cause:
            raise Failure(
                "The read models are of an older version: start `leadstream serve` once."
            ) from cause
    if status is None or status.ended_at is None:
        raise Failure(
            "A publication is still rescoring leads: try again when it is done. The server goes on with it, too."
        )
    if as_json:
        result = {
            "tenant": tenant,
            "checked": status.checked,
            "differing": status.differing,
            "differences": status.differences,
        }
        print_json(msgspec.json.encode(result))
    else:
        print_facts("Recalculated", {"Leads": status.checked, "  that differ": status.differing})
        for each in status.differences:
            print_line(
                f"{each['lead_id']}, {each['what']}: {each['stored']} is stored, {each['recalculated']} is right"
            )
            for line in each["lines"]:
                print_line(f"  {line['points']:+g} {line['rule'] or line['group'] or line['kind']}")
    if status.differing:
        raise typer.Exit(1)
