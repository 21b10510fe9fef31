"""`leadstream demo`: a simulated company to look at."""

from typing import Annotated

import typer

from leadstream.cli.options import RUN, DataDir, Host, LeadCount, Port, settings_from
from leadstream.cli.serve import until_stopped
from leadstream.console import report_waits

app = typer.Typer()


@app.command(rich_help_panel=RUN)
def demo(
    host: Host = None,
    port: Port = None,
    data_dir: DataDir = None,
    leads: LeadCount = 400,
    browser: Annotated[bool, typer.Option(help="Open the page in the browser.")] = True,  # noqa: FBT002 - typer's way to say --no-browser
) -> None:
    """Show a simulated company: score 90 days of its events, then continue live.

    The demo has a store of its own, .leadstream/demo, which it empties at
    each start. It never changes your data. Other commands use the demo's
    store with --data-dir .leadstream/demo.
    """
    with report_waits("loading the program"):
        from leadstream.simulation.demo import run_demo

    settings = settings_from(host=host, port=port, data_dir=data_dir)
    with until_stopped():
        run_demo(settings, leads=leads, browser=browser)
