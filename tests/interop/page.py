"""Writes docs/compatibility.md from docs/compatibility.json, which holds what was seen."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "docs/compatibility.json"
PAGE = ROOT / "docs/compatibility.md"

#: Each table: its title, what is said before it, and its columns in order with their heads.
TABLES: Mapping[str, tuple[str, str, Mapping[str, str]]] = {
    "servers": (
        "LLM servers",
        "Each behind a real provider, and asked directly as well. Those for chats have"
        " SmolLM2-135M (litserve a model that counts), infinity a small BERT of random weights.",
        {
            "list": "models",
            "plain": "whole answer",
            "stream": "stream",
            "tools": "tools",
            "error": "wrong request",
            "cancel": "hang-up",
            "batch": "line of a batch",
            "continuation": "provider killed",
        },
    ),
    "clients": (
        "Clients",
        "Each before a real gateway. Whole answers and streams come from llama.cpp with"
        " SmolLM2-135M; tool calls, and what has to be broken at a certain word, from a scripted"
        " server. So does all that coding agents ask: their instructions do not fit into such a"
        " small model.",
        {
            "list": "models",
            "plain": "whole answer",
            "stream": "stream",
            "tools": "tools",
            "error": "unknown model",
            "cancel": "hang-up",
            "continuation": "provider killed",
        },
    ),
    "emulators": (
        "Emulators of AWS",
        "The whole line on each, with a scripted LLM server. What an emulator does not have comes"
        " from MiniStack beside it.",
        {
            "contract": "contract tests",
            "list": "set-up",
            "plain": "whole answer",
            "stream": "stream",
            "large": "800 KB by S3",
            "many": "ten at once",
            "again": "Idempotency-Key",
            "cancel": "hang-up",
            "continuation": "provider killed",
        },
    ),
}

#: What stands before the tables.
HEAD = (Path(__file__).parent / "head.md").read_text()


def read() -> dict[str, Any]:
    """Return the results so far."""
    return dict(json.loads(RESULTS.read_text())) if RESULTS.exists() else {}


def write(results: Mapping[str, Any]) -> None:
    """Write the results, and the page that shows them."""
    RESULTS.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")
    PAGE.write_text(rendered(results))


def rendered(results: Mapping[str, Any]) -> str:
    """Return the page."""
    parts = [HEAD]
    if whole := results.get("whole"):
        parts.append(
            f"The last whole run: {whole['date']}, {whole['minutes']} minutes on"
            f" {whole['machine']}.\n"
        )
    for name, (title, words, columns) in TABLES.items():
        rows = results.get(name, {})
        if rows:
            parts.append("\n".join(_table(title, words, columns, rows)))
    return "\n".join(parts)


def _table(
    title: str, words: str, columns: Mapping[str, str], rows: Mapping[str, Any]
) -> Iterator[str]:
    yield f"## {title}\n"
    yield f"{words}\n"
    yield _line(["", "version", "date", *columns.values()])
    yield "|" + "---|" * (3 + len(columns))
    for name, row in rows.items():
        verdicts = [_verdict(row, column) for column in columns]
        yield _line([name, row["version"], row["date"], *verdicts])
    yield ""
    for name, row in rows.items():
        if notes := list(_notes(row, columns)):
            yield f"- **{name}**: " + "; ".join(notes) + "."
    yield ""


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _verdict(row: Mapping[str, Any], column: str) -> str:
    verdict = row["cells"].get(column, {}).get("verdict", "n/a")
    return {"n/a": "-", "no": "**no**"}.get(verdict, str(verdict))


def _notes(row: Mapping[str, Any], columns: Mapping[str, str]) -> Iterator[str]:
    if why := row.get("unavailable"):
        yield _safe(f"not tried: {why}")
    for column, head in columns.items():
        if note := row["cells"].get(column, {}).get("note"):
            yield f"*{head}* {_safe(note)}"


def _safe(text: str) -> str:
    """Return text of others inside our Markdown: none of it is markup."""
    text = text.rstrip(".")
    return text.replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*").replace("_", "\\_")
