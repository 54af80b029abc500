"""Every file of a complete cache, replaced by what is no such file; every command.

Refused, or passed over with the answer that it would have given: never a hang, a crash, or a filled memory.
"""

import json
import random
import shutil
from typing import Any

import pytest

from tests.faults.strange_files import KINDS, a_pipe, copied, empty, typed, unreadable


def answer(command: str, out: str) -> Any:
    """What must be the same: without the seconds, and what another file in the cache changes."""
    if not out.startswith(("{", "[")):
        return None
    found = json.loads(out)

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(inner) for key, inner in value.items() if key not in FREE}
        return [plain(inner) for inner in value] if isinstance(value, list) else value

    return plain(found)


def is_right(command: str, out: str, err: str, truth: Any) -> bool:
    """Whether it is the whole cache's answer; `compare` and `best` may pass over a head that a note names."""
    found = answer(command, out)
    if found == truth:
        return True
    notes = " ".join([err, *json.loads(out)["notes"]])
    if command == "compare":
        rest = [head for head in truth["heads"] if f"{head['name']} is left out" not in notes]
        return 0 < len(rest) < len(truth["heads"]) and {**truth, "heads": rest} == found
    if command != "report best" or " is left out" not in notes:
        return False
    if found["head"] == truth["head"]:  # of fewer heads, as it says
        return {**found, "chosen": truth["chosen"]} == truth
    return f"{truth['head']} is left out" in notes


FREE = {"seconds", "images_per_second", "embedded", "reused", "notes", "bytes", "account", "stages", "moved_from"}
JUDGED = ("report", "report best", "report ridge", "report knn", "report sklearn.svm:SVC", "report svc", "predict",
          "predict folder", "compare")  # fmt: skip


@pytest.mark.fault(33)
@pytest.mark.timeout(7200)
def test_every_file_of_a_cache(place, around, saw, portion):
    """Each file x each kind, five commands each: an error with exit 3 to 5, or exit 0 and the whole cache's answer."""
    commands, truth = place.commands(), {}
    for name, words in commands.items():
        copied(place)
        code, out, err = typed(words)
        assert code == 0, (name, err)
        truth[name] = answer(name, out)
        shutil.rmtree("c")
    dice = random.Random(33)  # every command for each would take an hour
    cases = [(file, kind, name) for file in place.files for kind in KINDS for name in dice.sample(list(commands), 5)]
    dice.shuffle(cases)
    for file, kind, name in cases[: portion(len(cases), 60)]:
        cache = copied(place)
        if kind is not empty or (cache / file).stat().st_size:
            kind(cache / file)
        code, out, err = typed(commands[name], nobody=kind is unreadable)
        about = f"{file} is {kind.__name__}, {name}: exit {code}: {err[-500:]}"
        assert code in (0, 3, 4, 5), about
        assert code == 0 or err.startswith("error: ") or name.startswith("verify"), about
        if code == 0 and name in JUDGED:
            assert is_right(name, out, err, truth[name]), about
        saw(f"{kind.__name__.replace('_', ' ')} in the place of a file of the cache", f"exit {code}")
        (cache / file).chmod(0o644) if kind is unreadable else None
        shutil.rmtree(cache)


@pytest.mark.fault(33)
def test_each_file_once(place, around, saw, portion):
    """`verify` names every file of a store that is a pipe, or the file is a memory, a lock, or nobody's."""
    for file in place.files:
        cache = copied(place)
        a_pipe(cache / file)
        code, out, err = typed(["verify", "--cache", "c", "--json"])
        harmless = file.name in ("stat.log", "weights.json", ".lock", "writer.json") or file.name.endswith(".lock")
        assert code == (0 if harmless or "damaged" in file.parts else 3), (file, out, err)
        saw("a pipe in the place of each file, verify", "named" if code else "a note, or not needed")
        shutil.rmtree(cache)
