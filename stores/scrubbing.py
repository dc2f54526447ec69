"""Taking the id of a member out of the texts that stages and events leave, and out of nothing else there."""

import re
from collections.abc import Callable
from typing import Any

TEXTS = {"examples", "failed", "id_examples", "message", "not_finite_ids", "reasons", "why", "wrong"}
"""Keys below which texts for people are; all others hold figures, spaces, releases, names of checks."""
TELLING = 4
"""A string id of so many characters is searched for in whole texts; others only where a text says what they are."""
GONE = "(erased)"


def scrubber(member_id: int | str) -> Callable[[Any], Any]:
    """A function that takes an id, as a whole word, out of the `TEXTS` of anything that JSON can hold."""
    text = str(member_id)
    telling = isinstance(member_id, str) and len(text) >= TELLING
    before = r"(?<![\w-])()" if telling else r"(\bmembers? |\bfor example |, )"
    pattern = re.compile(rf"{before}{re.escape(text)}(?![\w-]|\.\d)")

    def scrub(found: Any, texts: bool = False) -> Any:
        if isinstance(found, dict):
            return {key: scrub(value, texts or key in TEXTS) for key, value in found.items()}
        if isinstance(found, list):
            return [scrub(value, texts) for value in found]
        if texts and isinstance(found, str):
            return GONE if text and found == text else pattern.sub(rf"\g<1>{GONE}", found)
        return found

    return scrub
