"""A second implementation of a reader, from docs/format.md alone. It imports nothing of featcache, on purpose.

Of HDF5 it uses h5py for listings, and for shards only where `by_hdf5` is asked for.
"""

import hashlib
import io
import json
import math
import os
import re
import stat
from dataclasses import dataclass, field
from pathlib import Path

import h5py
import numpy as np

NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}"


class RefusedError(Exception):
    """What the document says that a reader must refuse."""


def read_file(path: Path) -> bytes:
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        raise RefusedError(f"{path}: {error}") from None
    with os.fdopen(handle, "rb") as file:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise RefusedError(f"{path}: no regular file")
        return file.read()


def unseal_line(line: bytes) -> dict | None:
    found = re.fullmatch(rb'(\{.*),"sum":"([0-9a-f]{16})"\}', line, re.DOTALL)
    if not found or hashlib.sha256(found[1]).hexdigest()[:16].encode() != found[2]:
        return None
    return json.loads(found[1] + b"}")


def canonical(value: dict) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()


def unseal_document(path: Path) -> dict:
    try:
        value = json.loads(read_file(path))
        total = value.pop("sum")
    except (ValueError, KeyError, AttributeError) as error:
        raise RefusedError(f"{path}: {error!r}") from None
    if hashlib.sha256(canonical(value)).hexdigest()[:16] != total:
        raise RefusedError(f"{path}: damaged")
    return value


SPEC = {"arch", "weights_sha256", "transform", "layer", "config", "positions", "decoder", "compute", "stored", "view"}
VIEW = {"number", "seed", "flip", "crop", "color"}
TRANSFORM = {"resize", "crop", "mean", "std", "interpolation", "antialias", "exif", "modes"}
TRANSFORM |= {"fit", "height", "resize_height", "placement"}


def read_trunk(root: Path) -> dict:
    trunk = unseal_document(root / "trunk.json")
    if trunk["format"] != 1:
        raise RefusedError(f"format {trunk['format']}")
    if not set(trunk["spec"]) <= SPEC or not set(trunk["spec"]["transform"]) <= TRANSFORM:
        raise RefusedError("an unknown key in spec")
    if not set(trunk["spec"].get("view", {"number": 1})) <= VIEW or trunk["spec"].get("view", VIEW) in ({}, None):
        raise RefusedError("an unknown key in view")
    if not root.name.endswith("-" + hashlib.sha256(canonical(trunk["spec"])).hexdigest()[:8]):
        raise RefusedError("the folder is named by another trunk")
    return trunk


def view_number(view: dict, digest: bytes, purpose: str, count: int) -> float:
    """Return the uniform number u(purpose, count) of a view and an image."""
    head = f"featcache view 1\0{view.get('seed', 0)}\0{view['number']}\0{purpose}\0".encode()
    block = hashlib.sha256(head + digest + count.to_bytes(4, "big")).digest()
    return (int.from_bytes(block[:8], "big") >> 11) / 2**53


def crop_of_view(view: dict, size: tuple[int, int], digest: bytes) -> tuple[int, int, int, int] | None:
    """Return (left, top, width, height) of a view's crop; None where none of ten lies within the image."""
    count = 0

    def between(low: float, high: float) -> float:
        nonlocal count
        count += 1
        return low + (high - low) * view_number(view, digest, "crop", count)

    for _ in range(10):
        area = size[0] * size[1] * between(view["crop"], 1)
        ratio = math.exp(between(-1, 1) * math.log(4 / 3))
        width, height = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < width <= size[0] and 0 < height <= size[1]:
            top = int(between(0, size[1] - height + 1))
            return int(between(0, size[0] - width + 1)), top, width, height
    return None


ADD = {
    "name", "rows", "dim", "dtype", "embeddings_offset", "digests_offset", "bytes", "sha256", "digests_sha256",
}  # fmt: skip


def check_add(entry: dict, first: dict) -> None:
    numbers = ("rows", "dim", "embeddings_offset", "digests_offset", "bytes")
    hashes = all(re.fullmatch("[0-9a-f]{64}", entry[name]) for name in ("sha256", "digests_sha256"))
    if set(entry) - {"made"} != ADD or not re.fullmatch(r"[0-9]{5,9}-[0-9a-f]{8}\.h5", entry["name"]) or not hashes:
        raise RefusedError(f"add {entry}")
    if any(type(entry[name]) is not int or not 0 <= entry[name] < 2**48 for name in numbers):
        raise RefusedError(f"add {entry}")
    item = {"float32": 4, "float16": 2}[entry["dtype"]]
    ends = (
        entry["embeddings_offset"] + entry["rows"] * entry["dim"] * item,
        entry["digests_offset"] + entry["rows"] * 32,
    )
    if not (0 < entry["rows"] <= 2**24 and 0 < entry["dim"] <= 2**16) or max(ends) > entry["bytes"]:
        raise RefusedError(f"add {entry}")
    if (entry["dim"], entry["dtype"]) != (first["dim"], first["dtype"]):
        raise RefusedError("a shard of another kind")


@dataclass
class State:
    shards: dict[str, dict] = field(default_factory=dict)
    listings: dict[tuple[str, str, str], dict] = field(default_factory=dict)


def read_log(path: Path) -> State:
    *lines, rest = read_file(path).split(b"\n")
    if rest and unseal_line(rest) is not None:
        lines.append(rest)
    elif rest and unseal_line(rest[:-1]) is not None:
        raise RefusedError(f"{path}: the end is damaged")
    state = State()
    for number, line in enumerate(lines, start=1):
        entry = unseal_line(line)
        if entry is None:
            raise RefusedError(f"{path}: line {number}")
        if "add" in entry:
            part = entry["add"]
            check_add(part, next(iter(state.shards.values()), part))
            state.shards[part["name"]] = part
        elif "drop" in entry:
            state.shards.pop(entry["drop"], None)
            state.listings = {key: one for key, one in state.listings.items() if file_of(one) != entry["drop"]}
        elif "listing" in entry:
            one = entry["listing"]
            key = (one["data_set"], one["variant"], one["split"])
            if set(one) != {"data_set", "variant", "split", "sha256"} or not all(re.fullmatch(NAME, n) for n in key):
                raise RefusedError(f"listing {one}")
            if not re.fullmatch("[0-9a-f]{64}", one["sha256"]):
                raise RefusedError(f"listing {one}")
            state.listings[key] = one
        else:
            raise RefusedError(f"{path}: line {number} is of an unknown kind")
    return state


def file_of(one: dict) -> str:
    return f"{one['data_set']}/{one['variant']}/{one['split']}-{one['sha256'][:8]}.h5"


def read_shard(root: Path, part: dict, *, by_hdf5: bool) -> tuple[np.ndarray, np.ndarray]:
    data = read_file(root / "shards" / part["name"])
    if len(data) != part["bytes"] or hashlib.sha256(data).hexdigest() != part["sha256"]:
        raise RefusedError(f"{part['name']}: damaged")
    if by_hdf5:
        with h5py.File(io.BytesIO(data)) as file:
            assert set(file) == {"embeddings", "digests"}
            embeddings, digests = file["embeddings"][...], file["digests"][...]
    else:
        rows, dim, start = part["rows"], part["dim"], part["embeddings_offset"]
        kind = {"float32": "<f4", "float16": "<f2"}[part["dtype"]]
        embeddings = np.frombuffer(data, kind, rows * dim, start).reshape(rows, dim)
        digests = np.frombuffer(data, np.uint8, rows * 32, part["digests_offset"]).reshape(rows, 32)
    if hashlib.sha256(digests.tobytes()).hexdigest() != part["digests_sha256"]:
        raise RefusedError(f"{part['name']}: digests")
    return embeddings, digests


def read_digests(root: Path, part: dict) -> np.ndarray:
    data = read_file(root / "shards" / part["name"])
    if len(data) != part["bytes"]:
        raise RefusedError(f"{part['name']}: size")
    digests = np.frombuffer(data, np.uint8, part["rows"] * 32, part["digests_offset"]).reshape(part["rows"], 32)
    if hashlib.sha256(digests.tobytes()).hexdigest() != part["digests_sha256"]:
        raise RefusedError(f"{part['name']}: digests")
    return digests


def read_listing(cache: Path, one: dict) -> dict:
    data = read_file(cache / "listings" / file_of(one))
    if hashlib.sha256(data).hexdigest() != one["sha256"]:
        raise RefusedError(f"{file_of(one)}: damaged")
    with h5py.File(io.BytesIO(data)) as file:
        arrays = {name: file[name][...] for name in file}
    found = json.loads(arrays["meta"].tobytes())
    if found["version"] not in (1, 2) or (found["version"] == 2) != ("targets" in arrays):
        raise RefusedError("a newer listing")
    found["values"] = arrays["targets"].tolist() if found["version"] == 2 else None
    found["paths"] = arrays["paths"].tobytes().split(b"\0")[:-1]
    found["labels"] = arrays["labels"].tolist()
    found["digests"] = [digest.tobytes() for digest in arrays["digests"]]
    for name in ("clips", "subjects", "reasons"):
        table = arrays[f"{name}_names"].tobytes().split(b"\0")[:-1]
        found[name] = [table[code] for code in arrays[f"{name}_codes"]]
    return found


def load(cache: Path, store: str, key: tuple[str, str, str], *, by_hdf5: bool = False) -> dict:
    """What featcache.load gives: x, y, classes, paths of the rows that have an embedding, in listing order."""
    root = cache / "stores" / store
    read_trunk(root)
    state = read_log(root / "commits.jsonl")
    place: dict[bytes, tuple[str, int]] = {}
    for part in state.shards.values():
        for row, digest in enumerate(read_digests(root, part)):
            place.setdefault(digest.tobytes(), (part["name"], row))  # the first committed row counts
    listing = read_listing(cache, state.listings[key])
    opened: dict[str, np.ndarray] = {}

    def embedding(digest: bytes) -> np.ndarray:
        if digest not in place:
            raise RefusedError(f"{digest.hex()} is in no shard")
        name, row = place[digest]
        if name not in opened:
            opened[name] = read_shard(root, state.shards[name], by_hdf5=by_hdf5)[0]
        return opened[name][row].astype(np.float32)

    good = [row for row, reason in enumerate(listing["reasons"]) if not reason]
    return {
        "x": np.stack([embedding(listing["digests"][row]) for row in good]),
        "y": [listing["labels"][row] for row in good],
        "classes": tuple(listing["classes"]),
        "paths": [listing["paths"][row] for row in good],
        "failed": len(listing["reasons"]) - len(good),
    }


def load_together(cache: Path, folder: str, key: tuple[str, str, str]) -> dict:
    """What featcache.load gives of several stores side by side, whose parts features.json names."""
    features = unseal_document(cache / "stores" / folder / "features.json")
    parts = features["parts"]
    joined = "+".join(part["trunk"] for part in parts)
    if features["format"] != 1 or not folder.endswith("-" + hashlib.sha256(joined.encode()).hexdigest()[:8]):
        raise RefusedError("features.json is of another folder, or another format")
    found = [load(cache, find_store(cache, part["trunk"]), key) for part in parts]
    paths = [set(one["paths"]) for one in found]
    good = [row for row, path in enumerate(found[0]["paths"]) if all(path in of for of in paths)]
    places = [{path: row for row, path in enumerate(one["paths"])} for one in found]
    kept = [found[0]["paths"][row] for row in good]
    columns = [one["x"][[place[path] for path in kept]] for one, place in zip(found, places, strict=True)]
    if [x.shape[1] for x in columns] != [part["width"] for part in parts]:
        raise RefusedError("features.json has other widths")
    return {"x": np.concatenate(columns, axis=1), "y": [found[0]["y"][row] for row in good], "paths": kept}


def find_store(cache: Path, fingerprint: str) -> str:
    for root in sorted((cache / "stores").iterdir()):
        if (root / "trunk.json").is_file():
            spec = read_trunk(root)["spec"]
            if hashlib.sha256(canonical(spec)).hexdigest() == fingerprint:
                return root.name
    raise RefusedError(f"no store of trunk {fingerprint}")


def read_weight(head: Path) -> np.ndarray:
    """The weight of a head, (classes, dim), whose file is checked against head.json."""
    document, data = unseal_document(head / "head.json"), read_file(head / "head.safetensors")
    if hashlib.sha256(data).hexdigest() != document["sha256"]:
        raise RefusedError(f"{head}: damaged")
    size = int.from_bytes(data[:8], "little")
    about = json.loads(data[8 : 8 + size])["weight"]
    start, end = about["data_offsets"]
    weight = np.frombuffer(data[8 + size + start : 8 + size + end], "<f4").reshape(about["shape"])
    widths = document["sources"]["train"].get("widths")
    if widths is not None and sum(map(int, widths.split("+"))) != weight.shape[1]:
        raise RefusedError(f"{head}: other widths")
    return weight
