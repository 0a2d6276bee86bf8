"""The doctor copes with whatever was read, and says it in JSON."""

import json
import math
import shutil

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from step_analysis.doctor.examination import examine
from step_analysis.loading import load_rollouts

_ROW = st.tuples(
    st.sampled_from("ab"),
    st.sampled_from("tu"),
    st.integers(0, 30),
    st.sampled_from(["success", "failure", "timeout", "error", "0", "1", ""]),
    st.sampled_from(["", "0", "0.1", "5", "30"]),
    st.sampled_from(["", "boom", "SimFailure"]),
    st.sampled_from(["", "7", "8"]),
    st.sampled_from(["", "2026-01-31T12:00:00+00:00", "2026-01-31T13:00:00+00:00"]),
)
_HEADER = "policy,task,scenario_index,outcome,duration_s,message,seed,started_at"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(_ROW, min_size=1, max_size=60), st.booleans())
def test_every_finding_is_counted_located_and_written(tmp_path, rows, count_infrastructure):
    folder = tmp_path / "tables"
    folder.mkdir()
    for half in (0, 1):
        lines = [_HEADER, *(",".join(map(str, row)) for row in rows[half::2])]
        (folder / f"{half}.csv").write_text("\n".join(lines), encoding="utf-8")
    try:
        policies = load_rollouts([folder], count_infrastructure=count_infrastructure)
    finally:
        shutil.rmtree(folder)
    names = {policy.policy: policy.tasks for policy in policies}
    for finding in examine(policies):
        assert finding.count > 0
        assert finding.text
        assert finding.effect
        assert "\n" not in finding.text + finding.effect
        assert finding.policy is None or finding.policy in names
        tasks = [task for of_policy in names.values() for task in of_policy]
        assert finding.task is None or finding.task in tasks
        assert all(math.isfinite(number) for number in finding.numbers.values())
        assert json.loads(json.dumps(finding.to_json(), allow_nan=False))["code"] == finding.code
