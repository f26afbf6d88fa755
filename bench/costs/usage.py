"""
What the usage ledger costs: the write that the end of each task takes besides, and its counting.

The tasks are made and ended by the stores' own calls, in virtual time, on tables that bill as AWS
does; each minute somebody counts, as the sweep does. Sparse traffic is the dearest: there a row is
written for each request.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import asdict, dataclass
from math import ceil
from typing import Any, Final, cast

from bench.costs.bill import price_of
from bench.costs.prices import HOURS_A_MONTH
from bench.harness.counting import WRITE_BYTES, Tally, item_bytes
from bench.harness.loader import Loader
from bench.report import Goal, Table, goals, progress
from bench.sim import virtual_time
from bench.sim.tables import Tables, ended_entry, purpose
from inferline.aws.api.client import AwsClient
from inferline.aws.dynamodb.minutes import DynamoMinutes
from inferline.aws.dynamodb.task_rows import ENDED_KEY
from inferline.aws.dynamodb.tasks import DynamoTaskStore
from inferline.aws.dynamodb.usage import DynamoUsage
from inferline.names import slug
from inferline.tasks.store import AttemptOutcome, Claimed
from inferline.tasks.task import Task, TaskRef
from inferline.usage.aggregation import UsageAggregator
from inferline.usage.ledger import Entry
from inferline.usage.minutes import MinuteLedger

HOURS: Final = 4
#: Of the answer that rides on a task's row: of one that is not streamed, in prose.
TAIL_BYTES: Final = 1500
#: US dollars for a million requests: a request a second of ten accounts, and the dearest traffic.
GOAL_USD: Final = 1.0
GOAL_SPARSE_USD: Final = 2.5


@dataclass(frozen=True, slots=True)
class Scene:
    """So many requests an hour, of so many accounts: tenants' keys, models and providers."""

    an_hour: int
    accounts: int

    @property
    def name(self) -> str:
        """Return what it is called."""
        if not self.an_hour:
            return "idle"
        return f"{self.an_hour:,} an hour, {self.accounts:,} accounts"


IDLE: Final = Scene(0, 1)
BUSY: Final = Scene(3600, 10)
#: Nearly each request is alone in its account's hour.
SPARSE: Final = Scene(60, 6000)
SCENES: Final = (
    IDLE,
    SPARSE,
    Scene(60, 60),
    Scene(600, 60),
    Scene(3600, 600),
    BUSY,
    Scene(18_000, 100),
)
QUICK_SCENES: Final = (IDLE, SPARSE, BUSY)


async def measure(load: Loader, *, quick: bool) -> dict[str, Any]:
    """Count each scene; nobody is loaded."""
    scenes = {}
    for scene in QUICK_SCENES if quick else SCENES:
        progress(scene.name)
        counted = await asyncio.to_thread(virtual_time.run, _count(scene))
        scenes[scene.name] = {"scene": asdict(scene), **counted}
    return {"hours": HOURS, "tail_bytes": TAIL_BYTES, "scenes": scenes}


async def _count(scene: Scene) -> dict[str, Any]:
    """Return the requests for some hours, and counting until all are counted twice."""
    tables, chance = Tables(), random.Random(1)
    client = cast(AwsClient, tables)
    store, minutes = DynamoTaskStore(client, "tasks", packs=True), DynamoMinutes(client, "registry")
    usage = DynamoUsage(client, "tasks", "registry", days_kept=400)
    settlement = UsageAggregator(usage=usage, minutes=minutes)
    ledger = MinuteLedger(minutes)

    async def ask(number: int) -> None:
        await asyncio.sleep(chance.random() * HOURS * 3600)
        account = chance.randrange(scene.accounts)
        await _answer(store, number, account)
        ledger.record(
            Entry(
                ended_ms=store.now_ms(),
                tenant="t",
                model=_model(account),
                tier="default",
                path="/v1/chat/completions",
                streamed=False,
                status=200,
            )
        )

    async def each_minute() -> None:
        for _ in range((HOURS + 2) * 60):
            purpose.set("minutes")
            await ledger.flush()
            purpose.set("counting")
            await settlement.run()
            await asyncio.sleep(60)

    purpose.set("tasks")
    async with asyncio.TaskGroup() as group:
        for number in range(scene.an_hour * HOURS):
            group.create_task(ask(number))
        group.create_task(each_minute())
    counting = Tally()
    for (what, _), tally in tables.tallies.items():
        if what == "counting":
            counting = counting - tally.times(-1)
    rows = [row for rows in tables.tables["tasks"].rows.values() for row in rows.values()]
    return {"counting": counting.raw(), **_index(rows)}


async def _answer(store: DynamoTaskStore, number: int, account: int) -> None:
    model, now = _model(account), store.now_ms()
    task = Task(
        ref=TaskRef(slug(model), f"req_{number:032x}{number % 997:08x}"),
        model=model,
        tier="default",
        tenant=f"tenant-{account // 4:03}",
        key_id=f"key{account // 2:08}",
        path="/v1/chat/completions",
        body_sha256="0" * 64,
        created_ms=now,
        deadline_ms=now + 600_000,
        attempt_limit=3,
        ttl=now // 1000 + 4200,
        traceparent=f"00-{'0' * 32}-{'0' * 16}-01",
        reader="01234567-0",
        reader_ms=now + 20_000,
    )
    await store.submit(task)
    claimed = await store.claim(task.ref, f"gpu-host-{account % 3}", 30)
    assert isinstance(claimed, Claimed)
    usage = {"prompt_tokens": 1234, "completion_tokens": 490, "total_tokens": 1724}
    tail = random.Random(number).randbytes(TAIL_BYTES)
    outcome = AttemptOutcome(status=200, content_type="application/json", tail=tail, usage=usage)
    await store.finish(claimed.task, outcome)


def _model(account: int) -> str:
    return f"organisation/model-of-a-name-{account % 2}"


def _index(rows: list[dict[str, Any]]) -> dict[str, int]:
    """Write units of the index, and of rows that grew over a limit by what the ledger adds."""
    own = ("ended_ms", ENDED_KEY, "key_id")
    without = [{name: value for name, value in row.items() if name not in own} for row in rows]
    return {
        "requests": len(rows),
        "index_writes": sum(_units(ended_entry(row)) for row in rows),
        "grown_writes": sum(map(_units, rows)) - sum(map(_units, without)),
    }


def _units(item: dict[str, Any]) -> int:
    return ceil(item_bytes(item) / WRITE_BYTES)


def tell(raw: dict[str, Any]) -> list[Table]:
    """Return what a million requests cost, by how many come and of how many."""
    idle, rows, costs = raw["scenes"][IDLE.name], [], {}
    standing = Tally.of(idle["counting"])
    for name, counts in raw["scenes"].items():
        if not counts["requests"]:
            continue
        counting = (Tally.of(counts["counting"]) - standing).times(1 / counts["requests"])
        index, grown = (counts[f"{of}_writes"] / counts["requests"] for of in ("index", "grown"))
        costs[name] = 1e6 * price_of(
            {"writes": index + grown + counting.writes, "reads": counting.reads}
        )
        cells = (index, grown, counting.writes, counting.reads, costs[name])
        rows.append([name, *(f"{cell:.3f}" for cell in cells)])
    month = price_of({"writes": standing.writes, "reads": standing.reads})
    month *= HOURS_A_MONTH / (raw["hours"] + 2)
    return [
        goals(
            "Usage",
            [
                _goal(BUSY, costs[BUSY.name], GOAL_USD),
                _goal(SPARSE, costs[SPARSE.name], GOAL_SPARSE_USD),
            ],
        ),
        Table(
            "Usage: what it costs to know who used what, units for each request",
            [
                *("requests", "index, writes", "larger rows, writes", "counting, writes"),
                *("counting, reads", "$ a million"),
            ],
            rows,
            f"In virtual time, {raw['hours']} hours of requests at random and all that counting "
            "them takes, on tables that bill as DynamoDB does; nothing of the requests themselves. "
            "An account is a tenant's key with a model and a provider. Without any request "
            f"counting costs $ {month:.2f} a month.",
        ),
    ]


def _goal(scene: Scene, cost: float, most: float) -> Goal:
    what = f"a million requests, {scene.name}"
    return Goal(what, f"at most $ {most:.2f}", f"$ {cost:.2f}", cost <= most)
