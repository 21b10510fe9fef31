"""`leadstream import`: recorded events into the store, from a file of events or an access log."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from leadstream.cli.options import DATA, DatabaseUrl, DataDir, Tenant, settings_of_store
from leadstream.console import Failure, print_facts, print_status, progress, warn
from schemas.envelope import DEFAULT_TENANT

if TYPE_CHECKING:
    from leadstream.operations.imports import ImportCounts
    from leadstream.operations.store_access import StoreAccess
    from leadstream.settings import Settings

    ImportLines = Callable[[Iterator[bytes], StoreAccess], ImportCounts]

app = typer.Typer()
import_ = typer.Typer(no_args_is_help=True, help="Import a web server's access log, or a file of events.")
app.add_typer(import_, name="import", rich_help_panel=DATA)

SCORE_RANGES = ((0, 20), (20, 40), (40, 60), (60, 80), (80, 101))
_KEYS_IN_A_QUERY = 10_000


@import_.command("access-log")
def import_access_log(
    file: Annotated[str, typer.Argument(help="The log file. .gz is unpacked; - reads standard input.")],
    tenant: Tenant = DEFAULT_TENANT,
    site: Annotated[
        str,
        typer.Option(
            help="Address put before each path, e.g. https://www.shop.example. Default: the host that the log names."
        ),
    ] = "",
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Import page views from a web server's access log.

    The format is recognised: common and combined (Apache, nginx), JSON lines
    (nginx, Caddy, Traefik), W3C (IIS, CloudFront), AWS load balancers. Bots
    are flagged. Assets and failed requests are skipped and counted. A second
    import of the same file counts nothing twice. It works with or without a
    running server.
    """
    from leadstream.operations.imports import import_access_log as import_lines
    from leadstream.wiring import utc_now

    settings = settings_of_store(data_dir=data_dir, database_url=database_url)
    own_sites = settings.own_sites
    _import(
        file,
        settings,
        lambda lines, store: import_lines(
            lines, store.append, utc_now(), tenant=tenant, site=site, own_sites=own_sites
        ),
        unit="Page views",
        model="web_session",
        see="A log names nobody, so its visitors are anonymous. See them and their visits at",
        view="#visitors",
    )


@import_.command("events")
def import_events(
    file: Annotated[
        str, typer.Argument(help="One JSON event on each line. .gz is unpacked; - reads standard input.")
    ],
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Import events that `simulate`, `export` or another system wrote.

    Each event needs an event_id and occurred_at. It is recorded at the time
    when it happened and triggers no action. It works with or without a
    running server.
    """
    from leadstream.operations.imports import import_events as import_lines
    from leadstream.wiring import utc_now

    settings = settings_of_store(data_dir=data_dir, database_url=database_url)
    region, own_sites = settings.default_phone_region, settings.own_sites
    _import(
        file,
        settings,
        lambda lines, store: import_lines(
            lines, store.append, utc_now(), phone_region=region, own_sites=own_sites
        ),
        unit="Events",
        model="temperature",
        see="See the leads at",
        otherwise=" For the log of a web server, use `leadstream import access-log`.",
    )


def _import(
    file: str,
    settings: "Settings",
    import_lines: "ImportLines",
    *,
    unit: str,
    model: str,
    see: str,
    view: str = "",
    otherwise: str = "",
) -> None:
    """`see` introduces the address of the board, and `view` is the part of it that shows what was imported; `otherwise`
    is the advice for a file of which no line could be read.
    """
    from leadstream.operations.imports import count_leads, open_source
    from leadstream.operations.open_store import open_store
    from leadstream.operations.store_access import settle

    with open_source(file) as source, open_store(settings) as store:
        before = count_leads(store.database_url)
        with progress(f"Reading {file}", source.size) as report:
            counts = import_lines(source.lines(report), store)
        settle(store)
        people = counts.people
        _print_import(
            counts,
            people=len(people),
            unit=unit,
            new_leads=count_leads(store.database_url) - before,
            scores=_score_distribution(store.database_url, people, model),
            model=model,
        )
        if people:
            address, running = store.address or settings.address, store.address is not None
            print_status(f"{see} {address}/{view}{'' if running else ', once `leadstream serve` runs'}")
    if not counts.lines:
        warn(f"{file} is empty: nothing was imported.")
    elif not counts.taken:
        raise Failure(f"No line of {file} could be imported: see the warnings above.{otherwise}")


def _score_distribution(database_url: str, people: Iterable[tuple[str, str]], model: str) -> dict[str, int]:
    """How many of these leads a model scores in each range."""
    from projections.connection import connect
    from projections.tables import READ_OPTIONS, lead_row_key

    keys = [lead_row_key(tenant, lead_id) for tenant, lead_id in people]
    leads: Counter[int] = Counter()
    with connect(database_url, options=READ_OPTIONS) as connection:
        for begin in range(0, len(keys), _KEYS_IN_A_QUERY):
            leads.update(
                dict(
                    connection.execute(
                        """select least(floor(greatest(total, 0) / 20), 4)::int, count(*) from lead_scores
                           where model = %s and lead_key = any(%s) group by 1""",
                        (model, keys[begin : begin + _KEYS_IN_A_QUERY]),
                    ).fetchall()
                )
            )
    return {f"{low} to {high - 1}": leads[number] for number, (low, high) in enumerate(SCORE_RANGES)}


def _print_import(
    counts: "ImportCounts", *, unit: str, people: int, new_leads: int, scores: dict[str, int], model: str
) -> None:
    print_facts(
        "Import",
        {
            "Lines": counts.lines,
            f"{unit} imported": counts.taken,
            "Visitors and leads among them": people,
            "By bots (kept, never scored)": counts.bots.total(),
            **{f"  {name}": times for name, times in counts.bots.most_common(5)},
            "Skipped": counts.skipped.total(),
            **{f"  {reason}": times for reason, times in counts.skipped.most_common()},
            **(
                {"In a log without user agents (crawlers count)": counts.without_agent}
                if counts.without_agent
                else {}
            ),
            "New leads": new_leads,
            **{f"{model} {band}": leads for band, leads in scores.items() if counts.taken},
        },
    )
    for complaint in counts.complaints:
        warn(f"line {complaint.line}: {complaint.reason}")
