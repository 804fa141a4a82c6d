"""The error a user's mistake ends with: one plain sentence."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class UserError(Exception):
    """A mistake in what the user gave: a path, a key, an image, a combination of options.

    Its text is one plain sentence that names the option or file, what was found, what is allowed and the mend.
    The command line prints it without a stack trace and exits with 2.
    """


def nearest(word: str, choices: Iterable[str]) -> str:
    """A clause such as `` Did you mean 'head'?``, or nothing when no choice is close to `word`.

    Upper and lower case are the same; what begins with `word` is closer than any other.
    """
    by_lower = {str(choice).lower(): str(choice) for choice in choices}
    word = str(word).lower()
    longer = [choice for choice in by_lower if len(word) > 2 and choice.startswith(word)]
    matches = longer or get_close_matches(word, by_lower, n=1, cutoff=0.6)
    return f" Did you mean '{by_lower[matches[0]]}'?" if matches else ""
