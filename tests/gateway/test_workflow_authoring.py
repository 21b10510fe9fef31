"""Workflows are published as models are: versions are never shared, no edit is lost, and an id is given once."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

import pytest
from authors import START, Desks

from authoring.problem import Conflict, Invalid, TryLater
from authoring.published_texts import WORKFLOWS
from authoring.schedule import publish_scheduled
from gateway.ports import LogUnavailable
from schemas.control import WorkflowsPublished
from scoring.editing.workflow_edits import create_workflow, delete_workflow, workflows_of
from scoring.features.comparison import NEWEST_COMPARISON
from tests.scoring.test_workflow_edits import HOT, UNNUMBERED

pytestmark = [pytest.mark.postgres, pytest.mark.anyio]

THREADS, EDITS = 4, 3


@pytest.fixture
def desks(database_url):
    return Desks(database_url)


def adding(name):
    return lambda text: create_workflow(text or "", HOT | {"name": name}, START)[0]


async def test_concurrent_authors_share_no_version_and_no_id(desks):
    def author(number):
        authoring = desks.authoring()  # one each, as in gateways of their own
        for edit in range(EDITS):
            asyncio.run(authoring.publish("acme", WORKFLOWS, adding(f"{number}/{edit}"), by=str(number)))

    with ThreadPoolExecutor(THREADS) as threads:
        for each in [threads.submit(author, number) for number in range(THREADS)]:
            each.result(120)
    every = THREADS * EDITS
    assert [published.version for published in desks.events] == list(range(1, every + 1))
    version, text = await desks.authoring().text("acme", WORKFLOWS)
    assert version == every
    assert sorted(each["id"] for each in workflows_of(text)) == list(range(1, every + 1))
    assert {each["name"] for each in workflows_of(text)} == {
        f"{number}/{edit}" for number in range(THREADS) for edit in range(EDITS)
    }
    assert await desks.authoring().text("globex", WORKFLOWS) is None, "they belong to a tenant"


async def test_a_publication_is_one_record_with_its_author_and_what_it_changed(desks):
    authoring = desks.authoring()
    published = await authoring.publish("acme", WORKFLOWS, lambda _: UNNUMBERED, by="ada", note="why")
    (record,) = desks.events
    assert record == WorkflowsPublished(
        tenant="acme",
        recorded_at=START,
        version=1,
        text=published.text,
        by="ada",
        note="why",
        change="workflow_created 1, 2",
        folding=NEWEST_COMPARISON.folding,
    )
    assert "highest_workflow_id = 2" in published.text
    assert (await authoring.publish("acme", WORKFLOWS, lambda _: UNNUMBERED, by="ben")).unchanged
    (version,) = await authoring.history("acme", WORKFLOWS)
    assert (version.by, version.note, version.change) == ("ada", "why", "workflow_created 1, 2")
    assert WORKFLOWS not in await authoring.active("acme"), "they are no model"
    assert WORKFLOWS not in {each.model for each in await authoring.newest_of_all_tenants()}


async def test_an_id_is_not_given_again_and_a_rollback_brings_a_workflow_back(desks):
    authoring = desks.authoring()
    first = await authoring.publish("acme", WORKFLOWS, lambda _: UNNUMBERED, by="ada")
    await authoring.publish("acme", WORKFLOWS, lambda text: delete_workflow(text, 2), by="ada")
    with pytest.raises(Invalid, match="workflow 2 was deleted"):
        await authoring.publish("acme", WORKFLOWS, lambda _: first.text, by="ada")
    rolled = await authoring.roll_back("acme", WORKFLOWS, 1, by="ada")
    assert (rolled.version, rolled.text) == (3, first.text)
    with pytest.raises(Conflict, match=r"/api/workflows/versions\?diff=1\.\.3"):
        await authoring.publish("acme", WORKFLOWS, lambda _: UNNUMBERED, by="ada", based_on=1)


async def test_a_trigger_that_waits_for_a_model_that_nobody_published_is_refused(desks):
    text = UNNUMBERED.replace("score = 75", 'score = 75, model = "astrology"')
    with pytest.raises(Invalid, match="no active model is called astrology"):
        await desks.authoring().publish("acme", WORKFLOWS, lambda _: text, by="ada")
    assert desks.events == []


async def test_what_the_log_did_not_take_is_appended_by_whoever_comes_next(desks):
    async def down(_records):
        raise LogUnavailable("down")

    with pytest.raises(TryLater, match="version 1 of workflows is on record"):
        await desks.authoring(append=down).publish("acme", WORKFLOWS, adding("first"), by="ada")
    assert desks.events == []
    await publish_scheduled(desks.authoring())
    assert [published.version for published in desks.events] == [1]


async def test_a_scheduled_text_gets_its_ids_when_it_is_published(desks):
    authoring = desks.authoring()
    later = desks.time.replace(hour=12)
    draft = await authoring.schedule("acme", WORKFLOWS, UNNUMBERED, later, by="ada")
    assert draft.text == UNNUMBERED
    desks.pass_time(hours=3)
    (published,) = await publish_scheduled(desks.authoring())
    assert [each["id"] for each in workflows_of(published.text)] == [1, 2]
    assert published.change == "workflow_created 1, 2"
