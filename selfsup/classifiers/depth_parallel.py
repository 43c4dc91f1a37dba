"""Recognition by an encoder whose parts work on successive frames at once, simulated as it will run.

Massively Parallel Video Networks (Carreira, Pătrăucean, Mazaré, Zisserman, Osindero 2018, arXiv 1806.03863, section
3). The stream itself is `selfsup.streaming.pipeline`; here whole clips go through the encoder, and what each
sub-network has made is moved to the tick at which it is known.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from selfsup.classifiers.cnn_rnn import CELLS, Recurrent, RecurrentHead, check_recurrent
from selfsup.encoders.encoder import Encoder
from selfsup.encoders.sub_networks import check_clocks, cut, frames_seen, units


class DepthParallelRnn(Recurrent):
    """Clip (B, C, T, H, W) to logits (B, T, K): those of tick t from what n sub-networks know at tick t.

    The features of frame t - (n - 1) go into a recurrent network at tick t. Its first n - 1 answers are not counted.

    Args:
        encoder: 2-D.
        num_classes: K.
        sub_networks: n; 1 is the sequential network.
        predictive: whether answers are taught the label of their tick, so that the network has to foresee n - 1
            frames, or that of the frame that they have seen: then training is that of the sequential network.
        skip_connections: what every sub-network has made at tick t is given, by shallow ones of newer frames.
        clocks: of each sub-network: with a clock of c it runs at every c-th tick and holds its output between, see
            `frames_seen`. None: all 1.
        cell: "lstm" or "gru".
        hidden_dim: width of the recurrent state.
        dropout: share of the recurrent network's outputs dropped in training, in [0, 1).
        join: the answer to a clip, the "mean" of all ticks that count or the "last".
        teacher: a sequential network whose states these are to be like; it is not trained.
        distillation_weight: of the mean squared distance of the states to the teacher's, in the loss; at least 0.

    Raises:
        ValueError: a 3-D encoder, more sub-networks than blocks, an option out of its range, or a weight without a
            teacher; in `forward`, a clip of fewer than n frames.
    """

    causality = (
        "causal on a 2-D encoder; runs live frame by frame, with method=depth_parallel and the sub_networks, clocks "
        "and skip_connections that it was trained with"
    )
    only_in_training = ("teacher", "distillation_weight")

    def __init__(
        self,
        encoder: Encoder,
        num_classes: int,
        sub_networks: int = 2,
        predictive: bool = True,
        skip_connections: bool = False,
        clocks: Sequence[int] | None = None,
        cell: str = "gru",
        hidden_dim: int = 256,
        dropout: float = 0.5,
        join: str = "mean",
        teacher: Recurrent | None = None,
        distillation_weight: float = 0.0,
    ) -> None:
        check_recurrent(cell, hidden_dim, 1, dropout, join)
        if distillation_weight < 0 or (distillation_weight > 0) != (teacher is not None):
            raise ValueError(
                f"classifier.distillation_weight is {distillation_weight:g} "
                f"{'without' if teacher is None else 'with'} a teacher; give both, or neither"
            )
        parts = cut(units(encoder), sub_networks)
        dim = sum(part.dim for part in parts) if skip_connections else encoder.dim
        rnn = CELLS[cell](dim, hidden_dim, batch_first=True)
        super().__init__(encoder, num_classes, rnn, hidden_dim, dropout, join)
        self.predictive = predictive
        self.skip_connections = skip_connections
        self.clocks = check_clocks(clocks, sub_networks)
        self.distillation_weight = distillation_weight
        # In lists: their modules are the encoder's, or not to be trained, and none of them is to be saved again.
        self._networks = [part.network for part in parts]
        self._teacher = [] if teacher is None else [teacher.requires_grad_(False)]

    @property
    def cut(self) -> list[int]:
        """How many layers or blocks each sub-network has."""
        return [len(network) for network in self._networks]

    @property
    def delayed(self) -> bool:
        """Whether answers come as late as in a stream; not while the sequential network is taught."""
        return self.predictive or not self.training

    @property
    def warm_up(self) -> int:
        """Ticks before the first frame is through."""
        return len(self.clocks) - 1 if self.delayed else 0

    def forward(self, clip: Tensor) -> Tensor:
        """Clip (B, C, T, H, W) to logits (B, T, K)."""
        return self.answer(clip)[0]

    def answer(self, *inputs: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Logits (B, T, K); with a teacher "loss", the weighted distance to its states, and "distance" itself."""
        (clip,) = inputs
        states = self.states(clip)
        logits = self.head(self.dropout(states))
        if not self._teacher or not self.training:
            return logits, {}
        with torch.no_grad():
            wanted = self._teacher[0].to(clip.device).eval().states(clip)
        distance = F.mse_loss(states[:, self.warm_up :], wanted[:, self.warm_up :])
        return logits, {"loss": self.distillation_weight * distance, "distance": distance}

    def states(self, clip: Tensor) -> Tensor:
        """Clip (B, C, T, H, W) to states (B, T, hidden_dim); those before the first that counts are its copies."""
        return self.states_of(self.known(self.described(clip)))

    def states_of(self, known: Tensor) -> Tensor:
        """Features (B, T, D) of what is known at each tick to states (B, T, hidden_dim)."""
        states = self.rnn(known[:, self.warm_up :])[0]
        return torch.cat([states[:, :1].expand(-1, self.warm_up, -1), states], dim=1)

    def live(self, window: int) -> RecurrentHead:
        """The recurrent network, on the features of a stream of as many sub-networks, with like skip connections."""
        return RecurrentHead(self)

    def described(self, clip: Tensor) -> list[Tensor]:
        """Clip (B, C, T, H, W) to features (B, T, D_k) of every frame by each sub-network that the head is given.

        Raises ValueError where the clip is shorter than the pipeline.
        """
        self.encoder.check(clip)
        batch, ticks = clip.shape[0], clip.shape[2]
        if ticks < len(self.clocks):
            raise ValueError(
                f"a clip of {ticks} frames never gets through {len(self.clocks)} sub-networks; lengthen it, as by "
                "clips.training.num_frames"
            )
        maps, found = clip.transpose(1, 2).flatten(0, 1), []
        for network in self._networks:
            maps = network(maps)
            if self.skip_connections or network is self._networks[-1]:
                found.append(maps.mean(dim=(2, 3)).unflatten(0, (batch, ticks)))
        return found

    def known(self, described: Sequence[Tensor]) -> Tensor:
        """What `described` gives to features (B, T, D) of what is known at each tick, the deepest first."""
        found = list(described)
        if self.delayed:
            seen = frames_seen(self.clocks, found[0].shape[1]).clamp(min=0)  # none yet: not read
            found = [
                features[:, frames.to(features.device)]
                for features, frames in zip(found, seen[-len(found) :], strict=True)
            ]
        return torch.cat([found[-1], *found[:-1]], dim=2)
