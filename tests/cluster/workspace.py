"""A namespace of its own for one run of the cluster suite, with everything the charts and the pipeline expect; all of it goes again."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from helm.charts import load, parse
from kubernetes import client
from kubernetes.client.exceptions import ApiException

from cluster.answers import Answers
from imagewright.launch.cluster_api import NOT_FOUND, ClusterApi

Tree = dict[str, Any]
GONE_SECONDS, READY_SECONDS = 600.0, 600.0
SMALL = {"requests": {"cpu": "500m", "memory": "2Gi"}, "limits": {"cpu": "2", "memory": "6Gi"}}


@dataclass(frozen=True)
class Workspace:
    """Names of one run. The platform's release is called as its namespace, so that what is not in a namespace is unique too."""

    name: str
    answers: Answers

    @property
    def serving(self) -> str:
        """Release of the serving chart."""
        return self.name.replace("imagewright", "serving", 1)

    @property
    def secret(self) -> str:
        """Credentials of the store: one name in both namespaces, because nodes take over the environment of the step that launches them."""
        return f"{self.name}-s3"

    def platform_values(self) -> Tree:
        """Values of the platform chart: everything bundled."""
        answers = self.answers
        images = {"control": answers.control_image, "worker": answers.worker_image, "postgresql": answers.postgresql_image}
        flavour = {"name": "check", "nodeLabels": answers.node_labels, "quota": {"cpu": "8", "memory": "32Gi"}}
        return {
            "images": {name: split_image(image) for name, image in images.items()},
            "objectStore": {"mode": "seaweedfs", "existingSecret": self.secret, "seaweedfs": {"storage": {"size": "20Gi"}}},
            "mlflow": {"database": {"existingSecret": f"{self.name}-mlflow", "bundled": {"storage": {"size": "5Gi"}}}},
            "registry": {"volume": {"size": "1Gi", "className": answers.shared_storage_class}},
            "launcher": {"subjects": [{"kind": "ServiceAccount", "name": answers.step_account, "namespace": answers.kubeflow_namespace}]},
            "networkPolicy": {"clientNamespaces": [answers.kubeflow_namespace]},
            "queues": {"enabled": True, "name": "check", "flavors": [flavour]},
            "trainingRuntime": {"enabled": True, "sharedMemory": "1Gi", "scratchSize": "10Gi", "resources": SMALL},
        }

    def serving_values(self) -> Tree:
        """Values of the serving chart: a canary behind the route, on CPUs."""
        answers = self.answers
        return {
            "image": split_image(answers.serve_image),
            "platform": {"contractConfigMap": f"{self.name}-contract", "s3Secret": self.secret},
            "apiKeysSecret": f"{self.name}-api-keys",
            "model": {"recipe": "debug"},
            "resources": SMALL,
            "cache": {"size": "5Gi"},
            "canary": {"enabled": True, "payload": "imagewright://sha256/" + "0" * 64, "weight": 0},
            "route": {"enabled": True, "gateway": answers.gateway, "gatewayNamespace": answers.gateway_namespace},
            "networkPolicy": {"clientNamespaces": [answers.kubeflow_namespace], "platformNamespace": self.name},
        }

    def overrides(self) -> list[str]:
        """Settings of the recipe `debug`: pretraining on two nodes, promotion through the canary."""
        answers = self.answers
        settings = {
            "kubeflow.url": answers.kubeflow_url,
            "kubeflow.worker_image": answers.worker_image,
            "kubeflow.experiment": self.name,
            "kubeflow.service_account": answers.step_account,
            "placement.environment_config_map": f"{self.name}-contract",
            "placement.credentials_secret": self.secret,
            "placement.registry_claim": f"{self.name}-registry",
            "placement.train.cpu": "'2'",
            "placement.train.memory": "6Gi",
            "placement.train_job.num_nodes": "2",
            "placement.train_job.runtime": f"{self.name}-torch",
            "placement.train_job.namespace": self.name,
            "placement.train_job.work_claim": "training-work",
            "rollout.kind": "http_route",
            "rollout.namespace": self.name,
            "rollout.release": self.serving,
            "rollout.canary_url": f"http://{self.serving}-canary.{self.name}.svc",
            "rollout.stable_url": f"http://{self.serving}-stable.{self.name}.svc",
            "rollout.bake_seconds": "10",
            "rollout.steps": "[50, 100]",
        }
        return [f"{name}={value}" for name, value in settings.items()]

    def contract(self) -> Tree:
        """The endpoints that the platform chart will write, for the namespace of step pods."""
        data: Tree = self.rendered("ConfigMap", "contract")["data"]
        return data

    def registry(self) -> tuple[Tree, Tree]:
        """The chart's claim of the data registry and the job that makes the repository, for the namespace of step pods."""
        claim, job = self.rendered("PersistentVolumeClaim", "registry"), self.rendered("Job", "registry")
        for one in (claim, job):
            one["metadata"] = {"name": one["metadata"]["name"], "namespace": self.answers.kubeflow_namespace}
        return claim, job

    def rendered(self, kind: str, component: str) -> Tree:
        """An object of the platform chart."""
        rendered = load("imagewright").render(self.platform_values(), name=self.name, namespace=self.name)
        objects = [one for template, text in rendered.items() if template.endswith(".yaml") for one in parse(text)]
        found: Tree
        (found,) = [one for one in objects if one["kind"] == kind and one["metadata"]["name"] == f"{self.name}-{component}"]
        return found


@contextmanager
def workspace(cluster: ClusterApi, answers: Answers) -> Iterator[Workspace]:
    """Creates namespace, secrets, the shared claim and copies for step pods; deletes all of it whatever happens, and waits for it to go."""
    space = Workspace(f"imagewright-check-{secrets.token_hex(3)}", answers)
    core = client.CoreV1Api(cluster.api)
    key = {"access-key-id": secrets.token_hex(10), "secret-access-key": secrets.token_hex(20)}
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    claim = {
        "accessModes": ["ReadWriteMany"],
        "storageClassName": answers.shared_storage_class,
        "resources": {"requests": {"storage": "10Gi"}},
    }
    with ExitStack() as undo:
        undo.callback(wait_until_gone, cluster, core, space.name)
        undo.callback(forget, cluster, core.delete_namespace, space.name)
        cluster.call("namespace", core.create_namespace, {"metadata": {"name": space.name, "labels": labels}})
        for name, data in (
            (space.secret, key),
            (f"{space.name}-mlflow", {"password": secrets.token_hex(16)}),
            (f"{space.name}-api-keys", {"api-keys": secrets.token_hex(16)}),
        ):
            cluster.call("secret", core.create_namespaced_secret, space.name, {"metadata": {"name": name}, "stringData": data})
        named = {"metadata": {"name": "training-work"}, "spec": claim}
        cluster.call("claim", core.create_namespaced_persistent_volume_claim, space.name, named)
        steps = answers.kubeflow_namespace
        undo.callback(forget, cluster, core.delete_namespaced_secret, space.secret, steps)
        cluster.call("secret", core.create_namespaced_secret, steps, {"metadata": {"name": space.secret}, "stringData": key})
        contract = f"{space.name}-contract"
        undo.callback(forget, cluster, core.delete_namespaced_config_map, contract, steps)
        cluster.call("contract", core.create_namespaced_config_map, steps, {"metadata": {"name": contract}, "data": space.contract()})
        shared, job = space.registry()
        batch, name = client.BatchV1Api(cluster.api), shared["metadata"]["name"]
        undo.callback(forget, cluster, core.delete_namespaced_persistent_volume_claim, name, steps)
        cluster.call("registry", core.create_namespaced_persistent_volume_claim, steps, shared)
        undo.callback(forget, cluster, batch.delete_namespaced_job, name, steps, propagation_policy="Background")
        cluster.call("registry", batch.create_namespaced_job, steps, job)
        yield space


def wait_for_repository(cluster: ClusterApi, space: Workspace) -> None:
    """Returns when the data registry is made. Raises TimeoutError with the state of its job when it is not."""
    batch, until = client.BatchV1Api(cluster.api), time.monotonic() + READY_SECONDS
    while True:
        found = cluster.call("registry", batch.read_namespaced_job, f"{space.name}-registry", space.answers.kubeflow_namespace)
        if found.status.succeeded:
            return
        if time.monotonic() > until:
            where = f"{found.metadata.name} in {found.metadata.namespace}"
            raise TimeoutError(f"job {where} made no repository in {READY_SECONDS:.0f} s: {found.status.conditions or 'it still runs'}")
        cluster.wait(5.0)


def forget(cluster: ClusterApi, delete: Callable[..., Any], *where: str, **options: str) -> None:
    """Deletes something that may be gone already."""
    try:
        cluster.call(f"delete {where[0]}", delete, *where, **options)
    except ApiException as error:
        if error.status != NOT_FOUND:
            raise


def wait_until_gone(cluster: ClusterApi, core: client.CoreV1Api, name: str) -> None:
    """Returns when the namespace is gone. Raises TimeoutError naming it when it stays."""
    until = time.monotonic() + GONE_SECONDS
    while time.monotonic() < until:
        try:
            cluster.call("namespace", core.read_namespace, name)
        except ApiException:
            return
        cluster.wait(5.0)
    raise TimeoutError(f"namespace {name} was deleted and is still there after {GONE_SECONDS:.0f} s: look at what holds it")


def split_image(image: str) -> dict[str, str]:
    """`name@digest` as the charts take it."""
    repository, _, digest = image.partition("@")
    return {"repository": repository, "digest": digest}
