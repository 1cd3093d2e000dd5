"""Changes of a schema that training may use."""

import random

from evaluation.contract.perturb import lacking
from tests.evaluation.shop import SCHEMA


def test_a_schema_that_lacks_categories_answers_none_of_these_for_what_was_of_them() -> None:
    rng, seen = random.Random(0), set[int]()
    for _ in range(200):
        found = lacking(SCHEMA, rng)
        left = found.schema.keys
        assert found.schema.none_of_these and 1 <= len(left) < len(SCHEMA.keys)
        assert {key: found.gold(key) for key in SCHEMA.keys} == {
            key: key if key in left else None for key in SCHEMA.keys
        }
        seen.add(len(left))
    assert seen == set(range(1, len(SCHEMA.keys)))
    alone = SCHEMA.model_copy(update={"categories": SCHEMA.categories[:1]})
    assert lacking(alone, rng).schema == alone
