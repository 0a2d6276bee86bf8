"""What can be served, as it is written, and what is not understood."""

from __future__ import annotations

import numpy as np
import pytest

from policy_server.command_line import main
from policy_server.scripted_policies import (
    HoldPolicy,
    NullPolicy,
    ReplayPolicy,
    SleepPolicy,
    WavePolicy,
)
from policy_server.targets import TargetError, TargetOptions, parse_named_target, resolve


@pytest.mark.parametrize(
    ("target", "kind", "chunk_length"),
    [
        ("hold", HoldPolicy, 1),
        ("wave", WavePolicy, 40),
        ("null", NullPolicy, 1),
        ("null:8", NullPolicy, 8),
        ("sleep:20", SleepPolicy, 1),
        ("sleep:0.5:16", SleepPolicy, 16),
    ],
)
def test_scripted_policies_are_made_by_name(target, kind, chunk_length) -> None:
    policy = resolve(target, TargetOptions())()
    assert type(policy) is kind
    assert policy.chunk_length == policy.open_loop_steps == chunk_length


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("hold:3", "hold:3: expected hold"),
        ("null:0", r"null:0: expected a chunk of 1 to \d+ actions, got '0'"),
        ("null:-1", "got '-1'"),
        ("null:many", "got 'many'"),
        ("null:1:2", "expected null or null:CHUNK_LENGTH"),
        ("null:9999999999", "got '9999999999'"),
        ("sleep", "expected sleep:MS or sleep:MS:CHUNK_LENGTH"),
        ("sleep:-1", "sleep:-1: expected 0 to 60000 milliseconds to sleep, got '-1'"),
        ("sleep:nan", "got 'nan'"),
        ("sleep:inf", "got 'inf'"),
        ("sleep:soon", "got 'soon'"),
        ("sleep:", "got ''"),
        ("sleep:20:0", "expected a chunk"),
        ("sleep:20:8:1", "expected sleep:MS"),
        ("replay", "expected replay:EPISODE"),
        ("replay:", "expected replay:EPISODE"),
        ("slep:20", r"no such folder \(did you mean 'sleep'\?\)"),
        ("nul", "did you mean 'null'"),
    ],
)
def test_what_is_not_understood_is_refused_at_once(target, said) -> None:
    with pytest.raises(TargetError, match=said):
        resolve(target, TargetOptions())


@pytest.mark.parametrize(
    ("options", "flag"),
    [
        ({"device": "cpu"}, "--device"),
        ({"num_flow_steps": 4}, "--num-flow-steps"),
        ({"precision": "bfloat16"}, "--precision"),
        ({"compile": True}, "--compile"),
        ({"batch_invariant": False}, "--batch-invariant"),
    ],
)
@pytest.mark.parametrize("target", ["null", "replay:episode.npz", "module:Class"])
def test_flags_for_checkpoints_are_refused_elsewhere(target, options, flag) -> None:
    with pytest.raises(TargetError, match=f"{flag} is for checkpoints"):
        resolve(target, TargetOptions(**options))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("hold", (None, "hold")),
        ("first=hold", ("first", "hold")),
        ("pick-2.1=runs/pick", ("pick-2.1", "runs/pick")),
        ("pick=runs/x=1", ("pick", "runs/x=1")),
        # No name: a slash or a colon comes before the sign.
        ("runs/x=1/final", (None, "runs/x=1/final")),
        ("replay:a=b.npz", (None, "replay:a=b.npz")),
        ("=hold", (None, "=hold")),
    ],
)
def test_a_target_may_be_given_a_name(text, expected) -> None:
    assert parse_named_target(text) == expected


def test_what_exists_is_a_target_whatever_its_name(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert parse_named_target("lr=3") == ("lr", "3")
    (tmp_path / "lr=3").mkdir()
    assert parse_named_target("lr=3") == (None, "lr=3")
    assert parse_named_target("mine=lr=3") == ("mine", "lr=3")


def test_a_name_without_a_target_is_refused() -> None:
    with pytest.raises(TargetError, match="no target after the name"):
        parse_named_target("pick=")


def test_a_recording_is_replayed_by_path(recording) -> None:
    policy = resolve(f"replay:{recording}", TargetOptions())()
    assert isinstance(policy, ReplayPolicy)
    assert policy.metadata.checkpoint_path == str(recording)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda path: path.unlink(), "no such file; expected a recorded demonstration"),
        (lambda path: path.write_bytes(b"not a zip"), "not a whole demonstration"),
        (lambda path: path.write_bytes(path.read_bytes()[:-100]), "not a whole demonstration"),
        (lambda path: np.savez(path, time_s=np.zeros(3)), "not a whole demonstration"),
        (lambda path: (path.unlink(), path.mkdir()), "is not a file"),
    ],
)
def test_a_recording_that_is_none_gets_one_clear_line(recording, capfd, spoil, said) -> None:
    spoil(recording)
    assert main(["serve", f"replay:{recording}", "--address", "127.0.0.1:0"]) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith(f"policy-server: {recording}")
    assert said in err
    assert err.count("\n") == 1


def test_a_scripted_policy_says_nothing_of_cameras(recording) -> None:
    for target in ("hold", "null", "sleep:1", f"replay:{recording}"):
        contract = resolve(target, TargetOptions())().contract
        assert not contract.cameras
        assert not contract.uses_language
