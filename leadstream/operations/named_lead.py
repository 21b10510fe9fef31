"""The lead that an operator means: by its id, its e-mail address or its phone number."""

from gateway.door.addresses import searched_addresses
from leadstream.console import Failure
from projections.connection import connect_watched
from projections.person import leads_named
from projections.table_definition import READ_OPTIONS


def lead_named(database_url: str, tenant: str, text: str, phone_region: str | None) -> str:
    """The id of the only lead that it can be. Raises Failure."""
    with connect_watched(database_url, options=READ_OPTIONS) as connection:
        leads = leads_named(connection, tenant, text, searched_addresses(text, phone_region))
    if not leads:
        raise Failure(
            f"The tenant {tenant} has no lead with this id, e-mail address or phone number: the board shows the ids."
        )
    if len(leads) > 1:
        raise Failure(f"Several leads have this address: {', '.join(leads)}. Name one by its id.")
    return leads[0]
