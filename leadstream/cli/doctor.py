"""`leadstream doctor`: is everything in order?"""

import typer

from leadstream.cli.options import OPERATE, DatabaseUrl, DataDir, settings_of_store
from leadstream.console import print_line

app = typer.Typer()

_COLOURS = {"ok": "green", "warn": "yellow", "fail": "bold red"}


@app.command(rich_help_panel=OPERATE)
def doctor(data_dir: DataDir = None, database_url: DatabaseUrl = None) -> None:
    """Check that everything is in order, and print how to fix what is not. Exit code 1 if a check fails."""
    from leadstream.operations.doctor import all_findings

    failed = False
    for finding in all_findings(settings_of_store(data_dir=data_dir, database_url=database_url)):
        failed = failed or finding.health == "fail"
        remedy = f"  {finding.remedy}" if finding.remedy else ""
        text = f"{finding.subject}: {finding.state}.{remedy}".replace("..", ".")
        print_line((f"{finding.health:4}", _COLOURS[finding.health]), f" {text}")
    if failed:
        raise typer.Exit(1)
