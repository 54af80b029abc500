"""JPEG files -> pixels on the device of the trunk: nvJPEG through torchvision, then torchvision's transform there.

What comes out is near what the CPU makes of the same file, not equal to it: nvJPEG rounds its own way, and the resize
is reckoned in floating point. So it is another value of the keyed decoder (docs/decisions/064).
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 (as everybody calls it)
from torchvision.io import ImageReadMode, decode_jpeg, encode_jpeg

from featcache.errors import MachineError
from featcache.images import ImageTransform, resized
from featcache.jpeg import HEADER


def require(device: str) -> None:
    """Decode one small file, so that what is missing shows before there is work.

    Raises:
        MachineError: this torchvision cannot decode on this device.
    """
    try:
        decode_jpeg([encode_jpeg(torch.zeros(3, 16, 16, dtype=torch.uint8))], mode=ImageReadMode.RGB, device=device)
    except RuntimeError as error:
        reason = next(iter(str(error).splitlines()), "")
        raise MachineError(
            f"--decode gpu: this torchvision cannot decode on {device} ({reason}); install its CUDA build, or extract "
            f"with --decode exact or fast, which make stores of their own"
        ) from None


def decode(rows: Tensor, transform: ImageTransform, device: str) -> tuple[Tensor, tuple[int, ...]]:
    """(n, row_bytes) uint8 rows of `featcache.jpeg`, in the host's memory -> (n, 3, crop, crop) uint8 on the device.

    With the places of those that nvJPEG cannot decode; their pixels have no meaning.

    On CUDA, nothing that was queued on the current stream is still at work when nvJPEG begins: it does not wait for
    what reads the memory that it is given, not even where torchvision does (pytorch/vision#9606).

    Raises:
        torch.OutOfMemoryError: the device's memory is spent.
    """
    if device.startswith("cuda"):
        torch.cuda.current_stream(device).synchronize()
    crop = transform.crop
    pixels = torch.zeros(len(rows), 3, crop, crop, device=device)
    lengths = rows[:, :HEADER].contiguous().view(torch.int64)[:, 0].tolist()
    files = {place: rows[place, HEADER : HEADER + length] for place, length in enumerate(lengths) if length}
    for place in range(len(rows)):
        if place not in files:  # the CPU has decoded it
            pixels[place] = rows[place, HEADER : HEADER + pixels[place].numel()].view(3, crop, crop)
    found = dict(zip(files, _decoded(list(files.values()), device), strict=True))
    for place, image in found.items():
        if image is not None:
            pixels[place] = fit(image, transform)
    return pixels.round_().to(torch.uint8), tuple(place for place, image in found.items() if image is None)


def fit(image: Tensor, transform: ImageTransform) -> Tensor:
    """(3, height, width) uint8 -> (3, crop, crop) float32, 0 to 255, not rounded: torchvision's transform of tensors.

    Few operations, as each takes the host longer than the device: 8,000 images a second leave 125 us for everything.
    """
    width, height = resized((image.shape[2], image.shape[1]), transform)
    left, top = (round((edge - transform.crop) / 2.0) for edge in (width, height))
    whole = F.interpolate(
        image[None].float(), (height, width), mode=transform.interpolation, antialias=transform.antialias
    )
    return whole[0, :, top : top + transform.crop, left : left + transform.crop].clamp_(0, 255)


def _decoded(files: Sequence[Tensor], device: str) -> list[Tensor | None]:
    """Each file's (3, height, width) uint8; None where it cannot be decoded, which a batch of several does not tell."""
    if not files:
        return []
    try:
        found: list[Tensor | None] = decode_jpeg(list(files), mode=ImageReadMode.RGB, device=device)
    except torch.OutOfMemoryError:
        raise
    except RuntimeError:
        return [None] if len(files) == 1 else [image for file in files for image in _decoded([file], device)]
    return found
