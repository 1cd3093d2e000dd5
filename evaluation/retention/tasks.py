"""The suite of our own: four small tasks of everyday skills, in the format of the lm-evaluation-harness.

They are made by this seeded script, so that they hold nobody's data and need no network. They are easy on purpose:
what training takes away shows where the base is right. `python -m evaluation.retention.tasks` writes the files anew.
"""

import json
import random
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final, NamedTuple

SUITE: Final = Path(__file__).parent / "suite"
SEED = 20
WORDS = (
    *("lamp", "river", "copper", "window", "garden", "paper", "winter", "button", "market", "silver"),
    *("ladder", "candle", "forest", "pocket", "bridge", "violin", "harbour", "blanket", "marble", "needle"),
)
PEOPLE = ("Mara", "Tom", "Ines", "Paul", "Lena", "Omar", "Ruth", "Felix")
THINGS = ("the key", "the map", "the cup", "the hammer", "the letter", "the scarf", "the torch", "the ball")
PLACES = ("the kitchen", "the cellar", "the garden", "the office", "the attic", "the garage")


class RetentionItem(NamedTuple):
    question: str
    answer: str


def copying(rng: random.Random, number: int) -> RetentionItem:
    words = rng.sample(WORDS, 3 + number % 4)
    words.insert(rng.randrange(len(words)), str(rng.randint(10, 999)))
    line = rng.choice((" ", ", ", " - ")).join(words)
    return RetentionItem(f"Repeat this line exactly as it stands, and write nothing else:\n{line}", line)


def arithmetic(rng: random.Random, number: int) -> RetentionItem:
    a, b, small = rng.randint(11, 60), rng.randint(2, 10), rng.randint(2, 9)
    kinds = (
        (f"What is {a} + {b}?", a + b),
        (f"What is {a} - {b}?", a - b),
        (f"What is {b} times {small}?", b * small),
        (f"A box holds {b} pens. How many pens are in {small} boxes?", b * small),
        (f"{a} people are on a bus and {b} get off. How many people are left on it?", a - b),
        (f"Which number is larger, {a} or {a + b}?", a + b),
    )
    question, answer = kinds[number % len(kinds)]
    return RetentionItem(f"{question} Answer with the number only.", str(answer))


def following(rng: random.Random, number: int) -> RetentionItem:
    words = rng.sample(WORDS, 4)
    n, mark = rng.randint(2, 4), rng.choice((";", "/", "+"))
    kinds = (
        ("Write these words in capital letters, with single spaces between them", " ".join(words).upper()),
        ("Write these words in reverse order, with single spaces between them", " ".join(reversed(words))),
        (f"Write these words in one line with {mark} between them, without spaces", mark.join(words)),
        (f"Write only word number {n} of these", words[n - 1]),
        (f"Write the first of these words {n} times, with single spaces", " ".join([words[0]] * n)),
        ("Write the last of these words in round brackets", f"({words[-1]})"),
    )
    task, answer = kinds[number % len(kinds)]
    return RetentionItem(f"{task}. Write nothing else.\n{' '.join(words)}", answer)


def reading(rng: random.Random, number: int) -> RetentionItem:
    """Half of the answers are yes, and half of the things asked about were moved: then the last place counts.

    A wrong place is one that was told, of another thing or from before.
    """
    people, things = rng.sample(PEOPLE, 3), rng.sample(THINGS, 3)
    *places, later = rng.sample(PLACES, 4)
    sentences = [f"{p} put {t} in {at}." for p, t, at in zip(people, things, places, strict=True)]
    which = rng.randrange(3)
    right, wrong = places[which], places[which - 1]
    if number % 4 < 2:
        sentences.append(f"Later {rng.choice(people)} took {things[which]} to {later}.")
        right, wrong = later, right
    yes = number % 2 == 0
    question = f"Is {things[which]} in {right if yes else wrong} now? Answer with yes or no."
    return RetentionItem(f"{' '.join(sentences)}\n{question}", "yes" if yes else "no")


WRITTEN = """\
output_type: generate_until
generation_kwargs:
  until: []
  do_sample: false
  temperature: 0.0
  max_gen_toks: 64
metric_list:
  - metric: exact_match
    aggregation: mean
    higher_is_better: true
    regexes_to_ignore:
      - '^\\s+'
      - '\\s+$'
"""
LAST_NUMBER = """\
filter_list:
  - name: last-number
    filter:
      - function: regex
        regex_pattern: '(-?\\d+)'
        group_select: -1
      - function: take_first
"""
CHOSEN = """\
output_type: multiple_choice
doc_to_choice: ["yes", "no"]
metric_list:
  - metric: acc
    aggregation: mean
    higher_is_better: true
"""
HEAD = """\
task: {name}
dataset_path: json
dataset_kwargs:
  data_files:
    test: {name}.jsonl  # the harness is started in this folder
test_split: test
num_fewshot: 0
doc_to_text: "{{{{question}}}}"
doc_to_target: "{{{{answer}}}}"
metadata:
  version: 1.0
"""


class Made(NamedTuple):
    make: Callable[[random.Random, int], RetentionItem]
    items: int
    scoring: str


TASKS: Final[Mapping[str, Made]] = {
    "steerwise_copy": Made(copying, 40, WRITTEN),
    "steerwise_arithmetic": Made(arithmetic, 48, WRITTEN + LAST_NUMBER),
    "steerwise_follow": Made(following, 48, WRITTEN),
    "steerwise_reading": Made(reading, 60, CHOSEN),
}


def items(name: str) -> list[RetentionItem]:
    """All different, and as many of each kind."""
    rng = random.Random(f"{SEED} {name}")
    found: dict[RetentionItem, None] = {}
    while len(found) < TASKS[name].items:
        found[TASKS[name].make(rng, len(found))] = None
    return list(found)


def files() -> Iterator[tuple[str, str]]:
    """The name and the content of each."""
    for name, made in TASKS.items():
        yield f"{name}.yaml", HEAD.format(name=name) + made.scoring
        yield f"{name}.jsonl", "".join(json.dumps(item._asdict()) + "\n" for item in items(name))


def main() -> None:
    SUITE.mkdir(exist_ok=True)
    for name, content in files():
        (SUITE / name).write_text(content, encoding="utf-8")


if __name__ == "__main__":
    main()
