"""python bench/decode.py

What decoding costs a core: milliseconds of processor time an image, one thread, the kinds of file that users have, by
Pillow (whose pixels ours are), ours to the trunk's input (exact and fast), and the other well-kept decoders that are
installed (opencv-python-headless, simplejpeg, imagecodecs, torchvision.io). `equal` is the share of pixel values that
are Pillow's own, `apart` the mean difference of the others' in 8-bit steps.
"""

import argparse
import io
import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from machine import describe
from PIL import Image
from sklearn.datasets import load_sample_images
from torchvision.io import ImageReadMode
from torchvision.io import decode_image as torchvision_decode_image
from video import views

from featcache.media import decode_image
from featcache.trunks.architectures import architecture

EXACT = architecture("vit_b_16").transform
FAST = replace(EXACT, decoder="pillow-fast")
Decoder = Callable[[bytes], np.ndarray]


def pictures() -> dict[str, list[bytes]]:
    """Three of each kind, as bytes of files."""
    photographs = [Image.fromarray(pixels) for pixels in load_sample_images().images]

    def saved(image: Image.Image, kind: str, **how: int) -> bytes:
        file = io.BytesIO()
        image.save(file, kind, **how)
        return file.getvalue()

    small = [image.resize((500, 375), Image.Resampling.LANCZOS) for image in photographs]
    large = [image.resize((1920, 1281), Image.Resampling.LANCZOS) for image in photographs]
    return {
        "PNG frame 960x540": [saved(Image.fromarray(view), "PNG") for view in views(3, 0)],
        "JPEG 500x375": [saved(image, "JPEG", quality=90) for image in small],
        "JPEG 1920x1281": [saved(image, "JPEG", quality=90) for image in large],
    }


def decoders() -> dict[str, Decoder]:
    """By name; those of packages that are not installed are left out, and said."""
    found: dict[str, Decoder] = {
        "Pillow": lambda data: np.asarray(Image.open(io.BytesIO(data)).convert("RGB")),
        "torchvision.io": lambda data: (
            torchvision_decode_image(torch.frombuffer(bytearray(data), dtype=torch.uint8), ImageReadMode.RGB)
            .permute(1, 2, 0)
            .numpy()
        ),
    }
    for name, add in (("OpenCV", _opencv), ("simplejpeg", _simplejpeg), ("imagecodecs", _imagecodecs)):
        try:
            found |= add()
        except ImportError as error:
            print(f"left out, {name}: {error}", file=sys.stderr)
    return found


def _opencv() -> dict[str, Decoder]:
    import cv2

    cv2.setNumThreads(1)

    def opencv(data: bytes) -> np.ndarray:
        found: np.ndarray = cv2.imdecode(np.frombuffer(data, dtype=np.uint8), cv2.IMREAD_COLOR_RGB)
        return found

    return {"OpenCV": opencv}


def _simplejpeg() -> dict[str, Decoder]:
    import simplejpeg

    return {"simplejpeg": simplejpeg.decode_jpeg}


def _imagecodecs() -> dict[str, Decoder]:
    import imagecodecs

    return {
        "imagecodecs, libjpeg-turbo": imagecodecs.jpeg8_decode,
        "imagecodecs, libpng": imagecodecs.png_decode,
        "imagecodecs, libspng": imagecodecs.spng_decode,
    }


def milliseconds(task: Callable[[bytes], object], files: list[bytes], runs: int) -> float:
    """Processor time an image: the median over runs of the mean over files."""
    taken = []
    for _ in range(runs):
        began = time.process_time()
        for data in files:
            task(data)
        taken.append((time.process_time() - began) / len(files))
    return 1000 * statistics.median(taken)


def main() -> None:
    parser = argparse.ArgumentParser(description="what decoding costs a core", allow_abbrev=False)
    parser.add_argument("--runs", type=int, default=21)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for kind, files in pictures().items():
        truth = [np.asarray(Image.open(io.BytesIO(data)).convert("RGB")) for data in files]
        for name, one in decoders().items():
            try:
                apart = [np.abs(one(data).astype(int) - true) for data, true in zip(files, truth, strict=True)]
            except Exception as error:  # a decoder of the other format says so in its own way
                print(f"{name} does not read {kind}: {error}".split("\n")[0], file=sys.stderr)
                continue
            equal, mean = (float(np.mean([by(part) for part in apart])) for by in (lambda x: (x == 0).mean(), np.mean))
            rows.append((kind, name, milliseconds(one, files, asked.runs), equal, mean))
        for name, transform in (("ours, to 224x224, exact", EXACT), ("ours, to 224x224, fast", FAST)):
            taken = milliseconds(partial(decode_image, transform=transform), files, asked.runs)
            rows.append((kind, name, taken, float("nan"), float("nan")))
    if asked.json:
        keys = ("file", "decoder", "ms", "equal", "apart")
        print(
            json.dumps({"machine": describe(), "rows": [dict(zip(keys, row, strict=True)) for row in rows]}, indent=2)
        )
        return
    print(f"{describe()}\n\n{'file':18} {'decoder':28} {'ms':>6} {'equal':>7} {'apart':>6}")
    for kind, name, taken, equal, mean in rows:
        pixels = "" if np.isnan(equal) else f" {equal:7.1%} {mean:6.2f}"
        print(f"{kind:18} {name:28} {taken:6.2f}{pixels}")


if __name__ == "__main__":
    main()
