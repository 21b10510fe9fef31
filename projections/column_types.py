"""The types of columns that the Python type alone does not name, for the rows."""

from typing import Annotated

import sqlalchemy
from sqlalchemy import BigInteger
from sqlalchemy.dialects.postgresql import JSONB

BigIntColumn = Annotated[int, BigInteger()]
"""Eight bytes instead of four."""

JsonColumn = Annotated[str, JSONB()]
"""Encoded JSON text."""

SerialColumn = Annotated[int, BigInteger(), sqlalchemy.Identity(always=True)]
"""A number that PostgreSQL gives out."""
