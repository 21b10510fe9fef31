"""Secrets of the configuration: they come from the environment or a file, and never show in a message or a log."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

MOST_SECRET_BYTES = 65_536


class SecretText:
    """A secret; only `reveal` shows it."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return "SecretText(***)"


def read_secret(reference: str, environment: Mapping[str, str], folder: Path) -> SecretText:
    """The secret that `env:NAME` or `file:PATH` names; a relative path begins at `folder`. Raises ValueError, which names
    the reference and never the secret.
    """
    kind, _, name = reference.partition(":")
    match kind:
        case "env":
            text = environment.get(name, "")
            if not text.strip():
                raise ValueError(f"the environment variable {name!r} is not set")
        case "file":
            try:
                with (folder / name).open("rb") as file:
                    data = file.read(MOST_SECRET_BYTES + 1)
                text = data.decode()
            except (OSError, UnicodeDecodeError) as cause:
                reason = cause.strerror if isinstance(cause, OSError) else "it is not UTF-8"
                raise ValueError(f"the file {name!r} cannot be read ({reason})") from None
            if not text.strip() or len(data) > MOST_SECRET_BYTES:
                raise ValueError(f"the file {name!r} is empty or longer than {MOST_SECRET_BYTES} bytes")
        case _:
            raise ValueError("a secret is not written here: write env:NAME, or file:PATH")
    return SecretText(text.strip())


def environment_variables() -> Mapping[str, str]:
    """The environment of this process."""
    return os.environ


def secret_hook(environment: Mapping[str, str], folder: Path) -> Any:
    """A `dec_hook` of msgspec that reads fields of the type SecretText."""

    def decode(kind: type, value: Any) -> Any:
        if kind is not SecretText:
            raise NotImplementedError(f"{kind} is no type of the configuration")
        if not isinstance(value, str):
            raise TypeError("expected a text: env:NAME, or file:PATH")
        return read_secret(value, environment, folder)

    return decode
