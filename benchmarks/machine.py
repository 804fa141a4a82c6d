"""What the numbers were measured on."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any


def machine() -> dict[str, Any]:
    """Processor, cores, memory, system and Python, and the GPU where there is one."""
    name = platform.processor() or platform.machine()
    if (cpus := Path("/proc/cpuinfo")).exists():
        facts = dict(line.split(":", 1) for line in cpus.read_text().split("\n\n")[0].splitlines() if ":" in line)
        facts = {key.strip(): value.strip() for key, value in facts.items()}
        name = f"{facts.get('model name', name)} (family {facts.get('cpu family')}, model {facts.get('model')})"
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    gpu = {}
    if shutil.which("nvidia-smi"):
        asked = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
        gpu["gpu"] = ", ".join(subprocess.run(asked, capture_output=True, text=True).stdout.splitlines())
    return {
        "processor": name,
        "cores": os.cpu_count(),
        **gpu,
        "memory": f"{memory:.0f} GiB",
        "system": platform.platform(),
        "python": platform.python_version(),
    }


def environment_name(torch_version: str) -> str:
    """For a file's name: `intel-xeon-processor-family-6-model-207-2c-torch2.14.1`; a GPU in place of the processor."""
    facts = machine()
    words = re.sub(r"\((R|TM|r|tm)\)", "", facts.get("gpu") or facts["processor"])
    name = re.sub(r"[^a-z0-9]+", "-", words.lower()).strip("-")
    return f"{name}-{facts['cores']}c-torch{torch_version}"
