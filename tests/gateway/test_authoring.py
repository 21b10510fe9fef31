"""Publishing on a real PostgreSQL: versions are never shared, no edit is lost, a crash is made good."""

import asyncio
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta

import psycopg
import pytest
from authors import START, Desks, text

from authoring.problem import Problem
from authoring.publisher import MOST_CONNECTIONS
from authoring.schedule import publish_scheduled
from gateway.answers import status_of
from gateway.ports import LogUnavailable
from schemas.control import ModelPublished, ModelRetired
from scoring.features.comparison import NEWEST_COMPARISON
from scoring.models.active import RETIRED_MODEL_TEXT, ActiveModels, ModelVersion, TenantSettings
from scoring.models.model import built_in_models
from tests.forked_programs import run

pytestmark = [pytest.mark.postgres, pytest.mark.anyio]

THREADS, EDITS = 6, 4


@pytest.fixture
def desks(database_url):
    return Desks(database_url)


def say(line):
    return lambda before: f"{before or text()}# {line}\n"


async def refused(call):
    with pytest.raises(Problem) as caught:
        await call
    return caught.value


async def test_the_first_publication_of_a_tenant_begins_with_the_text_of_everybody(desks):
    authoring = desks.authoring()
    said = await authoring.publish(
        "acme", "rules", say("ours"), by="ada", note="why", change="rule_created 5"
    )
    assert said.version == 2, "above everybody's, which the tenant had until now"
    assert said.text == built_in_models()["rules"] + "# ours\n"
    assert await authoring.text("acme", "rules") == (2, said.text)
    assert await authoring.text("globex", "rules") == (1, built_in_models()["rules"])
    (published,) = desks.events
    assert published == ModelPublished(
        tenant="acme",
        recorded_at=START,
        model="rules",
        version=2,
        text=said.text,
        by="ada",
        note="why",
        change="rule_created 5",
        folding=NEWEST_COMPARISON.folding,
    )


async def test_concurrent_publishers_share_no_version_and_lose_no_edit(desks):
    def publisher(number):
        authoring = desks.authoring()  # one each, as in gateways of their own
        for edit in range(EDITS):
            asyncio.run(authoring.publish("acme", "house", say(f"{number}/{edit}"), by=str(number)))

    with ThreadPoolExecutor(THREADS) as threads:
        for each in [threads.submit(publisher, number) for number in range(THREADS)]:
            each.result(120)
    every = THREADS * EDITS
    assert [said.version for said in desks.events] == list(range(1, every + 1))
    version, final = await desks.authoring().text("acme", "house")
    assert version == every
    written = {line for line in final.splitlines() if line.startswith("#")}
    assert written == {f"# {number}/{edit}" for number in range(THREADS) for edit in range(EDITS)}
    history = await desks.authoring().history("acme", "house", texts_of=range(1, every + 1))
    by_version = {each.version: each.text for each in history}
    assert by_version == {said.version: said.text for said in desks.events}


KILLED = """
import asyncio, os, sys
sys.path.append("tests/gateway")
from authors import Desks, text
desks = Desks(sys.argv[1])
async def die(records):
    if sys.argv[2] == "after": await desks.append(records)
    os._exit(9)
asyncio.run(desks.authoring(die).publish("acme", "house", lambda _: text(7), by="victim", note="kept"))
"""


@pytest.mark.parametrize("when", ["before", "after"])
async def test_what_a_killed_publisher_left_is_appended_by_whoever_comes_next(desks, when):
    program = [sys.executable, "-c", KILLED, desks.url, when]
    killed = await asyncio.to_thread(run, program, stdin=b"", timeout=120, env=os.environ)
    assert killed.returncode == 9
    said = await desks.authoring().publish("acme", "house", say("after it"), by="ada")
    assert said.version == 2
    assert said.text == text(7) + "# after it\n"
    assert [(each.version, each.by, each.note) for each in desks.events] == [
        (1, "victim", "kept"),
        (2, "ada", None),
    ]
    assert [each.version for each in await desks.authoring().history("acme", "house")] == [2, 1]
    assert await publish_scheduled(desks.authoring()) == []
    assert len(desks.events) == 2


async def test_while_the_log_is_away_a_publication_stays_on_record_and_is_made_up_for(desks):
    async def away(_records):
        raise LogUnavailable("no log")

    broken = desks.authoring(away)
    first = await refused(broken.publish("acme", "house", lambda _: text(1), by="ada"))
    assert (status_of(first), first.retry_after_s) == (503, None)
    assert "version 1 of house is on record" in first.reason
    again = await refused(broken.publish("acme", "house", lambda _: text(2), by="ada"))
    assert "version 1 of house" in again.reason, "and the second was not even begun"
    assert desks.events == []
    assert await desks.authoring().models_to_publish() == [("acme", "house")]
    await publish_scheduled(desks.authoring())
    assert [(said.version, said.text) for said in desks.events] == [(1, text(1))]
    assert await desks.authoring().models_to_publish() == []


async def test_versions_go_on_from_what_shards_have_and_nobody_recorded(desks):
    async def shards(_wanted):
        held = {
            "*": {"rules": ModelVersion(3, text(name="rules"))},
            "acme": {"house": ModelVersion(7, text(7))},
        }
        return [ActiveModels({}), ActiveModels(held)]

    authoring = desks.authoring(shards=shards)
    assert [each.version for each in await authoring.history("acme", "house")] == [7]
    assert (await authoring.publish("acme", "house", say("on"), by=None)).version == 8
    assert (await authoring.publish("*", "rules", say("on"), by=None)).version == 4
    assert [each.version for each in await authoring.history("acme", "house")] == [8, 7]


async def test_nothing_is_published_while_it_is_not_known_what_is_in_force(desks):
    async def shards(_wanted):
        return []

    problem = await refused(desks.authoring(shards=shards).publish("acme", "rules", say("x"), by=None))
    assert status_of(problem) == 503
    assert desks.events == []


@pytest.mark.parametrize(
    ("written", "reason"),
    [
        (
            'model = "house"\n[groups.g]\nrules = [{ name = "x", each = "qr_scanned", points = "many" }]',
            "line 3",
        ),
        (text(name="other"), "of the model 'other', not of 'house'"),
    ],
)
async def test_a_text_with_a_mistake_is_refused_and_changes_nothing(desks, written, reason):
    authoring = desks.authoring()
    for asked in (
        authoring.publish("acme", "house", lambda _: written, by=None),
        authoring.write_draft("acme", "house", written, by=None),
    ):
        problem = await refused(asked)
        assert (status_of(problem), problem.field) == (422, "text")
        assert reason in problem.reason
    assert await authoring.text("acme", "house") is None
    assert await authoring.models_to_publish() == []


async def test_a_retired_model_is_in_force_no_more_until_it_is_published_again(desks):
    authoring = desks.authoring()
    await authoring.publish("acme", "house", lambda _: text(1), by=None)
    said = await authoring.retire("acme", "house", by="ada", note="never used")
    assert said.version == 2
    assert desks.events[1] == ModelRetired(
        tenant="acme", recorded_at=START, model="house", version=2, by="ada", note="never used"
    )
    assert await authoring.text("acme", "house") is None
    assert "house" not in await authoring.active("acme")
    assert status_of(await refused(authoring.retire("acme", "house", by=None))) == 404
    back = await authoring.roll_back("acme", "house", 1, by="ada")
    assert (back.version, back.text, back.change) == (3, text(1), "rolled back to version 1")
    assert status_of(await refused(authoring.roll_back("acme", "house", 2, by=None))) == 404
    history = await authoring.history("acme", "house")
    assert [(each.version, each.text is None) for each in history] == [(3, False), (2, True), (1, False)]


async def test_a_tenant_may_retire_everybodys_model_for_itself(desks):
    authoring = desks.authoring()
    await authoring.retire("acme", "chatbot", by=None)
    assert "chatbot" not in await authoring.active("acme")
    assert "chatbot" in await authoring.active("globex")


async def test_the_model_that_the_lifecycle_reads_is_retired_by_force_only(desks):
    authoring = desks.authoring()
    problem = await refused(authoring.retire("acme", "rules", by=None))
    assert (status_of(problem), problem.field) == (409, "force")
    assert "lifecycle" in problem.reason
    assert (await authoring.retire("acme", "rules", by=None, force=True)).version == 2


BY_FIT = """
lifecycle = "by-fit"
[[transitions]]
to = "opportunity"
from = ["new"]
qualified_by = { model = "fit", set = "grade", bands = ["a"] }
reason = "fits"
"""


async def test_which_model_the_lifecycle_reads_is_said_by_the_lifecycle_in_force(desks):
    """The one of acme reads `fit` and no longer `rules`; everybody's is the shipped one."""

    async def shards(_wanted):
        models = {name: ModelVersion(1, text(name=name)) for name in ("fit", "rules")}
        return [
            ActiveModels(
                {"*": models, "acme": {"rules": ModelVersion(2, RETIRED_MODEL_TEXT)}},
                settings={"acme": TenantSettings(lifecycle=BY_FIT), "*": TenantSettings()},
            )
        ]

    authoring = desks.authoring(shards=shards)
    for tenant, model, stage in (
        ("acme", "fit", "opportunity"),
        ("globex", "rules", "qualified"),
        ("*", "rules", "qualified"),
        ("*", "fit", "opportunity"),  # acme has none of its own
    ):
        problem = await refused(authoring.retire(tenant, model, by=None))
        assert (status_of(problem), problem.field) == (409, "force")
        assert f"the lifecycle reads the model {model}: without it, no lead becomes {stage}" in problem.reason
    assert (await authoring.retire("globex", "fit", by=None)).version == 2
    await authoring.publish("acme", "rules", lambda _: text(name="rules"), by=None)
    assert (await authoring.retire("acme", "rules", by=None)).version == 4


# Drafts


async def test_a_draft_is_published_with_what_its_author_said(desks):
    authoring = desks.authoring()
    written = await authoring.write_draft("acme", "house", text(1), by="ada", note="first")
    changed = await authoring.change_draft("acme", "house", written.id, text=text(2))
    assert (changed.text, changed.note) == (text(2), "first")
    published = await authoring.publish_draft("acme", "house", written.id, by="boss")
    assert (published.version, published.state) == (1, "published")
    (said,) = desks.events
    assert (said.text, said.by, said.note) == (text(2), "boss", "first")
    for again in (
        authoring.publish_draft("acme", "house", written.id),
        authoring.change_draft("acme", "house", written.id, text=text(3)),
        authoring.discard_draft("acme", "house", written.id),
    ):
        assert status_of(await refused(again)) == 409
    assert await authoring.drafts("acme", "house") == []


async def test_a_draft_that_somebody_overtook_is_refused_until_it_is_brought_up_to_date(desks):
    authoring = desks.authoring()
    await authoring.publish("acme", "house", lambda _: text(1), by=None)
    draft = await authoring.write_draft("acme", "house", text(2), by=None)
    await authoring.publish("acme", "house", lambda _: text(3), by=None)
    problem = await refused(authoring.publish_draft("acme", "house", draft.id))
    assert (status_of(problem), problem.field) == (409, "based_on")
    assert "version 1, and version 2 is the newest" in problem.reason
    assert status_of(await refused(authoring.change_draft("acme", "house", draft.id, based_on=1))) == 409
    await authoring.change_draft("acme", "house", draft.id, text=text(5), based_on=2)
    assert (await authoring.publish_draft("acme", "house", draft.id)).version == 3
    assert desks.events[-1].text == text(5)


async def test_a_draft_of_everybodys_model_is_overtaken_by_the_tenants_own(desks):
    authoring = desks.authoring()
    draft = await authoring.write_draft("acme", "rules", text(2, name="rules"), by=None)
    assert (draft.based_on_tenant, draft.based_on) == ("*", 1)
    await authoring.publish("acme", "rules", lambda _: text(3, name="rules"), by=None)
    assert status_of(await refused(authoring.publish_draft("acme", "rules", draft.id))) == 409
    assert (await authoring.publish_draft("acme", "rules", draft.id, force=True)).version == 3


async def test_whoever_changed_everybodys_text_does_not_undo_the_tenants_first_publication(desks):
    authoring = desks.authoring()
    basis, _ = await authoring.text("acme", "rules")
    await authoring.publish("acme", "rules", say("one"), by="ada", based_on=basis)
    late = await refused(authoring.publish("acme", "rules", say("other"), by="ben", based_on=basis))
    assert (status_of(late), late.field) == (409, "based_on")
    assert "diff=1..2" in late.reason


async def test_a_tenants_first_publication_is_compared_with_everybodys_and_rolled_back_to_it(desks):
    authoring = desks.authoring()
    await authoring.publish("acme", "rules", say("ours"), by=None)
    await authoring.publish("*", "rules", say("a later one of everybody's"), by=None)
    told = await authoring.history("acme", "rules")
    assert [(each.tenant, each.version) for each in told] == [("acme", 2), ("*", 1)]
    back = await authoring.roll_back("acme", "rules", 1, by=None)
    assert (back.tenant, back.version, back.text) == ("acme", 3, built_in_models()["rules"])


async def test_the_second_of_two_first_drafts_is_overtaken(desks):
    authoring = desks.authoring()
    one, other = [await authoring.write_draft("acme", "house", text(n), by=None) for n in (1, 2)]
    await authoring.publish_draft("acme", "house", one.id)
    assert status_of(await refused(authoring.publish_draft("acme", "house", other.id))) == 409


async def test_a_history_has_the_texts_that_are_asked_for(desks):
    authoring = desks.authoring()
    for points in (1, 2):
        await authoring.publish("acme", "house", lambda _, points=points: text(points), by=None)
    await authoring.retire("acme", "house", by=None)
    told = await authoring.history("acme", "house", texts_of=[1])
    assert [each.text for each in told] == [None, "", text(1)]


async def test_the_newest_text_is_not_published_again(desks):
    authoring = desks.authoring()
    first = await authoring.publish("acme", "house", lambda _: text(1), by="ada", note="why")
    desks.pass_time(hours=1)
    again = await authoring.publish("acme", "house", lambda _: text(1), by="ben", change="whatever")
    assert (again.unchanged, again._replace(unchanged=False)) == (True, first)
    assert (await authoring.publish("*", "house", lambda _: text(1), by="ada")).unchanged is False
    assert (await authoring.publish("globex", "house", lambda _: text(1), by="ada")).version == 2, "its own"
    await authoring.retire("acme", "house", by="ada")
    assert (await authoring.publish("acme", "house", lambda _: text(1), by="ada")).version == 3
    assert len(desks.events) == 5


async def test_the_text_that_a_log_begins_with_may_be_published_once_more(desks):
    authoring = desks.authoring()
    for _ in range(2):
        said = await authoring.publish("*", "rules", lambda text: text, by="ada")
    assert (said.version, said.unchanged, len(desks.events)) == (2, True, 1)


async def test_drafts_are_their_tenants_own(desks):
    authoring = desks.authoring()
    draft = await authoring.write_draft("acme", "house", text(1), by=None)
    for asked in (
        authoring.draft("globex", "house", draft.id),
        authoring.change_draft("globex", "house", draft.id, text=text(2)),
        authoring.publish_draft("globex", "house", draft.id),
        authoring.discard_draft("globex", "house", draft.id),
        authoring.draft("acme", "other", draft.id),
    ):
        assert status_of(await refused(asked)) == 404
    assert (await authoring.draft("acme", "house", draft.id)) == draft


async def test_words_that_the_log_would_refuse_are_refused_before_anything_has_a_version(desks):
    authoring = desks.authoring()
    long = "n" * 513
    for asked, field in (
        (authoring.publish("acme", "house", lambda _: text(1), by=None, note=long), "note"),
        (authoring.publish("acme", "house", lambda _: text(1), by=long), "by"),
        (authoring.retire("acme", "chatbot", by=None, note=long), "note"),
        (authoring.write_draft("acme", "house", text(1), by=None, note=long), "note"),
    ):
        problem = await refused(asked)
        assert (status_of(problem), problem.field) == (422, field)
    assert desks.events == []
    assert await authoring.models_to_publish() == []


async def test_authors_who_wait_for_one_model_keep_nobody_from_another(desks):
    begun, log_is_back = asyncio.Event(), asyncio.Event()

    async def slow(records):
        begun.set()
        await log_is_back.wait()
        await desks.append(records)

    authoring = desks.authoring(slow)
    waiting = [
        asyncio.create_task(authoring.publish("acme", "house", say(str(n)), by=None))
        for n in range(2 * MOST_CONNECTIONS)
    ]
    await begun.wait()
    async with asyncio.timeout(10):
        assert await authoring.text("globex", "rules") == (1, built_in_models()["rules"])
    log_is_back.set()
    versions = {said.version for said in await asyncio.gather(*waiting)}
    assert versions == set(range(1, 2 * MOST_CONNECTIONS + 1))


# What time asks for


async def test_a_scheduled_draft_is_published_once_when_its_moment_has_come(desks):
    moment = START + timedelta(hours=3)
    scheduled = await desks.authoring().schedule("acme", "house", text(1), moment, by="ada")
    assert scheduled.state == "scheduled"
    desks.pass_time(hours=3, seconds=-1)
    assert await publish_scheduled(desks.authoring()) == []
    desks.pass_time(seconds=1)
    several = await asyncio.gather(*(publish_scheduled(desks.authoring()) for _ in range(3)))
    assert sum(map(len, several)) == 1, "however many gateways look"
    (said,) = desks.events
    assert (said.version, said.text, said.by, said.recorded_at) == (1, text(1), "ada", moment)


async def test_what_is_scheduled_for_the_past_is_published_at_once(desks):
    published = await desks.authoring().schedule("acme", "house", text(1), START, by=None)
    assert (published.state, published.version) == ("published", 1)


async def test_of_two_that_would_wait_for_their_moments_the_second_is_refused_and_leaves_nothing(desks):
    authoring, moment = desks.authoring(), START + timedelta(hours=1)
    first = await authoring.schedule("acme", "house", text(1), moment, by=None)
    second = await refused(authoring.schedule("acme", "house", text(2), moment, by=None))
    assert (status_of(second), second.field) == (409, "effective_from")
    assert f"draft {first.id} of house is scheduled already, for 2030-01-31T11:00:00+00:00" in second.reason
    assert [each.id for each in await authoring.drafts("acme", "house")] == [first.id]
    draft = await authoring.write_draft("acme", "house", text(3), by=None)
    late = authoring.publish_draft("acme", "house", draft.id, effective_from=moment)
    assert status_of(await refused(late)) == 409
    assert (await authoring.draft("acme", "house", draft.id)).state == "draft"
    for free in (
        authoring.schedule("globex", "house", text(2), moment, by=None),
        authoring.publish_draft("acme", "house", first.id, effective_from=moment + timedelta(hours=1)),
        authoring.publish_draft("acme", "house", draft.id, effective_from=moment, force=True),
    ):
        assert (await free).state == "scheduled"


async def test_a_scheduled_draft_that_somebody_overtook_undoes_nothing_and_says_why(desks):
    authoring = desks.authoring()
    draft = await authoring.schedule("acme", "house", text(1), START + timedelta(hours=1), by=None)
    await authoring.publish("acme", "house", lambda _: text(9), by=None)
    desks.pass_time(hours=2)
    assert await publish_scheduled(authoring) == []
    kept = await authoring.draft("acme", "house", draft.id)
    assert kept.state == "draft"
    assert "version 1 is the newest" in kept.problem
    assert await authoring.text("acme", "house") == (1, text(9))
    assert await authoring.models_to_publish() == []


async def test_a_moment_that_is_taken_away_schedules_nothing(desks):
    authoring = desks.authoring()
    draft = await authoring.schedule("acme", "house", text(1), START + timedelta(hours=1), by=None)
    assert (await authoring.change_draft("acme", "house", draft.id, effective_from=None)).state == "draft"
    desks.pass_time(hours=2)
    assert await authoring.models_to_publish() == []


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("9999-12-31T23:59:59-12:00", "9999-12-31T23:59:59.999000+00:00"),
        ("0001-01-01T00:00:00+12:00", "0001-01-01T00:00:00+00:00"),
    ],
)
async def test_a_moment_beyond_the_calendar_spoils_no_drafts_and_holds_up_nobody(desks, given, kept):
    authoring = desks.authoring()
    draft = await authoring.schedule("acme", "house", text(1), START + timedelta(hours=1), by=None)
    changed = await authoring.change_draft(
        "acme", "house", draft.id, effective_from=datetime.fromisoformat(given)
    )
    assert changed.effective_from == datetime.fromisoformat(kept)
    assert await authoring.drafts("acme", "house") == [changed._replace(text="")]
    await authoring.schedule("globex", "house", text(1), START + timedelta(hours=1), by=None)
    desks.pass_time(hours=1)
    assert "globex" in {said.tenant for said in await publish_scheduled(authoring)}


async def test_a_row_that_cannot_be_read_holds_up_no_other_model(desks):
    """As an earlier version left them: the driver reads no year before the first."""
    authoring = desks.authoring()
    for tenant in ("acme", "globex"):
        await authoring.schedule(tenant, "house", text(1), START + timedelta(hours=1), by=None)
    with psycopg.connect(desks.url) as connection:
        connection.execute("update model_drafts set effective_from = '0002-01-01 BC' where tenant = 'acme'")
    desks.pass_time(hours=1)
    assert [said.tenant for said in await publish_scheduled(authoring)] == ["globex"]


async def test_one_model_that_cannot_be_published_now_holds_up_no_other(desks):
    for name in ("a", "b"):
        await desks.authoring().schedule("acme", name, text(name=name), START + timedelta(hours=1), by=None)

    async def only_b(records):
        if b'"model":"a"' in records[0].value:
            raise LogUnavailable("not now")
        await desks.append(records)

    desks.pass_time(hours=1)
    assert [said.model for said in await publish_scheduled(desks.authoring(only_b))] == ["b"]
    assert await desks.authoring().models_to_publish() == [("acme", "a")]
