"""The picture of the layers: rows as pyproject.toml orders them, arrows as the modules import."""

import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from pathlib import Path

import grimp

PACKAGES = ("polyreach", "polyreach_nodes", "polyreach_description")
WIDTH, ROW, HEIGHT, LANE = 340, 66, 34, 15  # [px]; a lane holds arrows that pass a row
MARGIN = 9 * LANE


@dataclass(frozen=True)
class Box:
    """A folder or module of a package, or a whole package."""

    name: str
    row: int
    x: float  # [px], of the left edge
    y: float  # [px], of the upper edge
    width: float

    @property
    def centre(self) -> float:
        """x of the middle [px]."""
        return self.x + self.width / 2


def contract_layers(pyproject: Path) -> dict[str, list[list[str]]]:
    """The layers of each package, highest first, as the contracts of import-linter say."""
    settings = tomllib.loads(pyproject.read_text(encoding="utf-8"))["tool"]["importlinter"]
    return {
        contract["containers"][0]: [
            [name.strip(" ()") for name in layer.split("|")] for layer in contract["layers"]
        ]
        for contract in settings["contracts"]
        if "containers" in contract
    }


def arrows() -> dict[tuple[str, str], int]:
    """Number of imports between boxes: folders of polyreach and polyreach_nodes, and the robots."""
    graph = grimp.build_graph(*PACKAGES)
    counts: dict[tuple[str, str], int] = {}
    for importer in graph.modules:
        for imported in graph.find_modules_directly_imported_by(importer):
            pair = (_box_of(importer), _box_of(imported))
            if pair[0] != pair[1]:
                counts[pair] = counts.get(pair, 0) + 1
    return counts


def _boxes_of(package: str, row: list[str], present: set[str]) -> list[str]:
    """The boxes of a row, each once, without those of modules that do not exist."""
    boxes = dict.fromkeys(_box_of(f"{package}.{name}") for name in row)
    return [box for box in boxes if box in present]


def _box_of(module: str) -> str:
    root, *rest = module.split(".")
    if root == "polyreach_description" or not rest:
        return root
    return f"{root}.*_node" if rest[0].endswith("_node") else f"{root}.{rest[0]}"


def draw_layers(pyproject: Path) -> str:
    """The picture as SVG: polyreach left, polyreach_nodes right, polyreach_description below."""
    imports = arrows()
    present = {name for pair in imports for name in pair}
    columns = [
        [names for row in rows if (names := _boxes_of(package, row, present))]
        for package, rows in contract_layers(pyproject).items()
    ]
    boxes = {box.name: box for box in _placed(columns)}
    width = len(columns) * (WIDTH + 2 * MARGIN)
    height = max(box.y for box in boxes.values()) + ROW
    lines = [
        _arrow(boxes[a], boxes[b], count)
        for (a, b), count in sorted(imports.items())
        if a in boxes and b in boxes
    ]
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height:g}" '
            'font-family="sans-serif" font-size="15">',
            '<defs><marker id="tip" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="7" '
            'markerHeight="7" orient="auto"><path d="M0 0 8 4 0 8z" fill="#5c6bc0"/></marker>'
            "</defs>",
            f'<rect width="{width}" height="{height:g}" fill="#fff"/>',
            *lines,
            *(_rectangle(box) for box in boxes.values()),
            "</svg>",
        ]
    )


def _placed(columns: list[list[list[str]]]) -> Iterator[Box]:
    """A box for every name, by column and row; the lowest rows stand side by side."""
    depth = max(len(rows) for rows in columns)
    for column, rows in enumerate(columns):
        left = MARGIN + column * (WIDTH + 2 * MARGIN)
        for row, names in enumerate(rows, depth - len(rows)):
            width = (WIDTH - 10 * (len(names) - 1)) / len(names)
            for place, name in enumerate(names):
                yield Box(name, row, left + place * (width + 10), 20 + row * ROW, width)
    width = len(columns) * (WIDTH + 2 * MARGIN) - MARGIN - 10
    yield Box("polyreach_description", depth, MARGIN, 20 + depth * ROW, width)


def _rectangle(box: Box) -> str:
    label = box.name.split(".", 1)[-1]
    return (
        f'<rect x="{box.x:g}" y="{box.y:g}" width="{box.width:g}" height="{HEIGHT}" rx="5" '
        'fill="#e8eaf6" stroke="#3f51b5"/>'
        f'<text x="{box.centre:g}" y="{box.y + 22:g}" text-anchor="middle">{escape(label)}</text>'
    )


def _arrow(source: Box, target: Box, count: int) -> str:
    """Straight to the next row, around the side to rows below."""
    title = f"<title>{escape(source.name)} imports {escape(target.name)}: {count}</title>"
    style = (
        f'fill="none" stroke="#5c6bc0" stroke-width="{min(1 + count / 8, 3):g}" '
        'stroke-opacity="0.65" marker-end="url(#tip)"'
    )
    rows = abs(target.row - source.row)
    if target.name == "polyreach_description":
        # down the right side of the column
        x, y = source.x + source.width, source.y + HEIGHT / 2
        lane = x + min(rows, 8) * LANE
        path = f"M{x:g} {y:g} C{lane:g} {y:g} {lane:g} {y + 30:g} {lane:g} {y + 60:g} "
        path += f"L{lane:g} {target.y:g}" if rows > 1 else ""
        if rows <= 1:
            path = f"M{source.centre:g} {source.y + HEIGHT:g} L{source.centre:g} {target.y:g}"
    elif rows == 1:
        path = f"M{source.centre:g} {source.y + HEIGHT:g} L{target.centre:g} {target.y:g}"
    else:
        start, end = source.y + HEIGHT / 2, target.y + HEIGHT / 2
        lane = min(source.x, target.x) - rows * LANE
        path = f"M{source.x:g} {start:g} C{lane:g} {start:g} "
        if target.x > source.x:  # not at the left side: from above
            path += f"{target.centre:g} {target.y - 70:g} {target.centre:g} {target.y:g}"
        else:
            path += f"{lane:g} {end:g} {target.x:g} {end:g}"
    return f'<path d="{path}" {style}>{title}</path>'
