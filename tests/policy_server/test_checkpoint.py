"""A real checkpoint, small and randomly initialised, from its folder to a robot's actions."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from policy_interface.client import PolicyClient, PolicyServerRefusedError
from policy_interface.codec import decode_action
from policy_interface.contract import Contract, ImageSize
from policy_interface.types import Action, ChunkGuidance, Observation
from policy_server.command_line import main
from policy_server.server import ServerOptions
from policy_server.targets import TargetError, TargetOptions, resolve
from policy_server.testing import GatedPolicy, running_server

torch = pytest.importorskip("torch")

from trainer.checkpoint import Checkpoint, build_network, write_checkpoint  # noqa: E402
from trainer.data.configuration import NormalizationConfig  # noqa: E402
from trainer.data.robot_transform import RobotTransform  # noqa: E402
from trainer.models.configuration import FlowHeadConfig, ModelConfig, VisionConfig  # noqa: E402
from trainer.policy_configuration import ServingConfig, TrainConfig  # noqa: E402
from trainer.policy_loading import load_policy  # noqa: E402

_CONTRACT = Contract(cameras={"scene_right_0": ImageSize(height=32, width=32)})
_CHUNK_LENGTH, _OPEN_LOOP_STEPS = 8, 3

MakeStationObservation = Callable[[int], Observation]


@pytest.fixture(scope="module")
def station(make_observation) -> MakeStationObservation:
    return lambda seed: make_observation(seed, cameras=dict(_CONTRACT.cameras))


@pytest.fixture(scope="module")
def folder(tmp_path_factory, station) -> Path:
    observations = [station(seed) for seed in range(20)]
    poses = np.stack(
        [[each.actual.poses[arm].matrix() for arm in _CONTRACT.arms] for each in observations]
    )
    widths_m = np.stack(
        [
            [each.actual.gripper_widths_m[name] for name in _CONTRACT.grippers]
            for each in observations
        ]
    )
    config = TrainConfig(
        name="tiny",
        num_steps=1,
        chunk_length=_CHUNK_LENGTH,
        model=ModelConfig(
            vision=VisionConfig(stem_channels=8, channels=8, num_keypoints=4, pooled_size=2),
            flow_head=FlowHeadConfig(width=96, depth=1, num_heads=2),
        ),
        serving=ServingConfig(num_flow_steps=2, open_loop_steps=_OPEN_LOOP_STEPS),
    )
    transform = RobotTransform.fit(
        arms=_CONTRACT.arms,
        grippers=_CONTRACT.grippers,
        anchor_poses=poses,
        anchor_widths_m=widths_m,
        action_poses=np.repeat(poses[:, None], _CHUNK_LENGTH, axis=1),
        action_widths_m=np.repeat(widths_m[:, None], _CHUNK_LENGTH, axis=1),
        valid=np.ones((len(observations), _CHUNK_LENGTH), dtype=bool),
        config=NormalizationConfig(),
    )
    torch.manual_seed(0)
    network = build_network(config, _CONTRACT, transform)
    path = tmp_path_factory.mktemp("run") / "final"
    write_checkpoint(
        Checkpoint(
            weights={
                # Some layers begin at zero; away from it, every input has its say.
                name: tensor + 0.1 * torch.randn(tensor.shape)
                for name, tensor in network.state_dict().items()
            },
            config=config,
            transform=transform,
            contract=_CONTRACT,
            provenance={"optimizer_step": 1},
        ),
        path,
    )
    return path


def _numbers(action: Action) -> np.ndarray:
    return np.concatenate(
        [action.poses[arm].matrix().ravel() for arm in _CONTRACT.arms]
        + [[action.gripper_widths_m[gripper] for gripper in _CONTRACT.grippers]]
    )


def _noise(seed: int, plan: int) -> np.random.Generator:
    """Of an episode's plan, as the server draws it."""
    return np.random.default_rng((seed, plan))


def test_served_actions_are_those_of_the_checkpoint(folder, station) -> None:
    direct = load_policy(folder)
    observations = [station(seed) for seed in range(7)]
    expected = []
    for plan, start in enumerate(range(0, len(observations), _OPEN_LOOP_STEPS)):
        (chunk,) = direct.plan([[observations[start]]], [_noise(11, plan)])
        expected += chunk[:_OPEN_LOOP_STEPS]
    with (
        running_server(resolve(str(folder), TargetOptions())()) as server,
        PolicyClient(server.address) as client,
    ):
        metadata = client.metadata()
        assert client.contract() == _CONTRACT
        client.reset(seed=11)
        got = [client.step(observation) for observation in observations]
    np.testing.assert_array_equal(
        [_numbers(action) for action in got],
        [_numbers(action) for action in expected[: len(observations)]],
    )
    assert metadata.name == direct.metadata.name == "tiny@1"
    assert metadata.checkpoint_path == str(folder)


def test_real_time_chunking_guides_the_checkpoint(folder, station) -> None:
    direct = load_policy(folder)
    observations = [station(seed) for seed in range(8)]
    late = 2
    (first,) = direct.plan([[observations[0]]], [_noise(5, 0)])
    guidance = ChunkGuidance(actions=first[_OPEN_LOOP_STEPS:], num_frozen=late)
    (second,) = direct.plan_guided([[observations[_OPEN_LOOP_STEPS]]], [_noise(5, 1)], [guidance])
    effective = _OPEN_LOOP_STEPS + late
    expected = [*first[:effective], *second[late : late + len(observations) - effective]]
    options = ServerOptions(address="127.0.0.1:0", execution="rtc", planned_latency_steps=late)
    policy = resolve(str(folder), TargetOptions(guided=True))()
    with running_server(policy, options) as server, PolicyClient(server.address) as client:
        client.reset(seed=5)
        got = [client.step(observation) for observation in observations]
    np.testing.assert_array_equal(
        [_numbers(action) for action in got], [_numbers(action) for action in expected]
    )


def test_batch_mates_change_no_bit(folder, station, wire) -> None:
    observations = [station(seed) for seed in range(3)]
    policy = resolve(str(folder), TargetOptions())()
    alone = [
        [
            _numbers(policy.plan([[observation]], [_noise(seed, plan)])[0][0])
            for plan, observation in enumerate(observations)
        ]
        for seed in range(4)
    ]
    gated = GatedPolicy(policy)
    options = ServerOptions(address="127.0.0.1:0", open_loop_steps=1)
    together: list[list[np.ndarray]] = [[] for _ in range(4)]
    with running_server(gated, options) as server, contextlib.ExitStack() as stack:
        clients = [stack.enter_context(wire(server.address)) for _ in range(4)]
        for seed, client in enumerate(clients):
            client.reset(seed=seed)
        for observation in observations:
            calls = [clients[0].begin_step(observation)]
            assert gated.next_batch_size() == 1
            calls += [client.begin_step(observation) for client in clients[1:]]
            server.wait_until(lambda running: running.num_waiting == 3)
            gated.let_go(2)
            assert gated.next_batch_size() == 3
            for actions, call in zip(together, calls, strict=True):
                actions.append(_numbers(decode_action(call.result().action)))
    np.testing.assert_array_equal(alone, together)
    assert np.abs(np.subtract(alone[0], alone[1])).max() > 1e-2


def test_a_station_without_its_camera_is_told_so(folder, make_observation) -> None:
    with (
        running_server(resolve(str(folder), TargetOptions())()) as server,
        PolicyClient(server.address) as client,
    ):
        client.reset(seed=0)
        with pytest.raises(PolicyServerRefusedError, match=r"INVALID_ARGUMENT.*'scene_right_0'"):
            client.step(make_observation(0, cameras={"scene_left_0": ImageSize(height=3, width=4)}))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: (path / "model.safetensors").write_bytes(b"\x00" * 100),
        lambda path: (path / "contract.json").unlink(),
        lambda path: (path / "MANIFEST.json").write_text("{}"),
        lambda path: (path / "MANIFEST.json").unlink(),
    ],
)
def test_a_spoilt_checkpoint_gets_one_clear_line(folder, tmp_path, capfd, spoil) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    spoil(copy)
    assert main(["serve", str(copy), "--address", "127.0.0.1:0"]) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith(f"policy-server: {copy}")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"device": "gpu"}, "--device: expected cpu, cuda"),
        ({"num_flow_steps": 0}, "--num-flow-steps: expected at least 1"),
        ({"num_threads": 0}, "--num-threads: expected at least 1"),
        ({"max_batch_size": 0}, "--max-batch-size: expected at least 1"),
        ({"precision": "float8"}, "--precision: expected float32 or bfloat16"),
    ],
)
def test_options_that_do_not_fit_are_refused(folder, options, said) -> None:
    with pytest.raises(TargetError, match=said):
        resolve(str(folder), TargetOptions(**options))()


def test_cuda_without_a_device_is_refused(folder, monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(TargetError, match="no CUDA device"):
        resolve(str(folder), TargetOptions(device="cuda:0"))()


def test_a_checkpoint_can_be_served_in_bfloat16(folder, station) -> None:
    plain, quick = (
        resolve(str(folder), TargetOptions(precision=precision))()
        for precision in ("float32", "bfloat16")
    )
    exact, rounded = (
        np.array([_numbers(action) for action in policy.plan([[station(0)]], [_noise(0, 0)])[0]])
        for policy in (plain, quick)
    )
    np.testing.assert_allclose(exact, rounded, atol=0.1)
    assert not np.array_equal(exact, rounded)
    assert quick.metadata.runtime_information["assay.precision"] == "bfloat16"


@pytest.mark.slow
def test_compilation_without_a_compiler_gets_one_clear_line(folder, tmp_path, monkeypatch) -> None:
    # What others compiled before must not spare it the compiler.
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    torch.compiler.reset()
    try:
        with (
            torch._inductor.config.patch({"cpp.cxx": (None, str(tmp_path / "no-compiler"))}),
            pytest.raises(TargetError, match=r"--compile: .*InvalidCxxCompiler.*g\+\+") as raised,
        ):
            resolve(str(folder), TargetOptions(compile=True))()
    finally:
        torch.compiler.reset()
    assert "\n" not in str(raised.value)


@pytest.mark.slow
def test_compiled_plans_are_the_same_to_within_rounding(folder, station) -> None:
    plain, compiled = (
        resolve(str(folder), TargetOptions(compile=is_compiled))() for is_compiled in (False, True)
    )
    for size in (1, 3):
        histories = [[station(seed)] for seed in range(size)]
        expected, got = (
            [
                [_numbers(action) for action in chunk]
                for chunk in policy.plan(histories, [_noise(seed, 0) for seed in range(size)])
            ]
            for policy in (plain, compiled)
        )
        np.testing.assert_allclose(got, expected, atol=1e-4)
