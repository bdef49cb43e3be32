"""benchmarks/limits.py: what is counted as the limit, and that it is what is computed."""

import mujoco
import numpy as np
import pytest
import torch
from torch import nn

from benchmarks import limits
from benchmarks.limits import physics_of, products_of, share_row


def test_the_products_of_an_update_are_those_of_both_passes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    net = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2))
    x = torch.randn(7, 3)
    seen = []
    original = limits._Products.__torch_dispatch__

    def spy(self: limits._Products, func: object, *rest: object) -> object:
        result = original(self, func, *rest)  # type: ignore[arg-type]
        seen.append(len(self.calls))
        return result

    monkeypatch.setattr(limits._Products, "__torch_dispatch__", spy)

    def update() -> None:
        net.zero_grad()
        net(x).square().mean().backward()

    replay = products_of(update)
    # forward 2; backward: weights of both layers and the input of the second
    assert seen[-1] == 5
    replay()
    with pytest.raises(RuntimeError, match="no matrix product"):
        products_of(lambda: x + 1)


def test_the_physics_are_so_many_steps_of_every_simulation(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = mujoco.MjModel.from_xml_string(
        "<mujoco><worldbody><body><joint name='j'/><geom size='.1'/></body></worldbody>"
        "<actuator><motor joint='j'/></actuator></mujoco>"
    )
    taken = []

    def step(model: mujoco.MjModel, data: mujoco.MjData, count: int) -> None:
        taken.append((float(data.ctrl[0]), count))

    monkeypatch.setattr(limits.mujoco, "mj_step", step)
    physics_of([model, model], np.array([[0.5], [-1.0]]), 4)()
    assert taken == [(0.5, 4), (-1.0, 4)]
    assert share_row("name", 1.0, 4.0) == ("name", "25% of the time")
