"""The page of a method, made from its module: what it is, equations and their lines, options."""

import inspect
import sys
from dataclasses import fields
from pathlib import Path
from types import ModuleType
from typing import Any

import docstring_parser
from equations import Equation, equations
from prose import as_markdown, escaped

from polyreach.commands.train import train_config
from polyreach.experiments import EXPERIMENTS
from polyreach.methods import METHODS

DOCS = Path(__file__).resolve().parents[1]
ROBOT = "planar8"


def method_page(name: str) -> str:
    """The page of a method as Markdown."""
    method = METHODS[name]
    module = _module_of(method.learner)
    notes = DOCS / "methods" / f"{name}.md"
    parts = [
        "---\nhide: [toc]\n---",
        f"# {name}",
        as_markdown(module.__doc__ or "", gaps_heading="What the paper leaves open"),
        f"Paper: {method.paper}.",
        notes.read_text(encoding="utf-8") if notes.exists() else "",
        _equations(name),
        _options(name),
        _results(name),
        f"## Train it\n\n    polyreach train {name} {ROBOT}\n\n"
        f"The code: [`{module.__name__}`][{module.__name__}].",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def overview_page() -> str:
    """The list of all methods."""
    rows = [f"| [{name}]({name}.md) | {method.paper} |" for name, method in sorted(METHODS.items())]
    return "\n".join(["# Methods", "", "| method | paper |", "|---|---|", *rows, ""])


def _module_of(thing: Any) -> ModuleType:
    return sys.modules[thing.__module__]


def _equations(name: str) -> str:
    """The equations of the method, then those of the classes and methods that it is built on."""
    learner: Any = METHODS[name].learner
    module = _module_of(learner)
    names = {_module_of(each.learner): name for name, each in METHODS.items()}
    parts = ["## Equations and the lines that compute them", *_table(module)]
    if len(parts) == 1:
        parts.append("It has no equation of its own.")
    for base in dict.fromkeys(_module_of(each) for each in learner.__mro__):
        if base is module or not base.__name__.startswith("polyreach."):
            continue
        if base in names:
            parts.append(f"It builds on [{names[base]}]({names[base]}.md).")
            break
        if rows := _table(base):
            parts += [f"From `{base.__name__}`, which several methods share:", *rows]
    return "\n\n".join(parts)


def _table(module: ModuleType) -> list[str]:
    """A row per equation: the equation beside its lines."""
    return [_row(equation, module) for equation in equations(module)]


def _row(equation: Equation, module: ModuleType) -> str:
    file = Path(inspect.getsourcefile(module) or "").name
    return "\n".join(
        [
            '<div class="equation" markdown>',
            "",
            "``` { .text .no-copy }",
            equation.text,
            "```",
            "",
            f'``` {{ .python linenums="{equation.line}" title="{file}, {equation.function}" }}',
            equation.source,
            "```",
            "",
            "</div>",
        ]
    )


def _options(name: str) -> str:
    """A row per setting, with the defaults of both presets."""
    paper, tuned = (_settings(name, preset) for preset in ("paper", "tuned"))
    texts: dict[str, str] = {}
    for owner in reversed(type(paper).__mro__[:-1]):
        parsed = docstring_parser.parse_from_object(owner)
        texts |= {text.arg_name: text.description or "" for text in parsed.params}
    rows = [
        f"| `{field.name.replace('_', '-')}` | {_value(paper, field.name)} "
        f"| {_value(tuned, field.name)} | {escaped(' '.join(texts.get(field.name, '').split()))} |"
        for field in fields(paper)
    ]
    return "\n".join(
        [
            "## Options",
            "",
            "`--method-config.OPTION VALUE`; the defaults are those of `--preset paper` and "
            f"`--preset tuned` on {ROBOT}.",
            "",
            "| option | paper | tuned | |",
            "|---|---|---|---|",
            *rows,
        ]
    )


def _settings(name: str, preset: str) -> Any:
    """The dataclass of a method's settings that `polyreach train` takes."""
    return train_config([name, ROBOT, "--preset", preset])[1].method_config


def _value(config: Any, name: str) -> str:
    value = getattr(config, name)
    text = " ".join(map(str, value)) if isinstance(value, tuple) else str(value)
    return f"`{text}`" if text else ""


def _results(name: str) -> str:
    """The figures of the experiments in which the method takes part."""
    parts = []
    for experiment in EXPERIMENTS.values():
        methods = {variant.method for variant in experiment.variants}
        if name in methods and (DOCS / f"{experiment.name}.md").exists():
            link = f"../{experiment.name}.md"
            parts.append(
                f"[{experiment.title}]({link})\n\n[![curves](../{experiment.name}.png)]({link})"
            )
    return "\n\n".join(["## Results", *parts]) if parts else ""
