"""Two streams, frames and flow (Simonyan, Zisserman 2014, arXiv 1406.2199).

The spatial stream sees RGB, the temporal stream a stack of L flow fields, 2L channels; each answers alone and their
answers are fused. The temporal stream starts from the weights of the spatial one (Wang et al. 2016, arXiv 1608.00859,
section 3.2: cross-modality initialisation).
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from selfsup.classifiers.classifier import Classifier, LiveHead
from selfsup.classifiers.frame_pooling import FramePooling
from selfsup.encoders.cross_modality import cross_modality
from selfsup.encoders.encoder import Encoder

FUSIONS = ("mean", "learned")
STREAMS = {"both": ("clip", "flow"), "clip": ("clip",), "flow": ("flow",)}


class TwoStream(Classifier):
    """Clip (B, C, T, H, W) and flow (B, 2L, T, H, W) to logits (B, K); the two may differ in T, H and W.

    Args:
        encoder: the spatial one, 2-D or 3-D; the temporal one is a copy for 2L channels.
        num_classes: K.
        flow_frames: L, flow fields stacked into channels; the paper's is 10.
        fusion: of the logits, their "mean", or "learned": one weight between them, which starts at the mean.
        streams: "both"; or one half alone, "clip" or "flow", to compare with: `inputs` and `encoders` are then its own.
        pooling, hidden_dim, dropout: of each stream, see `FramePooling`; not "none". The paper drops 0.9 of VGG's two
            fully connected layers.

    Raises:
        ValueError: fewer than two classes, or an option out of its range; in `forward`, flow of other channels, or an
            input that is missing.
    """

    causality = (
        "not live: the flow of a frame needs the frames after it; train with classifier.streams=clip, whose half runs "
        "as FramePooling does"
    )

    def __init__(
        self,
        encoder: Encoder,
        num_classes: int,
        flow_frames: int = 10,
        fusion: str = "mean",
        streams: str = "both",
        pooling: str = "mean",
        hidden_dim: int | None = None,
        dropout: float = 0.5,
    ) -> None:
        super().__init__(num_classes)
        if flow_frames < 1:
            raise ValueError(f"classifier.flow_frames is {flow_frames}; give at least 1")
        if fusion not in FUSIONS:
            raise ValueError(f"classifier.fusion is {fusion!r}; give {' or '.join(FUSIONS)}")
        if streams not in STREAMS:
            raise ValueError(f"classifier.streams is {streams!r}; give one of {', '.join(STREAMS)}")
        if pooling == "none":
            raise ValueError("classifier.pooling is 'none', but two streams need not have the same steps; give mean")
        self.inputs = STREAMS[streams]
        self.flow_frames = flow_frames
        encoders = {"clip": encoder}
        if "flow" in self.inputs:
            encoders["flow"] = cross_modality(encoder, 2 * flow_frames)
        self.streams = nn.ModuleDict(
            {name: FramePooling(encoders[name], num_classes, pooling, hidden_dim, dropout) for name in self.inputs}
        )
        # The flow's share is its sigmoid.
        self.balance = nn.Parameter(torch.zeros(())) if fusion == "learned" and streams == "both" else None

    def encoders(self) -> Mapping[str, Encoder]:
        """The encoder of each stream."""
        return {name: stream.encoders()["clip"] for name, stream in self._streams()}

    def forward(self, *inputs: Tensor) -> Tensor:
        """What `inputs` names, clip (B, C, T, H, W) and flow (B, 2L, T, H, W), to logits (B, K)."""
        if len(inputs) != len(self.inputs):
            raise ValueError(
                f"TwoStream takes {' and '.join(self.inputs)}, but got {len(inputs)} tensor(s); choose a data set and "
                "a sampler that give both, or classifier.streams=clip"
            )
        logits = []
        for (name, stream), clip in zip(self._streams(), inputs, strict=True):
            if name == "flow" and clip.ndim == 5 and clip.shape[1] != 2 * self.flow_frames:
                raise ValueError(
                    f"TwoStream takes flow of {2 * self.flow_frames} channels, 2 for each of {self.flow_frames} "
                    f"fields, but got {clip.shape[1]}; set classifier.flow_frames to what the sampler stacks"
                )
            logits.append(stream(clip))
        if len(logits) == 1:
            return logits[0]
        if self.balance is None:
            return torch.stack(logits).mean(dim=0)
        spatial, temporal = logits
        return torch.lerp(spatial, temporal, self.balance.sigmoid().to(spatial.dtype))

    def live(self, window: int) -> LiveHead:
        """That of the half that sees frames, where it stands alone; ValueError else."""
        if self.inputs == ("clip",):
            ((_, stream),) = self._streams()
            return stream.live(window)
        return super().live(window)

    def _streams(self) -> list[tuple[str, FramePooling]]:
        streams = []
        for name, stream in self.streams.items():
            assert isinstance(stream, FramePooling)
            streams.append((name, stream))
        return streams
