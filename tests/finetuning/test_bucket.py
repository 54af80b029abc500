"""Fine-tuning with a cache in a bucket: it goes on in files of this machine, and keeps its results in the bucket."""

import shutil
import uuid
from pathlib import Path

import pytest
from PIL import Image

import featcache
from featcache.errors import CacheError, UsageError
from featcache.files.objects import local_copies
from featcache.store import cache_folder
from tests.finetuning.conftest import Finetune


def test_a_trained_trunk_and_its_head_are_kept_in_the_bucket(
    finetune: Finetune, places: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Refused without --local-cache. What was trained predicts, also once its weights are gone from this machine."""
    cache, local = f"memory://tests/{uuid.uuid4().hex}", tmp_path / "local"
    with pytest.raises(UsageError, match=r"keeps its checkpoints as a file.*--local-cache FOLDER"):
        finetune(cache=cache, epochs=1)
    result = finetune(cache=cache, local_cache=local, epochs=1)
    assert result.weights.is_relative_to(local / "work")
    kept = cache_folder(cache) / "finetuned" / result.weights.name
    assert kept.is_file()
    assert not list(local.glob("work/*/finetuned/unfinished/*"))
    image = str(tmp_path / "new.png")
    Image.new("RGB", (32, 32), (10, 200, 30)).save(image)
    where = {"data": places["data"], "cache": cache, "local_cache": local}
    first = featcache.predict("best", [image], **where)
    shutil.rmtree(local)
    monkeypatch.setattr(local_copies, "_FOLDERS", {})  # as of another process
    with pytest.raises(CacheError, match="They are in the bucket, and --local-cache FOLDER brings them"):
        featcache.predict("best", [image], data=places["data"], cache=cache)
    again = featcache.predict("best", [image], **where)
    assert first.probabilities.tobytes() == again.probabilities.tobytes()
    assert [path.name for path in local.rglob("*.safetensors")] == [result.weights.name]
