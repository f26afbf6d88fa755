"""instructor's batch processor, as its users use it: answers of a given form, by the Batch API."""

from __future__ import annotations

import os
import tempfile
import time
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

from instructor.batch import BatchProcessor, BatchSuccess
from observing import Observer, Seen
from pydantic import BaseModel

LINES = 5
#: States in which a batch may still change.
ACTIVE = ("validating", "in_progress", "finalizing", "cancelling")
SECONDS_MAX = 60

observer = Observer()
# It makes a client of its own for each call, and OpenAI's SDK reads these.
os.environ |= {"OPENAI_BASE_URL": observer.base_url, "OPENAI_API_KEY": "test"}


class Weather(BaseModel):
    city: str
    days: int


def processor(model: str) -> BatchProcessor[Weather]:
    return BatchProcessor(f"openai/{model}", Weather)


def submit(model: str, path: Path | None = None) -> str:
    messages = [[{"role": "user", "content": f"City {number}?"}] for number in range(LINES)]
    batches = processor(model)
    with redirect_stdout(StringIO()):  # It prints what it does.
        lines = batches.create_batch_from_messages(messages, path and str(path))
    return batches.submit_batch(lines, metadata={"owner": "weather"})


def ended(batch: str) -> dict[str, Any]:
    end = time.monotonic() + SECONDS_MAX
    while True:
        status = processor(observer.model).get_batch_status(batch)
        if status["status"] not in ACTIVE or time.monotonic() > end:
            return status
        time.sleep(0.1)


def batch() -> Seen:
    with tempfile.TemporaryDirectory() as folder:
        batch = submit(observer.model, Path(folder, "lines.jsonl"))
        status = ended(batch)
        saved = Path(folder, "results.jsonl")
        results = processor(observer.model).get_results(batch, str(saved))
        saved_lines = len(saved.read_text().splitlines())
    listed = {job.id: job for job in processor(observer.model).list_batches(limit=10)}
    return {
        "status": status["status"],
        "counts": status["request_counts"],
        "ids": sorted(result.custom_id for result in results),
        "parsed": [isinstance(result, BatchSuccess) for result in results],
        "saved_lines": saved_lines,
        "listed_status": listed[batch].status.value,
        "metadata": listed[batch].metadata,
    }


def refused() -> Seen:
    batch = submit("no-such-model")
    status = ended(batch)
    [job] = [job for job in processor(observer.model).list_batches(10) if job.id == batch]
    return {"status": status["status"], "errors": job.raw_data["errors"]["data"]}


def cancelled() -> Seen:
    batch = submit(observer.model)
    answer = processor(observer.model).cancel_batch(batch)
    return {"at_once": answer["status"], "status": ended(batch)["status"]}


observer.see("batch", batch)
observer.see("refused", refused)
observer.see("cancelled", cancelled)
observer.finish()
