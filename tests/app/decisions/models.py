"""Models that are plain functions of what they are shown."""

from tests.evaluation.fake_server import Asked, Option, Reply


def by_words(asked: Asked) -> Reply:
    """Each option gets a share by the words that it has in common with what the customer says."""
    return _sharing(asked, [1.0 + 8.0 * _common(asked, option) for option in asked.options])


def first_shown(asked: Asked) -> Reply:
    """What stands first gets most, as of a model that does not read on."""
    return _sharing(asked, [float(len(asked.options) - number) ** 2 for number in range(len(asked.options))])


def undecided(asked: Asked) -> Reply:
    """All options are equal to it."""
    return _sharing(asked, [1.0] * len(asked.options))


def _common(asked: Asked, option: Option) -> int:
    said = set(asked.customer.lower().replace("?", " ").replace(".", " ").split())
    return len(said & set(f"{option.name} {option.definition}".lower().split()))


def _sharing(asked: Asked, weights: list[float]) -> Reply:
    codes = [option.code for option in asked.options]
    if asked.none_code is not None:
        codes, weights = [*codes, asked.none_code], [*weights, 1.0]
    shares = {code: 0.96 * weight / sum(weights) for code, weight in zip(codes, weights, strict=True)}
    best = max(shares, key=lambda code: shares[code])
    return Reply(f"Because.\nAnswer: {best}", shares)
