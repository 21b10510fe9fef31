"""`leadstream links`: makes codes, catalogue links and measured mails, without a server."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from leadstream.cli.options import DATA, Tenant, settings_from
from leadstream.console import Failure, print_facts, print_line, print_status, print_text, print_warning
from schemas.envelope import DEFAULT_TENANT

if TYPE_CHECKING:
    from gateway.link_making import LinkMaker
    from leadstream.settings import Settings

app = typer.Typer()
links = typer.Typer(
    no_args_is_help=True,
    help="Signed links that record and go on: qr, catalog, email, show. Nothing is stored, and no server is needed; "
    "the server that people reach needs the same LEADSTREAM_LINK_KEYS.",
)
app.add_typer(links, name="links", rich_help_panel=DATA)

Target = Annotated[
    str | None, typer.Argument(help="Address to go on to. Not with --telegram.", show_default=False)
]
TelegramBotName = Annotated[
    str | None,
    typer.Option(
        "--telegram",
        metavar="BOT",
        help="Open the chat of this Telegram bot instead; the bot records it.",
        show_default=False,
    ),
]
LeadId = Annotated[
    str | None,
    typer.Option(
        "--lead", help="Id of the lead that it is sent to. Without it, it is everybody's.", show_default=False
    ),
]
PropertyId = Annotated[
    str | None, typer.Option("--property", help="Id of a property, kept with the event.", show_default=False)
]
AgentId = Annotated[
    str | None, typer.Option("--agent", help="Id of a sales person, kept with the event.", show_default=False)
]
CampaignName = Annotated[
    str | None, typer.Option("--campaign", help="Name of the campaign.", show_default=False)
]
SvgFile = Annotated[
    Path | None, typer.Option("--svg", help="Write the code to this SVG file.", show_default=False)
]
PngFile = Annotated[
    Path | None, typer.Option("--png", help="Write the code to this PNG file.", show_default=False)
]
PngSize = Annotated[int, typer.Option("--size", min=64, max=4_096, help="Most pixels of a side of the PNG.")]
ErrorLevel = Annotated[
    str, typer.Option("--error", help="How much of the code may be damaged: l 7%, m 15%, q 25%, h 30%.")
]


@links.command("qr")
def qr(
    qr_id: Annotated[str, typer.Argument(help="Which code it is: stand-7.")],
    target: Target = None,
    telegram_bot: TelegramBotName = None,
    location: Annotated[
        str | None, typer.Option("--place", help="Where it hangs.", show_default=False)
    ] = None,
    lead_id: LeadId = None,
    property_id: PropertyId = None,
    agent_id: AgentId = None,
    campaign: CampaignName = None,
    svg: SvgFile = None,
    png: PngFile = None,
    size: PngSize = 512,
    error: ErrorLevel = "m",
    tenant: Tenant = DEFAULT_TENANT,
) -> None:
    """Make the link of a QR code, whose scans count, and its picture."""
    _make("qr", **locals())


@links.command("catalog")
def catalog(
    catalog_id: Annotated[str, typer.Argument(help="Which catalogue it is: riverside.")],
    target: Target = None,
    telegram_bot: TelegramBotName = None,
    title: Annotated[str | None, typer.Option(help="Title of the catalogue.", show_default=False)] = None,
    lead_id: LeadId = None,
    property_id: PropertyId = None,
    agent_id: AgentId = None,
    campaign: CampaignName = None,
    svg: SvgFile = None,
    png: PngFile = None,
    size: PngSize = 512,
    error: ErrorLevel = "m",
    tenant: Tenant = DEFAULT_TENANT,
) -> None:
    """Make a link to a catalogue, whose views count, and its QR code."""
    _make("catalog", **locals())


@links.command("email")
def email(
    file: Annotated[Path, typer.Argument(help="The mail, an HTML file.", exists=True, dir_okay=False)],
    lead_id: Annotated[str, typer.Option("--lead", help="Id of the lead that gets the mail.")],
    message_id: Annotated[
        str | None,
        typer.Option("--message", help="Id of the mail, as email_sent has it.", show_default=False),
    ] = None,
    campaign_id: Annotated[
        str | None, typer.Option("--campaign-id", help="Id of the campaign.", show_default=False)
    ] = None,
    campaign: CampaignName = None,
    tenant: Tenant = DEFAULT_TENANT,
) -> None:
    """Print a mail with measured links, and a picture by which its opening is known."""
    from gateway.door.link_definitions import MailDefinition
    from gateway.link_making import make_mail
    from schemas.refusal import Refusal

    settings = settings_from()
    mail = MailDefinition(
        lead_id=lead_id,
        message_id=message_id,
        campaign_id=campaign_id,
        campaign_name=campaign,
        html=_text_of(file),
    )
    try:
        made = make_mail(mail, _maker(settings, tenant))
    except Refusal as refusal:
        raise Failure(f"{refusal}.") from None
    print_text(made.html or "")
    print_status(f"{len(made.links)} links and the picture are measured, for the lead {lead_id}.")


@links.command("show")
def show(link: Annotated[str, typer.Argument(help="The link's address, or its token.")]) -> None:
    """Show what a link says."""
    from gateway.door.link_events import kind_of_link
    from gateway.door.signed_links import TelegramLink, open_link
    from gateway.link_making import fields_of_link

    settings = settings_from()
    token = link.rstrip("/").rpartition("/")[2].removesuffix(".gif")
    opened = open_link(token, _maker(settings, DEFAULT_TENANT).keys)
    if opened is None:
        raise Failure("This is no link under LEADSTREAM_LINK_KEYS, or not all of it.")
    records = "nothing" if isinstance(opened, TelegramLink) else kind_of_link(opened)
    print_facts("", {"records": records, "tenant": opened.tenant, **fields_of_link(opened)})


def _make(
    kind: Literal["qr", "catalog"],
    *,
    tenant: str,
    svg: Path | None,
    png: Path | None,
    size: int,
    error: str,
    **fields: str | None,
) -> None:
    """Prints the link, and writes its code. `fields` are those of its definition."""
    from gateway.door.link_definitions import LinkDefinition
    from gateway.link_making import hints_of, make_link
    from gateway.qr_codes import LONGEST_CONTENT, qr_png, qr_svg
    from schemas.refusal import Refusal

    if error not in {"l", "m", "q", "h"}:
        raise typer.BadParameter("use l, m, q or h", param_hint="--error")
    settings = settings_from()
    maker = _maker(settings, tenant)
    try:
        made = make_link(LinkDefinition(kind=kind, **fields), maker)
    except Refusal as refusal:
        raise Failure(f"{refusal}.") from None
    if (svg or png) and len(made.url) > LONGEST_CONTENT:
        raise Failure(
            f"The address has more than {LONGEST_CONTENT} characters, too many for a code: shorten it."
        )
    if svg is not None:
        _write(svg, qr_svg(made.url, error))
    if png is not None:
        picture = qr_png(made.url, error, size)
        if picture is None:
            raise Failure("--size: this code has more modules than that: ask for more pixels.")
        _write(png, picture)
    print_line(made.url)
    for hint in hints_of(made.url):
        print_warning(f"{hint[0].upper()}{hint[1:]}.")


def _maker(settings: "Settings", tenant: str) -> "LinkMaker":
    from datetime import UTC, datetime

    from gateway.link_making import LinkMaker
    from schemas.control import EVERY_TENANT

    keys = settings.signing_keys
    if tenant == EVERY_TENANT:
        raise Failure("--tenant: a link belongs to one tenant.")
    if not keys.ciphers:
        raise Failure(
            "LEADSTREAM_LINK_KEYS is not set: set it to the secret that the server has, too "
            "(make one with: openssl rand -hex 32)."
        )
    return LinkMaker(tenant, settings.public_url or settings.address, keys, datetime.now(UTC))


def _text_of(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise Failure(f"{file}: {error}.") from None


def _write(file: Path, content: bytes) -> None:
    try:
        file.write_bytes(content)
    except OSError as error:
        raise Failure(f"{file}: {error.strerror}.") from None
