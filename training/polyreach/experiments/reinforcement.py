"""Reinforcement learning on Meta-World's MT10 with one core of a CPU."""

from polyreach.envs.metaworld.metaworld import MetaWorldConfig
from polyreach.experiments.experiment import Experiment, Variant, override
from polyreach.methods.ars import ARSConfig
from polyreach.methods.ppo import PPOConfig

_PPO = override(
    PPOConfig,
    hidden=(400, 400),
    batch_steps=50_000,
    minibatch=100,
    epochs=5,
    lr=5e-4,
    lam=0.97,
    entropy_weight=1e-3,
    one_hot=True,
    popart=True,
)
# one update after ten steps, as with ten environments
_ARS = override(
    ARSConfig,
    hidden=(256, 256),
    batch_size=64,
    replay_size=400_000,
    updates_per_step=5,
    layer_norm=True,
)

RL_MT10 = Experiment(
    name="rl-mt10",
    title="Reinforcement learning on MT10 with one core",
    paper="Yu et al. 2019",
    envs=("mt10",),
    variants=(
        Variant("PPO with PopArt, 20,000,000 steps", "ppo", (_PPO,)),
        Variant("ARS with LayerNorm, 4,000,000 steps", "ars", (_ARS,), steps=4_000_000),
    ),
    preset="paper",
    # a success within 200 steps is one within the usual 500, too
    overrides=(override(MetaWorldConfig, goals="random", horizon=200),),
    num_envs=50,
    eval_every=1_000_000,
    steps=20_000_000,
    seeds=1,
    measure="success",
    published="ARS (Cho et al. 2025) 97 to 99 % after 20,000,000 steps, V2 rewards, episodes of "
    "500 steps",
    note="One seed of each: a run takes hours of a core. Networks and batches are chosen for that "
    "(PPO: 2 x 400; ARS: 2 x 256 and 64 transitions of each task).",
)
