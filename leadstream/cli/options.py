"""What the commands share as they are read: where the store is, whose leads, and the commands themselves,
which are loaded when one runs, so that --help answers at once.
"""

import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer


def _when_needed(name: str) -> Any:
    """The module, loaded when something in it is first asked for."""
    spec = importlib.util.find_spec(name)
    if spec is None or spec.loader is None:
        raise ModuleNotFoundError(name)
    spec.loader = importlib.util.LazyLoader(spec.loader)
    sys.modules[name] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


if TYPE_CHECKING:
    from leadstream import commands as commands  # noqa: PLC0414 - exported to the parts of the command line
    from leadstream.settings import Settings
else:
    commands = _when_needed("leadstream.commands")

DataDir = Annotated[
    Path | None,
    typer.Option(
        "--data-dir", help="Directory of the embedded store; else LEADSTREAM_DATA_DIR.", show_default=False
    ),
]
DatabaseUrl = Annotated[
    str | None,
    typer.Option(
        "--database-url",
        help="A PostgreSQL of your own instead; else LEADSTREAM_DATABASE_URL.",
        show_default=False,
    ),
]


def tenant_named(value: str) -> str:
    if not commands.is_tenant(value):
        raise typer.BadParameter("lower-case letters, digits and -, at most 32")
    return value


Tenant = Annotated[str, typer.Option("--tenant", help="Whose they are.", callback=tenant_named)]


def settings_from(**given: object) -> "Settings":
    return commands.settings_from(**given)
