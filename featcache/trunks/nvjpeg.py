"""JPEG files -> pixels on the device of the trunk: nvJPEG through torchvision, then torchvision's transform there.

What comes out is near what the CPU makes of the same file, not equal to it: nvJPEG spreads halved colours its own way
and rounds its own way, and the resize is reckoned in floating point. So it is another value of the keyed decoder
(docs/decisions/064).
"""

import re
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 (as everybody calls it)
from torchvision.io import ImageReadMode, decode_jpeg, encode_jpeg

from featcache.errors import MachineError
from featcache.media import HEADER, ImageTransform, resized_size

PORTION = 64_000_000  # pixels that are decoded at a time, three bytes each

# By nvJPEG's numbers: a bad file, one that is not supported or not implemented, one that is incomplete; no memory.
_OF_A_FILE = re.compile(r": (3|4|9|10)(?!\d)|Unknown chroma subsampling")
_OF_MEMORY = re.compile(r"out of memory|: 5(?!\d)", re.IGNORECASE)


def require_nvjpeg(device: str) -> None:
    """Decode one small file, so that what is missing shows before there is work.

    Raises:
        MachineError: this torchvision cannot decode on this device, or the device has no memory.
    """
    try:
        _decode([encode_jpeg(torch.zeros(3, 16, 16, dtype=torch.uint8))], device)
    except torch.OutOfMemoryError:
        raise MachineError(f"{device}: out of memory for a single image; try another --device") from None
    except RuntimeError as error:
        raise MachineError(
            f"--decode gpu: this torchvision cannot decode on {device} ({_reason(error)}); install its CUDA build, or "
            f"extract with --decode exact or fast, which make stores of their own"
        ) from None


def decode_rows(rows: Tensor, transform: ImageTransform, device: str) -> tuple[Tensor, tuple[int, ...]]:
    """Decode, resize and crop a batch on the device.

    Args:
        rows: (n, row_bytes) uint8, rows of `media.jpeg`, in the host's memory.
        transform: What is done to each image.
        device: As torch calls it.

    Returns:
        (n, 3, crop, crop) uint8 pixels on the device, and the places of those that nvJPEG cannot decode, whose pixels
        have no meaning.

    Raises:
        torch.OutOfMemoryError: the device's memory is spent.
        MachineError: the decoder fails, and not for a file's sake.
    """
    crop = transform.crop
    pixels = torch.zeros(len(rows), 3, crop, crop, device=device)
    headers = rows[:, :HEADER].clone().view(torch.int64).tolist()  # length of the file, pixels
    files = [place for place, (length, _) in enumerate(headers) if length]
    if by_cpu := [place for place, (length, _) in enumerate(headers) if not length]:  # the CPU has decoded them
        decoded = rows[by_cpu, HEADER : HEADER + 3 * crop * crop].view(-1, 3, crop, crop)
        pixels[by_cpu] = decoded.to(device).float()
    refused: list[int] = []
    for places in _portions(files, [headers[place][1] for place in files]):
        images = _decode_or_refuse([rows[place, HEADER : HEADER + headers[place][0]] for place in places], device)
        for place, image in zip(places, images, strict=True):
            if image is None:
                refused.append(place)
            else:
                pixels[place] = resize_and_crop(image, transform)
    return pixels.round_().to(torch.uint8), tuple(refused)


def resize_and_crop(image: Tensor, transform: ImageTransform) -> Tensor:
    """Resize and crop one image as torchvision's transform of tensors does.

    (3, height, width) uint8 -> (3, crop, crop) float32, 0 to 255, not rounded.

    Few operations, as each takes the host longer than the device: 8,000 images a second leave 125 us for everything.
    """
    width, height = resized_size((image.shape[2], image.shape[1]), transform)
    left, top = (round((edge - transform.crop) / 2.0) for edge in (width, height))
    whole = F.interpolate(
        image[None].float(), (height, width), mode=transform.interpolation, antialias=transform.antialias
    )
    return whole[0, :, top : top + transform.crop, left : left + transform.crop].clamp_(0, 255)


def _portions(places: Sequence[int], pixels: Sequence[int]) -> Iterator[list[int]]:
    """Yield places in portions of at most `PORTION` pixels, since a small file may hold a large picture."""
    portion: list[int] = []
    held = 0
    for place, count in zip(places, pixels, strict=True):
        if portion and held + count > PORTION:
            yield portion
            portion, held = [], 0
        portion.append(place)
        held += count
    if portion:
        yield portion


def _decode_or_refuse(files: Sequence[Tensor], device: str) -> list[Tensor | None]:
    """Return each file's (3, height, width) uint8; None where it cannot be decoded.

    A batch of several does not tell which one that is: then each is tried by itself.
    """
    try:
        return list(_decode(files, device))
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        if len(files) > 1:
            return [image for file in files for image in _decode_or_refuse([file], device)]
        if _OF_A_FILE.search(_reason(error)):
            return [None]
        raise MachineError(
            f"--decode gpu: the decoder of {device} fails ({_reason(error)}); try --decode exact"
        ) from None


def _decode(files: Sequence[Tensor], device: str) -> list[Tensor]:
    """Decode these files, once nothing that was queued on the current CUDA stream is still at work.

    nvJPEG does not wait for what reads the memory that it is given, not even where torchvision does
    (pytorch/vision#9606).
    """
    if device.startswith("cuda"):
        torch.cuda.current_stream(device).synchronize()
    try:
        images: list[Tensor] = decode_jpeg(list(files), mode=ImageReadMode.RGB, device=device)
    except RuntimeError as error:  # torchvision makes one of whatever went wrong
        if _OF_MEMORY.search(_reason(error)):
            raise torch.OutOfMemoryError(_reason(error)) from None
        raise
    return images


def _reason(error: RuntimeError) -> str:
    return str(error).partition("\n")[0]
