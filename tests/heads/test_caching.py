"""What featcache exists for: a head on cached embeddings is the head that the usual training would give."""

from pathlib import Path

import numpy as np
import torch
from torch import nn
from torchvision.models import VisionTransformer

import featcache
from featcache.heads.config import HeadConfig
from featcache.heads.training.samplers import shuffled
from featcache.heads.training.train import train_heads
from featcache.media import decode_image
from featcache.trunks.architectures import architecture
from tests.conftest import Nano


def test_caching_changes_nothing(nano: Nano, folder: Path, tmp_path: Path) -> None:
    """The head trained on cached embeddings equals, to 1e-5, the one trained with the frozen network in the loop."""
    arch, weights, _, precision = nano.flags[1], nano.flags[3], *nano.flags[4:]
    featcache.extract(
        "train", data=str(folder), cache=tmp_path / "cache", arch=arch, weights=weights, precision=precision
    )
    cached = featcache.load("train", data=str(folder), cache=tmp_path / "cache")
    config = HeadConfig(lr=0.05, batch_size=8, epochs=12, seed=3)
    head = train_heads(cached, None, [config])[0]

    shape = architecture(arch)
    network = VisionTransformer(64, shape.patch, shape.depth, shape.heads, shape.dim, shape.mlp, num_classes=3)
    network.heads = nn.Linear(shape.dim, 3)
    nn.init.zeros_(network.heads.weight)
    nn.init.zeros_(network.heads.bias)
    network.load_state_dict(torch.load(weights, weights_only=True), strict=False)
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(name.startswith("heads."))
    network.eval()

    pixels = torch.stack(
        [torch.from_numpy(decode_image((folder / path).read_bytes(), shape.transform)) for path in cached.paths]
    )
    mean, std = (torch.tensor(value).view(3, 1, 1) for value in (shape.transform.mean, shape.transform.std))
    images, labels = (pixels / 255 - mean) / std, torch.from_numpy(cached.y)
    optimizer = torch.optim.SGD(network.heads.parameters(), lr=config.lr, momentum=config.momentum)
    steps = config.steps(len(labels))
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps)
    for order in shuffled(len(labels), config.epochs, config.seed):
        for rows in order.split(config.batch_size):
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(images[rows]), labels[rows]).backward()
            nn.utils.clip_grad_norm_(network.heads.parameters(), config.clip_norm or float("inf"))
            optimizer.step()
            scheduler.step()

    for ours, theirs in ((head.weight, network.heads.weight), (head.bias, network.heads.bias)):
        usual = theirs.detach().numpy()
        assert np.linalg.norm(usual) > 0
        assert np.linalg.norm(ours - usual) <= 1e-5 * np.linalg.norm(usual)
