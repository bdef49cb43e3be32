"""Every command in README.md, CONTRIBUTING.md and docs/ is one that exists, as it stands there.

Commands of polyreach are parsed with all their options; those in blocks run, too, in their shortest
form. Commands of ROS 2 need an installation: their files, names, types and fields are checked.
"""

import importlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from argparse import ArgumentParser
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import tyro
import yaml
from command_line import polyreach, run
from commands_in_pages import PAGES, REPOSITORY, Command, commands_in, commands_of

from benchmarks.__main__ import parse_arguments
from polyreach.cli import COMMANDS
from polyreach_description.robot import ROBOTS_DIR

NODES = REPOSITORY / "ros2_ws/src/polyreach_nodes"
# what stands for a name of the reader's
PLACEHOLDERS = {"METHOD": "digrad", "ENV": "planar8", "NAME": "digrad-fig4", "RUN": "runs/mine"}
# first lines of blocks that show a file tree or what a command prints
NO_COMMANDS = (
    r"reached \d+/\d+ goals",
    r"training/polyreach/ ",
    r"collision meshes that MuJoCo cannot use",
    r"robot 'vega' collides with itself",
    r"robot 'shadow' does not stand still",
    r"joint 'turn' has range",
    r"unknown joint 'knee'",
    r"the status says: ",
    r"set \d/\d missed",
)
TRANSITIONS = ("configure", "activate", "deactivate", "cleanup", "shutdown")


class ParsedError(Exception):
    """The command line was parsed; nothing is run."""


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A reader's folder, with the files that pages take for granted; the working directory."""
    robots = ROBOTS_DIR / "planar8"
    for name in ("robot.yaml", "robot.xml"):
        shutil.copy(robots / name, tmp_path / name)
    shutil.copy(robots / "robot.urdf", tmp_path / "my_robot.urdf")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def parse_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands end as soon as their options are parsed."""
    cli, parse_args = tyro.cli, ArgumentParser.parse_args

    def parse_options(*args: Any, **options: Any) -> Any:
        cli(*args, **options)
        raise ParsedError

    def parse(parser: ArgumentParser, *args: Any, **options: Any) -> Any:
        parsed = parse_args(parser, *args, **options)
        if parser.prog.startswith("polyreach"):
            raise ParsedError
        return parsed

    monkeypatch.setattr(tyro, "cli", parse_options)
    monkeypatch.setattr(ArgumentParser, "parse_args", parse)


def parses(command: Command) -> None:
    """`polyreach ...` has these options, and takes these values."""
    words = [PLACEHOLDERS.get(word, word.removesuffix("...")) for word in command.words[1:]]
    assert words[0] in COMMANDS or words == ["--version"], f"no command '{words[0]}'"
    if len(words) == 1:
        return  # its name alone
    if words[0] == "goal" and words[1].startswith("-"):
        words[1:1] = ["left", "0", "0", "0"]
        words += ["1"] if words[-1].startswith("-") else []
    command_line = importlib.import_module("polyreach.cli")
    try:
        status = command_line.main(words)
    except ParsedError:
        status = 0
    except SystemExit as ended:
        status = ended.code
    assert status == 0, "the command line is refused"


def is_a_target(command: Command) -> None:
    """`make TARGET`, without running its recipe."""
    environment = {name: value for name, value in os.environ.items() if "MAKE" not in name}
    done = subprocess.run(
        ["make", "-n", *command.words[1:]],
        cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def is_a_benchmark(command: Command) -> None:
    """`python -m benchmarks PART`."""
    parse_arguments(list(command.words[3:]))


def is_a_module(command: Command) -> None:
    """`python -m MODULE`."""
    assert importlib.util.find_spec(command.words[2]) is not None


def is_a_file(command: Command) -> None:
    """A program of the repository: `python tests/...`, `launch_test ../tests/...`."""
    assert (REPOSITORY / command.words[1].removeprefix("../")).is_file()


def quoted_in_sources(name: str) -> bool:
    """Whether a name of a launch argument or parameter is written in launch files or nodes."""
    files = [*(REPOSITORY / "launch").glob("*.py"), *NODES.glob("polyreach_nodes/**/*.py")]
    word = re.compile(rf"""(["']){name}\1|^    {name}: """, re.MULTILINE)
    return any(word.search(file.read_text(encoding="utf-8")) for file in files)


def starts_a_launch_file(command: Command) -> None:
    """`ros2 launch polyreach FILE NAME:=VALUE...`."""
    package, file, *arguments = command.words[2:]
    assert package == "polyreach" and (REPOSITORY / "launch" / file).is_file()
    for argument in arguments:
        name, assigned, _ = argument.partition(":=")
        assert assigned and quoted_in_sources(name), f"no launch argument '{name}'"


def starts_a_node(command: Command) -> None:
    """`ros2 run polyreach_nodes NODE --ros-args -p NAME:=VALUE`."""
    node = command.words[3]
    assert f'"{node} = polyreach_nodes.{node}:main"' in (NODES / "setup.py").read_text()
    for word in command.words:
        if ":=" in word:
            assert quoted_in_sources(word.partition(":=")[0]), word


def names_a_transition(command: Command) -> None:
    """`ros2 lifecycle set NODE TRANSITION`."""
    assert command.words[4] in TRANSITIONS


def names_a_parameter(command: Command) -> None:
    """`ros2 param set NODE NAME VALUE`."""
    assert quoted_in_sources(command.words[4])


def fills_a_message(command: Command) -> None:
    """`ros2 topic pub ... TYPE YAML`: the type has these fields."""
    words = [word for word in command.words if not word.startswith("-")]
    if len(words) == 3:
        return  # its name alone
    check_fields(command.words[-2].replace("/msg/", "/"), yaml.safe_load(command.words[-1]))


def check_fields(type_name: str, values: dict[str, Any]) -> None:
    package, _, name = type_name.partition("/")
    message = getattr(importlib.import_module(f"{package}.msg"), name)
    types = message.get_fields_and_field_types()
    assert set(values) <= set(types), f"{type_name} has: {', '.join(types)}"
    for field, value in values.items():
        if isinstance(value, dict):
            check_fields(types[field], value)


def fills_an_action(command: Command) -> None:
    """`ros2 action send_goal ... TYPE YAML`: the .action file has these fields."""
    package, _, name = command.words[-2].split("/")
    file = REPOSITORY / "ros2_ws/src" / package / "action" / f"{name}.action"
    goal = file.read_text(encoding="utf-8").partition("---")[0]
    for field in yaml.safe_load(command.words[-1]):
        assert re.search(rf"\b{field}$", goal, re.MULTILINE), field


def names_a_service(command: Command) -> None:
    """`ros2 service call NAME TYPE`."""
    package, _, name = command.words[4].split("/")
    assert hasattr(importlib.import_module(f"{package}.srv"), name)


def names_a_requirement(command: Command) -> None:
    """`pip install REQUIREMENT...`: the setup files ask for the same, or have this extra."""
    setups = [file.read_text() for file in (REPOSITORY / "setup.py", NODES / "setup.py")]
    for requirement in command.words[2:]:
        if extra := re.fullmatch(r"polyreach\[(\w+)\]", requirement):
            assert f'"{extra[1]}": [' in setups[0], requirement
            continue
        assert any(f'"{requirement}"' in text for text in setups), requirement


def names_files(command: Command) -> None:
    """Paths of the repository among its words exist."""
    for word in command.words:
        if word.startswith(("config/", "tests/")):
            assert (REPOSITORY / word).exists(), word


def in_bash(command: Command) -> None:
    """A setting of the shell: bash takes it."""
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-euc", command.line], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@dataclass(frozen=True)
class Rule:
    """How commands of a form are checked."""

    form: str
    """Regular expression of the beginning of the command."""
    check: Callable[[Command], None]
    not_run: str = ""
    """Why no test runs it as it stands."""


ROS = "needs a ROS 2 installation"
RULES = (
    Rule(r"polyreach goal", parses, "needs a running controller; test_goal_node.py has one"),
    Rule(r"polyreach (report|sweep) ", parses, "trains for hours; tests/training run small ones"),
    Rule(r"polyreach train .* --device cuda", parses, "needs a GPU; test_device.py has a stand-in"),
    Rule(r"polyreach ", parses),
    Rule(r"make ", is_a_target, "its recipe takes minutes, or is what runs this test"),
    Rule(r"python -m benchmarks\.", is_a_module, "takes minutes; tested in tests/nodes"),
    Rule(r"python -m benchmarks", is_a_benchmark, "make test-all runs all of them in small"),
    Rule(r"python -m pytest ", names_files, "it would run tests in a test"),
    Rule(r"python -m ", is_a_module, "it writes into the checkout; test_parameters.py calls it"),
    Rule(r"(python|launch_test) \S+\.py", is_a_file, "takes minutes, or " + ROS),
    Rule(r"ros2 launch ", starts_a_launch_file, ROS + "; tests/launch has its launch tests"),
    Rule(r"ros2 run polyreach_nodes ", starts_a_node, ROS + "; tests/nodes start the same program"),
    Rule(r"ros2 lifecycle set ", names_a_transition, ROS),
    Rule(r"ros2 param set ", names_a_parameter, ROS),
    Rule(r"ros2 topic pub", fills_a_message, ROS),
    Rule(r"ros2 action send_goal ", fills_an_action, ROS),
    Rule(r"ros2 service call ", names_a_service, ROS),
    Rule(
        r"ros2 (topic( echo .*)?|param describe|bag record .*|run (tf2_ros|plotjuggler) .*)$",
        names_files,
        ROS,
    ),
    Rule(r"ros2 security ", names_files, ROS + " with sros2"),
    Rule(r"pip install ", names_a_requirement, "installs packages"),
    Rule(r"export ", in_bash),
    Rule(r"(source|cd|colcon) ", names_files, ROS),
    Rule(r"(for|do|done)\b", names_files, "a loop of the shell; its commands stand below"),
    Rule(r"(ssh|ss|grep|ray|xacro) ", names_files, "another program, or another machine"),
)


def rule_of(command: Command) -> Rule:
    """The rule that a command matches; the test fails where there is none."""
    text = " ".join((command.program, *command.words[1:]))
    for rule in RULES:
        if re.match(rule.form, f"{text} " if rule.form.endswith(" ") else text):
            return rule
    pytest.fail(f"{command}\nno rule in {Path(__file__).name} says how to check such a command")


def checked_commands(page: Path) -> list[Command]:
    """The commands of a page, without trees of files and output."""
    return [
        command
        for command in commands_of(page)
        if not re.match("|".join(NO_COMMANDS), command.block)
    ]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_of_a_page_exists(page: Path, desk: Path, parse_only: None) -> None:
    for command in checked_commands(page):
        try:
            rule_of(command).check(command)
        except AssertionError as error:
            pytest.fail(f"{command}\n{error}")


def test_a_command_that_no_rule_knows_is_noticed() -> None:
    unknown = Command("README.md:1", ("polyreacher", "demo"), True, "polyreacher demo")
    with pytest.raises(pytest.fail.Exception, match=r"README.md:1: polyreacher demo\nno rule"):
        rule_of(unknown)


@pytest.mark.parametrize(
    "words",
    ["polyreach evaluate x.onnx --goal 3", "polyreach trains digrad planar8", "make coffee",
     "polyreach train digrad planar8 --steps many", "ros2 launch polyreach demo.launch.py robo:=x",
     "ros2 topic pub /x geometry_msgs/msg/PoseStamped '{pose: {place: {x: 1}}}'",
     "ros2 lifecycle set /polyreach_controller start", "python -m benchmarks tock"],
)  # fmt: skip
def test_a_command_that_does_not_exist_is_noticed(words: str, desk: Path, parse_only: None) -> None:
    (command,) = commands_in("README.md", f"```bash\n{words}\n```")
    with pytest.raises((AssertionError, SystemExit)):
        rule_of(command).check(command)


# the shortest form: a network and an evaluation that are too small for any use
SHORTEST = {
    "train": """--steps 512 --num-envs 64 --eval-every 512 --eval-goals 8
        --env-config.configurations 200 --method-config.hidden 16 16""",
    "export": "--goals 4",
    "evaluate": "--goals 4",
    "demo": "--goal-sets 1 --seconds 4 --json",
}


def shortest(words: list[str]) -> list[str]:
    """The words of a polyreach command with those of its shortest form."""
    if "--view" in words:
        return [*words, "--seconds", "1", "--port", "0"]
    return [*words, *SHORTEST.get(words[0], "").split()]


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, marks=() if page.name == "README.md" else pytest.mark.exhaustive)
        for page in PAGES
        if any(command.in_block and command.program == "polyreach" for command in commands_of(page))
    ],
    ids=lambda page: page.name,
)
def test_the_commands_of_a_page_run(page: Path, desk: Path, ros_domain_id: int) -> None:
    """In the order of the page, in their shortest form, in one folder."""
    for command in checked_commands(page):
        if command.program != "polyreach" or not command.in_block or rule_of(command).not_run:
            continue
        words = shortest(list(command.words[1:]))
        if words[0] == "train":  # it would leave this process without denormal numbers
            done = subprocess.run(
                polyreach(*words), capture_output=True, text=True, timeout=120, check=False
            )
        else:
            done = run(*words)
        # a policy that was hardly trained misses its goals; status 1 says so
        missed = words[0] == "demo" and done.returncode == 1 and '"success": false' in done.stdout
        assert done.returncode == 0 or missed, f"{command}\n{done.stdout}{done.stderr}"
