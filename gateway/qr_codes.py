"""The picture of a QR code, as SVG for print and as PNG. Pure; it may take tenths of a second for a long address."""

from functools import lru_cache
from io import BytesIO
from typing import Final, Literal

import segno

ErrorCorrection = Literal["l", "m", "q", "h"]
"""How much of the code may be damaged: 7, 15, 25 or 30 %."""
QUIET_ZONE: Final = 4
"""Modules around a code that stay empty, as ISO/IEC 18004 demands."""
LONGEST_CONTENT: Final = 600
"""Characters. A longer one fits, but people's phones hardly read it."""


@lru_cache(maxsize=64)
def qr_svg(content: str, error: ErrorCorrection) -> bytes:
    """Without a size: it fills the room that it gets."""
    file = BytesIO()
    _code(content, error).save(file, kind="svg", border=QUIET_ZONE, light="white", omitsize=True)
    return file.getvalue()


@lru_cache(maxsize=64)
def qr_png(content: str, error: ErrorCorrection, size: int) -> bytes | None:
    """As large as whole pixels per module allow within `size`; None: `size` is too small for one pixel each."""
    code = _code(content, error)
    scale = size // code.symbol_size(border=QUIET_ZONE)[0]
    if scale < 1:
        return None
    file = BytesIO()
    code.save(file, kind="png", border=QUIET_ZONE, scale=scale)
    return file.getvalue()


def _code(content: str, error: ErrorCorrection) -> segno.QRCode:
    return segno.make_qr(content, error=error)
