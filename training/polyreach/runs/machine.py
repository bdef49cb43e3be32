"""Where a run is made: the machine and the commit, as run folders and reports state them."""

import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import mujoco
import torch


def describe_machine(device: str, threads: int) -> dict[str, Any]:
    """Processor, cores, accelerator and versions, as plain JSON values.

    device: of torch, cpu or cuda. threads: CPU threads of the run.
    """
    machine = {
        "cpu": cpu_model(),
        "cores": os.cpu_count(),
        "threads": threads,
        "device": device,
        "torch": torch.__version__,
        "mujoco": mujoco.__version__,
        "python": platform.python_version(),
        "system": platform.system(),
    }
    if torch.device(device).type == "cuda":
        machine["gpu"] = torch.cuda.get_device_name(device)
    return machine


def cpu_model() -> str:
    """The processor's name, or its architecture where the system does not give one."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def machine_sentence(machine: dict[str, Any]) -> str:
    """One machine in words."""
    used = f"{machine['threads']} thread{'' if machine['threads'] == 1 else 's'}"
    parts = [
        f"{machine['cpu']} ({machine['cores']} cores, {used} used)",
        machine.get("gpu", f"device {machine['device']}"),
        f"torch {machine['torch']}",
        f"Python {machine['python']}",
    ]
    parts += [f"MuJoCo {machine['mujoco']}"] if "mujoco" in machine else []
    return ", ".join(parts)


def git_commit() -> str:
    """The commit of the checkout this package is in, with '+changes' if it was modified; 'unknown'
    outside of a checkout.
    """
    here = Path(__file__).parents[1]
    try:
        commit = _git(here, "rev-parse", "HEAD")
        return commit + ("+changes" if _git(here, "status", "--porcelain", "--", ".") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _git(folder: Path, *words: str) -> str:
    done = subprocess.run(["git", *words], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()
