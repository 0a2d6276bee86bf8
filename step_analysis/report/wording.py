"""The sentences of a report. They claim what the test shows and no more."""

from collections.abc import Sequence

from step_analysis.comparison import Comparison, Count, PairResult, Panel
from step_analysis.intervals import Interval, clopper_pearson


def percent(rate: float | None) -> str:
    """A rate for people: '96 %', with a decimal only where rounding would claim 0 or 100."""
    if rate is None:
        return "no rate"
    rounded = f"{100.0 * rate:.0f}"
    if rounded in {"0", "100"} and rate not in (0.0, 1.0):
        return "<0.1 %" if rate < 0.001 else ">99.9 %" if rate > 0.999 else f"{100.0 * rate:.1f} %"
    return f"{rounded} %"


def range_text(interval: Interval | None) -> str:
    """An interval for a table: '86.3–99.5 %'."""
    if interval is None:
        return "–"
    return f"{100.0 * interval.lower:.1f}–{100.0 * interval.upper:.1f} %"


def probability_text(probability: float | None) -> str:
    """A probability for people, never rounded to certainty: '0.974', '>0.999'."""
    if probability is None:
        return "–"
    if probability > 0.9995:
        return ">0.999"
    return "<0.001" if probability < 0.0005 else f"{probability:.3f}"


def points(difference: float | None) -> str:
    """A difference of rates for people, in percentage points: '+12.3 pp'."""
    return "no difference" if difference is None else f"{bare_points(difference)} pp"


def bare_points(difference: float | None, decimals: int = 1) -> str:
    """The same without its unit, for a cell: '+12.3', '−4.0', '0.0'."""
    if difference is None:
        return "–"
    rounded = round(100.0 * difference, decimals) + 0.0
    sign = "+" if rounded > 0.0 else "−" if rounded < 0.0 else ""
    return f"{sign}{abs(rounded):.{decimals}f}"


def points_range(interval: tuple[float, float] | None) -> str:
    """An interval of a difference: '+5.1 to +19.0'."""
    if interval is None:
        return "–"
    return f"{bare_points(interval[0])} to {bare_points(interval[1])}"


def score(count: Count) -> str:
    """'trained (48/50, 96 %)'."""
    if count.rate is None:
        return f"{count.policy} (no counted episode)"
    return f"{count.policy} ({count.successes}/{count.num_counted}, {percent(count.rate)})"


def headline(comparison: Comparison, confidence: float) -> str:
    """The verdict in one line."""
    panel = comparison.overall
    if len(comparison.policies) == 1:
        text = _single(comparison, confidence)
    elif panel is None:
        text = f"the {len(comparison.policies)} policies share no task; nothing can be compared."
    elif len(panel.pairs) == 1:
        text = pair_sentence(panel.pairs[0], panel, comparison.alpha)
    else:
        text = _several(panel, comparison.alpha)
    return text + _left_out(comparison)


def pair_sentence(pair: PairResult, panel: Panel, alpha: float) -> str:
    """One pair's verdict, with the counts over all episodes and how far the test had to look."""
    test = pair.test
    over = f" over {len(panel.tasks)} tasks" if len(panel.tasks) > 1 else ""
    level = f"alpha {alpha:g}" + (f" over {len(panel.pairs)} pairs" if len(panel.pairs) > 1 else "")
    if pair.winner is not None and pair.loser is not None:
        winner, loser = panel.count(pair.winner), panel.count(pair.loser)
        text = (
            f"{score(winner)} is better than {score(loser)}: {test.name} decided after "
            f"{pair.time} of {test.n_max} episodes{over}, {level}."
        )
        if (winner.rate or 0.0) <= (loser.rate or 0.0):
            text += " Over all counted episodes its rate is not the higher one."
        return text
    both = f"{score(panel.count(pair.arm0))} and {score(panel.count(pair.arm1))}"
    if pair.num_available == 0:
        return f"undecided between {both}: nothing to test, {pair.stopped_because}."
    if pair.num_available < test.n_max:
        return (
            f"undecided so far between {both}: {test.name} could use {pair.num_available} of "
            f"{test.n_max} episodes{over}, {level} ({pair.stopped_because})."
        )
    return (
        f"no difference shown between {both}: {test.name} is undecided after all "
        f"{test.n_max} episodes{over}, {level}."
    )


def _single(comparison: Comparison, confidence: float) -> str:
    policy = comparison.policies[0]
    panel = comparison.overall
    if panel is None or panel.counts[0].num_counted == 0:
        return f"{policy.policy} has no counted episode; there is nothing to judge."
    count = panel.counts[0]
    interval = clopper_pearson(count.successes, count.num_counted, confidence)
    over = f" over {len(panel.tasks)} tasks" if len(panel.tasks) > 1 else f" of {panel.title}"
    return (
        f"{policy.policy} succeeds in {count.successes} of {count.num_counted} episodes{over} "
        f"({percent(count.rate)}; {percent(confidence)} interval {percent(interval.lower)} to "
        f"{percent(interval.upper)}); there is no second policy to compare it with."
    )


def _several(panel: Panel, alpha: float) -> str:
    # A test reads only up to the first gap, so who it shows to be best may not have the best rate.
    best = next((count for count in panel.counts if _beats_all(count, panel)), panel.counts[0])
    beaten = [panel.count(p.loser) for p in panel.pairs if p.winner == best.policy and p.loser]
    better = [panel.count(p.winner) for p in panel.pairs if p.loser == best.policy and p.winner]
    alike = [count for count in panel.counts if count not in (best, *beaten, *better)]
    names = sorted({pair.test.name for pair in panel.pairs})
    over = f" over {len(panel.tasks)} tasks" if len(panel.tasks) > 1 else ""
    level = f"{' and '.join(names)}{over}, alpha {alpha:g} over {len(panel.pairs)} pairs."
    decided = sum(pair.winner is not None for pair in panel.pairs)
    if not alike and not better:
        text = f"{score(best)} is better than each of {_listed(beaten)}: {level}"
        if best.rate != panel.counts[0].rate:
            text += " Over all counted episodes its rate is not the highest one."
        return text
    if decided == 0:
        return f"no difference shown between {_listed(panel.counts)}: {level}"
    end = f"{decided} of {len(panel.pairs)} pairs are decided: {level}"
    if better:
        better.sort(key=panel.counts.index)
        are = "is" if len(better) == 1 else "are"
        return (
            f"no single best: {score(best)} has the highest rate, but {_listed(better)} {are} "
            f"shown to be better; {end}"
        )
    # A rate that two have gives no reason to name one of them before the other.
    leaders = [best, *(count for count in alike if count.rate == best.rate)]
    others = [count for count in alike if count not in leaders]
    if len(leaders) == 1:
        leading = f"{score(best)} leads but is not shown to differ from {_listed(others)}"
    elif others:
        leading = (
            f"{_listed(leaders)} lead alike; {best.policy} is not shown to differ from "
            f"{_listed(others)}"
        )
    else:
        leading = f"{_listed(leaders)} lead alike"
    return f"no single best: {leading}; {end}"


def _beats_all(count: Count, panel: Panel) -> bool:
    num_beaten = sum(pair.winner == count.policy for pair in panel.pairs)
    return num_beaten == len(panel.counts) - 1


def _listed(counts: Sequence[Count], most: int = 3) -> str:
    shown = [score(count) for count in counts[:most]]
    if len(counts) > most:
        shown.append(f"{len(counts) - most} more")
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"


def _left_out(comparison: Comparison) -> str:
    tasks = [task for policy in comparison.policies for task in policy.tasks.values()]
    errors = sum(len(task.errors) for task in tasks)
    missing = sum(task.num_missing for task in tasks)
    text = ""
    if errors:
        text += f" {_episodes(errors)} ended in an error and {_are(errors)} not counted."
    if missing:
        text += f" {_episodes(missing)} {_are(missing)} missing: the evaluation is incomplete."
    return text


def _episodes(number: int) -> str:
    return "1 episode" if number == 1 else f"{number} episodes"


def _are(number: int) -> str:
    return "is" if number == 1 else "are"
