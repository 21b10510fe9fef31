"""`leadstream topics`: the topics in Kafka."""

import typer

from leadstream.cli.options import KAFKA, settings_with_kafka_default
from leadstream.console import print_line, print_status

app = typer.Typer()
topics = typer.Typer(no_args_is_help=True, help="Create or check Leadstream's topics in Kafka.")
app.add_typer(topics, name="topics", rich_help_panel=KAFKA)


@topics.command("create")
def create() -> None:
    """Create the missing topics, and publish the built-in models into a new log. A second run changes nothing."""
    import asyncio

    from leadstream.wiring_kafka import kafka_errors_explained, make_topics

    settings = settings_with_kafka_default()
    with kafka_errors_explained():
        created = asyncio.run(make_topics(settings))
    for name in created:
        print_line(name)
    print_status(f"Created {len(created)} topics." if created else "All topics exist already.")


@topics.command("check")
def check() -> None:
    """Print what is wrong with the topics and how to fix it. Exit code 1 if anything is wrong."""
    import asyncio

    from leadstream.wiring_kafka import kafka_errors_explained
    from streams.kafka.topics import check_topics

    settings = settings_with_kafka_default()
    partitions = settings.partitions if "partitions" in settings.model_fields_set else None
    with kafka_errors_explained():
        problems = asyncio.run(check_topics(settings.cluster, partitions=partitions))
    for problem in problems:
        print_line(str(problem))
    if problems:
        raise typer.Exit(1)
    print_status("The topics are correct.")
