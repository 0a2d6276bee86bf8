"""Comparisons that pages ask for, worked out once in the background.

The tests of many pairs take seconds the first time, when their boundaries are made or loaded; a
page then shows the counts at once, and its verdicts as soon as they are there.
"""

import math
import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial

from step_analysis.comparison import Comparison, compare, count_outcomes
from step_analysis.dashboard.query import Query
from step_analysis.dashboard.snapshot import Snapshot
from step_analysis.dashboard.study_verdicts import foreign, study_verdicts
from step_analysis.doctor.examination import examine
from step_analysis.findings import Finding, most_severe_first
from step_analysis.loading import PolicyRollouts
from step_analysis.report.content import ReportContent, build_content
from step_analysis.strict_json import FormatError

_NUM_KEPT = 64
_PATIENCE_S = 0.25
"""What takes no longer is waited for, so that small studies show everything at once."""
_MANY_TESTS = 300
"""With more of them nothing is waited for: they take longer, and would hold up the counts."""

_Key = tuple[int, str, Hashable]
"""The snapshot's version, the condition, and what a query asks of the tests."""


@dataclass(frozen=True, kw_only=True)
class Analysis:
    """What the rollouts of some policies on some tasks say."""

    comparison: Comparison
    content: ReportContent
    has_verdicts: bool
    """False while the tests are still being worked out: only counts and intervals are there."""
    is_current: bool = True
    """False where newer episodes are being worked out."""


class Analyses:
    """Works comparisons out in one thread; `on_done` is called as one is finished."""

    def __init__(self, on_done: Callable[[], None]) -> None:
        self._on_done = on_done
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="verdicts")
        self._lock = threading.Lock()
        self._known: OrderedDict[_Key, Future[Analysis]] = OrderedDict()
        self._put_off: dict[_Key, Callable[[], Analysis]] = {}

    def close(self) -> None:
        """Let what has not begun be."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    def get(self, snapshot: Snapshot, query: Query, condition: str) -> Analysis | None:
        """The analysis, without verdicts if they take long; None where there is no policy.

        Many tests wait for `begin`.

        Raises:
            ValueError: a design for which the chosen test can't be made.
        """
        policies = chosen_policies(snapshot, query, condition)
        if not policies:
            return None
        key = (snapshot.version, condition, _key(query))
        if not snapshot.is_complete:
            # Everything would be tested again, and the reading held up, for files yet to be read.
            return self._until_then(key, policies, snapshot, query)
        work = partial(self._tested, policies, snapshot, query, condition)
        if _num_tests(policies) > _MANY_TESTS and not self._is_done(key):
            # Beside the tests a page would take twice as long.
            with self._lock:
                self._put_off[key] = work
            return self._until_then(key, policies, snapshot, query)
        future = self._begun(key, work)
        try:
            return future.result(timeout=_PATIENCE_S)
        # Cancelled: a newer state of the folder has been asked about meanwhile.
        except (TimeoutError, CancelledError):
            return self._until_then(key, policies, snapshot, query)

    def begin(self) -> None:
        """Begin the tests that were put off until what is shown before them is drawn."""
        with self._lock:
            put_off, self._put_off = self._put_off, {}
        for key, work in put_off.items():
            self._begun(key, work)

    def _begun(self, key: _Key, work: Callable[[], Analysis]) -> Future[Analysis]:
        with self._lock:
            future = self._known.get(key)
            if future is None:
                future = self._executor.submit(work)
                future.add_done_callback(lambda _: self._on_done())
                self._known[key] = future
                self._forget(older_than=key[0])
                while len(self._known) > _NUM_KEPT:
                    self._known.popitem(last=False)[1].cancel()
            self._known.move_to_end(key)
            return future

    def _is_done(self, key: _Key) -> bool:
        with self._lock:
            future = self._known.get(key)
            return future is not None and future.done()

    def _until_then(
        self,
        key: _Key,
        policies: tuple[PolicyRollouts, ...],
        snapshot: Snapshot,
        query: Query,
    ) -> Analysis:
        """What is shown until the tests are done."""
        earlier = self._earlier(key, policies)
        if earlier is not None:
            return earlier
        counted = count_outcomes(policies, query.alpha)
        return Analysis(
            comparison=counted,
            content=_content(counted, query, snapshot.faults),
            has_verdicts=False,
            is_current=False,
        )

    def _earlier(self, key: _Key, policies: tuple[PolicyRollouts, ...]) -> Analysis | None:
        """The latest that is done of the same question, so that verdicts don't come and go while
        episodes arrive; None without one, or where a policy or a task is new."""
        with self._lock:
            done = [
                (known[0], future.result())
                for known, future in self._known.items()
                if known[1:] == key[1:] and future.done() and not _has_failed(future)
            ]
        shape = [(policy.policy, *policy.tasks) for policy in policies]
        fitting = [
            (version, analysis)
            for version, analysis in done
            if [(p.policy, *p.tasks) for p in analysis.comparison.policies] == shape
        ]
        if not fitting:
            return None
        return replace(max(fitting, key=lambda each: each[0])[1], is_current=False)

    def _forget(self, *, older_than: int) -> None:
        """Leave out what nobody looks at any more, as far as it has not begun."""
        for key in [key for key in self._known if key[0] < older_than]:
            if self._known[key].cancel():
                del self._known[key]

    def _tested(
        self,
        policies: tuple[PolicyRollouts, ...],
        snapshot: Snapshot,
        query: Query,
        condition: str,
    ) -> Analysis:
        findings = [*snapshot.faults, *examine(policies, left_out=snapshot.left_out)]
        if snapshot.study_design is not None and query.leaves_the_tests:
            try:
                comparison, content = study_verdicts(
                    snapshot.study_design,
                    snapshot.conditions[condition],
                    policies,
                    query,
                    most_severe_first(findings),
                )
                return Analysis(comparison=comparison, content=content, has_verdicts=True)
            except FormatError as error:
                findings.append(foreign(snapshot.root, error))
        comparison = compare(
            policies,
            query.alpha,
            query.method,
            sides=query.sides,
            correction=query.correction,
        )
        content = _content(comparison, query, findings)
        return Analysis(comparison=comparison, content=content, has_verdicts=True)


def chosen_policies(snapshot: Snapshot, query: Query, condition: str) -> tuple[PolicyRollouts, ...]:
    """The policies of a condition with the tasks that a query names, or with all of theirs."""
    chosen = []
    for policy in snapshot.conditions.get(condition, ()):
        if query.policy and policy.policy not in query.policy:
            continue
        tasks = {
            name: task
            for name, task in policy.tasks.items()
            if not query.task or name in query.task
        }
        if tasks:
            chosen.append(replace(policy, tasks=tasks))
    return tuple(chosen)


def _num_tests(policies: Sequence[PolicyRollouts]) -> int:
    """Pairs of policies, on each task that both have."""
    num_policies = Counter(task for policy in policies for task in policy.tasks)
    return sum(math.comb(number, 2) for number in num_policies.values())


def _has_failed(future: Future[Analysis]) -> bool:
    return future.cancelled() or future.exception() is not None


def _key(query: Query) -> Hashable:
    return (
        query.policy,
        query.task,
        query.alpha,
        query.confidence,
        query.method,
        query.sides,
        query.correction,
    )


def _content(comparison: Comparison, query: Query, findings: Sequence[Finding]) -> ReportContent:
    return build_content(
        comparison,
        title="Dashboard",
        confidence=query.confidence,
        arguments=(),
        findings=most_severe_first(findings),
    )
