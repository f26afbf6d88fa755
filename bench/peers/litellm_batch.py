"""
LiteLLM's own batch runner, run on a file: LITELLM_PYTHON bench/peers/litellm_batch.py FLAGS

The runner, its router and its client of the backend are LiteLLM's. It keeps files and batches in
PostgreSQL; here they are in memory, which costs it nothing: no call to a database is waited for.
What it uploads at its end goes to the output file; before that nothing of it is kept anywhere.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from litellm.proxy._types import UserAPIKeyAuth
from litellm.proxy.batches_endpoints.litellm_executed_batches import (
    TERMINAL_BATCH_STATUSES,
    LiteLLMExecutedBatchRunner,
)
from litellm.router import Router

ENDPOINT = "/v1/chat/completions"
POLL_SECONDS = 0.02


class Database:
    """The batch and its files, in place of those that LiteLLM has in PostgreSQL."""

    def __init__(self, content: bytes, output: Path) -> None:
        self._content = content
        self._output = output
        self.batch: Any = None

    def get_unified_batch_id(self, batch_id: str, model_id: str) -> str:
        return batch_id

    async def get_unified_file_id(self, file_id: str, **_: Any) -> Any:
        return SimpleNamespace(storage_backend="memory", storage_url="memory")

    async def store_unified_object_id(self, *, file_object: Any, **_: Any) -> None:
        self.batch = file_object

    async def download_file(self, url: str) -> bytes:
        return self._content

    async def upload(self, *, file_data: Any, **_: Any) -> Any:
        if file_data["filename"].endswith("_output.jsonl"):
            self._output.write_bytes(file_data["content"])
        return SimpleNamespace(id=file_data["filename"])

    async def load_batch(self, batch_id: str) -> Any:
        return self.batch

    async def load_status(self, batch_id: str) -> str:
        return str(self.batch.status)

    async def compare_and_set(self, batch: Any, unchanged: Any, user: Any) -> bool:
        if self.batch.status != unchanged["status"]:
            return False
        self.batch = batch
        return True

    async def touch(self, batch_id: str, user: Any) -> None:
        return None


async def run(backend: str, model: str, input: Path, output: Path, at_once: int | None) -> Any:
    """Return the batch at its end, and the seconds it took."""
    parameters = {"model": f"hosted_vllm/{model}", "api_base": f"{backend}/v1", "api_key": "none"}
    router = Router(
        model_list=[{"model_name": model, "litellm_params": parameters}],
        num_retries=0,
        disable_cooldowns=True,
    )
    database = Database(input.read_bytes(), output)
    runner = LiteLLMExecutedBatchRunner(
        router,
        None,  # type: ignore[arg-type]
        database,
        database,  # type: ignore[arg-type]
        None,  # type: ignore[arg-type]
        {},
        **({} if at_once is None else {"concurrency": at_once}),
        storage_backend_factory=lambda kind, prisma_client=None: database,
        upload_result_file=database.upload,
    )
    request: Any = {"endpoint": ENDPOINT, "completion_window": "24h", "input_file_id": "file-1"}
    begun = time.monotonic()
    await runner.create(request, "file-1", model, "hosted_vllm", UserAPIKeyAuth(), None)
    print("running", flush=True)
    while database.batch.status not in TERMINAL_BATCH_STATUSES:  # noqa: ASYNC110
        await asyncio.sleep(POLL_SECONDS)
    seconds = time.monotonic() - begun
    counts = database.batch.request_counts
    return {"status": database.batch.status, "completed": counts.completed, "seconds": seconds}


def main() -> None:
    parser = argparse.ArgumentParser(description="Run a batch with LiteLLM's own runner.")
    parser.add_argument("--backend", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--input", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--at-once", type=int, help="lines; its own default without")
    flags = parser.parse_args()
    ended = asyncio.run(run(flags.backend, flags.model, flags.input, flags.output, flags.at_once))
    print(json.dumps(ended), flush=True)


if __name__ == "__main__":
    main()
