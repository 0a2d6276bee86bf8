"""What the manifests for Kubernetes promise, as Kustomize renders them.

`rendered/` holds what `kubectl kustomize` made of each overlay, so that everybody can look at it
and test it; where kubectl or kustomize is installed, it is shown to be fresh. Made anew by

    for each in cpu gpu kuberay; do
        kubectl kustomize docker/kubernetes/overlays/$each > tests/docker/rendered/$each.yaml
    done
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from policy_server.verbs.serve import Serve
from sim_client.evaluation.config import EvaluationConfig

HERE = Path(__file__).parent
OVERLAYS = HERE.parents[1] / "docker" / "kubernetes" / "overlays"
NAMES = sorted(path.name for path in OVERLAYS.iterdir())

Manifest = dict[str, Any]


def rendered(overlay: str) -> list[Manifest]:
    return list(yaml.safe_load_all((HERE / "rendered" / f"{overlay}.yaml").read_text()))


@pytest.fixture(params=NAMES)
def manifests(request: pytest.FixtureRequest) -> list[Manifest]:
    return rendered(request.param)


def templates(manifest: Any) -> Iterator[Manifest]:
    """The pods that a manifest makes, however deep in it."""
    if isinstance(manifest, Mapping):
        template = manifest.get("template")
        if isinstance(template, Mapping) and "containers" in template.get("spec", {}):
            yield dict(template)
        for value in manifest.values():
            yield from templates(value)
    elif isinstance(manifest, list):
        for value in manifest:
            yield from templates(value)


def containers(pod: Manifest) -> list[Manifest]:
    return [*pod["spec"].get("initContainers", []), *pod["spec"]["containers"]]


def named(manifests: list[Manifest], kind: str) -> dict[str, Manifest]:
    return {each["metadata"]["name"]: each for each in manifests if each["kind"] == kind}


def test_each_overlay_is_rendered_and_nothing_else() -> None:
    assert NAMES == ["cpu", "gpu", "kuberay"]
    assert sorted(path.stem for path in (HERE / "rendered").iterdir()) == NAMES


@pytest.mark.parametrize("overlay", NAMES)
def test_what_is_rendered_is_fresh(overlay: str) -> None:
    programs = (("kubectl", ["kustomize"]), ("kustomize", ["build"]))
    found = [[shutil.which(name), *verb] for name, verb in programs if shutil.which(name)]
    if not found:
        pytest.skip("neither kubectl nor kustomize is installed")
    told = subprocess.run(
        [*found[0], str(OVERLAYS / overlay)], capture_output=True, text=True, check=True
    )
    assert list(yaml.safe_load_all(told.stdout)) == rendered(overlay)


@pytest.mark.slow
def test_the_schemas_of_kubernetes_know_every_field(manifests: list[Manifest]) -> None:
    validate = pytest.importorskip("kubernetes_validate")
    for manifest in manifests:
        if manifest["kind"] == "RayJob":
            # KubeRay's schema is in no package (below); its pods are Kubernetes's own.
            for number, pod in enumerate(templates(manifest)):
                of_its_own = {"apiVersion": "v1", "kind": "Pod", "spec": pod["spec"]}
                of_its_own["metadata"] = {"name": f"pod-{number}"}
                validate.validate(of_its_own, validate.latest_version(), strict=True)
        else:
            validate.validate(manifest, validate.latest_version(), strict=True)


@pytest.mark.slow
def test_kuberays_schema_knows_every_field_of_its_job() -> None:
    """KUBERAY_CRD: a copy of `ray-operator/config/crd/bases/ray.io_rayjobs.yaml` of KubeRay's."""
    definition = os.environ.get("KUBERAY_CRD")
    if not definition:
        pytest.skip("KUBERAY_CRD names no definition of KubeRay's job")
    jsonschema = pytest.importorskip("jsonschema")
    versions = yaml.safe_load(Path(definition).read_text())["spec"]["versions"]
    schemas = {each["name"]: each["schema"]["openAPIV3Schema"] for each in versions}
    (job,) = named(rendered("kuberay"), "RayJob").values()
    schema = strict(schemas[job["apiVersion"].rpartition("/")[2]])
    # Kubernetes's own, whose fields the definition does not repeat.
    schema["properties"]["metadata"] = {"type": "object"}
    jsonschema.validate(job, schema)


def strict(schema: Any) -> Any:
    """As JSON Schema, with fields that the definition does not know an error, as for `kubectl`."""
    if isinstance(schema, list):
        return [strict(each) for each in schema]
    if not isinstance(schema, Mapping):
        return schema
    if schema.get("x-kubernetes-int-or-string"):
        return {"type": ["integer", "string"]}
    told = {key: strict(value) for key, value in schema.items() if key != "properties"}
    if "properties" in schema:
        told["properties"] = {name: strict(each) for name, each in schema["properties"].items()}
        if not schema.get("x-kubernetes-preserve-unknown-fields"):
            told.setdefault("additionalProperties", False)
    return told


def test_all_are_ours_and_in_one_namespace(manifests: list[Manifest]) -> None:
    identities = [(each["kind"], each["metadata"]["name"]) for each in manifests]
    assert len(set(identities)) == len(identities)
    for each in manifests:
        assert each["metadata"]["labels"]["app.kubernetes.io/part-of"] == "assay"
        if each["kind"] != "Namespace":
            assert each["metadata"]["namespace"] == "assay"


def test_pods_may_do_nothing(manifests: list[Manifest]) -> None:
    pods = list(templates(manifests))
    assert pods
    for pod in pods:
        spec = pod["spec"]
        assert spec["automountServiceAccountToken"] is False
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["runAsUser"] == 10001
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for shared in ("hostNetwork", "hostPID", "hostIPC"):
            assert shared not in spec
        for container in containers(pod):
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            resources = container["resources"]
            for what in ("cpu", "memory", "ephemeral-storage"):
                assert resources["limits"][what] == resources["requests"][what]
            assert "latest" not in container["image"]
            assert ":" in container["image"]


def test_every_reference_leads_somewhere(manifests: list[Manifest]) -> None:
    claims, maps = (named(manifests, kind) for kind in ("PersistentVolumeClaim", "ConfigMap"))
    accounts, used_claims, used_maps = named(manifests, "ServiceAccount"), set(), set()
    for pod in templates(manifests):
        spec = pod["spec"]
        assert spec["serviceAccountName"] in accounts
        volumes = {volume["name"]: volume for volume in spec["volumes"]}
        mounted = set()
        for container in containers(pod):
            mounted |= {mount["name"] for mount in container["volumeMounts"]}
            for source in container.get("envFrom", []):
                used_maps.add(source["configMapRef"]["name"])
        assert mounted == volumes.keys()
        used_claims |= {
            volume["persistentVolumeClaim"]["claimName"]
            for volume in volumes.values()
            if "persistentVolumeClaim" in volume
        }
    assert used_claims == claims.keys()
    assert used_maps == maps.keys()


def test_the_checkpoint_is_only_read(manifests: list[Manifest]) -> None:
    mounts = [
        (pod, mount)
        for pod in templates(manifests)
        for container in containers(pod)
        for mount in container["volumeMounts"]
        if mount["name"] == "checkpoint"
    ]
    ((pod, mount),) = mounts
    assert mount["readOnly"] is True
    (volume,) = (each for each in pod["spec"]["volumes"] if each["name"] == "checkpoint")
    assert volume["persistentVolumeClaim"]["readOnly"] is True


def test_ports_meet(manifests: list[Manifest]) -> None:
    """What a service, a probe or a policy names is a port that the pods it selects open."""
    pods = list(templates(manifests))

    def selected(labels: Mapping[str, str]) -> list[Manifest]:
        return [pod for pod in pods if labels.items() <= pod["metadata"]["labels"].items()]

    def ports(pod: Manifest) -> dict[str, int]:
        return {
            port["name"]: port["containerPort"]
            for container in containers(pod)
            for port in container.get("ports", [])
        }

    for service in named(manifests, "Service").values():
        (pod,) = selected(service["spec"]["selector"])
        for port in service["spec"]["ports"]:
            assert ports(pod)[port["targetPort"]] == port["port"]
    for policy in named(manifests, "NetworkPolicy").values():
        spec = policy["spec"]
        for rule in spec.get("ingress", []):
            for pod in selected(spec["podSelector"].get("matchLabels", {})):
                for port in rule.get("ports", []):
                    assert isinstance(port["port"], int) or port["port"] in ports(pod)
        for rule in spec.get("egress", []):
            for peer in rule["to"]:
                if "podSelector" in peer:
                    assert selected(peer["podSelector"]["matchLabels"])
    for deployment in named(manifests, "Deployment").values():
        (pod,) = templates(deployment)
        assert selected(deployment["spec"]["selector"]["matchLabels"]) == [pod]
        (container,) = containers(pod)
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            (port,) = (
                container[probe][how]["port"]
                for how in ("grpc", "tcpSocket")
                if how in container[probe]
            )
            assert port in ports(pod) or port in ports(pod).values()


def test_nothing_gets_in_or_out_but_by_a_policy(manifests: list[Manifest]) -> None:
    all_pods = named(manifests, "NetworkPolicy")["nothing-but-names"]["spec"]
    assert all_pods["podSelector"] == {}
    assert all_pods["policyTypes"] == ["Ingress", "Egress"]
    assert "ingress" not in all_pods
    (rule,) = all_pods["egress"]
    assert {port["port"] for port in rule["ports"]} == {53}


def words_of(container: Manifest, manifests: list[Manifest]) -> list[str]:
    """Its arguments as the program gets them, variables replaced."""
    known = {each["name"]: each.get("value", "10.0.0.7") for each in container.get("env", [])}
    for source in container.get("envFrom", []):
        known |= named(manifests, "ConfigMap")[source["configMapRef"]["name"]]["data"]
    words = container["args"]
    for name, value in known.items():
        words = [word.replace(f"$({name})", value) for word in words]
    assert "$(" not in " ".join(words)
    return words


@pytest.mark.parametrize("overlay", ["cpu", "gpu"])
def test_the_programs_take_what_they_are_given(overlay: str) -> None:
    import tyro

    manifests = rendered(overlay)
    by_name = {
        container["name"]: words_of(container, manifests)
        for pod in templates(manifests)
        for container in containers(pod)
    }
    verb, *words = by_name["policy-server"]
    assert verb == "serve"
    serve = tyro.cli(Serve, args=words)
    assert serve.address == "10.0.0.7:50051"
    assert serve.device == ("cuda" if overlay == "gpu" else None)
    verb, *words = by_name["simulators"]
    assert verb == "evaluate"
    evaluation = tyro.cli(EvaluationConfig, args=words)
    assert evaluation.address == "policy-server:50051"
    assert evaluation.address.split(":")[0] in named(manifests, "Service")
    assert by_name["report"] == ["report", str(evaluation.output), "--output", "/results/report"]
    (job,) = named(manifests, "Job").values()
    (simulators,) = (c for c in containers(job["spec"]["template"]) if c["name"] == "simulators")
    # A simulator keeps one core busy.
    assert int(simulators["resources"]["limits"]["cpu"]) == evaluation.workers


def test_the_ray_job_asks_for_no_more_than_its_cluster_has() -> None:
    import tyro

    manifests = rendered("kuberay")
    (job,) = named(manifests, "RayJob").values()
    (settings,) = named(manifests, "ConfigMap").values()
    entry = job["spec"]["entrypoint"]
    for name, value in settings["data"].items():
        entry = entry.replace(f"${name}", value)
    program, verb, *words = shlex.split(entry)
    assert (program, verb) == ("sim-client", "evaluate")
    evaluation = tyro.cli(EvaluationConfig, args=words)
    assert evaluation.executor == "ray"
    groups = {g["groupName"]: g for g in job["spec"]["rayClusterSpec"]["workerGroupSpecs"]}

    def total(group: str, what: str) -> int:
        (container,) = groups[group]["template"]["spec"]["containers"]
        return groups[group]["replicas"] * int(container["resources"]["limits"][what])

    assert total("simulators", "cpu") == evaluation.workers * evaluation.ray.cpus
    assert total("policy-servers", "nvidia.com/gpu") == (
        evaluation.ray.servers * evaluation.ray.server_gpus
    )
    (server,) = groups["policy-servers"]["template"]["spec"]["containers"]
    assert str(evaluation.ray.serve) in {m["mountPath"] for m in server["volumeMounts"]}
    head = job["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]["containers"][0]
    assert str(evaluation.output) in {mount["mountPath"] for mount in head["volumeMounts"]}
