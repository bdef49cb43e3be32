"""Path of a recording: a parameter that is set over the network must not choose any path."""

from pathlib import Path


def recording_path(folder: str, name: str) -> Path:
    """The path of recording `name` in `folder`: a file name, or a path that ends in the folder.

    The check follows symbolic links. Raises ValueError, naming both, for a path outside the folder,
    for one that does not end in .mcap, and if there is no folder.
    """
    if not folder:
        raise ValueError(
            f"record is '{name}', but recording is off: start the controller with the parameter "
            "record_folder, a folder for recordings, to allow it"
        )
    if not Path(folder).is_dir():
        raise ValueError(f"record_folder '{folder}' is not a folder: make it before a recording")
    if not name.endswith(".mcap"):
        raise ValueError(f"a recording ends in .mcap, but record is '{name}'")
    try:
        root = Path(folder).resolve()
        path = (root / name).resolve()
    except (OSError, RuntimeError, ValueError) as error:  # links in a circle, a null character
        raise ValueError(f"record is '{name}', which cannot be a path: {error}") from None
    if not path.is_relative_to(root) or ".." in Path(name).parts:
        raise ValueError(
            f"record is '{name}', outside of record_folder '{folder}': give a file name, or a path "
            "inside of that folder"
        )
    return path
