"""The preset `paper` on robots gives the numbers that it has always given."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from polyreach.envs.reach.spec import EffectorReachSpec, TaskReachSpec

CHECKSUMS = {  # of version 0.2.0
    ("planar8", EffectorReachSpec): 31680.590666,
    ("planar8", TaskReachSpec): 98628.826197,
    ("humanoid27", EffectorReachSpec): -17491.050709,
    ("humanoid27", TaskReachSpec): 104317.082762,
}


@pytest.mark.parametrize(("robot", "spec"), CHECKSUMS)
def test_observations_and_rewards_are_those_of_version_0_2(robot: str, spec: type[Any]) -> None:
    env_spec = spec(robot)
    settings = replace(env_spec.settings("paper"), configurations=500, horizon_s=1.0)
    env = env_spec.make(settings, 12, "cpu", 1, 3)
    generator = torch.Generator().manual_seed(5)
    obs, checksum = env.reset(4), 0.0
    for step in range(1, 41):
        shape = (*obs.shape[:2], env.action_size)
        taken = env.step(torch.rand(shape, generator=generator) * 3 - 1.5)
        obs = taken.obs
        parts = obs, taken.reward, taken.final_obs
        checksum += step * sum(float(part.double().sum()) for part in parts)
    # other processors round differently
    assert checksum == pytest.approx(CHECKSUMS[robot, spec], rel=1e-6)
