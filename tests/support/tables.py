"""The tables of options in the documentation and in `cdk.json`: `make docs` writes them."""

from __future__ import annotations

import json
from pathlib import Path

from inferline.options import markdown
from inferline.settings import Settings
from inferline_provider.settings import ProviderSettings
from infra.options import Options, documented

ROOT = Path(__file__).parents[2]
#: Each page's table, by the options that it lists.
PAGES = {
    "docs/settings.md": Settings,
    "docs/running-a-provider.md": ProviderSettings,
    "docs/deploying.md": Options,
}


def renewed(page: str) -> str:
    """Return a page with its table of options as the code has it."""
    table = markdown(PAGES[page]).splitlines()
    lines = (ROOT / page).read_text().splitlines()
    start = lines.index(table[0])
    end = next((i for i in range(start, len(lines)) if not lines[i].startswith("|")), len(lines))
    return "\n".join([*lines[:start], *table, *lines[end:]]) + "\n"


def renewed_context() -> str:
    """Return `cdk.json` with the options' meanings as the code has them."""
    content = json.loads((ROOT / "cdk.json").read_text())
    content["//"][1:] = documented()
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    for name in PAGES:
        (ROOT / name).write_text(renewed(name))
    (ROOT / "cdk.json").write_text(renewed_context())
