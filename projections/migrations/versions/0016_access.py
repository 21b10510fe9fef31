"""Keys, people, their sessions, and the audit log, which nobody can change afterwards."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"

TEXT = sa.Text(collation="C")
MOMENT = sa.DateTime(timezone=True)

APPEND_ONLY = """
create function public.refuse_audit_change() returns trigger language plpgsql as $$
begin
  if tg_op = 'DELETE' and current_setting('leadstream.audit_retention', true) = 'on' then
    return old;
  end if;
  raise exception 'the audit log is append-only' using errcode = 'restrict_violation';
end $$;
create trigger audit_log_append_only before update or delete on public.audit_log
  for each row execute function public.refuse_audit_change();
create trigger audit_log_not_emptied before truncate on public.audit_log
  for each statement execute function public.refuse_audit_change();
"""


def required(name: str, type_: Any) -> sa.Column[Any]:
    return sa.Column(name, type_, nullable=False, autoincrement=False)


def upgrade() -> None:
    op.create_table(
        "api_keys",
        *(required(name, TEXT) for name in ("key_id", "tenant", "name", "scopes", "digest")),
        required("created_at", MOMENT),
        required("created_by", TEXT),
        sa.Column("expires_at", MOMENT),
        sa.Column("revoked_at", MOMENT),
        sa.Column("last_used_at", MOMENT),
        sa.Column("replaces", TEXT),
        sa.PrimaryKeyConstraint("key_id"),
        schema="public",
        comment="keys that were made; of a secret only its digest",
    )
    op.create_index("api_keys_digest", "api_keys", ["digest"], unique=True, schema="public")
    op.create_index("api_keys_tenant", "api_keys", ["tenant", "created_at"], schema="public")
    op.create_table(
        "users",
        *(required(name, TEXT) for name in ("user_id", "tenant", "email", "name", "role")),
        sa.Column("password_hash", TEXT),
        sa.Column("oidc_issuer", TEXT),
        sa.Column("oidc_subject", TEXT),
        required("created_at", MOMENT),
        required("created_by", TEXT),
        sa.Column("disabled_at", MOMENT),
        sa.Column("last_signed_in_at", MOMENT),
        sa.PrimaryKeyConstraint("user_id"),
        schema="public",
        comment="people who may sign in, with their roles",
    )
    op.create_index("users_email", "users", ["email"], unique=True, schema="public")
    op.create_index("users_oidc", "users", ["oidc_issuer", "oidc_subject"], unique=True, schema="public")
    op.create_table(
        "user_sessions",
        required("digest", TEXT),
        required("user_id", TEXT),
        required("created_at", MOMENT),
        required("last_seen_at", MOMENT),
        required("expires_at", MOMENT),
        required("address", TEXT),
        sa.PrimaryKeyConstraint("digest"),
        schema="public",
        comment="browsers that people have signed in with; of a cookie only its digest",
    )
    op.create_index("user_sessions_user", "user_sessions", ["user_id"], schema="public")
    op.create_index("user_sessions_expiry", "user_sessions", ["expires_at"], schema="public")
    op.create_table(
        "sign_in_attempts",
        required("subject", TEXT),
        required("attempts", sa.Integer),
        required("last_at", MOMENT),
        sa.Column("locked_until", MOMENT),
        sa.PrimaryKeyConstraint("subject"),
        schema="public",
        comment="attempts to sign in, by account and by address, for the lock-out; a day",
    )
    op.create_index("sign_in_attempts_last", "sign_in_attempts", ["last_at"], schema="public")
    op.create_table(
        "audit_log",
        sa.Column("entry_id", sa.BigInteger, sa.Identity(always=True), nullable=False),
        required("tenant", TEXT),
        required("at", MOMENT),
        required("actor", TEXT),
        required("action", TEXT),
        *(sa.Column(name, TEXT) for name in ("target", "before", "after", "address")),
        required("outcome", TEXT),
        sa.PrimaryKeyConstraint("entry_id"),
        schema="public",
        comment="who changed what, signed in or was refused; append-only, personal data masked",
    )
    op.create_index("audit_log_tenant", "audit_log", ["tenant", "entry_id"], schema="public")
    op.execute(APPEND_ONLY)
