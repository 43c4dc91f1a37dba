"""Encoder classes by their import path, for files that name them."""

import importlib
import pkgutil
from pathlib import Path

from selfsup.encoders.encoder import Encoder, FrameEncoder


def find_encoder(name: str) -> type[Encoder] | None:
    """The encoder of this folder with that import path; None where there is none, or it is abstract.

    Only modules that lie in this folder are imported, so that a name in a file can run nothing else.
    """
    module_name, _, class_name = name.rpartition(".")
    modules = {f"{__package__}.{module.name}" for module in pkgutil.iter_modules([str(Path(__file__).parent)])}
    if module_name not in modules:
        return None
    found = vars(importlib.import_module(module_name)).get(class_name)
    abstract = found in (Encoder, FrameEncoder)
    if isinstance(found, type) and issubclass(found, Encoder) and found.__module__ == module_name and not abstract:
        return found
    return None
