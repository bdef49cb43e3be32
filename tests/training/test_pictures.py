"""Pictures of policies: what is split, and robots in motion."""

import os
import subprocess
from pathlib import Path

import matplotlib.image
import pytest
import torch
from command_line import polyreach, run

from polyreach.errors import UserError
from polyreach.networks.per_task_weights import SplitActor, SplitMLP
from polyreach.runs.plots import draw_run, split_parts

TINY = """--steps 480 --num-envs 6 --eval-every 480 --eval-goals 1 --env-config.horizon 20
    --method-config.hidden 8 8 --method-config.batch-steps 60 --method-config.minibatch 5
    --method-config.joint-steps 240""".split()


def test_the_parts_of_a_network_by_hand() -> None:
    net = SplitMLP(2, (2, 3, 1), extra=(0.0,))
    # 6 weights and 3 biases, 3 weights and 1 bias, 1 standard deviation
    assert len(net.split) == 14
    net.split[[1, 3, 7, 11, 12, 13]] = True
    parts = {part.name: part.split.astype(int).tolist() for part in split_parts(net)}
    assert parts == {
        "layer 1, weights": [[0, 1, 0], [1, 0, 0]],
        "layer 1, biases": [[0, 1, 0]],
        "output, weights": [[0], [0], [1]],
        "output, biases": [[1]],
        "standard deviations": [[1]],
    }


def test_a_split_unit_is_a_column_of_its_layer() -> None:
    """A unit whose weights are split is a column of its layer."""
    actor = SplitActor(2, 3, (4,), 2, 1.0, one_hot=False)
    theta = torch.zeros(2, len(actor.net.split))
    first = actor.net.layers(theta)[0]
    first[:, :, 2] = 1.0
    actor.net.split |= theta[0] == 1.0
    picture = split_parts(actor.net)[0].split
    assert picture.shape == (3, 4)
    assert picture[:, 2].all() and not picture[:, [0, 1, 3]].any()


@pytest.fixture(scope="module")
def hoppers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "hoppers"
    done = run("train", "specialization", "hoppers3", *TINY, "--out", folder)
    assert done.returncode == 0, done.stderr
    return folder


def test_draw_writes_what_is_split_and_the_motion(hoppers: Path, tmp_path: Path) -> None:
    errors = []
    for backend in ("osmesa", "egl"):
        done = subprocess.run(
            polyreach("draw", str(hoppers), "--out", str(tmp_path), "--start", "0.1"),
            env=os.environ | {"MUJOCO_GL": backend},
            capture_output=True,
            text=True,
        )
        if done.returncode == 0:
            break
        errors.append(done.stderr.strip().rpartition("\n")[2])
    else:
        pytest.skip(f"no OpenGL without a display: {errors}")
    split = matplotlib.image.imread(tmp_path / "hoppers-split.png")
    motion = matplotlib.image.imread(tmp_path / "hoppers-motion.png")
    # blue for split, of which there are 25 %
    red, blue = split[..., 0], split[..., 2]
    assert 0.002 < float(((blue > 0.35) & (red < 0.1)).mean()) < 0.5
    # eight pictures of each of three hoppers
    assert motion.shape[:2] == (630, 1280)
    assert "hoppers-split.png and" in done.stdout and "hoppers-motion.png" in done.stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"frames": 0}, "frames is 0, but must be from 1 to 40"),
        ({"every_s": 0.0}, "every is 0, but must be at least 0.001"),
        ({"start_s": -1.0}, "start is -1, but must be at least 0"),
    ],
)
def test_illegal_drawing_settings_are_refused(
    words: dict[str, float], message: str, hoppers: Path, tmp_path: Path
) -> None:
    settings = {"start_s": 0.0, "every_s": 0.1, "frames": 2, **words}
    with pytest.raises(UserError, match=message):
        draw_run(hoppers, tmp_path, **settings)  # type: ignore[arg-type]


def test_a_run_with_nothing_to_draw(tmp_path: Path) -> None:
    folder = tmp_path / "cheetahs"
    words = """train mtsac cheetah --steps 20 --num-envs 1 --eval-every 20 --eval-goals 1
        --env-config.horizon 10 --method-config.hidden 8 8
        --method-config.learning-starts 10 --method-config.batch-size 4""".split()
    done = run(*words, "--out", folder)
    assert done.returncode == 0, done.stderr
    with pytest.raises(UserError, match="its method mtsac splits no weights, and 'cheetah' has no"):
        draw_run(folder, tmp_path / "pictures", 0.0, 0.1, 2)
