"""Classifier classes by their import path, for files that name them, and all of them, to tell which may run live."""

from pathlib import Path

from selfsup.classifiers.classifier import Classifier
from selfsup.classifiers.cnn_rnn import Recurrent
from selfsup.encoders.by_name import classes_of, find_class, modules_of

ABSTRACT = (Classifier, Recurrent)


def find_classifier(name: str) -> type[Classifier] | None:
    """The classifier of this folder with that import path; None where there is none, or it is abstract.

    Only modules that lie in this folder are imported, so that a name in a file can run nothing else.
    """
    found = find_class(name, _modules())
    return found if found is not None and _is_whole(found) else None


def classifiers() -> list[type[Classifier]]:
    """All classifiers of this folder, by name."""
    found = [cls for module in _modules() for cls in classes_of(module).values() if _is_whole(cls)]
    return sorted(found, key=lambda cls: cls.__name__)


def _modules() -> list[str]:
    return modules_of(Path(__file__).parent, str(__package__))


def _is_whole(cls: type) -> bool:
    return issubclass(cls, Classifier) and cls not in ABSTRACT
