"""Reinforcement learning on Meta-World's MT10 and MT50 with one core of a CPU."""

from polyreach.envs.metaworld.metaworld import MetaWorldConfig
from polyreach.experiments.experiment import Experiment, Variant, override
from polyreach.methods.ars import ARSConfig
from polyreach.methods.ppo import PPOConfig

_PPO = override(
    PPOConfig,
    minibatch=100,
    epochs=5,
    lr=5e-4,
    lam=0.97,
    entropy_weight=1e-3,
    one_hot=True,
    popart=True,
)
_PPO_MT10 = override(PPOConfig, hidden=(400, 400), batch_steps=50_000)
_PPO_MT50 = override(PPOConfig, hidden=(512, 512), batch_steps=100_000)
# one update after ten steps, as with ten environments
_ARS = override(
    ARSConfig,
    hidden=(256, 256),
    batch_size=64,
    replay_size=400_000,
    updates_per_step=5,
    layer_norm=True,
)


def _reinforcement(task_set: str, variants: tuple[Variant, ...], published: str) -> Experiment:
    """With the steps of each variant."""
    return Experiment(
        name=f"rl-{task_set}",
        title=f"Reinforcement learning on {task_set.upper()} with one core",
        paper="Yu et al. 2019",
        envs=(task_set,),
        variants=variants,
        preset="paper",
        # a success within 200 steps is one within the usual 500, too
        overrides=(override(MetaWorldConfig, goals="shuffled", horizon=200),),
        num_envs=50,
        eval_every=500_000,
        steps=6_000_000,
        seeds=2,
        measure="success",
        published=f"ARS (Cho et al. 2025) {published}, V2 rewards, episodes of 500 steps",
        note="A run of MT10 takes about an hour of a core. Steps, networks and batches "
        "are chosen for that (PPO: 2 x 400 on MT10, 2 x 512 on MT50; ARS: 2 x 256 and 64 "
        "transitions of each task).",
    )


RL_MT10 = _reinforcement(
    "mt10",
    (
        Variant("PPO with PopArt, 6,000,000 steps", "ppo", (_PPO, _PPO_MT10)),
        Variant("ARS with LayerNorm, 1,000,000 steps", "ars", (_ARS,), steps=1_000_000),
    ),
    "97 to 99 % after 20,000,000 steps",
)
RL_MT50 = _reinforcement(
    "mt50",
    (Variant("PPO with PopArt, 40,000,000 steps", "ppo", (_PPO, _PPO_MT50), steps=40_000_000),),
    "78 to 83 % after 100,000,000 steps",
)
