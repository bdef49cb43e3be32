"""The pages of the site that docs/hooks makes from the code."""

import inspect
import re
import sys
from dataclasses import fields
from pathlib import Path
from types import ModuleType

import pytest
from equations import equations
from layers import arrows, contract_layers, draw_layers
from links import ROOT, site_links
from method_pages import method_page, overview_page
from prose import as_markdown

from polyreach.methods import METHODS

MODULE = '''
"""A module."""

class Learner:
    def update(self, q, y):
        # a remark on what follows
        before = q
        # L = (q - y)^2  (1)
        error = q - y
        loss = error ** 2
        if before:
            # g_i <- g_i
            # - g_j
            loss = loss * (
                2
            )

        # E[loss]
        return loss.mean()
'''


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A module with three equations and a remark."""
    (tmp_path / "with_equations.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    return __import__("with_equations")


def test_an_equation_stands_beside_the_lines_below_it(module: ModuleType) -> None:
    found = [(each.text, each.line, each.source) for each in equations(module)]
    assert found == [
        ("L = (q - y)^2  (1)", 9, "error = q - y\nloss = error ** 2"),
        ("g_i <- g_i\n- g_j", 14, "loss = loss * (\n    2\n)"),
        ("E[loss]", 19, "return loss.mean()"),
    ]
    assert {each.function for each in equations(module)} == {"Learner.update"}


@pytest.mark.parametrize("name", METHODS)
def test_the_page_of_a_method_shows_its_equations_and_all_its_options(name: str) -> None:
    page = method_page(name)
    method = METHODS[name]
    module = sys.modules[method.learner.__module__]
    for equation in equations(module):
        assert equation.text in page and equation.source in page
        first = inspect.getsource(module).splitlines()[equation.line - 1]
        assert first.strip() == equation.source.splitlines()[0]
    for field in fields(method.config):
        row = re.search(
            rf"^\| `{field.name.replace('_', '-')}` \| .* \| .* \| (.+) \|$", page, re.M
        )
        assert row and row[1].strip(), field.name
    assert method.paper in page and f"polyreach train {name} " in page
    assert f"]({name}.md)" in overview_page()


@pytest.mark.parametrize("name", METHODS)
def test_the_page_of_a_method_has_equations_or_names_the_method_that_has_them(name: str) -> None:
    page = method_page(name)
    assert '<div class="equation"' in page or "It builds on [" in page


def test_a_docstring_shows_the_same_text_as_markdown() -> None:
    text = "x: (B, n), `a_b` and q_1 * q_2 of [a][b] <c>.\n\n    y = a * b_c\n\nEnd."
    assert as_markdown(text) == (
        "x: (B, n), `a_b` and q\\_1 \\* q\\_2 of \\[a]\\[b] \\<c>.\n\n    y = a * b_c\n\nEnd."
    )


def test_what_a_paper_leaves_open_has_a_heading() -> None:
    text = "It learns. What the paper leaves open, and what is done here: widths."
    assert as_markdown(text, "Open") == (
        "It learns.\n\n## Open\n\nWhat the paper leaves open, and what is done here: widths."
    )


@pytest.mark.parametrize(
    ("source", "link", "expected"),
    [
        ("README.md", "[page](docs/view.md#who)", "[page](view.md#who)"),
        ("README.md", "![page](docs/view.png)", "![page](view.png)"),
        ("README.md", "[models/](models)", "[models/](models/index.md)"),
        ("docs/view.md", "[README](../README.md)", "[README](index.md)"),
        ("docs/view.md", "[`Makefile`](../Makefile)", "`Makefile`"),
        ("docs/view.md", "[a robot](../tests/robots)", "a robot (`tests/robots`)"),
        ("docs/view.md", "[web](https://example.org)", "[web](https://example.org)"),
    ],
)
def test_links_between_files_become_links_of_the_site(
    source: str, link: str, expected: str
) -> None:
    assert site_links(link, ROOT / source, Path(source).name) == expected


def test_a_link_to_nothing_is_an_error() -> None:
    with pytest.raises(FileNotFoundError, match=r"README.md links to 'docs/nothing.md'"):
        site_links("[x](docs/nothing.md)", ROOT / "README.md", "index.md")


def test_the_picture_shows_every_layer_and_every_import() -> None:
    picture = draw_layers(ROOT / "pyproject.toml")
    counts = arrows()
    assert counts["polyreach.runs", "polyreach.methods"] > 0
    named = {
        f"{package}.{name}"
        for package, rows in contract_layers(ROOT / "pyproject.toml").items()
        for row in rows
        for name in row
    }
    for importer, imported in counts:
        if "polyreach" not in (importer, imported):
            assert f"<title>{importer} imports {imported}: " in picture
            box = imported.removeprefix("polyreach_nodes.").removeprefix("polyreach.")
            assert f">{box}</text>" in picture
            assert imported in {*named, "polyreach_description"}
