"""Plain-language definitions of every intent in the corpus, each in several wordings (`words/intents.json`).

They train a small model to look up what an intent means; all of the wording was written for this project.
"""

import json
from importlib.resources import files
from typing import NamedTuple


class Intent(NamedTuple):
    """What a customer wants, said in several ways."""

    gist: str
    definitions: tuple[str, str, str]
    includes: tuple[str, ...]


def _read() -> dict[str, dict[str, Intent]]:
    raw = json.loads((files("training.starter") / "words" / "intents.json").read_bytes())
    return {
        source: {
            name: Intent(one["gist"], tuple(one["definitions"]), tuple(one["includes"]))
            for name, one in intents.items()
        }
        for source, intents in raw.items()
    }


INTENTS = _read()
