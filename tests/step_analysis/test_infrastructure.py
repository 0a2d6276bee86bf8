"""Messages that blame the infrastructure, and those that are verdicts on the policy."""

import pytest

from step_analysis.infrastructure import outcome_of_failure
from step_analysis.rollouts import Outcome


@pytest.mark.parametrize(
    "message",
    [
        # Last lines of the tracebacks in the rollouts released with VLA Foundry.
        "RuntimeError: The server rejected this client uuid: 1dbf8a8c",
        "anzu.intuitive.visuomotor.simulation_bases.SimFailure: The initial guess",
        "OSError: [Errno 28] No space left on device: '/tmp/lbm/smolv'",
        "KeyError: \"Unable to synchronously open object (object 'times' doesn't exist)\"",
        "RuntimeError: SceneGraph encountered a non-finite value (e.g. NaN)",
        # What grpc, operating systems and drivers say.
        "grpc._channel._InactiveRpcError: <_InactiveRpcError of RPC that terminated with:",
        "status = StatusCode.UNAVAILABLE",
        "failed to connect to all addresses; last error: UNKNOWN",
        "ConnectionRefusedError: [Errno 111] Connection refused",
        "timeout: StatusCode.DEADLINE_EXCEEDED",
        "TimeoutError: the server took 30 s",
        "worker died with SIGKILL",
        "Unable to eglMakeCurrent: 12291",
        "CUDA error: out of memory",
        "first line\nValueError: second line",
    ],
)
def test_faults_of_the_infrastructure_are_errors(message):
    assert outcome_of_failure(message) is Outcome.ERROR


@pytest.mark.parametrize("message", ["timeout", "Timeout after 30 s", "time limit", "timed out"])
def test_a_policy_that_runs_out_of_time_has_a_verdict(message):
    assert outcome_of_failure(message) is Outcome.TIMEOUT


@pytest.mark.parametrize(
    "message",
    [
        None,
        "",
        "gripper miss",
        "object not placed",
        "the mug fell",
        "position error of 3 cm",
        "Error: mug not upright",
        "an exception to the rule",
    ],
)
def test_a_task_that_was_not_done_is_a_failure(message):
    assert outcome_of_failure(message) is Outcome.FAILURE
