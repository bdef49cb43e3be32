"""What mkdocs calls: pages that are made from the code, and links between files of the repository.

Read from elsewhere: README.md, CONTRIBUTING.md, CHANGELOG.md and the cards in models/. Generated: a
page per method, the API reference, and the picture of the layers. Nothing of it is kept.
"""

from pathlib import Path
from pkgutil import iter_modules

import layers
import method_pages
from links import ROOT, TOP_PAGES, site_links
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from polyreach.methods import METHODS

PACKAGES = {
    "polyreach": ROOT / "training/polyreach",
    "polyreach_description": ROOT / "ros2_ws/src/polyreach_description/polyreach_description",
    "polyreach_nodes": ROOT / "ros2_ws/src/polyreach_nodes/polyreach_nodes",
}

PICTURE_PLACE = "<!-- the picture of the layers: only on the site -->"


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Fill the lists of the navigation that follow from the code."""
    lists = {
        "methods": ["methods/index.md", *(f"methods/{name}.md" for name in sorted(METHODS))],
        "models": ["models/index.md", *(f"models/{card.name}" for card in _cards())],
        "reference": [f"reference/{name}.md" for name in _reference_pages()],
    }
    assert config.nav is not None
    config.nav = [
        {title: lists.get(entry, entry) if isinstance(entry, str) else entry}
        for section in config.nav
        for title, entry in section.items()
    ]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are not in docs/."""
    pages = {
        "index.md": _page_from(ROOT / "README.md", "index.md"),
        **{name: _page_from(ROOT / name, name) for name in TOP_PAGES},
        "CONTRIBUTING.md": _with_picture(_page_from(ROOT / "CONTRIBUTING.md", "CONTRIBUTING.md")),
        **{f"models/{card.name}": _page_from(card, f"models/{card.name}") for card in _cards()},
        "models/index.md": _list_of_cards(),
        "methods/index.md": method_pages.overview_page(),
        **{f"methods/{name}.md": method_pages.method_page(name) for name in METHODS},
        **{f"reference/{name}.md": text for name, text in _reference_pages().items()},
        "layers.svg": layers.draw_layers(ROOT / "pyproject.toml"),
    }
    for address, content in pages.items():
        if present := files.get_file_from_path(address):
            files.remove(present)  # notes on a method, which its page includes
        files.append(File.generated(config, address, content=content))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links of the pages in docs/ to files elsewhere."""
    if page.file.generated_by:
        return markdown
    return site_links(markdown, ROOT / "docs" / page.file.src_uri, page.file.src_uri)


def _page_from(path: Path, address: str) -> str:
    return site_links(path.read_text(encoding="utf-8"), path, address)


def _with_picture(markdown: str) -> str:
    before, place, after = markdown.partition(PICTURE_PLACE)
    assert place, f"CONTRIBUTING.md has no line {PICTURE_PLACE}"
    return f"{before}![folders and the imports between them](layers.svg)\n{after}"


def _cards() -> list[Path]:
    return sorted((ROOT / "models").glob("*.md"))


def _list_of_cards() -> str:
    return "# Shipped policies\n\n" + "\n".join(
        f"- [{card.stem}]({card.name})" for card in _cards()
    )


def _reference_pages() -> dict[str, str]:
    """A page per folder of each package, with its modules."""
    pages: dict[str, list[str]] = {}
    for package, folder in PACKAGES.items():
        pages[package] = [package]
        for module in sorted(iter_modules([str(folder)]), key=lambda module: module.name):
            name = f"{package}.{module.name}"
            if module.ispkg:
                pages[name] = [name, *_modules(folder / module.name, name)]
            else:
                pages[package].append(name)
    return {
        page: f"# {page}\n\n" + "\n\n".join(f"::: {name}" for name in names) + "\n"
        for page, names in pages.items()
    }


def _modules(folder: Path, package: str) -> list[str]:
    """Names of all modules below a package."""
    names = []
    for module in sorted(iter_modules([str(folder)]), key=lambda module: module.name):
        name = f"{package}.{module.name}"
        names.append(name)
        if module.ispkg:
            names += _modules(folder / module.name, name)
    return names
