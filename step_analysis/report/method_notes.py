"""How the numbers of a report are made, with sources, for whoever reads it later."""

from typing import NamedTuple

from step_analysis.report.content import ReportContent
from step_analysis.report.wording import percent

_CORRECTIONS = {
    "bonferroni": "divided by the number of pairs (Bonferroni)",
    "holm": "shared by Holm's step-down procedure",
    "benjamini-hochberg": "shared by Benjamini and Hochberg's procedure",
    "arrival": "spent on policies in order of arrival, alpha / (k (k - 1)) for all comparisons of "
    "the k-th with those before it",
}


class Note(NamedTuple):
    heading: str
    text: str


def method_notes(content: ReportContent) -> list[Note]:
    """Each note that applies to this report."""
    confidence = percent(content.confidence)
    stopped = ""
    if content.study is not None:
        stopped = (
            " All of them take the number of episodes as fixed. Here it depends on the outcomes, "
            "so that they may cover less and the rates tend to be further apart than the true ones."
        )
    notes = [
        Note(
            "Rates and intervals",
            f"Clopper-Pearson covers the true rate in at least {confidence} of evaluations "
            "(Clopper and Pearson, Biometrika 26, 1934). Wilson's score interval is narrower and "
            f"covers about {confidence} (Wilson, JASA 22, 1927). The posterior is Beta, from a "
            f"uniform prior Beta(1, 1): its mean and central {confidence} interval. Each interval "
            f"is for one rate; none of them compares two policies.{stopped}",
        ),
        Note(
            "What is counted",
            "Success, failure and timeout count; a timeout is no success. An error is a fault of "
            "the infrastructure: it says nothing of the policy and is counted as neither.",
        ),
    ]
    if content.study is not None:
        study = content.study
        share = 1.0 - study.num_rollouts_used / study.num_rollouts_budget
        notes.append(
            Note(
                "A study that stops when it is decided",
                f"Policies, tasks, seeds, budget, test and alpha were locked before the first "
                f"episode. Test: {study.test}. {study.why} {study.guarantee} The verdicts rest on "
                f"{study.num_rollouts_used} of a budget of {study.num_rollouts_budget} rollouts, "
                f"{100.0 * share:.0f} % less; {study.num_rollouts_run} were run, and those beyond "
                "a decision are left out of every number here, as they depend on how many ran at "
                "a time. "
                + " ".join(f"{sentence[:1].upper()}{sentence[1:]}." for sentence in study.verdicts),
            )
        )
    used = {pair.method for panel in content.panels for pair in panel.pairs}
    if used:
        notes.append(
            Note(
                "Which policy is better",
                "Both policies meet the same scenarios in the same order, and the test looks after "
                "each pair of episodes; it may stop early without raising its error. The order is "
                "that of the scenarios, never that of finishing; a gap ends what may be looked "
                f"at. {_error_bound(content)} The tests, but for the paired ones, take outcomes "
                "as independent between the policies; shared seeds tend to make them alike, which "
                "costs power rather than validity.",
            )
        )
    if "STEP" in used:
        notes.append(
            Note(
                "STEP",
                "Snyder et al., Is Your Imitation Learning Policy Better than Mine?, RSS 2025 "
                "(arXiv 2503.10966). The boundary is made for the budget fixed beforehand, and "
                "proved with it; ours is monotone and needs no random numbers.",
            )
        )
    if "Lai" in used:
        notes.append(
            Note(
                "Lai",
                "Lai, Nearly optimal sequential tests of composite hypotheses, Annals of "
                "Statistics 16, 1988; on discordant pairs, with the constant solved for the "
                "exact size. Used for budgets over 1,000 episodes without a shipped STEP table, "
                "unless chosen.",
            )
        )
    if "SAVI" in used:
        notes.append(
            Note(
                "SAVI",
                "The e-process of Turner and Grünwald for two proportions: valid whenever one "
                "stops, at the price of power.",
            )
        )
    has_differences = any(
        pair.difference is not None for panel in content.panels for pair in panel.pairs
    )
    if has_differences and content.study is not None:
        notes.append(Note("Differences", content.study.interval))
    elif has_differences:
        notes.append(
            Note(
                "Differences",
                f"A difference of two rates on one task has Newcombe's {confidence} score interval "
                "for independent arms (Statistics in Medicine 17, 1998); over several tasks it is "
                "the mean of theirs, each with the same weight, their intervals joined by MOVER "
                "(Zou and Donner, Statistics in Medicine 27, 2008). These intervals look at all "
                "counted episodes as if their number had been fixed, and are not adjusted for "
                "several pairs: the verdict is the test's, and the interval says how large the "
                "difference may be. P(first higher) is the posterior probability, from the uniform "
                "priors, that the first rate is the higher one.",
            )
        )
    if any(len(panel.rates) > 2 for panel in content.panels):
        notes.append(
            Note(
                "Letters",
                "Policies that share a letter are not shown to differ (compact letter display, "
                "Piepho, JCGS 13, 2004). Sharing none means that the test told them apart.",
            )
        )
    if any(len(panel.tasks) > 1 for panel in content.panels):
        notes.append(
            Note(
                "Several tasks",
                "The aggregate takes the tasks that all policies have, in blocks of one episode "
                "of each, shuffled within the block by a fixed seed, so that every task weighs "
                "the same at any time. Outcomes then are a stratified sample, not identically "
                "distributed: the stated error is approximate there.",
            )
        )
    return notes


def _error_bound(content: ReportContent) -> str:
    """What alpha bounds in this report."""
    if content.correction == "benjamini-hochberg":
        bound = "The expected share of wrong ones among the verdicts is at most"
    else:
        bound = "Any wrong verdict has a chance of at most"
    where = "within a panel" if content.family == "panel" else "in the whole report"
    directions = "half of it for each direction"
    if content.sides == "one":
        directions = "for each direction by itself, so up to twice that for both together"
    across = " Nothing is corrected across panels." if content.family == "panel" else ""
    shared = _CORRECTIONS[content.correction]
    return f"{bound} alpha = {content.alpha:g} {where}, {directions}, {shared}.{across}"
