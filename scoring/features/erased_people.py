"""The people who were erased, as keyed hashes of what names them: ids, e-mail addresses and phone numbers.

The hashes show nobody who a person was; they only recognise the same name again. Each tenant has a secret key (the salt) of its
own. Pure: records bring salt and hashes.
"""

from collections.abc import Iterable, Iterator
from hashlib import blake2b
from typing import Final, Literal, NamedTuple

from schemas.envelope import ANONYMOUS_PREFIX, Event
from schemas.events import LeadsMerged
from scoring.features.signals import profile_fields_of

NameKind = Literal["visitor", "lead", "email", "phone"]
HASH_BYTES: Final = 8


class PersonName(NamedTuple):
    """One of the names by which events name a person."""

    kind: NameKind
    value: str


def canonical_name(name: PersonName) -> PersonName:
    """The same for every way of writing a name: an anonymous lead is its visitor, e-mail is lower case, a number its digits."""
    match name.kind:
        case "lead" if name.value.startswith(ANONYMOUS_PREFIX):
            return PersonName("visitor", name.value.removeprefix(ANONYMOUS_PREFIX))
        case "email":
            return PersonName("email", name.value.strip().lower())
        case "phone":
            return PersonName("phone", "".join(filter(str.isdigit, name.value)).lstrip("0"))
        case "lead" | "visitor":
            return name


def hash_of_name(salt: bytes, name: PersonName) -> bytes:
    kind, value = canonical_name(name)
    return blake2b(f"{kind}/{value}".encode(), key=salt, digest_size=HASH_BYTES).digest()


def names_in_event(event: Event) -> Iterator[PersonName]:
    """Whom the event names: the people of whom it must not be kept if they were erased."""
    if event.visitor_id is not None:
        yield PersonName("visitor", event.visitor_id)
    if event.lead_id is not None:
        yield PersonName("lead", event.lead_id)
    if isinstance(event, LeadsMerged):
        yield PersonName("lead", event.into)
    fields = profile_fields_of(event)
    if isinstance(email := fields.get("email"), str) and email:
        yield PersonName("email", email)
    if isinstance(phone := fields.get("phone"), str) and canonical_name(PersonName("phone", phone)).value:
        yield PersonName("phone", phone)


class ErasedPeople:
    """The erased people of all tenants. Cheap to ask while a tenant has none."""

    def __init__(self) -> None:
        self._salts: dict[str, bytes] = {}
        self._hashes: dict[str, set[bytes]] = {}

    def __bool__(self) -> bool:
        return bool(self._salts)

    def remember(self, tenant: str, salt: bytes, hashes: Iterable[bytes]) -> set[bytes]:
        """Returns those that are new. A tenant has one salt, the first: hashes of another one would recognise nobody."""
        if self._salts.setdefault(tenant, salt) != salt:
            return set()
        remembered = self._hashes.setdefault(tenant, set())
        new = set(hashes) - remembered
        remembered |= new
        return new

    def salt(self, tenant: str) -> bytes | None:
        return self._salts.get(tenant)

    def hashes(self, tenant: str) -> frozenset[bytes]:
        return frozenset(self._hashes.get(tenant, ()))

    def contains(self, tenant: str, name: PersonName) -> bool:
        salt = self._salts.get(tenant)
        return salt is not None and hash_of_name(salt, name) in self._hashes[tenant]

    def is_named_in(self, event: Event) -> bool:
        """Whether the event names an erased person."""
        if event.tenant not in self._salts:
            return False
        return any(self.contains(event.tenant, name) for name in names_in_event(event))


def is_key_erased(people: ErasedPeople, key: str) -> bool:
    """Whether the visitor or lead of the key (`TENANT/v/VISITOR`, `TENANT/l/LEAD`) was erased."""
    if not people:
        return False
    tenant, id_kind, name = key.split("/", 2)
    return people.contains(tenant, PersonName("visitor" if id_kind == "v" else "lead", name))
