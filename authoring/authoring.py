"""Authoring of models and workflows: drafts, publications (now or scheduled) and retirement. Where a method takes
a `model`, WORKFLOWS means the tenant's workflows, and `publication_name` the name of an experiment.

An edit starts from the newest text, so no edit is lost. A draft, or a whole text with `based_on`, is refused if
someone has published since; a whole text without `based_on` replaces the newest one. `authoring.publisher`
defines publishing.
"""

import asyncio
from collections.abc import Callable, Collection
from datetime import datetime
from typing import Any

from authoring.active_models import ActiveModelsFilter, ReadShards, lifecycles_of_scored_tenants
from authoring.problem import Conflict
from authoring.published_texts import WORKFLOWS, change_in, finished_text, is_model, refuse_missing_references
from authoring.publisher import AppendPublication, Publisher, PublisherLock
from authoring.revisions import (
    OtherDraftScheduled,
    Publication,
    changed_meanwhile_conflict,
    check_basis,
    draft_basis,
    draft_numbered,
    is_outdated,
    newest_for_tenant,
    newest_if_unchanged,
    open_draft,
    outdated_basis,
    text_of_version,
    unknown_model_problem,
    unpublishable_reason,
)
from authoring.sweep_progress import SweepProgress, progress_by_partition, sweep_progress_of
from authoring.workflow_moments import RecordedMoments, due_moments
from projections import authoring as rows
from projections.authoring import Draft, PublishedVersion
from schemas.control import EVERY_TENANT, WorkflowsDue
from schemas.moment import millis
from scoring.lifecycle.lifecycle import compile_lifecycle

__all__ = ["Authoring", "Publication", "TextEdit"]

TextEdit = Callable[[str | None], str]
"""The newest text (None: there is none) -> the next one."""


class Authoring:
    """What the gateway, its scheduler and the command line do with models; one per process."""

    def __init__(
        self, database_url: str, append: AppendPublication, shards: ReadShards, now: Callable[[], datetime]
    ) -> None:
        self._publisher = Publisher(database_url, append, shards, now)
        self._shards = shards
        self._now = now

    # Reading

    async def active(self, tenant: str) -> dict[str, PublishedVersion]:
        """The newest publication of each model, its own or everybody's, as far as it is not retired."""
        async with self._publisher.connected() as connection:
            newest_versions = await self._publisher.newest_versions(connection, tenant)
        models = {name: each for (owner, name), each in newest_versions.items() if owner == EVERY_TENANT}
        models |= {name: each for (owner, name), each in newest_versions.items() if owner == tenant}
        return {
            name: models[name] for name in sorted(models) if models[name].text is not None and is_model(name)
        }

    async def experiments(self, tenant: str) -> list[PublishedVersion]:
        """The newest version of each experiment that the tenant has published."""
        async with self._publisher.connected() as connection:
            return await rows.newest_experiments(connection, tenant)

    async def newest_of_all_tenants(self) -> list[PublishedVersion]:
        """The newest publication of each model that anybody has, retired ones, too."""
        async with self._publisher.connected() as connection:
            newest_versions = await self._publisher.newest_versions(connection, None)
        return [newest_versions[key] for key in sorted(newest_versions) if is_model(key[1])]

    async def scheduled_or_failed(self, tenant: str | None) -> list[Draft]:
        """What is scheduled, and what was and could not be published; of all tenants, if none is given."""
        async with self._publisher.connected() as connection:
            return await rows.scheduled_or_failed(connection, tenant)

    async def newest(self, tenant: str, model: str) -> PublishedVersion | None:
        """The newest publication of a model, its own or everybody's; None: there is none. It may be a
        retirement.
        """
        async with self._publisher.connected() as connection:
            newest_versions = await self._publisher.newest_versions(connection, tenant, model)
        return newest_for_tenant(newest_versions, tenant, model)

    async def text(self, tenant: str, model: str) -> tuple[int, str] | None:
        """Newest version and text for the tenant; None: there is none, or it is retired."""
        newest = await self.newest(tenant, model)
        return None if newest is None or newest.text is None else (newest.version, newest.text)

    async def history(
        self, tenant: str, model: str, *, texts_of: Collection[int] = ()
    ) -> list[PublishedVersion]:
        """Every publication, newest first: the tenant's own, and everybody's that came before them; with the
        texts of these versions.
        """
        async with self._publisher.connected() as connection:
            return await self._publisher.history(connection, tenant, model, texts_of)

    async def drafts(self, tenant: str, model: str, *, before: int | None = None) -> list[Draft]:
        """The newest that may still be published, newest first, without texts; of those `before` a number."""
        async with self._publisher.connected() as connection:
            return await rows.open_drafts(connection, tenant, model, before)

    async def draft(self, tenant: str, model: str, number: int) -> Draft:
        """The draft of this number, in any state."""
        async with self._publisher.connected() as connection:
            return draft_numbered(
                await rows.draft_by_number(connection, tenant, model, number), model, number
            )

    async def progress(self, tenant: str, model: str) -> SweepProgress:
        """How far scoring has come with the newest publication; until it is complete, leads are counted, of
        this tenant or of everybody.
        """
        async with self._publisher.connected() as connection:
            newest = newest_for_tenant(
                await self._publisher.newest_versions(connection, tenant, model), tenant, model
            )
            if newest is None:
                raise unknown_model_problem(model)
            shards = await self._shards(ActiveModelsFilter([newest.tenant], model))
            partitions = progress_by_partition(shards, newest.tenant, model, newest.version)
            if all(each.state == "done" for each in partitions):
                return sweep_progress_of(partitions, newest.version)
            cursors = [each.cursor for each in partitions if each.cursor is not None]
            leads, up_to = await rows.count_leads_before_cursors(connection, tenant, cursors)
        return sweep_progress_of(partitions, newest.version, leads, up_to)

    # Publications

    async def publish(
        self,
        tenant: str,
        model: str,
        edit: TextEdit,
        *,
        by: str | None,
        change: str | Callable[[], str] | None = None,
        note: str | None = None,
        fire: bool = False,
        based_on: int | None = None,
    ) -> Publication:
        """Applies `edit` to the newest text (None if there is none) and publishes the result as the next version.
        Returns when the log has it. For a tenant without a model of its own, it is the first one. A callable `change`
        is called after the edit. A text equal to the newest one is not published again.

        `edit` may raise a Problem. Raises Invalid for a text with a mistake, and Conflict for one that is
        `based_on` another version than the newest.
        """
        async with self._publisher.locked(tenant, model) as lock:
            check_basis(lock.newest, model, based_on)
            edited = await asyncio.to_thread(edit, lock.text)
            text = await self._finished(tenant, model, edited, lock.text)
            if (same := newest_if_unchanged(lock.newest, tenant, text)) is not None:
                return same
            done = change() if callable(change) else change or change_in(model, lock.text, text)
            return await self._publisher.publish(lock, text, by=by, note=note, change=done, fire=fire)

    async def roll_back(
        self,
        tenant: str,
        model: str,
        version: int,
        *,
        by: str | None,
        note: str | None = None,
        fire: bool = False,
    ) -> Publication:
        """The text of an earlier version, as the next one."""
        async with self._publisher.locked(tenant, model) as lock:
            history = await self._publisher.history(lock.connection, tenant, model, [version])
            text = text_of_version(history, model, version)
            return await self._publisher.publish(
                lock,
                await self._finished(tenant, model, text, lock.text, restored=True),
                by=by,
                note=note,
                change=f"rolled back to version {version}",
                fire=fire,
            )

    async def retire(
        self, tenant: str, model: str, *, by: str | None, note: str | None = None, force: bool = False
    ) -> Publication:
        """From its next version on, the model no longer scores the tenant's leads."""
        async with self._publisher.locked(tenant, model) as lock:
            if lock.text is None:
                raise unknown_model_problem(model)
            stages = [] if force else await self._stages_reached_by(tenant, model)
            if stages:
                raise Conflict(
                    f"the lifecycle reads the model {model}: without it, no lead becomes "
                    f"{' or '.join(stages)} by its score. Retire it with force if that is meant",
                    field="force",
                )
            return await self._publisher.publish(lock, None, by=by, note=note, change="retired", fire=False)

    async def _stages_reached_by(self, tenant: str, model: str) -> list[str]:
        """The stages that leads come to by the model's bands, in the lifecycles that read it."""
        shards = await self._shards(ActiveModelsFilter(model=model, lifecycles=True))
        texts = {text for shard in shards for text in lifecycles_of_scored_tenants(shard, tenant, model)}
        moves = [transition for text in texts for transition in compile_lifecycle(text).transitions]
        return sorted({move.to for move in moves if move.qualified_by and move.qualified_by.model == model})

    # Drafts

    async def write_draft(
        self,
        tenant: str,
        model: str,
        text: str,
        *,
        by: str | None,
        note: str | None = None,
        fire: bool = False,
        effective_from: datetime | None = None,
        based_on: int | None = None,
    ) -> Draft:
        """A draft on top of what is newest now; raises Conflict if the author was `based_on` something else."""
        async with self._publisher.connected() as connection:
            newest_versions = await self._publisher.newest_versions(connection, tenant, model)
            newest = newest_for_tenant(newest_versions, tenant, model)
            await self._finished(tenant, model, text, newest and newest.text)
            basis = draft_basis(newest, tenant, model, based_on)
            return await self._publisher.insert(
                connection,
                tenant=tenant,
                model=model,
                state=rows.STATE_DRAFT,
                text=text,
                by=by,
                note=note,
                fire=fire,
                effective_from=effective_from,
                **basis,
            )

    async def change_draft(
        self, tenant: str, model: str, number: int, *, seen: datetime | None = None, **changed: Any
    ) -> Draft:
        """`changed` may have text, note, by, effective_from, fire and based_on. `based_on` is the version that the changed
        text starts from: Conflict if it is not the newest. `seen` is the change time that the author saw: Conflict if
        the draft was changed later. A scheduled draft that loses its `effective_from` is no longer scheduled.
        """
        async with self._publisher.connected() as connection:
            if {"text", "based_on"} & changed.keys():
                newest_versions = await self._publisher.newest_versions(connection, tenant, model)
                newest = newest_for_tenant(newest_versions, tenant, model)
                if "text" in changed:
                    await self._finished(tenant, model, changed["text"], newest and newest.text)
                if "based_on" in changed:
                    changed |= draft_basis(newest, tenant, model, changed["based_on"])
            if "effective_from" in changed and changed["effective_from"] is None:
                changed["state"] = rows.STATE_DRAFT
            async with connection.transaction():
                draft = open_draft(
                    await rows.draft_by_number(connection, tenant, model, number, locked=True), model, number
                )
                if seen not in {None, draft.changed_at}:
                    raise changed_meanwhile_conflict(draft)
                return await self._publisher.update(connection, model, number, {"problem": None, **changed})

    async def discard_draft(self, tenant: str, model: str, number: int) -> Draft:
        return await self.change_draft(tenant, model, number, state=rows.STATE_DISCARDED)

    async def publish_draft(
        self,
        tenant: str,
        model: str,
        number: int,
        *,
        by: str | None = None,
        note: str | None = None,
        fire: bool | None = None,
        effective_from: datetime | None = None,
        force: bool = False,
    ) -> Draft:
        """Published, or scheduled if its moment is still to come. What is not given is as the draft has it.

        Raises Conflict if somebody has published since the draft was begun, or if another draft of the model waits for its
        moment, unless by `force`.
        """
        async with self._publisher.locked(tenant, model) as lock:
            async with lock.connection.transaction():
                draft = open_draft(
                    await rows.draft_by_number(lock.connection, tenant, model, number, locked=True),
                    model,
                    number,
                )
                if not force and is_outdated(draft, lock.newest):
                    raise outdated_basis(model, draft.based_on, lock.newest)
                moment = effective_from or draft.effective_from
                draft = draft._replace(
                    by=by or draft.by,
                    note=note or draft.note,
                    fire=draft.fire if fire is None else fire,
                    effective_from=moment,
                )
                if force:
                    draft = draft._replace(based_on=None, based_on_tenant=None)
                ready = await self._schedule_or_claim(lock, draft, force=force)
            return await self._send_if_claimed(lock, ready)

    async def _schedule_or_claim(self, lock: PublisherLock, draft: Draft, *, force: bool) -> Draft:
        """Scheduled, or on its way; within the caller's transaction."""
        if draft.effective_from is None or draft.effective_from <= self._now():
            return await self._publisher.claim_draft(lock, await self._finished_draft(lock, draft))
        other = None if force else await rows.other_scheduled_draft(lock.connection, draft)
        if other is not None:
            raise OtherDraftScheduled(other)
        return await self._publisher.save_draft(lock.connection, draft._replace(state=rows.STATE_SCHEDULED))

    async def _finished_draft(self, lock: PublisherLock, draft: Draft) -> Draft:
        """The draft with its text as it is published now, and with what it changes. Raises Invalid."""
        text = await self._finished(draft.tenant, draft.model, draft.text or "", lock.text)
        return draft._replace(text=text, change=draft.change or change_in(draft.model, lock.text, text))

    async def _finished(
        self, tenant: str, model: str, text: str, newest: str | None, *, restored: bool = False
    ) -> str:
        """The text as it is published on top of the newest one. Raises Invalid for one with a mistake."""
        finished = await asyncio.to_thread(finished_text, model, text, newest, self._now(), restored=restored)
        if model == WORKFLOWS:
            shards = await self._shards(ActiveModelsFilter([tenant, EVERY_TENANT]))
            models = shards[0].models_of(tenant) if shards else {}
            await asyncio.to_thread(refuse_missing_references, finished, newest, models)
        return finished

    async def _send_if_claimed(self, lock: PublisherLock, ready: Draft) -> Draft:
        """In the log, if it is on its way; after the transaction."""
        if ready.state == rows.STATE_SCHEDULED:
            return ready
        await self._publisher.send_claimed_draft(lock.connection, ready)
        return ready._replace(state=rows.STATE_PUBLISHED)

    async def schedule(
        self,
        tenant: str,
        model: str,
        text: str,
        effective_from: datetime,
        *,
        by: str | None,
        note: str | None = None,
        fire: bool = False,
        based_on: int | None = None,
    ) -> Draft:
        """The text, as a draft that is published when its moment has come; at once if it has. Raises Conflict,
        and writes no draft, if another one of the model waits for its moment.
        """
        async with self._publisher.locked(tenant, model) as lock:
            await self._finished(tenant, model, text, lock.text)
            async with lock.connection.transaction():
                draft = await self._publisher.insert(
                    lock.connection,
                    tenant=tenant,
                    model=model,
                    state=rows.STATE_DRAFT,
                    text=text,
                    by=by,
                    note=note,
                    fire=fire,
                    effective_from=effective_from,
                    **draft_basis(lock.newest, tenant, model, based_on),
                )
                ready = await self._schedule_or_claim(lock, draft, force=False)
            return await self._send_if_claimed(lock, ready)

    # Scheduled publications

    async def models_to_publish(self) -> list[tuple[str, str]]:
        """(tenant, model) of which something is to be published by now, or is still on its way."""
        async with self._publisher.connected() as connection:
            return await rows.models_to_publish(connection, self._now())

    async def publish_due(self, tenant: str, model: str) -> Publication | None:
        """Appends what is still on its way, and publishes the first that was scheduled and is due. A draft
        that would undo what was published since it was begun becomes a draft again, and says why.
        """
        async with self._publisher.locked(tenant, model) as lock:
            async with lock.connection.transaction():
                draft = await rows.due_draft(lock.connection, tenant, model, self._now())
                if draft is None:
                    return None
                problem = await asyncio.to_thread(unpublishable_reason, draft, lock.newest, self._now())
                if problem is not None:
                    await self._publisher.save_draft(
                        lock.connection, draft._replace(state=rows.STATE_DRAFT, problem=problem)
                    )
                    return None
                claimed = await self._publisher.claim_draft(lock, await self._finished_draft(lock, draft))
            return await self._publisher.send_claimed_draft(lock.connection, claimed)

    # Schedules of workflows

    async def record_due_moments(self, recorded: RecordedMoments) -> list[WorkflowsDue]:
        """Records the moments of schedules that have come; of those missed meanwhile, the latest. Again it changes nothing.
        `recorded` keeps those that are in the log, and perhaps not folded yet.
        """
        shards = await self._shards(ActiveModelsFilter(model="", lifecycles=True, workflows=True))
        due = due_moments(shards, self._now(), recorded)
        for each in due:
            await self._publisher.append_control(each)
            recorded[each.tenant, each.workflow_id] = millis(each.scheduled_for)
        return due
