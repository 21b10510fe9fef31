"""What a caller may do: scopes, the roles of people, and the scope that each route needs.

A route that is missing in ROUTE_SCOPES needs `admin`, and a test fails. A slash at the end of an address changes nothing:
the table is looked up by the route that has matched, never by the address as it was sent.
"""

from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Final

COLLECT_SCOPE: Final = "collect"
"""To send events. A key with this scope alone is public: pages and apps contain it."""
READ_SCOPE: Final = "read"
WRITE_SCOPE: Final = "write"
"""To change leads, also by the events of staff."""
AUTHOR_SCOPE: Final = "author"
"""To publish models, rules and texts."""
ADMIN_SCOPE: Final = "admin"
"""To manage keys and people, and to read the audit log; it includes the others of the tenant."""
METRICS_SCOPE: Final = "metrics"
"""To see what concerns every tenant."""

TENANT_SCOPES: Final = (COLLECT_SCOPE, READ_SCOPE, WRITE_SCOPE, AUTHOR_SCOPE, ADMIN_SCOPE)
SCOPES: Final = frozenset({*TENANT_SCOPES, METRICS_SCOPE})
INCLUDED_SCOPES: Final[Mapping[str, Collection[str]]] = MappingProxyType(
    {
        WRITE_SCOPE: (COLLECT_SCOPE,),
        ADMIN_SCOPE: (COLLECT_SCOPE, READ_SCOPE, WRITE_SCOPE, AUTHOR_SCOPE),
    }
)
SETTING_SCOPES: Final[Mapping[str, Collection[str]]] = MappingProxyType({WRITE_SCOPE: (AUTHOR_SCOPE,)})
"""What a scope includes beyond that in LEADSTREAM_API_TOKENS, whose `write` is older than `author`."""

ROLE_SCOPES: Final[Mapping[str, frozenset[str]]] = MappingProxyType(
    {
        "viewer": frozenset({READ_SCOPE}),
        "sales": frozenset({READ_SCOPE, WRITE_SCOPE}),
        "marketer": frozenset({READ_SCOPE, WRITE_SCOPE, AUTHOR_SCOPE}),
        "admin": frozenset({ADMIN_SCOPE}),
    }
)


def with_included(scopes: Collection[str]) -> frozenset[str]:
    return frozenset(scopes).union(*(INCLUDED_SCOPES.get(scope, ()) for scope in scopes))


NO_KEY: Final = "none"
"""The route takes no key of ours: gateway.openapi.KEYLESS and the pages say why."""
ANY_CALLER: Final = "any"
"""Whoever has a key or is signed in."""
COLLECT_OR_READ: Final = "collect or read"
"""What a chat asks: for its page, and for readers."""
METRICS_OR_READ: Final = "metrics or read"
"""Read is enough where there is one tenant."""

_ROUTES_BY_SCOPE: Final[Mapping[str, str]] = MappingProxyType(
    {
        NO_KEY: """
            GET /
            GET /leads/{lead_id:path}
            GET /inbox
            GET /demo
            GET /demo/{page}
            GET /lead-analytics
            GET /models
            GET /models/{name:path}
            GET /workflows
            GET /workflows/{number}
            GET /experiments
            GET /experiments/{name}
            GET /flows
            GET /inspector
            GET /operations
            GET /flows/{name}
            GET /admin
            GET /admin/{path:path}
            GET /docs
            GET /static/{name:path}
            GET /health
            GET /ready
            GET /track.js
            GET /chat.js
            GET /l/{token}
            GET /o/{token}.gif
            GET /sign-in
            POST /sign-in
            POST /sign-out
            GET /sign-in/oidc
            GET /sign-in/oidc/callback
            POST /v1/telegram/{bot}
            GET /v1/whatsapp/{number}
            POST /v1/whatsapp/{number}
            GET /v1/chats/{chat}
            POST /v1/chats/{chat}
            POST /v1/crm/{crm}
        """,
        ANY_CALLER: """
            GET /api/session
        """,
        METRICS_OR_READ: """
            GET /metrics
        """,
        COLLECT_SCOPE: """
            POST /v1/events
            POST /api/ab-test/variant/{test_name}
            POST /api/ab-test/conversion
            POST /api/session/start
            POST /api/answer
            POST /api/behavior
            POST /api/lead/profile
        """,
        COLLECT_OR_READ: """
            GET /api/questions
            GET /api/product-menu
            GET /api/cta-options
        """,
        READ_SCOPE: """
            GET /api/analytics/leads
            GET /api/call-list/counts
            GET /api/call-list/reasons
            GET /api/changes
            GET /api/crm
            GET /api/enrichment
            GET /api/lead/summary/{session_id:path}
            GET /api/lead/export/{session_id:path}
            GET /api/score/{session_id:path}
            GET /api/events/{event_id:path}
            GET /api/experiments
            GET /api/experiments/{name}
            GET /api/experiments/{name}/leads
            GET /api/experiments/{name}/versions
            POST /api/experiments/{name}/check
            POST /api/experiments/{name}/try
            GET /api/flows
            GET /api/inspector/events
            POST /api/flows/{name}/check
            POST /api/flows/{name}/preview
            GET /api/lead-qualification/lead-scores
            GET /api/lead-qualification/lead-scores/distribution
            GET /api/lead-qualification/lead-scores/history
            GET /api/lead-qualification/lead-scores/recalculations
            GET /api/lead-qualification/profile-fields
            GET /api/lead-qualification/qualification-criteria
            GET /api/lead-qualification/qualification-criteria/{number:int}
            POST /api/lead-qualification/qualification-criteria/{number:int}/check
            GET /api/lead-qualification/scoring-rules
            GET /api/lead-qualification/scoring-rules/history
            GET /api/lead-qualification/scoring-rules/{number:int}
            POST /api/lead-qualification/scoring-rules/test_rule
            POST /api/lead-qualification/scoring-rules/{number:int}/test_rule
            POST /api/lead-score/session
            GET /api/lead-score/session/{session_id:path}
            POST /api/lead-score/user
            GET /api/lead-tracking/analytics/cohort
            GET /api/lead-tracking/analytics/deciles
            GET /api/lead-tracking/analytics/distribution
            GET /api/lead-tracking/analytics/funnel
            GET /api/lead-tracking/analytics/lead-quality
            GET /api/lead-tracking/analytics/speed-to-contact
            GET /api/lead-tracking/analytics/touchpoints-to-conversion
            GET /api/lead-tracking/attribution/stats/summary
            GET /api/lead-tracking/attribution/{lead_id:path}
            GET /api/lead-tracking/engagement/stats/summary
            GET /api/lead-tracking/engagement/{lead_id:path}/history
            GET /api/lead-tracking/journey/stats/overview
            GET /api/lead-tracking/journey/{lead_id:path}
            GET /api/lead-tracking/lifecycle/rules
            GET /api/lead-tracking/lifecycle/{lead_id:path}/current
            GET /api/lead-tracking/lifecycle/{lead_id:path}/history
            GET /api/lead-tracking/scoring/{lead_id:path}
            GET /api/lead-tracking/summaries
            GET /api/lead-tracking/summaries/{lead_id:path}
            GET /api/leads
            GET /api/leads/{lead_id:path}
            GET /api/leads/{lead_id:path}/ledger
            GET /api/links/{token}
            GET /api/links/{token}/qr.png
            GET /api/links/{token}/qr.svg
            GET /api/models
            GET /api/models/{name}
            GET /api/models/{name}/drafts
            GET /api/models/{name}/drafts/{number}
            GET /api/models/{name}/progress
            GET /api/models/{name}/versions
            POST /api/models/{name}/what-if
            POST /api/models/{name}/preview
            POST /api/models/{name}/check
            POST /api/models/{name}/test
            GET /api/tenants/{tenant}/leads
            GET /v1/telegram/{bot}/files/{file_id}
            GET /api/lead-qualification/workflows/statistics
            GET /api/lead-qualification/workflows
            GET /api/lead-qualification/workflows/{number:int}
            GET /api/lead-qualification/workflows/{number:int}/history
            POST /api/lead-qualification/workflows/{number:int}/test
            GET /api/lead-qualification/workflow-executions/recent
            GET /api/lead-qualification/workflow-executions
            GET /api/lead-qualification/workflow-executions/{number:int}
            GET /api/workflows
            GET /api/workflows/versions
            POST /api/workflows/preview
            GET /api/workflows/drafts
            GET /api/workflows/drafts/{number}
            GET /api/notifications
            GET /api/notifications/{number:int}
        """,
        WRITE_SCOPE: """
            POST /api/lead-qualification/lead-scores/bulk_calculate
            GET /api/lead-qualification/lead-scores/bulk_calculate/{recalculation_id}
            POST /api/lead-qualification/lead-scores/calculate
            POST /api/lead-score/session/update
            POST /api/lead-score/user/update
            POST /api/lead-tracking/attribution/{lead_id:path}/calculate
            POST /api/lead-tracking/engagement/{lead_id:path}
            POST /api/lead-tracking/lifecycle/{lead_id:path}/transition
            POST /api/lead-tracking/scoring/bulk-calculate
            GET /api/lead-tracking/scoring/bulk-calculate/{recalculation_id}
            POST /api/lead-tracking/scoring/{lead_id:path}/calculate
            POST /api/links
            POST /api/links/email
            POST /api/lead-qualification/workflows/{number:int}/run
            POST /api/lead-qualification/workflows/{number:int}/test-send
            POST /api/lead-qualification/workflow-executions/{number:int}/retry
            POST /api/notifications/read
            POST /api/notifications/{number:int}/read
            POST /api/notifications/{number:int}/unread
        """,
        AUTHOR_SCOPE: """
            POST /api/lead-qualification/qualification-criteria
            PUT /api/lead-qualification/qualification-criteria/{number:int}
            PATCH /api/lead-qualification/qualification-criteria/{number:int}
            DELETE /api/lead-qualification/qualification-criteria/{number:int}
            POST /api/lead-qualification/qualification-criteria/{number:int}/activate
            POST /api/lead-qualification/qualification-criteria/{number:int}/deactivate
            POST /api/lead-qualification/scoring-rules
            PUT /api/lead-qualification/scoring-rules/{number:int}
            PATCH /api/lead-qualification/scoring-rules/{number:int}
            DELETE /api/lead-qualification/scoring-rules/{number:int}
            POST /api/lead-qualification/scoring-rules/{number:int}/activate
            POST /api/lead-qualification/scoring-rules/{number:int}/deactivate
            DELETE /api/models/{name}
            POST /api/models/{name}/drafts
            PUT /api/models/{name}/drafts/{number}
            DELETE /api/models/{name}/drafts/{number}
            POST /api/models/{name}/drafts/{number}/publish
            POST /api/models/{name}/backtest
            POST /api/models/{name}/publish
            POST /api/models/{name}/rollback
            POST /api/lead-qualification/workflows
            PUT /api/lead-qualification/workflows/{number:int}
            PATCH /api/lead-qualification/workflows/{number:int}
            DELETE /api/lead-qualification/workflows/{number:int}
            POST /api/lead-qualification/workflows/{number:int}/activate
            POST /api/lead-qualification/workflows/{number:int}/deactivate
            POST /api/experiments/{name}/publish
            POST /api/experiments/{name}/start
            POST /api/experiments/{name}/stop
            POST /api/experiments/{name}/rollback
            POST /api/workflows/publish
            POST /api/workflows/rollback
            POST /api/workflows/drafts
            PUT /api/workflows/drafts/{number}
            DELETE /api/workflows/drafts/{number}
            POST /api/workflows/drafts/{number}/publish
        """,
        ADMIN_SCOPE: """
            GET /api/audit
            GET /api/dead-letters
            POST /api/dead-letters/retry
            GET /api/operations
            GET /api/keys
            POST /api/keys
            DELETE /api/keys/{key_id}
            POST /api/keys/{key_id}/rotate
            GET /api/users
            POST /api/users
            PATCH /api/users/{user_id}
            POST /api/users/{user_id}/password
            POST /api/erasures
            GET /api/erasures
            GET /api/erasures/{erasure_id}
            DELETE /api/leads/{lead_id:path}
            POST /api/person-exports
        """,
    }
)

ROUTE_SCOPES: Final[Mapping[str, str]] = MappingProxyType(
    {
        " ".join(line.split()): scope
        for scope, lines in _ROUTES_BY_SCOPE.items()
        for line in lines.strip().splitlines()
    }
)
"""By method and path of the route, without a slash at the end."""


def scope_of_route(method: str, path: str) -> str:
    """The scope that a route needs. `path` is that of the route, with its parameters' names."""
    if method == "OPTIONS":
        return NO_KEY  # the question of a browser, which never has a key
    method = "GET" if method == "HEAD" else method
    return ROUTE_SCOPES.get(f"{method} {path.rstrip('/') or '/'}", ADMIN_SCOPE)
