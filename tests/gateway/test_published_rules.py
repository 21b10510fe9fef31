"""What scored a tenant at a moment that is over: models and settings of then, a tenant's own before everybody's."""

from datetime import UTC, datetime

import pytest

from authoring.active_models import ActiveRules
from gateway.api.published_rules import rules_then
from scoring.features.calendar import calendar
from scoring.lifecycle.lifecycle import built_in_lifecycle

TODAY = ActiveRules({}, calendar("Asia/Dubai"), 45 * 60_000, "the lifecycle of today")
AT = datetime(2026, 3, 1, tzinfo=UTC)


def settings_of(tenant, time_zone, idle_minutes=30, lifecycle=""):
    return {
        "tenant": tenant,
        "version": 1,
        "recorded_at": AT,
        "time_zone": time_zone,
        "idle_minutes": idle_minutes,
        "lifecycle": lifecycle,
    }


@pytest.mark.parametrize(
    ("settings", "zone", "idle_minutes", "lifecycle"),
    [
        ([], "Asia/Dubai", 45, "the lifecycle of today"),
        ([settings_of("*", "UTC")], "UTC", 30, built_in_lifecycle()),
        (
            [settings_of("*", "UTC"), settings_of("acme", "Europe/Berlin", 20, "own")],
            "Europe/Berlin",
            20,
            "own",
        ),
        (
            [settings_of("acme", "Europe/Berlin"), settings_of("*", "UTC")],
            "Europe/Berlin",
            30,
            built_in_lifecycle(),
        ),
    ],
)
def test_settings_are_those_of_then(settings, zone, idle_minutes, lifecycle):
    rules, versions = rules_then(TODAY, [], settings)
    assert (rules.zone.time_zone, rules.idle_ms, rules.lifecycle) == (zone, idle_minutes * 60_000, lifecycle)
    assert versions == {}
