"""Links of pages that stand elsewhere in the repository, turned into links of the site."""

import os
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LINK = re.compile(r"(?<!!)\[(?P<text>[^\]]*)\]\((?P<target>[^)#\s]+)(?P<anchor>#[^)]*)?\)")
IMAGE = re.compile(r"!\[(?P<text>[^\]]*)\]\((?P<target>[^)\s]+)\)")
# pages of the site that are no files of docs/: their source -> their address
PAGES = {"README.md": "index.md", "models": "models/index.md"}
TOP_PAGES = ("CONTRIBUTING.md", "CHANGELOG.md")


def site_address(path: Path) -> str | None:
    """Address in the site of a file or folder of the repository, None if it is no page."""
    name = path.relative_to(ROOT).as_posix()
    if name in PAGES or name in TOP_PAGES:
        return PAGES.get(name, name)
    if path.parent == ROOT / "models" and path.suffix == ".md":
        return name
    return name.removeprefix("docs/") if name.startswith("docs/") else None


def site_links(markdown: str, source: Path, address: str) -> str:
    """`markdown` of the file `source`, with links as the page at `address` of the site needs them.

    A link to a file that is no page of the site becomes its path as text.
    Raises FileNotFoundError for a link to nothing.
    """

    def rewrite(match: re.Match[str]) -> str:
        target = match["target"]
        if re.match(r"\w+:", target):
            return match[0]
        path = Path(os.path.normpath(source.parent / target))
        if not path.exists():
            raise FileNotFoundError(f"{source.relative_to(ROOT)} links to '{target}'")
        page = site_address(path)
        image = match.re is IMAGE
        if page is None:
            name = path.relative_to(ROOT).as_posix()
            text = match["text"].strip("`")
            return f"`{name}`" if text.rstrip("/") in (name, path.name) else f"{text} (`{name}`)"
        relative = os.path.relpath(page, Path(address).parent)
        anchor = "" if image else match["anchor"] or ""
        return f"{'!' if image else ''}[{match['text']}]({relative}{anchor})"

    return IMAGE.sub(rewrite, LINK.sub(rewrite, markdown))
