"""URDF files made fit for MuJoCo: mesh files are found as ROS tools find them, and get unique
names.

MuJoCo drops the folders of a URDF's mesh files and takes two files of one name for the same mesh;
it knows nothing of `package://`, and reads fewer formats than other tools do.
"""

from collections.abc import Collection, Iterator
from pathlib import Path
from xml.etree import ElementTree

import mujoco

from polyreach_description.config_file import RobotError
from polyreach_description.share_folders import share_folders

MESH_FORMATS = (".obj", ".stl", ".msh")  # that MuJoCo reads


class MeshError(RobotError):
    """Collision meshes that MuJoCo cannot use.

    links: names of the links that have them.
    """

    def __init__(self, text: str, links: Collection[str]) -> None:
        super().__init__(text)
        self.links = tuple(links)


def read_urdf(path: Path) -> ElementTree.Element | None:
    """The root element of a URDF; None for a model file of another kind."""
    try:
        root = ElementTree.parse(path).getroot()
    except (ElementTree.ParseError, UnicodeDecodeError):
        return None
    return root if root.tag == "robot" else None


def link_names(root: ElementTree.Element) -> list[str]:
    """Names of a URDF's links, in the order of the file."""
    return [link.get("name") or "" for link in root.iterfind("link")]


def root_links(root: ElementTree.Element) -> list[str]:
    """Names of a URDF's links that no joint carries; MuJoCo merges them with the world."""
    children = {child.get("link") for child in root.iterfind("joint/child")}
    return [name for name in link_names(root) if name not in children]


def load_urdf(
    path: Path, root: ElementTree.Element, no_collision: Collection[str]
) -> mujoco.MjSpec:
    """Make a model of a URDF. root: as read_urdf gave it; it is changed.

    no_collision: links whose collision shapes are left out. Visual shapes are left out, too. Where
    the file sets MuJoCo's meshdir or strippath, mesh files are found by MuJoCo's own rules.

    Raises RobotError for a file with xacro macros, and MeshError for mesh files that are missing or
    of a format that MuJoCo does not read.
    """
    if any("xacro" in element.tag for element in root.iter() if isinstance(element.tag, str)):
        raise RobotError(f"'{path}' still has xacro macros: expand it with xacro first")
    compiler = root.find("mujoco/compiler")
    settings = {} if compiler is None else compiler.attrib
    files: dict[tuple[Path, str], str] = {}  # unique name of a mesh file, for every scale
    unusable: dict[str, str] = {}  # what is wrong with a link's meshes
    names: set[str] = set()
    for link in root.iterfind("link"):
        link_name = link.get("name") or ""
        shapes = link.findall("collision")
        for element in (*link.findall("visual"), *(shapes if link_name in no_collision else ())):
            link.remove(element)
        for number, shape in enumerate(link.findall("collision")):
            if shape.get("name", "") in {"", *names}:
                shape.set("name", f"{link_name}_collision_{number}")
            names.add(shape.get("name", ""))
            for mesh in shape.iterfind("geometry/mesh"):
                if not settings.keys() & {"meshdir", "strippath"}:
                    file_name = mesh.get("filename") or ""
                    mesh_file = next((f for f in _candidates(file_name, path) if f.is_file()), None)
                    if mesh_file is None:
                        unusable[link_name] = f"'{file_name}' is not found"
                    elif mesh_file.suffix.lower() not in MESH_FORMATS:
                        unusable[link_name] = f"'{file_name}' is not {', '.join(MESH_FORMATS)}"
                    else:
                        key = mesh_file, mesh.get("scale") or "1 1 1"
                        mesh.set(
                            "filename", files.setdefault(key, f"{len(files)}_{mesh_file.name}")
                        )
    if unusable:
        raise MeshError(
            f"collision meshes that MuJoCo cannot use: {'; '.join(unusable.values())}: add or "
            "convert them, or do without the shapes of these links by 'no_collision: "
            f"[{', '.join(unusable)}]' in the robot.yaml",
            unusable,
        )
    assets = {name: file.read_bytes() for (file, _), name in files.items()}
    spec = mujoco.MjSpec.from_string(ElementTree.tostring(root, encoding="unicode"), assets=assets)
    spec.modelfiledir = str(path.parent)
    return spec


def _candidates(name: str, path: Path) -> Iterator[Path]:
    """Where a mesh file may be: beside the URDF, or in the package in its name."""
    scheme, _, rest = name.rpartition("://")
    if scheme != "package":
        yield path.parent / rest
        return
    package, _, inside = rest.partition("/")
    for folder in path.resolve().parents:
        if folder.name == package:
            yield folder / inside
        yield folder / package / inside
    for folder in share_folders(package):
        yield folder / inside
