"""The tables by what makes them. This module imports every module of tables, so it knows all of them."""

from typing import Any, Final

from sqlalchemy import MetaData, Table

import projections.analytics_tables
import projections.public_tables
import projections.tables  # noqa: F401 - each defines its tables in `metadata`
from projections.table_definition import ANALYTICS_INFO_KEY, NEWEST_BY_INFO_KEY, ROW_INFO_KEY, metadata

ALL_TABLES: Final[MetaData] = metadata
"""The tables of `tables`, `analytics_tables` and `public_tables`."""

_REBUILT_TABLES: Final = tuple(table for table in ALL_TABLES.sorted_tables if table.schema is None)

READ_MODEL_TABLES: Final = tuple(table for table in _REBUILT_TABLES if not table.info[ANALYTICS_INFO_KEY])
"""The tables that records make."""

ANALYTICS_TABLES: Final = tuple(table for table in _REBUILT_TABLES if table.info[ANALYTICS_INFO_KEY])
"""The tables that the analytics worker makes, and its queue."""

FACT_TABLES: Final = tuple(table for table in READ_MODEL_TABLES if NEWEST_BY_INFO_KEY not in table.info)

TABLE_OF_ROW: Final[dict[type[tuple[Any, ...]], Table]] = {
    table.info[ROW_INFO_KEY]: table for table in READ_MODEL_TABLES
}
"""The table of each type of row."""
