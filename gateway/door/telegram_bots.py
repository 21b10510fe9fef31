"""The bots of Telegram whose updates become events: names, tenants and secrets, as the settings have them.

A secret says that an update comes from Telegram; a token is the bot's own password. Neither is ever shown.
"""

import hmac
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from gateway.access import TENANT_NAME_PATTERN

NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")
SECRET = re.compile(r"[A-Za-z0-9_-]{16,256}")
TOKEN = re.compile(r"[0-9]{1,20}:[A-Za-z0-9_-]{20,128}")
SECRET_HEADER = "X-Telegram-Bot-Api-Secret-Token"  # noqa: S105 - the name of a header
TELEGRAM_API = "https://api.telegram.org"


@dataclass(frozen=True)
class TelegramBot:
    name: str
    tenant: str
    secret: str = field(repr=False)
    token: str = field(repr=False)
    replies: bool = False
    """The bot asks the questions of the flow."""

    def has_secret(self, stated: str) -> bool:
        """Compares in constant time."""
        return hmac.compare_digest(self.secret.encode(), stated.encode())


def with_replies(bots: Mapping[str, TelegramBot], replying: Iterable[str]) -> Mapping[str, TelegramBot]:
    """The bots, of which those of these names reply. Raises ValueError."""
    names = set(replying)
    for name in sorted(names - bots.keys()):
        listed = f"it lists {', '.join(bots)}" if bots else "it is not set"
        raise ValueError(f"LEADSTREAM_TELEGRAM_BOTS has no bot {name[:40]!r}: {listed}")
    return {name: replace(bot, replies=name in names) for name, bot in bots.items()}


def read_bots(texts: Iterable[str]) -> Mapping[str, TelegramBot]:
    """Bots by name, from `TENANT:NAME:SECRET:TOKEN`. Raises ValueError, which repeats no secret."""
    bots: dict[str, TelegramBot] = {}
    for number, text in enumerate(texts, 1):
        tenant, _, rest = text.partition(":")
        name, _, rest = rest.partition(":")
        secret, _, token = rest.partition(":")
        which = f"bot {number}"
        if not TENANT_NAME_PATTERN.fullmatch(tenant):
            raise ValueError(
                f"{which}: it must begin with its tenant (lower-case letters, digits, -) and a colon"
            )
        if not NAME.fullmatch(name):
            raise ValueError(f"{which}: the name is 1 to 32 lower-case letters, digits, _ and -")
        if not SECRET.fullmatch(secret):
            raise ValueError(f"{which}: the secret is 16 to 256 letters, digits, _ and -")
        if not TOKEN.fullmatch(token):
            raise ValueError(
                f"{which}: the token is what @BotFather has given: digits, a colon, letters and digits"
            )
        if name in bots:
            raise ValueError(f"{which}: there is a bot of this name already")
        if any(bot.token == token for bot in bots.values()):
            raise ValueError(f"{which}: another bot has this token already")
        bots[name] = TelegramBot(name, tenant, secret, token)
    return bots
