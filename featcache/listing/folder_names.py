"""The names in an image folder: a split and a class are text, and have one spelling in the whole data set."""

from collections.abc import Iterable, Mapping, Sequence

from featcache.errors import DataError
from featcache.listing.leftovers import may_be_leftover
from featcache.listing.paths import is_text
from featcache.listing.source import note_misspelt_splits
from featcache.listing.spellings import find_case_clashes, find_spelling_faults, note_look_alikes, same_name_key

_NAMED = 10  # faults in a message
_ONE_SPELLING = "Rename folders so that a name is spelled in one way"
_TEXT = "Rename them; `convmv -r -f latin1 -t utf-8 --notest DIR` renames all whose names are Latin-1"


def check_names(
    root: str, splits: Sequence[str], classes_of: Mapping[str, Sequence[str]], *, is_flat: bool = False
) -> list[str]:
    """Return what a person should know of the names of splits and classes, as sentences.

    Args:
        root: The image folder, for messages.
        splits: The names of the splits.
        classes_of: Each split's class folders.
        is_flat: Whether the class folders stand right below the root.

    Raises:
        DataError: a class that is no text, or two spellings of one name; every one is named with its place.
    """
    first: dict[str, str] = {}  # where a class stands first
    for split, names in classes_of.items():
        for name in names:
            first.setdefault(name, name if is_flat else f"{split}/{name}")

    def place(name: str) -> str:
        return _as_ascii(first[name])

    bad = [place(name) for name in first if not is_text(name)]
    bad = [f"the name of class folder {where} is not UTF-8, and a class is text" for where in bad]
    _refuse(root, bad, _TEXT)
    blank = [f"the name of class folder {first[name]!a} is blank" for name in first if not same_name_key(name)]
    _refuse(root, blank, "Rename it to what it holds")
    faults = find_spelling_faults("split", splits, _as_ascii) + find_spelling_faults("class", first, place)
    _refuse(root, faults or find_case_clashes("class", classes_of, place), _ONE_SPELLING)
    notes = note_look_alikes("split", splits) + note_look_alikes("class", first)
    notes += note_misspelt_splits(splits)
    kept = [name for name in first if may_be_leftover(name)]
    return notes + [f"folder {place(name)} is taken for a class, since there are images in it" for name in kept]


def check_clips(root: str, clips: Iterable[str]) -> None:
    """Refuse two spellings of one clip.

    Raises:
        DataError: there are some; every one is named.
    """
    _refuse(root, find_spelling_faults("clip", clips, _as_ascii), _ONE_SPELLING)


def _as_ascii(path: str) -> str:
    """Return a path in ASCII, whatever else escaped, so that two spellings of it can be told apart."""
    return ascii(path)[1:-1]


def _refuse(root: str, faults: Sequence[str], way_out: str) -> None:
    """Raise one DataError that names the faults, where there are any."""
    if faults:
        more = f"; and {len(faults) - _NAMED:,} more" if len(faults) > _NAMED else ""
        raise DataError(f"{root}: {'; '.join(faults[:_NAMED])}{more}. {way_out}.")
