"""A test driver for the two real folds: partitions, chunks, crashes, timers and sweeps at random.

State goes through its codecs at every chunk (the shards keep no cache between them), so what is
tested is what would be stored.
"""

import random
from collections import defaultdict

from schemas.activity import Activity, TimePassed
from schemas.control import (
    ModelPublished,
    ModelRetired,
    SettingsPublished,
    WorkflowsDue,
    WorkflowsPublished,
)
from schemas.decode import decode_activity, decode_statement, encode_activity, encode_source, key_of
from schemas.moment import millis, moment
from schemas.publications import publication_records
from schemas.record import Outgoing, Record
from schemas.topics import (
    DEAD_LETTERS,
    EVENTS,
    LEAD_ACTIVITY,
    LEAD_SCORES,
    PARTITION_WIDE_KEY,
    lead_key,
    partition_of,
)
from streams.engine.shard import Shard
from streams.score_leads.stage import SCORE_LEADS, LeadState
from streams.track_sessions import TRACK_SESSIONS

PARTITIONS = 3
SETTINGS, WORKFLOWS, MOMENT = "settings", "workflows", "moment"
"""In a list of publications, instead of a model's name: (SETTINGS, version, zone, idle minutes), (WORKFLOWS, version, text)
and (MOMENT, workflow, milliseconds after the beginning).
"""


class Store:
    """What a driver would keep of one shard."""

    def __init__(self):
        self.parts = defaultdict(dict)

    def load(self, keys):
        return {key: dict(self.parts[key]) for key in keys if key in self.parts}

    def keys_after(self, after, limit):
        keys = sorted((k for k in self.parts if k != PARTITION_WIDE_KEY), key=str.encode)
        return [k for k in keys if k.encode() > after.encode()][:limit]

    def write(self, parts):
        for (key, part), value in parts.items():
            if value is None:
                self.parts[key].pop(part, None)
            else:
                self.parts[key][part] = value
            if not self.parts[key]:
                del self.parts[key]


class Pipeline:
    """`events` and `lead-activity` in partitions, folded chunk by chunk."""

    def __init__(self, models=(), sweep_step=2):
        self.logs = {topic: [[] for _ in range(PARTITIONS)] for topic in (EVENTS, LEAD_ACTIVITY)}
        self.said = []
        self.cards = {}
        self.dead = []
        self.stores = {
            EVENTS: [Store() for _ in range(PARTITIONS)],
            LEAD_ACTIVITY: [Store() for _ in range(PARTITIONS)],
        }
        self.done = {EVENTS: [0] * PARTITIONS, LEAD_ACTIVITY: [0] * PARTITIONS}
        self.sweep_step = sweep_step
        self.latest = 0
        for version, (name, text) in enumerate(models, 1):
            self.publish(name, version, text, at=0)

    def append(self, outgoing):
        topic, key, value, partition = outgoing
        if topic in self.logs:
            at = partition if partition is not None else partition_of(key, PARTITIONS)
            log = self.logs[topic][at]
            log.append(Record(topic, at, len(log), key, value))
        elif topic == LEAD_SCORES:
            self.cards[key] = None if value is None else decode_statement(value)
        elif topic == DEAD_LETTERS:
            self.dead.append(value)
        else:
            self.said.append((topic, decode_statement(value)))

    def produce(self, event):
        self.latest = max(self.latest, millis(event.recorded_at))
        self.append(Outgoing(EVENTS, key_of(event), encode_source(event)))

    def publish(
        self, name, version, text, at, *, partitions=range(PARTITIONS), fire=False, tenant="*", folding=1
    ):
        """Without a text the model is retired."""
        what = {"tenant": tenant, "recorded_at": moment(at), "model": name, "version": version}
        said = ModelPublished(**what, text=text, fire=fire, folding=folding) if text else ModelRetired(**what)
        self.say_everywhere(said, partitions)

    def publish_settings(self, tenant, version, at, *, partitions=range(PARTITIONS), **settings):
        said = SettingsPublished(tenant=tenant, recorded_at=moment(at), version=version, **settings)
        self.say_everywhere(said, partitions)

    def publish_workflows(self, version, text, at, *, partitions=range(PARTITIONS), tenant="default"):
        said = WorkflowsPublished(
            tenant=tenant, recorded_at=moment(at), version=version, text=text, folding=3
        )
        self.say_everywhere(said, partitions)

    def schedule_comes(self, number, scheduled_for, at, *, partitions=range(PARTITIONS), tenant="default"):
        said = WorkflowsDue(
            tenant=tenant, recorded_at=moment(at), workflow_id=number, scheduled_for=moment(scheduled_for)
        )
        self.say_everywhere(said, partitions)

    def say_everywhere(self, said, partitions):
        for record in publication_records(said):
            for p in partitions:
                self.append(record._replace(partition=p))

    def shard(self, topic, partition):
        stage = TRACK_SESSIONS if topic == EVENTS else SCORE_LEADS
        shard = Shard(stage, partition, self.stores[topic][partition])
        shard.SWEEP_STEP = self.sweep_step
        return shard

    def pending(self, topic):
        return [p for p in range(PARTITIONS) if self.done[topic][p] < len(self.logs[topic][p])]

    def step(self, topic, partition, size, *, crash=False):
        start = self.done[topic][partition]
        shard = self.shard(topic, partition)
        outcome = shard.fold(self.logs[topic][partition][start : start + size])
        changes = shard.changes()
        if crash:
            return
        self.stores[topic][partition].write(changes.parts)
        self.done[topic][partition] += outcome.applied
        for outgoing in (*outcome.outputs, *changes.outputs):
            self.append(outgoing)

    def run(self, seed, events=(), *, timers=0, models=(), crash=0.15, burst=4, check=None, limit=50_000):
        """Produce the events (the order within a key is kept) and fold until nothing is pending."""
        rng = random.Random(seed)
        queues = defaultdict(list)
        for event in events:
            queues[key_of(event)].append(event)
        publications = [[*models] for _ in range(PARTITIONS)]
        for _ in range(limit):
            acts = ["produce"] * 2 if queues else []
            acts += [(topic, p) for topic in (EVENTS, LEAD_ACTIVITY) for p in self.pending(topic)]
            acts += [("publish", p) for p in range(PARTITIONS) if publications[p]]
            if not acts:
                return self
            if timers and rng.random() < 0.2 and self.time_passes(rng):
                timers -= 1
            act = rng.choice(acts)
            if act == "produce":
                key = rng.choice(sorted(queues))
                self.produce(queues[key].pop(0))
                if not queues[key]:
                    del queues[key]
            elif act[0] == "publish":
                name, version, *what = publications[act[1]].pop(0)
                if name == SETTINGS:
                    zone, idle = what
                    self.publish_settings(
                        "*", version, self.latest, partitions=[act[1]], time_zone=zone, idle_minutes=idle
                    )
                elif name == WORKFLOWS:
                    self.publish_workflows(version, *what, self.latest, partitions=[act[1]])
                elif name == MOMENT:
                    self.schedule_comes(version, *what, self.latest, partitions=[act[1]])
                else:
                    self.publish(name, version, *what, self.latest, partitions=[act[1]])
            else:
                self.step(*act, rng.randint(1, burst), crash=rng.random() < crash)
            if check is not None:
                check(self)
        raise AssertionError("the pipeline never comes to rest")

    def fold_all(self, size=1_000, *, limit=50_000):
        """Fold in order until nothing is pending."""
        for _ in range(limit):
            pending = [(topic, p) for topic in self.logs for p in self.pending(topic)]
            if not pending:
                return self
            self.step(*pending[0], size)
        raise AssertionError("the pipeline never comes to rest")

    def time_passes(self, rng):
        leads = sorted(self.leads())
        if not leads:
            return False
        key = rng.choice(leads)
        to = rng.randint(max(0, self.latest - 5 * 86_400_000), self.latest)
        for _ in range(rng.choice((1, 1, 2))):
            self.wake(key, to)
        return True

    def wake(self, key, to):
        tenant, _, lead = key.split("/", 2)
        self.append(Outgoing(LEAD_ACTIVITY, key, encode_activity(TimePassed(tenant, lead, to))))

    # -- what came out

    def leads(self) -> dict[str, LeadState]:
        found = {}
        for store in self.stores[LEAD_ACTIVITY]:
            for key, parts in store.parts.items():
                if key != PARTITION_WIDE_KEY:
                    found[key] = LeadState(key, dict(parts))
        return found

    def lead(self, lead_id, tenant="default"):
        return self.leads()[lead_key(tenant, lead_id)]

    def statements(self, kind, lead_id=None):
        return [s for _, s in self.said if isinstance(s, kind) and lead_id in (None, s.lead_id)]

    def activities(self) -> list[Activity]:
        return [decode_activity(r.value) for log in self.logs[LEAD_ACTIVITY] for r in log]


def refold(recorded: Pipeline, seed, *, crash=0.2, burst=5, sweep_step=2, edit=None):
    """Fold a recorded lead-activity again, from nothing else; what it sends back is not followed."""
    rng = random.Random(seed)
    again = Pipeline(sweep_step=sweep_step)
    for p, log in enumerate(recorded.logs[LEAD_ACTIVITY]):
        records = log if edit is None else edit(log)
        again.logs[LEAD_ACTIVITY][p] = [r._replace(position=i) for i, r in enumerate(records)]
    for _ in range(100_000):
        pending = again.pending(LEAD_ACTIVITY)
        if not pending:
            return again
        again.step(LEAD_ACTIVITY, rng.choice(pending), rng.randint(1, burst), crash=rng.random() < crash)
    raise AssertionError("the pipeline never comes to rest")
