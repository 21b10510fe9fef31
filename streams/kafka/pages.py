"""The pages of a worker: its shards, as HTML and JSON. Pure; no I/O.

They show progress, never content: no key, no record, nothing that a producer sent.
"""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, NamedTuple

from schemas.record import LogPartition
from streams.engine.worker import ShardStatus
from streams.kafka.metrics import lag_of_shard

REFRESH_SECONDS = 2


class WorkerSummary(NamedTuple):
    """The worker as a whole. `reason`: why it is not ready."""

    group: str
    worker_id: str | None
    buckets: int
    reason: str | None


def worker_json(
    worker: WorkerSummary, shards: Sequence[ShardStatus], ends: Mapping[LogPartition, int]
) -> dict[str, Any]:
    return {
        "group": worker.group,
        "worker": worker.worker_id,
        "buckets": worker.buckets,
        "ready": worker.reason is None,
        "reason": worker.reason,
        "tables": [_shard_row(shard, ends) for shard in sorted(shards)],
    }


def worker_html(
    worker: WorkerSummary, shards: Sequence[ShardStatus], ends: Mapping[LogPartition, int]
) -> str:
    rows = [_shard_row(shard, ends) for shard in sorted(shards)]
    body = "".join(_html_row(row) for row in rows)
    if not rows:
        body = f'<tr><td colspan="{len(_COLUMNS)}">This worker owns no shard.</td></tr>'
    head = "".join(f"<th>{name}</th>" for name in _COLUMNS)
    status = "ready" if worker.reason is None else worker.reason
    name = f", worker {worker.worker_id}" if worker.worker_id else ""
    return _PAGE.format(
        refresh=REFRESH_SECONDS,
        group=escape(worker.group),
        status=escape(status),
        description=escape(f"group {worker.group}{name}, {worker.buckets} buckets, {len(rows)} shards here"),
        head=head,
        body=body,
    )


def unready_reason(shards: Sequence[ShardStatus], *, assigned: bool) -> str | None:
    """Why a worker is not ready; None: it is ready. A worker without shards, since others own all, is ready."""
    if not assigned:
        return "waiting for partitions"
    restoring = sum(not shard.ready for shard in shards)
    return f"restoring {restoring} of {len(shards)} shards" if restoring else None


def restored_percent_of(shard: ShardStatus) -> int:
    """The part of its changelog that is restored."""
    return min(100, shard.restored * 100 // shard.to_restore) if shard.to_restore else 0


_COLUMNS = ("table", "source", "partition", "bucket", "state", "position", "lag", "queued", "keys", "bytes")


def _shard_row(shard: ShardStatus, ends: Mapping[LogPartition, int]) -> dict[str, Any]:
    return {
        "table": shard.stage,
        "source": shard.topic,
        "partition": shard.partition,
        "bucket": shard.task_group,
        "state": "ready" if shard.ready else "restoring",
        "restored_percent": 100 if shard.ready else restored_percent_of(shard),
        "position": shard.position,
        "lag": lag_of_shard(shard, ends),
        "queued": shard.queued,
        "folded": shard.folded,
        "keys": shard.keys,
        "bytes": shard.size,
    }


def _html_row(row: Mapping[str, Any]) -> str:
    state = "ready" if row["state"] == "ready" else f"restoring {row['restored_percent']} %"
    cells = [_cell(state if name == "state" else row[name]) for name in _COLUMNS]
    return f'<tr class="{row["state"]}">{"".join(cells)}</tr>'


def _cell(value: object) -> str:
    if isinstance(value, int):
        return f'<td class="n">{value:,}</td>'
    return f"<td>{'' if value is None else escape(str(value))}</td>"


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Leadstream worker: {status}</title>
<meta http-equiv="refresh" content="{refresh}"><meta name="viewport" content="width=device-width">
<style>
:root {{ color-scheme: light dark; font: 15px/1.5 system-ui, sans-serif }}
body {{ margin: 2rem auto; max-width: 70rem; padding: 0 1rem }}
h1 {{ font-size: 1.3rem; margin: 0 }} p {{ margin: .2rem 0 1.2rem; opacity: .75 }}
table {{ border-collapse: collapse; width: 100% }}
th, td {{ padding: .3rem .7rem; text-align: left; border-bottom: 1px solid #8884 }}
th {{ font-weight: 600 }} .n {{ text-align: right; font-variant-numeric: tabular-nums }}
tr.restoring td {{ background: #fa02 }}
</style></head><body>
<h1>Leadstream worker: {status}</h1><p>{description}. <a href="/tables.json">JSON</a> · <a href="/metrics">metrics</a></p>
<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>
</body></html>
"""
