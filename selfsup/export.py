"""Writes an encoder or a classifier as ONNX: `selfsup export encoder.path=…`, with key=value overrides.

ONNX Runtime is asked at once whether it computes with the file what PyTorch does; where it does not, no file is left.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import hydra
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from torch import Tensor, nn

from selfsup.classifier_weights import Trained
from selfsup.encoders.encoder import Encoder, FrameEncoder
from selfsup.onnx_export import Checked, WithNormalization, check_onnx, export_onnx
from selfsup.verb import CONFIGURATION, check_complete, in_one_sentence

NEEDED = ("onnx", "onnxscript", "onnxruntime")
FRAMES, FRAMES_3D = 8, 16


def export(config: DictConfig, folder: Path) -> Path:
    """Writes encoder.onnx or classifier.onnx into `folder`, prints how it was checked, and returns its path."""
    if missing := [name for name in NEEDED if find_spec(name) is None]:
        raise ValueError(f"export needs {', '.join(missing)}, not installed: pip install 'selfsup[onnx]'")
    console = Console(markup=False, highlight=False)
    torch.manual_seed(config.seed)
    if config.classifier.path is not None:
        exported = of_classifier(instantiate(config.classifier))
    elif OmegaConf.is_missing(config.encoder, "path"):
        raise ValueError(
            "no network: give encoder.path=…/encoder.safetensors or classifier.path=…/classifier.safetensors"
        )
    else:
        check_complete(config)
        exported = of_encoder(instantiate(config.encoder))
    network, (channels, frames, side), output, about = exported
    frames = frames if config.num_frames is None else config.num_frames
    if frames < 1:
        raise ValueError(f"num_frames={frames}: give 1 frame or more")

    def clip(batch: int, length: int) -> Tensor:
        return torch.rand(batch, channels, length, side, side)

    path = folder / f"{'encoder' if output == 'features' else 'classifier'}.onnx"
    partial = path.with_name(path.name + ".partial")
    try:
        free = export_onnx(network, clip(2, frames), partial, output, about)
        clips = [clip(1, frames), clip(3, frames), *([clip(2, frames + 3)] if free else [])]
        checked = check_onnx(partial, network, clips)
        refuse(checked, config.maximum_difference, path)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    tell(checked, path, free, console)
    return path


Exported = tuple[nn.Module, tuple[int, int, int], str, dict[str, Any]]


def of_encoder(encoder: Encoder) -> Exported:
    """What is exported of an encoder: the network, its clip's (C, T, side), its output's name, and what it is."""
    if encoder.input is None or encoder.source is None:
        raise ValueError("encoder: export reads an encoder from a file; give encoder.path=…/encoder.safetensors")
    if "sound" in encoder.source["data"]:
        raise ValueError(
            "encoder: one of sounds, and export writes those of frames; give encoder.safetensors of the run"
        )
    frames = FRAMES if isinstance(encoder, FrameEncoder) else max(FRAMES_3D, encoder.minimum_frames)
    shape = (len(encoder.input.mean), frames, encoder.input.size_pixels)
    about = {"selfsup": {"task": encoder.source["task"], "dim": encoder.dim, "version": encoder.source["version"]}}
    return WithNormalization(encoder.eval(), encoder.input).eval(), shape, "features", about


def of_classifier(trained: Trained) -> Exported:
    """The same of a classifier. ValueError for one that wants more than frames."""
    classifier, name = trained.classifier, type(trained.classifier).__name__
    if classifier.inputs != ("clip",):
        raise ValueError(f"{name}: wants {' and '.join(classifier.inputs)}, and an exported network takes a clip alone")
    shape = (len(trained.input.mean), max(2, trained.clip.num_frames), trained.input.size_pixels)
    about = {"classes": list(trained.classes), "selfsup": {"task": "action_recognition", "labels": trained.labels}}
    return WithNormalization(classifier.eval(), trained.input).eval(), shape, "logits", about


def refuse(checked: Checked, bound: float, path: Path) -> None:
    """ValueError where ONNX Runtime is too far from PyTorch; a difference that is no number is."""
    if not checked.share <= bound:
        raise ValueError(
            f"{path}: not written, ONNX Runtime differs from PyTorch by {checked.largest:.2e}, {checked.share:.2e} of "
            f"the largest number, more than maximum_difference={bound:g}; raise it if that is good enough"
        )


def tell(checked: Checked, path: Path, free: bool, console: Console) -> None:
    """Prints what was written and how it was checked."""
    shapes = ", ".join("×".join(map(str, shape)) for shape in checked.shapes)
    console.print(
        f"maximum difference to PyTorch {checked.largest:.2e}, {checked.share:.2e} of the largest number, on clips of "
        f"{shapes}",
        soft_wrap=True,
    )
    console.print(f"batch free, number of frames {'free' if free else 'fixed'}; clip float32 in [0, 1]")
    console.print(f"{path.stat().st_size / 1e6:.1f} MB: {path}", soft_wrap=True)


@hydra.main(version_base="1.3", config_path=str(CONFIGURATION), config_name="export")
def main(config: DictConfig) -> None:
    """Entry point; see `in_one_sentence` for how it ends."""
    with in_one_sentence():
        export(config, Path(HydraConfig.get().runtime.output_dir))


if __name__ == "__main__":
    main()
