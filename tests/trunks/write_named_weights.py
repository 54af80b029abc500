"""python -m tests.trunks.write_named_weights FOLDER

Writes weights for the five networks that have a recipe in pipelines/, each in its library's own format: resnet34.pth,
alexnet.pth, vgg16.pth, timm_resnet50.safetensors and the folder vit-base-patch16-224 (1.2 GB together). They are drawn
from a seed, for a trial of everything but the scores where the published ones are out of reach; two minutes.
"""

import argparse
from pathlib import Path

import timm
import torch
import torchvision
import transformers
from safetensors.torch import save_file

TORCHVISION = ("resnet34", "alexnet", "vgg16")


def main() -> None:
    """Write all five."""
    parser = argparse.ArgumentParser(description="Write seeded weights of the five networks that have a recipe.")
    parser.add_argument("folder", type=Path)
    folder: Path = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    for name in TORCHVISION:
        torch.manual_seed(0)
        torch.save(torchvision.models.get_model(name).state_dict(), folder / f"{name}.pth")
    torch.manual_seed(0)
    save_file(timm.create_model("resnet50").state_dict(), folder / "timm_resnet50.safetensors")
    torch.manual_seed(0)
    vit = folder / "vit-base-patch16-224"
    transformers.ViTForImageClassification(transformers.ViTConfig(num_labels=1000)).save_pretrained(vit)
    transformers.ViTImageProcessor().save_pretrained(vit)


if __name__ == "__main__":
    main()
