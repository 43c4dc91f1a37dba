"""Encoder classes by their import path, for files that name them."""

import importlib
import pkgutil
from pathlib import Path

from selfsup.encoders.encoder import Encoder, FrameEncoder


def find_encoder(name: str) -> type[Encoder] | None:
    """The encoder of this folder with that import path; None where there is none, or it is abstract.

    Only modules that lie in this folder are imported, so that a name in a file can run nothing else.
    """
    modules = modules_of(Path(__file__).parent, str(__package__))
    found = find_class(name, modules)
    return found if found is not None and issubclass(found, Encoder) and found not in (Encoder, FrameEncoder) else None


def modules_of(folder: Path, package: str) -> list[str]:
    """The import paths of the modules that lie in the folder of a package; imports none."""
    return [f"{package}.{module.name}" for module in pkgutil.iter_modules([str(folder)])]


def find_class(name: str, modules: list[str]) -> type | None:
    """The class with that import path that one of these modules defines; None where there is none."""
    module, _, class_name = name.rpartition(".")
    return classes_of(module).get(class_name) if module in modules else None


def classes_of(module: str) -> dict[str, type]:
    """The classes that a module defines, by name."""
    members = vars(importlib.import_module(module))
    return {name: value for name, value in members.items() if isinstance(value, type) and value.__module__ == module}
