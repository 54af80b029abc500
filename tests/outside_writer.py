"""A second implementation of a writer, from docs/format.md alone. It imports nothing of featcache, on purpose."""

import hashlib
import json
import os
import uuid
from pathlib import Path

import h5py
import numpy as np


def canonical(value: dict) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()


def sealed_document(value: dict) -> bytes:
    return json.dumps({**value, "sum": hashlib.sha256(canonical(value)).hexdigest()[:16]}, indent=1).encode()


def sealed_line(value: dict) -> bytes:
    body = json.dumps(value).encode()[:-1]
    return body + b',"sum":"' + hashlib.sha256(body).hexdigest()[:16].encode() + b'"}\n'


def publish(path: Path, data: bytes) -> None:
    """Under a scratch name, fsynced, renamed, its folder fsynced."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial")
    handle = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o644)
    with os.fdopen(handle, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(handle)
    scratch.rename(path)
    folder = os.open(path.parent, os.O_RDONLY)
    os.fsync(folder)
    os.close(folder)


def hdf5(path: Path, arrays: dict[str, np.ndarray]) -> tuple[bytes, dict[str, int]]:
    """The bytes of a file with these contiguous datasets, and where each begins."""
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file.create_dataset(name, data=array)
    with h5py.File(path, "r") as file:
        offsets = {name: file[name].id.get_offset() or 0 for name in arrays}
    data = path.read_bytes()
    path.unlink()
    return data, offsets


def weights_sha256(tensors: dict[str, np.ndarray]) -> str:
    running = hashlib.sha256()
    for name in sorted(tensors):
        running.update(f"{name} {tensors[name].shape} float32\n".encode())
        running.update(np.ascontiguousarray(tensors[name], dtype="<f4").tobytes())
    return running.hexdigest()


class Store:
    """One store of a cache; rows and listings are added to it."""

    def __init__(self, cache: Path, spec: dict, asked: str) -> None:
        fingerprint = hashlib.sha256(canonical(spec)).hexdigest()
        self.cache, self.shards, self.log = cache, 0, b""
        self.root = cache / "stores" / f"{spec['arch']}-by_hand-cls-{fingerprint[:8]}"
        self.root.mkdir(parents=True)
        publish(self.root / "commits.jsonl", b"")
        publish(self.root / "trunk.json", sealed_document({"format": 1, "spec": spec, "asked": asked, "made": []}))

    def add(self, digests: list[bytes], embeddings: np.ndarray) -> None:
        """Commit a shard: row i of `embeddings` (rows, dim) belongs to the image whose bytes have digest i."""
        packed = np.frombuffer(b"".join(digests), np.uint8).reshape(-1, 32)
        data, offsets = hdf5(self.root / "scratch", {"digests": packed, "embeddings": embeddings})
        sha256 = hashlib.sha256(data).hexdigest()
        name = f"{self.shards:05}-{sha256[:8]}.h5"
        publish(self.root / "shards" / name, data)
        self.shards += 1
        self._commit({"add": {
            "name": name, "rows": len(embeddings), "dim": embeddings.shape[1], "dtype": str(embeddings.dtype),
            "embeddings_offset": offsets["embeddings"], "digests_offset": offsets["digests"], "bytes": len(data),
            "sha256": sha256, "digests_sha256": hashlib.sha256(packed.tobytes()).hexdigest(),
        }})  # fmt: skip

    def list(self, data_set: str, split: str, root: str, classes: list[str], rows: list[dict]) -> None:
        """Commit a listing of rows with path (bytes), label, digest, and clip, subject, reason where they are known."""
        variant = "all"
        meta = {
            "version": 1, "data_set": data_set, "variant": variant, "split": split, "root": root, "classes": classes,
            "ignored": [], "part": "",
        }  # fmt: skip
        arrays = {
            "meta": np.frombuffer(json.dumps(meta).encode(), np.uint8),
            "paths": np.frombuffer(b"".join(row["path"] + b"\0" for row in rows), np.uint8),
            "labels": np.array([row["label"] for row in rows], "<i8"),
            "digests": np.frombuffer(b"".join(row["digest"] for row in rows), np.uint8).reshape(-1, 32),
        }
        for name, key in (("clips", "clip"), ("subjects", "subject"), ("reasons", "reason")):
            values = [row.get(key, "") for row in rows]
            table = sorted(set(values))
            packed = "".join(value + "\0" for value in table).encode()
            arrays[f"{name}_names"] = np.frombuffer(packed, np.uint8)
            arrays[f"{name}_codes"] = np.array([table.index(value) for value in values], "<i4")
        data, _ = hdf5(self.root / "scratch", arrays)
        sha256 = hashlib.sha256(data).hexdigest()
        publish(self.cache / "listings" / data_set / variant / f"{split}-{sha256[:8]}.h5", data)
        self._commit({"listing": {"data_set": data_set, "variant": variant, "split": split, "sha256": sha256}})

    def _commit(self, entry: dict) -> None:
        with (self.root / "commits.jsonl").open("ab") as file:
            file.write(sealed_line(entry))
            file.flush()
            os.fsync(file.fileno())
