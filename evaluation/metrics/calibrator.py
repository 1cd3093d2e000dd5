"""What is fitted so that confidences may be believed, on conversations that nothing else has seen, and its use.

It is about raw answers, before a tenant's threshold turns the unsure ones into none of these. An unparsable answer has
no confidence, so it is left out here and counted: coverage is of the answers that could be read.
"""

from collections.abc import Mapping, Sequence
from typing import Final, Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from evaluation.contract.score import UNPARSABLE, Given, Unparsable
from evaluation.inference.predictor import Prediction
from evaluation.inference.runner import Measured, Outcome
from evaluation.metrics.statistics import Floats

Probabilities: TypeAlias = Mapping[str | None, float]

# Of a probability before its log: one absurdly sure mistake costs 21 nats and not infinitely many.
FLOOR = 1e-9
# [simulated: of a model that is right three times in four, a temperature of 2 comes out between 1.4 and 2.6 in nine
# of ten splits of this size; of one that is right nine times in ten, between 1.0 and 2.7]
LEAST_TO_FIT = 50
TEMPERATURES = (0.05, 20.0)
WANTED: Final = (0.9, 0.95, 0.99)
BOUND_LEVEL = 0.95
ALPHA = 0.1
LEVELS = 50  # of confidence, among which a threshold is chosen and for which a curve has a point


class ReadAnswer(NamedTuple):
    conversation_id: str
    gold: str | None
    given: Given
    probabilities: Probabilities | None  # None where the server gave none


class Gold(NamedTuple):
    conversation_id: str
    category: str | None


class Reads(NamedTuple):
    each: list[ReadAnswer]
    errored: int


class Calibrator(NamedTuple):
    """reason: why the method is none. thresholds: one for each of WANTED, None where no bound reaches it.

    quantile: of 1 - p(gold); None where the split is too small for a finite one.
    """

    method: Literal["temperature", "none"]
    temperature: float
    reason: str | None
    n: int
    thresholds: tuple[float | None, ...]
    quantile: float | None


class Known(NamedTuple):
    """A read with all that is needed."""

    conversation_id: str
    gold: str | None
    given: str | None
    probabilities: Probabilities


class Usable(NamedTuple):
    read: list[Known]
    unparsable: int
    without_probabilities: int


class Seen(NamedTuple):
    """N answers at one temperature. gold_N: its probability, 0 where the server did not report it."""

    ids: list[str]
    confidence_N: Floats
    right_N: NDArray[np.bool_]
    gold_N: Floats
    loss_N: Floats
    brier_N: Floats


class Cumulated(NamedTuple):
    """Levels of confidence, surest first: the lowest confidence of each, and sums over all down to there."""

    lowest_L: Floats
    n_L: Floats
    right_L: Floats
    sure_L: Floats


class _Logs(NamedTuple):
    """Log-probabilities of all answers of N reads one after another, and where each read starts."""

    each: Floats
    start_N: NDArray[np.intp]
    gold_N: Floats


def reads(golds: Mapping[int, Gold] | Sequence[Gold], measured: Sequence[Measured]) -> Reads:
    """golds: by the item of the question; each that was measured needs one."""
    answered = [m for m in measured if m.outcome is not Outcome.errored]
    return Reads([_read(golds[m.item], m) for m in answered], len(measured) - len(answered))


def usable(given: Sequence[ReadAnswer]) -> Usable:
    known, unparsable = [], 0
    for read in given:
        if isinstance(read.given, Unparsable):
            unparsable += 1
        elif read.probabilities is not None and read.given in read.probabilities:
            known.append(Known(read.conversation_id, read.gold, read.given, read.probabilities))
    return Usable(known, unparsable, len(given) - unparsable - len(known))


def scaled(probabilities: Probabilities, temperature: float) -> dict[str | None, float]:
    """Over the answers that the server reported. Thresholds and quantiles are for confidences made here."""
    logs = np.log(np.maximum(list(probabilities.values()), FLOOR)) / temperature
    exponentials = np.exp(logs - logs.max())
    return dict(zip(probabilities, (exponentials / exponentials.sum()).tolist(), strict=True))


def applied(found: Prediction, temperature: float | None) -> Prediction:
    """As it is shown to a reader. temperature: None where none was fitted, which changes nothing."""
    if temperature is None or not found.probabilities:
        return found
    p = scaled(found.probabilities, temperature)
    confidence = None if found.confidence is None else p[found.category]
    return found.model_copy(update={"probabilities": p, "confidence": confidence})


def conformal_set(
    probabilities: Probabilities, quantile: float | None, temperature: float
) -> frozenset[str | None]:
    """Least ambiguous sets (LAC; Sadinle, Lei and Wasserman, 2019). probabilities: as the server gave them.

    The likeliest answer is always in it: an empty set tells a reader nothing, and one answer more only covers more.
    """
    p = scaled(probabilities, temperature)
    if quantile is None:
        return frozenset(p)
    return frozenset({max(p, key=p.__getitem__)} | {answer for answer in p if 1 - p[answer] <= quantile})


def fit(calibration: Sequence[ReadAnswer]) -> Calibrator:
    """Temperature scaling (Guo et al., 2017), thresholds and the conformal quantile.

    Raises: ValueError where a conversation comes twice, because the bounds count answers as independent.
    """
    read = usable(calibration).read
    if len({r.conversation_id for r in read}) < len(read):
        raise ValueError("a conversation comes twice among those to calibrate on; hand in one answer of each")
    reason = _too_little(read)
    temperature = 1.0 if reason else _temperature(read)
    seen = see(read, temperature)
    return Calibrator(
        method="none" if reason else "temperature",
        temperature=temperature,
        reason=reason,
        n=len(read),
        thresholds=tuple(_threshold(seen, wanted) for wanted in WANTED),
        quantile=_quantile(np.where(seen.gold_N > 0, 1 - seen.gold_N, np.inf)),
    )


def see(read: Sequence[Known], temperature: float) -> Seen:
    each = [scaled(r.probabilities, temperature) for r in read]
    gold_N = np.array([p.get(r.gold, 0.0) for r, p in zip(read, each, strict=True)])
    squares_N = np.array([sum(value**2 for value in p.values()) for p in each])
    return Seen(
        ids=[r.conversation_id for r in read],
        confidence_N=np.array([p[r.given] for r, p in zip(read, each, strict=True)]),
        right_N=np.array([r.given == r.gold for r in read], dtype=np.bool_),
        gold_N=gold_N,
        loss_N=_losses(_logs(read), temperature),
        brier_N=squares_N - 2 * gold_N + 1,
    )


def cumulated(seen: Seen, most: int) -> Cumulated:
    level_N = equal_mass(-seen.confidence_N, most)
    size = int(level_N.max()) + 1
    lowest_L = np.full(size, np.inf)
    np.minimum.at(lowest_L, level_N, seen.confidence_N)
    weights = (np.ones(len(seen.ids)), seen.right_N, seen.confidence_N)
    n_L, right_L, sure_L = (np.bincount(level_N, w, size).cumsum() for w in weights)
    return Cumulated(lowest_L, n_L, right_L, sure_L)


def equal_mass(values_N: Floats, most: int) -> NDArray[np.intp]:
    """The number of each value's bin, from the lowest, of at most `most`; equal values are in one bin."""
    if len(values_N) == 0:
        return np.zeros(0, dtype=np.intp)
    edges = np.unique(np.quantile(values_N, np.arange(1, most) / most, method="higher"))
    _, bin_N = np.unique(np.searchsorted(edges, values_N, side="right"), return_inverse=True)
    return np.asarray(bin_N, dtype=np.intp)


def _read(gold: Gold, measured: Measured) -> ReadAnswer:
    found = measured.prediction
    if found is None or found.failure is not None:
        return ReadAnswer(*gold, UNPARSABLE, None)
    return ReadAnswer(*gold, found.category, found.probabilities)


def _too_little(read: Sequence[Known]) -> str | None:
    if len(read) < LEAST_TO_FIT:
        return f"{len(read)} answers with probabilities; a temperature needs {LEAST_TO_FIT}"
    if all(r.gold == max(r.probabilities, key=r.probabilities.__getitem__) for r in read):
        return "no mistake among those to calibrate on, so nothing says how sure is too sure"
    return None


def _temperature(read: Sequence[Known]) -> float:
    """With the least NLL. Its log is what is searched, and it has one minimum: the NLL is convex in 1 / T."""
    from scipy.optimize import minimize_scalar  # takes longer to import than most commands take to run

    logs, bounds = _logs(read), tuple(np.log(TEMPERATURES))
    found = minimize_scalar(lambda t: _losses(logs, np.exp(t)).mean(), bounds=bounds, method="bounded")
    return float(np.exp(found.x))


def _logs(read: Sequence[Known]) -> _Logs:
    """A gold that the server did not report is at the floor: leaving it out would leave out mistakes."""
    each = [p for r in read for p in r.probabilities.values()]
    sizes = [len(r.probabilities) for r in read]
    gold = [r.probabilities.get(r.gold, 0.0) for r in read]
    start_N = np.cumsum([0, *sizes])[:-1]
    return _Logs(np.log(np.maximum(each, FLOOR)), start_N, np.log(np.maximum(gold, FLOOR)))


def _losses(logs: _Logs, temperature: float) -> Floats:
    if not len(logs.start_N):
        return np.zeros(0)
    return np.asarray(
        np.logaddexp.reduceat(logs.each / temperature, logs.start_N) - logs.gold_N / temperature
    )


def _threshold(seen: Seen, wanted: float) -> float | None:
    """The lowest whose bound (Clopper and Pearson, 1934; one-sided) reaches the wanted precision.

    Of fifty bounds one is passed by luck far more often than in 5 % of splits. So levels are tried in a fixed order
    and the first that fails ends it (fixed-sequence testing, as in Angelopoulos et al., Learn then Test, 2021). It
    starts where confidences, not labels, let the bound be highest, and goes down.
    """
    if not seen.ids:
        return None
    lowest_L, n_L, right_L, sure_L = cumulated(seen, LEVELS)
    start = int(np.argmax(_precision_bound(sure_L, n_L)))
    reached_L = _precision_bound(right_L, n_L)[start:] >= wanted
    steps = len(reached_L) if reached_L.all() else int(np.argmin(reached_L))
    return float(lowest_L[start + steps - 1]) if steps else None


def _precision_bound(right_L: Floats, n_L: Floats) -> Floats:
    from scipy.special import betaincinv

    bound_L = betaincinv(right_L, n_L - right_L + 1, 1 - BOUND_LEVEL)
    return np.asarray(np.where(right_L > 0, bound_L, 0.0))  # with none right it is not defined


def _quantile(scores_N: Floats) -> float | None:
    """With the correction for a finite split, without which sets cover too little (Vovk et al., 2005)."""
    rank = int(np.ceil((len(scores_N) + 1) * (1 - ALPHA)))
    found = np.inf if rank > len(scores_N) else np.sort(scores_N)[rank - 1]
    return float(found) if np.isfinite(found) else None
