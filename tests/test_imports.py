"""Who may import whom: the table of the design, read from the syntax trees of all modules."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import selfsup

PACKAGE = Path(selfsup.__file__).parent
MODULES = {
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
}

# Each part of the package, and the parts that it may import besides itself. Modules at the root are the verbs, and
# weights; they may import anything.
MAY_IMPORT = {
    "data": set(),
    "encoders": set(),
    "classifiers": {"encoders"},
    "streaming": {"encoders"},
    "evaluation": {"encoders", "data"},
    "tasks": {"data", "encoders", "classifiers"},  # classifiers: the contract, and no classifier
    "callbacks": {"data", "encoders", "evaluation"},
    "reporting": {"evaluation"},
}
ROOT = {
    "selfsup",
    "selfsup.__main__",
    "selfsup.doctor",
    "selfsup.embed",
    "selfsup.classifier_weights",
    "selfsup.evaluate",
    "selfsup.evaluate_audio",
    "selfsup.evaluate_audit",
    "selfsup.evaluate_foreground",
    "selfsup.extract",
    "selfsup.heard",
    "selfsup.hub",
    "selfsup.joined",
    "selfsup.live",
    "selfsup.live_run",
    "selfsup.model_card",
    "selfsup.network_labeller",
    "selfsup.onnx_export",
    "selfsup.pack",
    "selfsup.precision",
    "selfsup.prepare",
    "selfsup.probed",
    "selfsup.recognised",
    "selfsup.records",
    "selfsup.runs",
    "selfsup.tensor_file",
    "selfsup.train",
    "selfsup.verb",
    "selfsup.weights",
}
VERBS = {
    "selfsup.__main__",
    "selfsup.train",
    "selfsup.doctor",
    "selfsup.embed",
    "selfsup.evaluate",
    "selfsup.evaluate_audio",
    "selfsup.evaluate_audit",
    "selfsup.evaluate_foreground",
    "selfsup.pack",
    "selfsup.prepare",
    "selfsup.export",
    "selfsup.extract",
    "selfsup.heard",
    "selfsup.joined",
    "selfsup.probed",
    "selfsup.recognised",
    "selfsup.records",
    "selfsup.report",
    "selfsup.runs",
    "selfsup.stream",
    "selfsup.stream_report",
    "selfsup.verb",
}
NOT_TASKS = {
    "selfsup.tasks",
    *(f"selfsup.tasks.{name}" for name in ("answers", "schedules", "scoring", "task")),
    *(f"selfsup.tasks.{name}" for name in ("correspondence", "fusion", "localisation", "negatives")),
    *(f"selfsup.tasks.{name}" for name in ("embeddings", "info_nce", "temporal_head")),
}
# Modules, or packages by a dot at the end, that may import these libraries; nobody else may.
ONLY_IN = {
    "hydra": VERBS | {"selfsup.weights"},
    "omegaconf": VERBS | {"selfsup.weights"},
    "av": {
        f"selfsup.data.{name}"
        for name in [
            "reader",
            "decoders",
            "frame_table",
            "sound",
            "live",
            "drawing",
            "short_video",
            "synthetic_files",
            "davis",
            "degraded",
        ]
    },
    "decord": {"selfsup.data.decoders"},
    "torchcodec": {"selfsup.data.decoders"},
    "pytorch_lightning": VERBS | {"selfsup.tasks.task", "selfsup.data.resumable", "selfsup.callbacks."},
    "lightning": set(),  # it is imported as pytorch_lightning
    "lightning_fabric": set(),
    "timm": {"selfsup.encoders.timm"},
    "lightly": {"selfsup.tasks.invariant_prediction"},
    "matplotlib": {"selfsup.evaluate", "selfsup.stream_report"},
    "plotly": {"selfsup.reporting."},
    "jinja2": {"selfsup.reporting."},
    "huggingface_hub": {"selfsup.hub"},
    "onnxruntime": {"selfsup.onnx_export"},
    "wandb": set(),
    "pandas": set(),
    "cv2": {"selfsup.data.flow"},
    "torchaudio": {"selfsup.data.spectrogram"},
    "skimage": {"selfsup.data.superpixels"},
    "pickle": {"selfsup.encoders.state_dict", "selfsup.data.flow", "selfsup.runs"},  # for its error
}


def imported(source: str, module: str, is_package: bool = False) -> Iterator[str]:
    """The full names of all modules that `source` imports, at any depth, also by importlib with a literal name."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = module.split(".")
                above = parts[: len(parts) - node.level + is_package]
                base = ".".join([*above, base] if base else above)
            # `from selfsup.tasks import task` imports a module too.
            yield from (f"{base}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "import_backend")):
            yield from (arg.value for arg in node.args[:1] if isinstance(arg, ast.Constant))


def imports_of(name: str) -> set[str]:
    path = MODULES[name]
    return set(imported(path.read_text(encoding="utf-8"), name, path.name == "__init__.py"))


def part(name: str) -> str:
    """`data` of selfsup.data.reader; the module itself where it lies at the root."""
    pieces = name.split(".")
    return pieces[1] if len(pieces) > 1 and pieces[1] in MAY_IMPORT else ""


def own_imports(name: str) -> set[str]:
    """The modules of selfsup that a module imports, a name inside a module taken for the module."""
    found = set()
    for full in imports_of(name):
        while full.startswith("selfsup") and full not in MODULES:
            full = full.rpartition(".")[0]
        if full.startswith("selfsup"):
            found.add(full)
    return found


def test_the_reading_of_imports() -> None:
    source = """
import av.video
from selfsup.data import reader
def f():
    from . import task
    from ..encoders.resnet import ResNet
    importlib.import_module("torchcodec.decoders")
"""
    assert set(imported(source, "selfsup.tasks.jigsaw")) == {
        "av.video",
        "selfsup.data.reader",
        "selfsup.tasks.task",
        "selfsup.encoders.resnet.ResNet",
        "torchcodec.decoders",
    }
    assert "selfsup.data.catalogue" in own_imports("selfsup.data.datamodule")
    assert "pytorch_lightning" in imports_of("selfsup.tasks.task")


def test_every_folder_has_its_row() -> None:
    folders = {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists()}
    assert folders <= set(MAY_IMPORT)
    assert {name for name in MODULES if not part(name)} <= ROOT | VERBS


@pytest.mark.parametrize("name", [name for name in MODULES if part(name)])
def test_a_module_imports_what_its_folder_may(name: str) -> None:
    allowed = MAY_IMPORT[part(name)] | {part(name)}
    wrong = {other for other in own_imports(name) if other != "selfsup" and part(other) not in allowed}
    assert not wrong, f"{name} imports {wrong}"


def test_no_task_imports_a_task() -> None:
    tasks = {name for name in MODULES if part(name) == "tasks"} - NOT_TASKS
    assert "selfsup.tasks.temporal_order" in tasks
    for name in tasks | NOT_TASKS:
        assert not (own_imports(name) & tasks) - {name}, name


@pytest.mark.parametrize("library", ONLY_IN)
def test_a_library_is_imported_where_it_belongs(library: str) -> None:
    allowed = ONLY_IN[library]
    for name in MODULES:
        if name in allowed or any(name.startswith(folder) for folder in allowed if folder.endswith(".")):
            continue
        users = [full for full in imports_of(name) if full.split(".")[0] == library]
        assert not users, f"{name} imports {users}"


def test_no_module_is_a_drawer() -> None:
    drawers = {"utils", "util", "common", "helpers", "helper", "misc"}
    files = [*PACKAGE.rglob("*.py"), *(PACKAGE.parent / "conf").rglob("*.yaml")]
    assert not [path for path in files if drawers & set(re.split(r"[_.]", path.name))]
    assert not [path for path in PACKAGE.rglob("*") if path.is_dir() and path.name in drawers]
