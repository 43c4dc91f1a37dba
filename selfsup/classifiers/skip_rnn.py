"""Skip RNN: a recurrent network that chooses the frames it looks at (Campos et al. 2018, ICLR, arXiv 1708.06834).

As LRCN it answers at every step, from the frames so far. But a step may be skipped, and its frame is then not encoded
nor, where frames come from a file, decoded. What looking costs is a part of the loss. The gate is in `skip_cells`.
"""

import torch
from torch import Tensor

from selfsup.classifiers.cnn_rnn import Recurrent, check_recurrent
from selfsup.classifiers.skip_cells import SkipCells
from selfsup.encoders.encoder import Encoder, FrameEncoder


class SkipRnn(Recurrent):
    """Clip (B, C, T, H, W) to logits (B, T', K): those of step t see the used frames up to t.

    With a 2-D encoder T' = T and the classifier is causal. In evaluation mode such an encoder is given the used frames
    alone, and the gate has no gradient. In training it is given all, since that gradient asks what a skipped frame
    would have changed. A 3-D encoder always sees the whole clip, and what is skipped are steps of the RNN.

    Args:
        encoder: 2-D or 3-D; its features are averaged over space.
        num_classes: K.
        cell: "lstm" or "gru".
        hidden_dim: width of each layer; the paper's are 256 (Charades) and 512 (UCF101).
        num_layers: of the recurrent network; the paper has 2 for video.
        dropout: share of the recurrent network's outputs dropped in training, in [0, 1), also between its layers.
        join: the answer to a clip, the "mean" of all steps or the "last".
        budget_weight: λ, what a used frame adds to the loss of a clip; at least 0. The paper's are 1e-5 to 1e-2, for
            clips of 100 to 250 frames.

    Raises:
        ValueError: fewer than two classes, or an option out of its range.
    """

    rnn: SkipCells
    causality = (
        "with a 2-D encoder causal, and frames that it skips are neither encoded nor, from a file, decoded; with a 3-D "
        "one it runs on a sliding clip"
    )

    def __init__(
        self,
        encoder: Encoder,
        num_classes: int,
        cell: str = "lstm",
        hidden_dim: int = 256,
        num_layers: int = 1,
        dropout: float = 0.5,
        join: str = "mean",
        budget_weight: float = 1e-4,
    ) -> None:
        check_recurrent(cell, hidden_dim, num_layers, dropout, join)
        if not 0 <= budget_weight < float("inf"):
            raise ValueError(f"classifier.budget_weight is {budget_weight}; give a number of at least 0")
        rnn = SkipCells(encoder.dim, hidden_dim, num_layers, cell, dropout)
        super().__init__(encoder, num_classes, rnn, hidden_dim, dropout, join)
        self.budget_weight = budget_weight

    def forward(self, clip: Tensor) -> Tensor:
        """Clip (B, C, T, H, W) to logits (B, T', K)."""
        return self.answer(clip)[0]

    def answer(self, *inputs: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Logits (B, T', K); "loss", λ times the mean number of used steps, and "used_frames", their share."""
        (clip,) = inputs
        if self.training or not isinstance(self.encoder, FrameEncoder):
            states, used = self.rnn(self.encoder(clip).mean(dim=(3, 4)).transpose(1, 2))
        else:
            states, used = self._of_used_frames(clip)
        budget = self.budget_weight * used.sum(dim=1).mean()
        return self.head(self.dropout(states)), {"loss": budget, "used_frames": used.mean()}

    def live(self, window: int) -> "SkipStream":
        """Its stream, from the first frame on."""
        return SkipStream(self)

    def _of_used_frames(self, clip: Tensor) -> tuple[Tensor, Tensor]:
        """States (B, T, hidden_dim) and gate (B, T), as if all frames were encoded; a round takes one frame of each."""
        batch, frames = clip.shape[0], clip.shape[2]
        state = self.rnn.start(batch)
        position = torch.zeros(batch, dtype=torch.long, device=clip.device)
        states = state.output.new_zeros(batch, frames, state.output.shape[1])
        used = states.new_zeros(batch, frames)
        while True:
            skipped, state = self.rnn.jump(state, frames - position)
            position = position + skipped
            rows = (position < frames).nonzero().squeeze(1)
            if not len(rows):
                break
            at = position[rows]
            features = states.new_zeros(batch, self.encoder.dim)
            features[rows] = self.encoder(clip[rows, :, at].unsqueeze(2)).mean(dim=(2, 3, 4)).to(features.dtype)
            state = self.rnn.update(features, state)  # of clips that have ended too, whose state is not read again
            states[rows, at], used[rows, at] = state.output[rows], 1.0
            position[rows] += 1
        steps = torch.arange(frames, device=clip.device)
        latest = (used * steps).cummax(dim=1).values.long()  # the first frame is always used
        return states.gather(1, latest[:, :, None].expand_as(states)), used


class SkipStream:
    """Answers of a `SkipRnn` to one stream, frame by frame, in constant memory.

    `skip` says how many coming frames need not be decoded or encoded; the answer to them is `logits`, that of the last
    used frame. A frame that is given to `step` all the same changes nothing where the gate is closed.

    Args:
        classifier: on a 2-D encoder; it is put into evaluation mode.
    """

    def __init__(self, classifier: SkipRnn) -> None:
        self.classifier = classifier.eval()
        self.reset()

    def reset(self) -> None:
        """Forgets what it has seen; the next frame will be used."""
        self.state = self.classifier.rnn.start(1)
        self.logits: Tensor | None = None

    @torch.no_grad()
    def step(self, features: Tensor) -> Tensor:
        """Features (D,) of the next frame, averaged over space, to logits (K,)."""
        self.state, used = self.classifier.rnn.step(features[None], self.state)
        if self.logits is None or used.item():
            self.logits = self.classifier.head(self.state.output)[0]
        return self.logits

    def skip(self, limit: int) -> int:
        """Passes over the coming frames that would not be used, at most `limit`, and returns their number."""
        most = torch.tensor([limit], device=self.state.output.device)
        skipped, self.state = self.classifier.rnn.jump(self.state, most)
        return int(skipped)
