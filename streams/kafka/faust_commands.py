"""The commands that `faust -A leadstream.worker` adds to Faust's own."""

import json
from collections.abc import Sequence
from typing import Any
from urllib.request import urlopen

import faust
from faust.types import AgentT

from streams.engine.shard import Stage
from streams.kafka.cluster import Cluster


def add_commands(app: faust.App, cluster: Cluster, stages: Sequence[Stage[Any, Any]]) -> None:
    """`faust tables` lists our tables, since there are none of Faust. `faust agents --local` also shows what each agent of
    the worker at our port has done.
    """
    from faust.cli.agents import agents  # noqa: PLC0415 - registers Faust's own command, before ours

    def counts(command: Any, agent: AgentT[Any]) -> Sequence[str]:
        return [*agents.agent_to_row(command, agent), *_shards_and_folded_records(app, agent.name)]

    about = {"headers": [*agents.headers, "shards", "folded"], "agent_to_row": counts}
    type("agents", (agents,), about | {"__doc__": agents.__doc__})

    async def tables(command: Any) -> None:
        """List the tables: the state of each stage, and the topic that keeps it."""
        rows = [
            (
                stage.name,
                cluster.changelog(stage.name),
                f"State of {stage.name}, by key of {stage.source}",
            )
            for stage in stages
        ]
        command.say(command.tabulate(rows, headers=["name", "changelog", "help"], title="Tables"))

    app.command()(tables)


def _shards_and_folded_records(app: faust.App, stage: str) -> tuple[str, str]:
    """The shards of a stage that the worker at our port owns, and the records that it has folded."""
    try:
        with urlopen(f"http://{app.conf.web_host}:{app.conf.web_port}/tables.json", timeout=2) as answer:
            tables = json.load(answer)["tables"]
    except (OSError, ValueError, KeyError):
        return "no worker", "-"
    folded = [table["folded"] for table in tables if table["table"] == stage]
    return str(len(folded)), str(sum(folded))
