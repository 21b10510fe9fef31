"""`leadstream import`: recorded events into the store, from a file of events, an access log, or a list of leads."""

import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from leadstream.cli.options import DATA, DatabaseUrl, DataDir, Tenant, settings_of_store
from leadstream.console import (
    Failure,
    ReportProgress,
    print_facts,
    print_status,
    print_text,
    print_warning,
    progress_bar,
)
from schemas.envelope import DEFAULT_TENANT

if TYPE_CHECKING:
    from leadstream.operations.imports import ImportCounts
    from leadstream.operations.lead_import import LeadImportCounts
    from leadstream.operations.store_access import StoreAccess
    from leadstream.settings import Settings

    ImportLines = Callable[[Iterator[bytes], StoreAccess], ImportCounts]

app = typer.Typer()
import_ = typer.Typer(
    no_args_is_help=True, help="Import a web server's access log, a file of events, or a list of leads."
)
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
    from leadstream.clock import utc_now
    from leadstream.operations.import_privacy import import_privacy
    from leadstream.operations.imports import import_access_log as import_lines

    settings = settings_of_store(data_dir=data_dir, database_url=database_url)
    own_sites = settings.own_sites
    _import(
        file,
        settings,
        lambda lines, store: import_lines(
            lines,
            store.append,
            utc_now(),
            tenant=tenant,
            site=site,
            own_sites=own_sites,
            privacy=import_privacy(settings, store.database_url, visitor_ids_made=True),
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
    from leadstream.clock import utc_now
    from leadstream.operations.import_privacy import import_privacy
    from leadstream.operations.imports import import_events as import_lines

    settings = settings_of_store(data_dir=data_dir, database_url=database_url)
    region, own_sites = settings.default_phone_region, settings.own_sites
    _import(
        file,
        settings,
        lambda lines, store: import_lines(
            lines,
            store.append,
            utc_now(),
            phone_region=region,
            own_sites=own_sites,
            privacy=import_privacy(settings, store.database_url),
        ),
        unit="Events",
        model="temperature",
        see="See the leads at",
        otherwise=" For the log of a web server, use `leadstream import access-log`.",
    )


@import_.command("leads")
def import_leads(
    file: Annotated[
        str, typer.Argument(help="CSV, TSV or JSON Lines. .gz is unpacked; - reads standard input.")
    ],
    mapping: Annotated[
        str | None,
        typer.Option(
            help="Which column fills what: a .toml file, or hubspot, mautic, odoo or pipedrive. Default: a guess.",
            show_default=False,
        ),
    ] = None,
    *,
    show_mapping: Annotated[
        bool, typer.Option("--show-mapping", help="Print the mapping for this file, and import nothing.")
    ] = False,
    counters: Annotated[
        bool | None,
        typer.Option(
            "--yes/--no",
            help="Whether counters in the file (QR scans, opened e-mails) score the leads. Default: it asks.",
            show_default=False,
        ),
    ] = None,
    rejects: Annotated[
        Path | None,
        typer.Option(help="Write each refused row's line and reason into this CSV file.", show_default=False),
    ] = None,
    from_line: Annotated[
        int, typer.Option(min=1, help="Skip rows before this line: to go on with a long import.")
    ] = 1,
    tenant: Tenant = DEFAULT_TENANT,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Import leads from a CRM's export or an old system's table.

    Encoding and separator are recognised. Blank cells say nothing. A row
    without an id belongs to the lead that has its e-mail address or phone
    number. A second import of the same file changes nothing. It works with or
    without a running server.
    """
    from leadstream.clock import utc_now
    from leadstream.operations.accounts import recorded_command
    from leadstream.operations.imports import count_leads, open_source
    from leadstream.operations.lead_files import read_lead_file
    from leadstream.operations.lead_import import LeadImportCounts, rejects_file, store_resolver
    from leadstream.operations.lead_import import import_leads as import_rows
    from leadstream.operations.lead_mapping import fitted, load_mapping, mapping_text
    from leadstream.operations.open_store import open_store
    from leadstream.operations.store_access import settle_with_bar

    if file.lower().endswith((".xlsx", ".xls", ".ods")):
        raise Failure(f"{file} is a spreadsheet: save it as CSV.")
    chosen, settings = load_mapping(mapping), settings_of_store(data_dir=data_dir, database_url=database_url)
    report: ReportProgress = _ignore

    def show(done: float) -> None:
        """The bar begins later than the reading."""
        report(done)

    with open_source(file) as source:
        lead_file = read_lead_file(source.lines(show))
        own = fitted(chosen, lead_file.columns)
        if show_mapping:
            print_text(f"# {lead_file.form}\n{mapping_text(own, lead_file.columns)}")
            return
        if not own.lead.get("id") and not {"email", "phone"} & own.fields.keys():
            raise Failure(
                f"The mapping finds no id, e-mail or phone in {file}. Save what --show-mapping prints as a .toml file, "
                "name the columns there, and pass it with --mapping."
            )
        with_counters = _with_counters(list(own.counters), choice=counters, from_stdin=file == "-")
        counts = LeadImportCounts()
        with (
            open_store(settings) as store,
            recorded_command(store.database_url),
            rejects_file(rejects) as reject,
        ):
            before = count_leads(store.database_url)
            with progress_bar(f"Reading {file}", source.size) as report:
                try:
                    import_rows(
                        lead_file.rows,
                        own,
                        store.append,
                        store_resolver(store.database_url),
                        utc_now(),
                        tenant=tenant,
                        counts=counts,
                        with_counters=with_counters,
                        phone_region=settings.default_phone_region,
                        reject=reject,
                        from_line=from_line,
                    )
                except KeyboardInterrupt:
                    print_status(
                        f"Stopped. Go on with --from-line {counts.resume_at}: what is imported counts once."
                    )
                    raise
            settle_with_bar(store)
            new_leads = count_leads(store.database_url) - before
            _print_leads(counts, form=lead_file.form, new_leads=new_leads, rejects=rejects)
            if counts.taken:
                address, running = store.address or settings.address, store.address is not None
                print_status(
                    f"See the leads at {address}/{'' if running else ', once `leadstream serve` runs'}"
                )
    if counts.rows and not counts.taken:
        raise Failure(f"No row of {file} could be imported: see the warnings above.")


def _ignore(_done: float) -> None:
    """Nothing shows the progress yet."""


def _with_counters(counted: list[str], *, choice: bool | None, from_stdin: bool) -> bool:
    """Whether counters become events. Raises Failure if nobody can be asked."""
    if not counted or choice is not None:
        return bool(choice)
    names = ", ".join(counted)
    if from_stdin or not sys.stdin.isatty():
        raise Failure(
            f"The file has counters ({names}): pass --yes to score existing leads by them, or --no to leave them out."
        )
    return typer.confirm(
        f"The file has counters ({names}). Score existing leads by them?", default=False, err=True
    )


def _print_leads(counts: "LeadImportCounts", *, form: str, new_leads: int, rejects: Path | None) -> None:
    print_facts(
        "Import",
        {
            "Read as": form,
            "Rows": counts.rows,
            "Rows imported": counts.taken,
            "Events for their counters": counts.counted,
            "Rows whose address several leads have (they join none)": counts.ambiguous,
            "New leads": new_leads,
            "Refused": counts.refused.total(),
            **{f"  {reason}": times for reason, times in counts.refused.most_common(10)},
        },
    )
    for refused in counts.rejects:
        print_warning(f"line {refused.line}: {refused.reason}")
    if counts.refused.total() > len(counts.rejects):
        rest = f"all are in {rejects}" if rejects else "--rejects FILE writes all"
        print_warning(f"and {counts.refused.total() - len(counts.rejects)} more: {rest}")


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
    from leadstream.operations.accounts import recorded_command
    from leadstream.operations.imports import count_leads, open_source
    from leadstream.operations.open_store import open_store
    from leadstream.operations.store_access import settle_with_bar

    with (
        open_source(file) as source,
        open_store(settings) as store,
        recorded_command(store.database_url),
    ):
        before = count_leads(store.database_url)
        with progress_bar(f"Reading {file}", source.size) as report:
            counts = import_lines(source.lines(report), store)
        settle_with_bar(store)
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
        print_warning(f"{file} is empty: nothing was imported.")
    elif not counts.taken:
        raise Failure(f"No line of {file} could be imported: see the warnings above.{otherwise}")


def _score_distribution(database_url: str, people: Iterable[tuple[str, str]], model: str) -> dict[str, int]:
    """How many of these leads a model scores in each range."""
    from projections.connection import connect_watched
    from projections.row_keys import lead_row_key
    from projections.table_definition import READ_OPTIONS

    keys = [lead_row_key(tenant, lead_id) for tenant, lead_id in people]
    leads: Counter[int] = Counter()
    with connect_watched(database_url, options=READ_OPTIONS) as connection:
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
        print_warning(f"line {complaint.line}: {complaint.reason}")
