"""The settings of the trunk: a recipe's [trunk] section, and the options of extract."""

from dataclasses import dataclass
from typing import Annotated, Literal

from featcache.recipe.settings import Setting


@dataclass(kw_only=True)
class TrunkSettings:
    """Which frozen network, and how it is run."""

    arch: Annotated[str, Setting("The network: vit_b_16, vit_b_32, vit_l_16, …")] = "vit_b_16"
    weights: Annotated[str, Setting("A published name, a .pth or .safetensors file, or random.")] = "IMAGENET1K_V1"
    precision: Annotated[Literal["auto", "fp32", "bf16"], Setting("Arithmetic of the forward pass.")] = "auto"
    stored: Annotated[Literal["float32", "float16"], Setting("Type of the embeddings on disk.")] = "float32"
    exif: Annotated[
        Literal["ignore", "apply"], Setting("What is done with a photograph's orientation tag.", option=False)
    ] = "ignore"
    decode: Annotated[
        Literal["exact", "fast", "gpu"],
        Setting("How images become pixels; only exact is bit-equal to torchvision, and each has a store of its own."),
    ] = "exact"
