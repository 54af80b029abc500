r"""Two spellings of one name: equal to a person, other bytes to a computer. docs/decisions/070-spellings.md says why.

Names are the same where they are equal in Unicode's form NFC, without characters that cannot be seen, with every run
of blanks as one and none at the ends; or where both write one whole number (`1`, `01`, `1.0`). They look
alike where they differ in case, in compatibility forms (`m²`, `m2`), in the kind of dash, quote or separator, or in
how a number is written with an exponent or a fraction (`1.1`, `1.10`, which may be two versions). A data set may use
any form throughout: two forms of one name are the fault.
"""

import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from itertools import pairwise

from featcache.text import plural

_NUMBER = re.compile(r"([+-]?)([0-9]+)(?:\.([0-9]*))?(?:[eE]([+-][0-9]{1,4}))?|([+-]?)\.([0-9]+)")
_POWER = re.compile(r"([+-]?[0-9]+(?:\.[0-9]*)?)[eE]([0-9]{1,4})")  # "1e0": a number, or one of many codes
_UNSEEN = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f"
    "\ufeff\uffa0\ufff9-\ufffb\U0001d173-\U0001d17a\U000e0001\U000e0100-\U000e01ef\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f]"
)  # default ignorable code points (without tags, which tell flags apart), and controls that are no blank
_PLAIN = re.compile(r"[!-~]*[!-*,/:-DF-df-~][!-~]*")  # ASCII without blanks, and surely no number: its own key
_DASHES = str.maketrans(
    dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2015\u2212", "-")
    | dict.fromkeys("\u2018\u2019\u201a\u201b\u2032`\u00b4", "'")
    | dict.fromkeys("\u201c\u201d\u201e\u201f\u2033", '"')
)
_HOMOGLYPHS = str.maketrans(  # Cyrillic and Greek letters, and the Latin ones that look like them
    "асеорхуіјѕԁһкмтвнΑΒΕΖΗΙΚΜΝΟΡΤΥΧοАВЕКМНОРСТУХІЈЅ", "aceopxyijsdhkmtbhABEZHIKMNOPTYXoABEKMHOPCTYXIJS"
)
_NAMED = 5  # pairs in a note


def same_name_key(name: str) -> str:
    """Return a key that all spellings of one name share."""
    if _PLAIN.fullmatch(name):
        return name
    parts = [" ".join(_UNSEEN.sub("", unicodedata.normalize("NFC", part)).split()) for part in name.split("/")]
    text = "/".join(parts)
    # Taking a character out may bring a letter and its accent together.
    text = unicodedata.normalize("NFC", text)
    number = _number(unicodedata.normalize("NFKC", text))
    return number if number and "e-" not in number else text  # a whole number


def look_alike_key(name: str) -> str:
    """Return a key that all names share which a person may take for one another."""
    text = unicodedata.normalize("NFKC", same_name_key(name)).translate(_DASHES).translate(_HOMOGLYPHS)
    if power := _POWER.fullmatch(text):
        text = f"{power[1]}e+{power[2]}"
    text = _number(text) or text
    return " ".join(re.sub(r"[-_\s]+", " ", unicodedata.normalize("NFC", text.casefold())).split())


def _number(text: str) -> str:
    """Return one spelling for all that write the same decimal number; "" where the text is no number."""
    match = _NUMBER.fullmatch(text)
    if not match:
        return ""
    sign, whole, fraction = match[1] or match[5], match[2] or "", match[3] or match[6] or ""
    power = int(match[4] or 0)
    digits = (whole + fraction).lstrip("0")
    significant = digits.rstrip("0")
    if not significant:
        return "number\n0"
    exponent = power - len(fraction) + len(digits) - len(significant)
    return f"number\n{'-' if sign == '-' else ''}{significant}e{exponent}"


FirstPlace = Callable[[str], str]  # name -> where it stands first: a folder, a line of a table


def find_spelling_faults(kind: str, names: Iterable[str], place: FirstPlace) -> list[str]:
    """Return a fault for every two spellings of one name, each with where it stands.

    Args:
        kind: What the names name: "class", "label", "clip" …
        names: Names, in any order, repeated or not.
        place: Gives where a name stands first.
    """
    return [
        f"two spellings of one {kind}: {first!a} ({place(first)}) and {second!a} ({place(second)}), "
        f"{_explain_sameness(first, second)}"
        for group in _group_by_key(names, same_name_key)
        for first, second in pairwise(group)
    ]


def note_look_alikes(kind: str, names: Iterable[str]) -> list[str]:
    """Return a sentence on the names that a person may take for one another, in a list; no sentence where none do."""
    pairs = [pair for group in _group_by_key(names, look_alike_key) for pair in pairwise(group)]
    if not pairs:
        return []
    shown = "; ".join(f"{first!a} and {second!a}" for first, second in pairs[:_NAMED])
    more = f"; and {len(pairs) - _NAMED:,} more pairs" if len(pairs) > _NAMED else ""
    return [f"{plural(kind)} that look alike and are taken for different ones: {shown}{more}"]


def find_case_clashes(kind: str, names_of: Mapping[str, Iterable[str]], place: FirstPlace) -> list[str]:
    """Return a fault for every two classes that differ in upper and lower case alone and share no split.

    `A` and `a` may be two classes; then some split has both. Where none does, a head that learns from one split would
    never see the class that another split asks it for.

    Args:
        kind: What the names name: "class", "label" …
        names_of: Each split's names.
        place: Gives where a name stands first.
    """
    splits = {split: set(names) for split, names in names_of.items()}
    everything = sorted(set().union(*splits.values())) if splits else []
    return [
        f"{kind} {first!a} ({place(first)}) and {kind} {second!a} ({place(second)}) differ in upper and lower case "
        f"alone, and no split has both"
        for group in _group_by_key(everything, lambda name: same_name_key(name).casefold())
        for first, second in pairwise(group)
        if not any(first in names and second in names for names in splits.values())
    ]


def _group_by_key(names: Iterable[str], key: Callable[[str], str]) -> list[list[str]]:
    """Return the groups of names that share a key, sorted, each sorted; a blank name is in none."""
    different = set(names)
    keys: dict[str, list[str]] = {}
    for name in different:
        keys.setdefault(key(name), []).append(name)
    if len(keys) == len(different):
        return []
    return sorted(sorted(group) for shared, group in keys.items() if shared and len(group) > 1)


def _explain_sameness(first: str, second: str) -> str:
    """Return why two names are the same."""
    forms = [unicodedata.normalize("NFC", name) for name in (first, second)]
    if forms[0] == forms[1]:
        return "which are the same in Unicode's normal form NFC"
    blanks = [" ".join(form.split()) for form in forms]
    if blanks[0] == blanks[1]:
        return "which differ in blanks alone"
    if same_name_key(first).startswith("number\n"):
        return "which are the same number"
    return "which differ in blanks or in characters that cannot be seen"
