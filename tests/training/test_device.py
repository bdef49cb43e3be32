"""Methods and environments on a device that is not the CPU: all tensors are on it.

A GPU is not needed: stand_in_device.py fails where a GPU would.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from polyreach.methods import METHODS

SCRIPT = Path(__file__).parent / "train_on_stand_in.py"
OF_ENVS = {
    "planar8": tuple(METHODS),
    "mt3": ("a2c", "mtsac", "ppo"),
    "cheetah6": ("a2c", "picor"),
    "hoppers3": ("mtsac", "specialization"),
}
ROUNDING = 1e-5  # of float32, in sums whose order may differ


@pytest.mark.exhaustive
@pytest.mark.parametrize("env", OF_ENVS)
def test_training_on_a_device_is_training_on_the_cpu(env: str) -> None:
    """Same weights after updates, after one more from a state of the CPU, and same evaluation."""
    words = [sys.executable, "-W", "ignore", str(SCRIPT), env, *OF_ENVS[env]]
    process = subprocess.run(words, capture_output=True, text=True, timeout=300, check=False)
    assert process.returncode == 0, process.stdout + process.stderr
    results = [json.loads(line) for line in process.stdout.splitlines()]
    assert [result["name"] for result in results] == [*OF_ENVS[env], "evaluation"]
    for result in results:
        assert "error" not in result, f"{result['name']}: {result['error']}"
        assert result["devices"] == ["stand_in"], result
        assert result["differences"] and max(result["differences"]) < ROUNDING, result
        assert result.get("updates", 1) > 0, result


def test_the_stand_in_fails_where_a_gpu_does() -> None:
    """Mixed devices, a generator of another device, and NumPy; scalars and indices may be mixed."""
    script = """
import pytest, stand_in_device, torch
stand_in_device.install()
ones = torch.ones(2, device="stand_in")
cpu, gpu = torch.Generator(), torch.Generator(device="stand_in")
with pytest.raises(RuntimeError, match="expected all tensors to be on stand_in"):
    ones + torch.ones(2)
with pytest.raises(RuntimeError, match="expected all tensors to be on stand_in"):
    ones[torch.tensor([1])] = torch.ones(1)
for draw in (torch.rand, torch.randn):
    with pytest.raises(RuntimeError, match="expected a generator"):
        draw(2, generator=gpu)
    with pytest.raises(RuntimeError, match="expected a generator"):
        draw(2, generator=cpu, device="stand_in")
with pytest.raises((RuntimeError, TypeError), match="numpy"):
    ones.numpy()
assert (ones * torch.tensor(2.0))[[0, 1]].cpu().tolist() == [2.0, 2.0]
ones[:1] = torch.zeros(1)
assert ones.tolist() == [0.0, 1.0] and ones.device.type == "stand_in"
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", script], cwd=SCRIPT.parent, check=True)
