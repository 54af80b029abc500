"""Small seeded networks of transformers' families, in folders as save_pretrained writes them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers as t

_VIT = {
    "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 64, "image_size": 48,
    "patch_size": 16,
}  # fmt: skip
_DINOV2 = _VIT | {"patch_size": 14, "image_size": 56}
_TEXT = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64, "vocab_size": 99}
_SQUARE = {"height": 48, "width": 48}
_CUT_56 = {"size": {"shortest_edge": 64}, "crop_size": {"height": 56, "width": 56}}


@dataclass(frozen=True)
class Family:
    """One family: how its network and its processor are made."""

    class_: Any
    config: Any
    processor: Any
    prefix_tokens: int = 0  # before the patches; 0: no class token
    base: str = ""  # the attribute that holds the trunk

    def save(self, folder: Path) -> Any:
        """Write the folder, and return the whole network in evaluation mode."""
        torch.manual_seed(0)
        network = self.class_(self.config).eval()
        with torch.no_grad():
            for value in network.parameters():  # some are nearly off as they are drawn
                value.add_(torch.randn_like(value) * 0.05)
        network.save_pretrained(folder)
        self.processor.save_pretrained(folder)
        return network


FAMILIES = {
    "vit": Family(
        t.ViTForImageClassification, t.ViTConfig(**_VIT), t.ViTImageProcessorPil(size=_SQUARE), 1, "vit"
    ),
    "deit": Family(
        t.DeiTForImageClassification, t.DeiTConfig(**_VIT),
        t.DeiTImageProcessorPil(size={"height": 56, "width": 56}, crop_size=_SQUARE), 2, "deit",
    ),
    "beit": Family(
        t.BeitForImageClassification, t.BeitConfig(**_VIT, use_mean_pooling=True, use_relative_position_bias=True),
        t.BeitImageProcessorPil(size=_SQUARE, do_center_crop=False), 1, "beit",
    ),
    "dinov2": Family(
        t.Dinov2ForImageClassification, t.Dinov2Config(**_DINOV2), t.BitImageProcessorPil(**_CUT_56), 1, "dinov2"
    ),
    "dinov2_with_registers": Family(
        t.Dinov2WithRegistersForImageClassification, t.Dinov2WithRegistersConfig(**_DINOV2, num_register_tokens=4),
        t.BitImageProcessorPil(**_CUT_56), 5, "dinov2_with_registers",
    ),
    "clip": Family(
        t.CLIPModel, t.CLIPConfig(vision_config=_VIT, text_config=_TEXT, projection_dim=24),
        t.CLIPImageProcessorPil(size={"shortest_edge": 48}, crop_size=_SQUARE), 1, "vision_model",
    ),
    "siglip": Family(
        t.SiglipModel, t.SiglipConfig(vision_config=_VIT, text_config=_TEXT), t.SiglipImageProcessorPil(size=_SQUARE),
        0, "vision_model",
    ),
    "resnet": Family(
        t.ResNetForImageClassification,
        t.ResNetConfig(embedding_size=16, hidden_sizes=[16, 32, 48, 64], depths=[1, 1, 1, 1]),
        t.ConvNextImageProcessorPil(size={"shortest_edge": 64}, crop_pct=0.875), 0, "resnet",
    ),
    "convnext": Family(
        t.ConvNextForImageClassification, t.ConvNextConfig(hidden_sizes=[16, 24, 32, 40], depths=[1, 1, 1, 1]),
        t.ConvNextImageProcessorPil(size={"shortest_edge": 64}, crop_pct=0.875), 0, "convnext",
    ),
    "swin": Family(
        t.SwinForImageClassification,
        t.SwinConfig(image_size=64, embed_dim=16, depths=[1, 1, 2], num_heads=[1, 2, 4], window_size=4),
        t.ViTImageProcessorPil(size={"height": 64, "width": 64}), 0, "swin",
    ),
}  # fmt: skip
