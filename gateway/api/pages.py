"""Pages of lists in the order of time, newest first: the header `Link` has the address of the next, older one."""

from datetime import datetime, timedelta
from typing import Annotated, Final

from fastapi import Query, Request

from projections.workflow_queries import PageCursor
from schemas.moment import EARLIEST_MS, EPOCH, LATEST_MS

_MICROSECOND: Final = timedelta(microseconds=1)

Cursor = Annotated[str | None, Query(pattern=r"^-?\d{1,18}_\d{1,16}$", description="From the header `Link`.")]
"""MICROSECONDS_NUMBER of the last row of the page before."""


def page_cursor(cursor: str | None) -> PageCursor | None:
    """The last row of the page before; None: the list begins at the newest."""
    if cursor is None:
        return None
    at, _, number = cursor.partition("_")
    microseconds = min(max(int(at), EARLIEST_MS * 1_000), LATEST_MS * 1_000)
    return PageCursor(EPOCH + microseconds * _MICROSECOND, int(number))


def next_page(request: Request, at: datetime, number: int) -> dict[str, str]:
    """The header of a page with these values in its last row. The address is relative, so that it is right behind any
    proxy.
    """
    address = request.url.include_query_params(cursor=f"{(at - EPOCH) // _MICROSECOND}_{number}")
    return {"Link": f'<{address.path}?{address.query}>; rel="next"'}
