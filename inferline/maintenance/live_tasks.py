"""The live tasks of all models, for what checks each model periodically."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Self

from inferline.tasks.store import TaskStore
from inferline.tasks.task import TaskRef

#: All are read at once as long as there are no more than so many for each model: to ask for each
#: model's would cost as much.
EACH_MAX: Final = 20

#: With their deadlines (ms since 1970), the earliest first.
Tasks = Sequence[tuple[TaskRef, int]]


@dataclass(frozen=True, slots=True)
class LiveTasks:
    """The live tasks at one moment: read all at once, or model by model."""

    store: TaskStore
    #: By the models' slugs; None if they were too many for one read.
    _by_slug: Mapping[str, Tasks] | None

    @classmethod
    async def read(cls, store: TaskStore, models: int) -> Self:
        """Read those of so many models. Raises Unavailable."""
        return cls(store, await store.live_by_slug(EACH_MAX * models))

    async def of_model(self, slug: str, limit: int) -> Tasks:
        """Return up to ``limit`` of a model's. Raises Unavailable."""
        if self._by_slug is None:
            return await self.store.live(slug, limit)
        return self._by_slug.get(slug, ())[:limit]
