"""A class of the user's own by name, "module:Class": on Python's path, or in the folder where the command runs.

The folder comes last on the path, and our packages are loaded before it is there, so that nothing in it, a folder
`pipeline/` say, can stand before them.
"""

import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from stores.errors import ConfigError, SamespaceError

OUR_PACKAGES = ("alignment", "embeddings", "pipeline", "retrieval", "stores", "validation")


def working_folder() -> str:
    """The absolute path of the folder where the command runs; "" where it was removed."""
    try:
        return str(Path.cwd())
    except FileNotFoundError:
        return ""


def import_from(folder: str) -> None:
    """Let modules of a folder be imported, after all others; "" does nothing."""
    if folder and folder not in sys.path:
        for name in OUR_PACKAGES:
            import_module(name)
        sys.path.append(folder)


def find_class(name: str, setting: str) -> Any:
    """The class or function that "module:Class" names.

    Raises ConfigError, which says where was looked, where there is none or its module cannot be imported.
    """
    module_name, _, class_name = name.partition(":")
    if not (module_name and class_name):
        raise ConfigError(f"not the name of a class: {name!r}", expected='"module:Class"', fix=f"set {setting}")
    folder = working_folder()
    if module_name.partition(".")[0] not in OUR_PACKAGES:
        import_from(folder)
    try:
        module = import_module(module_name)
    except SamespaceError:
        raise
    except Exception as error:  # what a module does when it is imported may raise anything
        raise ConfigError(
            f"cannot import {module_name}: {type(error).__name__}: {error}",
            where=name,
            expected=f"a module in {_search_folders(folder)}",
            fix=_cure(module_name, folder, setting, error),
        ) from error
    try:
        return getattr(module, class_name)
    except AttributeError as error:
        raise ConfigError(
            f"there is no {class_name} in {module_name}, which is {getattr(module, '__file__', None) or 'a folder'}",
            where=name,
            expected=f"one of {_classes(module)}",
            fix=_cure(module_name, folder, setting, error),
        ) from error


def _search_folders(folder: str) -> str:
    """Where was looked: the folder first, for it is what most people mean."""
    others = [place for place in sys.path if place and place != folder]
    return ", ".join([f"the folder {folder}" if folder else "no folder (it was removed)", *others])


def _cure(module: str, folder: str, setting: str, error: Exception) -> str:
    if not isinstance(error, ImportError | AttributeError):
        return f"mend the module {module}"
    missing = getattr(error, "name", None) if isinstance(error, ImportError) else None
    if missing and missing.partition(".")[0] != module.partition(".")[0]:
        return f"install {missing}, which {module} imports"
    top = module.partition(".")[0]
    own = [path for path in (Path(folder, f"{top}.py"), Path(folder, top)) if folder and path.exists()]
    if own and _origin(top) not in ("", *map(str, own), str(own[0] / "__init__.py")):
        return f"give {own[0]} another name: {_origin(top)} has the same one and comes first"
    return f"put {top}.py into the folder where the command runs, install it, or set {setting}"


def _origin(module: str) -> str:
    """Where Python finds a module; "" where it does not."""
    try:
        spec = find_spec(module)
    except (ImportError, ValueError):
        return ""
    return (spec.origin or "") if spec else ""


def _classes(module: Any) -> str:
    names = [name for name, value in vars(module).items() if isinstance(value, type) and not name.startswith("_")]
    return ", ".join(names) or "its classes; it has none"
