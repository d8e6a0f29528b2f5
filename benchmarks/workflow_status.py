"""How many pods does a curation run in slices take, and does its workflow still fit where the cluster keeps it?

Estimated, not measured on a cluster: the nodes are those that Kubeflow Pipelines 2.17 makes of our compiled pipeline
(argocompiler/container.go and dag.go, driver/driver.go), written as Argo Workflows writes a finished run's status. Argo refuses a
workflow of more than 1 MiB of JSON, and compresses its nodes (gzip, base64) before it does so (workflow/packer/packer.go).

Run: python benchmarks/workflow_status.py
"""

from __future__ import annotations

import argparse
import base64
import gzip
import hashlib
import json
import platform
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from imagewright.config import load_recipe
from imagewright.config.packed import pack_config
from imagewright.launch.ir import component_of, ordered
from imagewright.launch.pipelines import compile_pipeline

Tree = dict[str, Any]
RESULT = Path(__file__).parent / "results" / "workflow_status.txt"
LIMIT_BYTES = 1024 * 1024
OUTPUT_FILE = "/gcs/output_metadata.json"
NAME = "data-curation-x7k2p"
RUN = "3f2b8a54-6d0e-4c1f-9a7b-2e5d8c4f1a60"
PLACED = {
    "placement.environment_config_map": "imagewright-contract",
    "placement.credentials_secret": "imagewright-s3",
    "placement.queue": "training",
    "placement.data.cpu": "'8'",
    "placement.data.memory": "32Gi",
    "placement.data.priority_class": "research",
    "placement.data.retries": "2",
    "placement.data.node_selector": "{pool: cpu}",
}
BOOKKEEPING = {
    "phase": "Succeeded",
    "startedAt": "2026-01-01T00:00:00Z",
    "finishedAt": "2026-01-01T00:10:00Z",
    "progress": "1/1",
    "resourcesDuration": {"cpu": 600, "memory": 600},
}


@dataclass
class Status:
    """Nodes of a finished workflow, by id, and the number of its pods."""

    spec: Tree
    platform: Tree
    config: str
    nodes: dict[str, Tree] = field(default_factory=dict)
    pods: int = 0

    def add(self, kind: str, path: str, template: str, inputs: Tree, outputs: Tree | None = None) -> None:
        """One node as Argo writes it. inputs and outputs: parameters by name."""
        identity = f"{NAME}-{int(hashlib.sha256(path.encode()).hexdigest()[:8], 16)}"
        node: Tree = {"id": identity, "name": path, "displayName": path.rsplit(".", 1)[-1], "type": kind, "templateName": template}
        node |= {"templateScope": f"local/{NAME}", "boundaryID": f"{NAME}-1234567890", "children": [f"{NAME}-1234567890"], **BOOKKEEPING}
        node["inputs"] = {"parameters": [{"name": name, "value": value} for name, value in inputs.items()]}
        if kind == "Pod":
            self.pods += 1
            node |= {"hostNodeName": "gke-imagewright-data-5f8c2d1e-x2k9"}
            written = {"parameters": [{"name": name, "value": value} for name, value in (outputs or {}).items()], "exitCode": "0"}
            log = {"name": "main-logs", "s3": {"key": f"private-artifacts/kubeflow/{NAME}/2026/01/01/{identity}/main.log"}}
            node["outputs"] = {**written, "artifacts": [log]}
        self.nodes[identity] = node

    def dag(self, dag: Tree, path: str) -> None:
        """Every task of a DAG."""
        for name in ordered(dag["tasks"]):
            task = dag["tasks"][name]
            component = component_of(self.spec, task)
            if "parameterIterator" in task:
                self.loop(name, task, component, f"{path}.{name}")
            elif "dag" in component:
                self.driver(name, task, component, f"{path}.{name}-driver")
                self.add("DAG", f"{path}.{name}", task["componentRef"]["name"], {"parent-dag-id": "101", "condition": "true"})
                self.dag(component["dag"], f"{path}.{name}")
            else:
                self.container(name, task, component, f"{path}.{name}", "-1")

    def driver(self, name: str, task: Tree, component: Tree, path: str, index: str = "-1") -> None:
        """The pod that resolves a DAG's inputs."""
        inputs = {"component": text(component), "runtime-config": "", "task": text(task), "task-name": name}
        outputs = {"execution-id": "101", "iteration-count": "64", "condition": "true"}
        self.add(
            "Pod", path, "system-dag-driver", {**inputs, "parent-dag-id": "101", "iteration-index": index, "driver-type": "DAG"}, outputs
        )

    def loop(self, name: str, task: Tree, component: Tree, path: str) -> None:
        """Iterator, its driver, and for each item a DAG with a driver of its own."""
        reference = task["componentRef"]["name"]
        self.add("DAG", path, f"{reference}-{name}-iterator", {"parent-dag-id": "101"})
        self.driver(name, task, component, f"{path}.iteration-driver")
        self.add("TaskGroup", f"{path}.iteration-iterations", f"{reference}-iteration", {})
        for item in json.loads(task["parameterIterator"]["items"]["raw"]):
            at = f"{path}.iteration-iterations({item}:{item})"
            self.add("DAG", at, f"{reference}-iteration", {"parent-dag-id": "101", "iteration-index": str(item)})
            self.driver(name, task, component, f"{at}.iteration-item-driver", str(item))
            self.add("DAG", f"{at}.iteration-item", reference, {"parent-dag-id": "101", "condition": "true"})
            self.dag(component["dag"], f"{at}.iteration-item")

    def container(self, name: str, task: Tree, component: Tree, path: str, index: str) -> None:
        """A step: its driver, which writes the pod's spec, and the pod, which is given it through the node around it."""
        label = component["executorLabel"]
        executor = self.spec["deploymentSpec"]["executors"][label]["container"]
        kubernetes = self.platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"].get(label, {})
        patch = text(self.pod(task, component, executor, kubernetes))
        inputs = {"component": text(component), "task": text(task), "container": text(executor), "task-name": name, "parent-dag-id": "101"}
        asked = {**inputs, "iteration-index": index, "kubernetes-config": text(kubernetes)}
        written = {"pod-spec-patch": patch, "cached-decision": "false", "condition": "true"}
        labels = kubernetes.get("podMetadata", {}).get("labels", {})
        given = {"pod-spec-patch": patch, **{f"pod-metadata-label-{key}": value for key, value in labels.items()}}
        self.add("Pod", f"{path}-driver", "system-container-driver", asked, written)
        self.add("DAG", path, "system-container-executor", {**given, "cached-decision": "false"})
        if "retryPolicy" in task:
            self.add("Retry", f"{path}.executor", "retry-system-container-impl", given)
            self.add("Pod", f"{path}.executor(0)", "retry-system-container-impl", given)
        else:
            self.add("Pod", f"{path}.executor", "system-container-impl", given)

    def pod(self, task: Tree, component: Tree, executor: Tree, kubernetes: Tree) -> Tree:
        """The step's pod as the driver writes it: the whole configuration is in its command."""
        values: Tree = {name: self.config if name == "config" else 0 for name in task.get("inputs", {}).get("parameters", {})}
        outputs = {one: artifact(one) for one in component.get("outputDefinitions", {}).get("artifacts", {})}
        inputs = {one: artifact(one) for one in component.get("inputDefinitions", {}).get("artifacts", {})}
        asked = {
            "inputs": {"parameterValues": values, "artifacts": inputs},
            "outputs": {"artifacts": outputs, "outputFile": OUTPUT_FILE},
        }
        launcher = ["/kfp-launcher/launch", "--executor_type", "container", "--pipeline_name", "data-curation", "--run_id", RUN]
        launcher += ["--execution_id", "102", "--executor_input", text(asked), "--component_spec", text(component)]
        launcher += ["--pod_name", "$(KFP_POD_NAME)", "--pod_uid", "$(KFP_POD_UID)"]
        launcher += ["--ml_pipeline_server_address", "ml-pipeline.kubeflow.svc.cluster.local", "--ml_pipeline_server_port", "8887"]
        launcher += ["--mlmd_server_address", "metadata-grpc-service.kubeflow.svc.cluster.local", "--mlmd_server_port", "8080"]
        launcher += ["--publish_logs", "true", "--ml_pipeline_tls_enabled=false", "--metadata_tls_enabled=false", "--log_level", "1", "--"]
        variables = [one["envVar"] for kind in ("configMapAsEnv", "secretAsEnv") for one in pairs(kubernetes.get(kind, []))]
        reference = {"secretKeyRef": {"name": "imagewright-contract", "key": "secret-access-key", "optional": False}}
        main = {"name": "main", "image": executor["image"], "command": launcher, "args": [*executor["command"], *executor["args"]]}
        main |= {"env": [{"name": name, "valueFrom": reference} for name in variables], "resources": executor.get("resources", {})}
        return {"containers": [main], "nodeSelector": kubernetes.get("nodeSelector", {}).get("labels", {})}


def pairs(references: list[Tree]) -> Iterator[Tree]:
    """The variables of config maps or secrets."""
    for one in references:
        yield from one["keyToEnv"]


def artifact(name: str) -> Tree:
    """One artifact as an executor is told of it."""
    uri = f"minio://mlpipeline/v2/artifacts/data-curation/{RUN}/score-samples/0b6e6a9e-4d0c-4a55-9a86-0f0c7f1f7a11/{name}"
    return {"artifacts": [{"name": name, "type": {"schemaTitle": "system.Dataset"}, "uri": uri, "metadata": {"digest": "a" * 64}}]}


def text(tree: Any) -> str:
    """JSON as Go writes it."""
    return json.dumps(tree, sort_keys=True, separators=(",", ":"))


def workflow_bytes(spec: Tree, config: str, nodes: dict[str, Tree]) -> tuple[int, int]:
    """Bytes of the workflow with its nodes in clear, and with its nodes compressed."""
    head = {"spec": {"arguments": {"parameters": [{"name": "pipeline", "value": text(spec)}, {"name": "config", "value": config}]}}}
    clear = len(text({**head, "status": {"nodes": nodes}}).encode())
    packed = base64.b64encode(gzip.compress(text(nodes).encode())).decode()
    return clear, len(text({**head, "status": {"compressedNodes": packed}}).encode())


def measure(pipeline: str, recipe: str, slices: int, packed: bool = True) -> tuple[tuple[int, ...], str]:
    """(pods, nodes, bytes of the compiled pipeline, of the workflow, of the workflow compressed), and how it fits.

    packed: whether the configuration is submitted packed, as runs in slices are.
    """
    overrides = [f"{key}={value}" for key, value in {**PLACED, "placement.score_slices": str(slices)}.items()]
    config = load_recipe(recipe, overrides)
    compiled = compile_pipeline(pipeline, config)
    assert compiled.platform is not None
    parameter = config.model_dump_json()
    status = Status(compiled.spec, compiled.platform, pack_config(parameter) if packed and slices > 1 else parameter)
    root = compiled.spec["root"]
    status.add("Pod", f"{NAME}.root-driver", "system-dag-driver", {"component": text(root), "runtime-config": text(status.config)})
    status.add("DAG", f"{NAME}.root", "root", {"parent-dag-id": "100", "condition": ""})
    status.dag(root["dag"], f"{NAME}.root")
    clear, small = workflow_bytes(compiled.spec, status.config, status.nodes)
    fits = "in clear" if clear <= LIMIT_BYTES else "compressed" if small <= LIMIT_BYTES else "no"
    return (status.pods, len(status.nodes), len(compiled.to_yaml().encode()), clear, small), fits


def main() -> None:
    """Prints and writes one line for each number of slices."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slices", type=int, nargs="+", default=[1, 8, 16, 32, 64])
    parser.add_argument("--recipe", default="ernie_8b")
    parser.add_argument("--pipelines", nargs="+", default=["data_curation", "end_to_end"], help="the first one is judged")
    arguments = parser.parse_args()
    peers = f"kfp {version('kfp')}, kfp-kubernetes {version('kfp-kubernetes')}"
    lines = [f"machine: {platform.machine()}, Python {platform.python_version()}; {peers}; recipe {arguments.recipe}"]
    lines += ["estimated from the compiled pipeline; no cluster was asked"]
    fits: dict[tuple[str, int, bool], str] = {}
    for pipeline in arguments.pipelines:
        lines += ["", f"{pipeline}:"]
        lines += [f"{'slices':>6} {'pods':>5} {'nodes':>6} {'compiled':>9} {'workflow':>10} {'compressed':>11}  fits {LIMIT_BYTES:,} bytes"]
        cases = [(slices, True) for slices in arguments.slices] + [(max(arguments.slices), False)]
        for slices, packed in cases:
            counts, found = measure(pipeline, arguments.recipe, slices, packed)
            fits[pipeline, slices, packed] = found
            told = "" if packed else ", were the configuration submitted in clear"
            lines += ["{:>6} {:>5} {:>6} {:>9,} {:>10,} {:>11,}  {}".format(slices, *counts, found + told)]
    judged = arguments.pipelines[0], max(arguments.slices), True
    lines += ["", f"target: {judged[0]} in {judged[1]} slices fits. {'Missed' if fits[judged] == 'no' else 'Reached'}"]
    print("\n".join(lines))
    RESULT.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
