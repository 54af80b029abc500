"""Heads over the frames of a clip, in time order.

A row is a clip: its T frames one after the other, zeros behind the last of a shorter clip, and the number n of its
frames. With x_t the embedding of frame t and s = t / (n - 1) its place in time, from 0 to 1:

    mean            z = W (1/n sum x_t) + b
    attention       a_t = softmax over t of u x_t + v e(s_t), for each of A learned queries (u, v);
                    z = W [sum a_t x_t, one after the other] + b
    convolution     z = W (1/n sum relu(K * relu(P x))_t) + b, K over three neighbours in time

A query and a key that are both linear in x and e(s), as in attention with a learned query, have such a product. What
stands behind the last frame is replaced before anything is computed: it changes no bit.
"""

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from featcache.heads import HeadConfig

QUERIES = 8
CHANNELS = 128  # of the convolution
WAVES = 4  # of the encoding of time


class ClipModule(nn.Module, ABC):
    """What the heads over clips share: frames and mask from rows, and logits from what became of the frames."""

    def __init__(self, frames: int, pooled: int, classes: int) -> None:
        super().__init__()
        self.frames = frames
        self.output = nn.Linear(pooled, classes)

    def forward(self, rows: Tensor) -> Tensor:
        """Return the logits of clips, (clips, classes), from rows (clips, frames x width + 1)."""
        lengths = rows[:, -1:]
        x = rows[:, :-1].reshape(len(rows), self.frames, -1)
        mask = torch.arange(self.frames, device=rows.device) < lengths  # (clips, frames)
        logits: Tensor = self.output(self.pool(torch.where(mask[:, :, None], x, 0.0), mask, lengths))
        return logits

    @abstractmethod
    def pool(self, x: Tensor, mask: Tensor, lengths: Tensor) -> Tensor:
        """Return one vector a clip from x (clips, frames, width), mask (clips, frames) and lengths (clips, 1)."""


class MeanOfFrames(ClipModule):
    """The mean of the frames, then a linear layer."""

    def __init__(self, width: int, frames: int, classes: int) -> None:
        super().__init__(frames, width, classes)

    def pool(self, x: Tensor, mask: Tensor, lengths: Tensor) -> Tensor:  # noqa: ARG002
        """Return the mean of each clip's frames, (clips, width)."""
        return x.sum(dim=1) / lengths


class AttentionOverTime(ClipModule):
    """Weighted means of the frames, one for each query, whose weights know content and time; then a linear layer."""

    def __init__(self, width: int, frames: int, classes: int) -> None:
        super().__init__(frames, QUERIES * width, classes)
        self.content = nn.Linear(width, QUERIES)
        self.time = nn.Linear(1 + 2 * WAVES, QUERIES, bias=False)

    def pool(self, x: Tensor, mask: Tensor, lengths: Tensor) -> Tensor:
        """Return the weighted means of each clip's frames, (clips, QUERIES x width)."""
        scores = self.content(x) + self.time(encode_time(lengths, self.frames))
        weights = scores.masked_fill(~mask[:, :, None], -math.inf).softmax(dim=1)
        return torch.bmm(weights.transpose(1, 2), x).flatten(1)


class ConvolutionOverTime(ClipModule):
    """A convolution over three neighbours in time, the mean of what comes out of it, then a linear layer."""

    def __init__(self, width: int, frames: int, classes: int) -> None:
        super().__init__(frames, CHANNELS, classes)
        self.project = nn.Linear(width, CHANNELS)
        self.neighbours = nn.Conv1d(CHANNELS, CHANNELS, kernel_size=3, padding=1)

    def pool(self, x: Tensor, mask: Tensor, lengths: Tensor) -> Tensor:
        """Return the mean over time, (clips, CHANNELS)."""
        inside = mask[:, :, None]
        projected = torch.where(inside, self.project(x).relu(), 0.0)
        convolved = self.neighbours(projected.transpose(1, 2)).relu().transpose(1, 2)
        return torch.where(inside, convolved, 0.0).sum(dim=1) / lengths


def encode_time(lengths: Tensor, frames: int) -> Tensor:
    """Return what a head is told of each frame's time, (clips, frames, 1 + 2 WAVES): s, and its sines and cosines.

    Args:
        lengths: (clips, 1) how many frames a clip has.
        frames: how many a row has room for.
    """
    place = torch.arange(frames, device=lengths.device) / (lengths - 1).clamp(min=1)  # (clips, frames), 1 at the last
    angles = place[:, :, None] * (math.pi * torch.arange(1, WAVES + 1, device=lengths.device))
    return torch.cat([2 * place[:, :, None] - 1, angles.sin(), angles.cos()], dim=2)


KINDS: dict[str, type[MeanOfFrames] | type[AttentionOverTime] | type[ConvolutionOverTime]] = {
    "mean": MeanOfFrames,
    "attention": AttentionOverTime,
    "convolution": ConvolutionOverTime,
}


def build_temporal(config: HeadConfig, width: int, classes: int) -> nn.Module:
    """Return the module of a head over clips.

    Args:
        config: the head's settings.
        width: of an embedding.
        classes: how many there are.
    """
    return KINDS[config.over_time](width, config.frames, classes)
