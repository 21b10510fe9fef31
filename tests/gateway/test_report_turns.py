"""How many expensive reports one tenant may have made at the same time."""

import asyncio

import pytest

from gateway.answers import RequestProblem
from gateway.api import (
    analytics,
    attribution,
    attribution_summary,
    engagement_summary,
    journeys,
    lead_quality,
    services,
)
from gateway.api.services import REPORTS_AT_ONCE, ApiServices, report_turn, take_report_turn


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.mark.anyio
async def test_a_tenants_reports_wait_for_their_turn_and_others_do_not_wait_for_them(monkeypatch):
    monkeypatch.setattr(services, "REPORT_TURN_SECONDS", 0.01)
    api = ApiServices(*[None] * 4)
    done = asyncio.Event()

    async def report():
        async with report_turn(api, "acme"):
            await done.wait()
            raise ZeroDivisionError

    running = [asyncio.create_task(report()) for _ in range(REPORTS_AT_ONCE)]
    await asyncio.sleep(0)
    with pytest.raises(RequestProblem, match="ask for fewer at once") as refused:
        async with report_turn(api, "acme"):
            pass
    assert (refused.value.status, refused.value.retry_after_s) == (503, 2)
    async with report_turn(api, "globex"):
        pass
    done.set()
    ended = await asyncio.gather(*running, return_exceptions=True)
    assert [type(each) for each in ended] == [ZeroDivisionError] * REPORTS_AT_ONCE
    async with report_turn(api, "acme"):  # a report that fails gives its turn back
        pass


def test_every_report_takes_a_turn():
    for module in (analytics, lead_quality, engagement_summary, attribution, attribution_summary, journeys):
        for route in module.router.routes:
            if "GET" in route.methods:
                taken = [each.call for each in route.dependant.dependencies]
                assert take_report_turn in taken, route.path
