"""Text as a person sees it: what is pasted from a mail, a contact or a web page carries marks that nobody sees.

Pure. The cost is linear for the bounded texts that it is used on.
"""

import unicodedata
from typing import Final

import regex

_INVISIBLE_CHARACTERS: Final = regex.compile(
    r"[\p{Default_Ignorable_Code_Point}\p{Cf}\p{Cc}\uFFFC--\s]+", regex.VERSION1
)
"""Zero-width and direction marks, byte order marks, soft hyphens, variation selectors, control characters."""
_SPACES: Final = regex.compile(r"[\s\u2800]+")


def visible_text(text: str) -> str:
    """The text without unseen characters, with full-width and other compatible forms of letters, digits and signs
    as plain ones (NFKC, Unicode Standard Annex 15), each run of spaces as one space, and none at either end.
    """
    seen: str = _SPACES.sub(" ", _INVISIBLE_CHARACTERS.sub("", unicodedata.normalize("NFKC", text)))
    return seen.strip()
