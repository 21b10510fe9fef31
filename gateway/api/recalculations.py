"""Recalculations of many leads that this process runs, and how far each has come.

They live as long as the process. A recalculation that a stop ends is simply asked for again: it changes only
what differs. Finished ones are kept until newer ones need their places.
"""

import asyncio
import uuid
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field

from gateway.answers import RequestProblem

AT_ONCE = 2
"""Recalculations that work at the same time; each keeps a core busy."""
MOST = 100
"""Recalculations that are remembered, and the most that may wait."""
MOST_PROBLEMS = 100


@dataclass
class Recalculation:
    """How far it has come: `calculated` of `total` leads, `changed` of them with another score than before."""

    tenant: str
    model: str
    """Whose scores are compared."""
    all_leads: bool
    total: int = 0
    calculated: int = 0
    changed: int = 0
    pending: int = 0
    """Leads whose new scores were appended and did not show in time."""
    failed: int = 0
    problems: list[tuple[str, str]] = field(default_factory=list)
    """The first few leads that could not be calculated, each with the reason."""
    error: str | None = None
    """Why it ended early."""
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    task: asyncio.Task[None] | None = None

    @property
    def ended(self) -> bool:
        return self.task is not None and self.task.done()

    def fail(self, lead_id: str, reason: str) -> None:
        self.failed += 1
        if len(self.problems) < MOST_PROBLEMS:
            self.problems.append((lead_id, reason))


Work = Callable[[Recalculation], Coroutine[None, None, None]]


class Recalculations:
    def __init__(self) -> None:
        self._by_id: dict[str, Recalculation] = {}
        self._turns = asyncio.Semaphore(AT_ONCE)

    def start(self, recalculation: Recalculation, work: Work) -> Recalculation:
        """Starts it. If one of all the tenant's leads by the model runs already, that one is the answer. Raises
        RequestProblem if too many wait.
        """
        if recalculation.all_leads:
            for each in self._by_id.values():
                same = each.tenant == recalculation.tenant and each.model == recalculation.model
                if each.all_leads and same and not each.ended:
                    return each
        self._make_room()
        self._by_id[recalculation.id] = recalculation
        recalculation.task = asyncio.create_task(self._run(recalculation, work), name="recalculate leads")
        return recalculation

    def find(self, tenant: str, number: str) -> Recalculation | None:
        each = self._by_id.get(number)
        return each if each is not None and each.tenant == tenant else None

    async def end(self) -> None:
        """Ends what runs: the process stops."""
        tasks = [each.task for each in self._by_id.values() if each.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _make_room(self) -> None:
        if len(self._by_id) < MOST:
            return
        oldest = next((each for each in self._by_id.values() if each.ended), None)
        if oldest is None:
            raise RequestProblem(503, "too many recalculations wait: try again later", retry_after_s=10)
        del self._by_id[oldest.id]

    async def _run(self, recalculation: Recalculation, work: Work) -> None:
        async with self._turns:
            try:
                await work(recalculation)
            except RequestProblem as problem:
                recalculation.error = problem.reason
