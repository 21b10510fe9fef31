"""What the settings of a store say about the privacy of imported events."""

from leadstream.active_models import active_by_shard
from leadstream.console import Failure
from leadstream.operations.imports import ImportPrivacy
from leadstream.settings import Settings
from scoring.models.active import ActiveModels


def import_privacy(settings: Settings, database_url: str, *, visitor_ids_made: bool = False) -> ImportPrivacy:
    """`visitor_ids_made`: the import makes ids of addresses. Raises Failure if those would betray what is cut off."""
    key = settings.visitor_id_key
    if visitor_ids_made and key is None and settings.ip_truncation != "none":
        raise Failure(
            "LEADSTREAM_IP_TRUNCATION is set, and an access log knows its visitors by their addresses alone: set "
            "LEADSTREAM_VISITOR_ID_KEY to a secret (openssl rand -hex 32), else the ids would betray the addresses."
        )
    shards = active_by_shard(database_url, first_only=True)
    published = shards[0] if shards else ActiveModels()
    return ImportPrivacy(
        settings.ip_truncation,
        b"" if key is None else key.get_secret_value().encode(),
        lambda tenant: published.settings_of(tenant).consent_required_since,
    )
