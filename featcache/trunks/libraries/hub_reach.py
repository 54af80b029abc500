"""Whether the Hugging Face Hub answers: asked once and briefly, since its client tries each file for half a minute."""

import contextlib
import threading
from collections.abc import Iterator

_SECONDS = 5.0  # in which a hub that is in reach answers, the look-up of its name included


@contextlib.contextmanager
def brief_hub() -> Iterator[None]:
    """Return a context in which the hub's client reads its cache alone, if the hub does not answer."""
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = before or not is_hub_in_reach()
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def is_hub_in_reach() -> bool:
    """Return whether the hub answers in a few seconds, whatever it answers."""
    answered = threading.Event()

    def ask() -> None:
        from huggingface_hub import constants, get_session

        with contextlib.suppress(Exception):  # whatever its HTTP library raises
            get_session().head(constants.ENDPOINT, timeout=_SECONDS)
            answered.set()

    thread = threading.Thread(target=ask, name="featcache-hub", daemon=True)  # the look-up of a name has no time limit
    thread.start()
    thread.join(_SECONDS)
    return answered.is_set()
