"""Every route of the application, from the application itself: tests that must miss none go by this table."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import cache
from typing import Any, NamedTuple

from fastapi.routing import APIRoute

from gateway.app import ROUTED_MODULES, create_app
from gateway.ports import Ports


async def no_log(_records: object) -> None: ...


def app_without_store() -> Any:
    return create_app(Ports(append=no_log, database_url="", now=lambda: datetime(2030, 1, 31, tzinfo=UTC)))


@cache
def openapi() -> Any:
    """/openapi.json, made once for all tests of a process, which takes longer than most of them."""
    return app_without_store().openapi()


class Operation(NamedTuple):
    method: str
    path: str
    """As the route has it: `{session_id:path}`, and a slash at its end if there is one."""

    @property
    def documented_path(self) -> str:
        return re.sub(r":\w+}", "}", self.path)

    @property
    def parameters(self) -> list[str]:
        return re.findall(r"\{(\w+)(?::\w+)?\}", self.path)

    def address(self, **values: str) -> str:
        """The path with values in it; 1 for those that are not among them."""
        return re.sub(r"\{(\w+)(?::\w+)?\}", lambda found: values.get(found[1], "1"), self.path)

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


def operations() -> list[Operation]:
    return list(_operations())


def _operations() -> Iterator[Operation]:
    for module in ROUTED_MODULES:
        for route in module.router.routes:
            assert isinstance(route, APIRoute), f"{module.__name__} has a route of another kind: {route}"
            for method in sorted(route.methods):
                yield Operation(method, route.path)
