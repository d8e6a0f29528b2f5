"""How many findings does our pod policy have on our rendered charts, and on the manifests another project publishes?

Run: PYTHONPATH=tests python benchmarks/pod_policy.py --peer "Kubeflow Pipelines COMMIT" --manifests FOLDER
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml
from helm.charts import ALL_CASES, manifests

from imagewright.launch.policy import check_manifests, pod_specs

NO_OBJECTS = ("CustomResourceDefinition", "Kustomization", None)
OWN_RULES = ("image", "readOnlyRootFilesystem", "automountServiceAccountToken", "limits.cpu", "limits.memory")


def read_manifests(folder: Path) -> tuple[list[Mapping[str, Any]], int]:
    """Return the objects with pods of every YAML file below a folder, and how many files are no plain YAML.

    Kustomize patches are left out: they are parts of objects, and would be counted twice with half their fields.
    """
    found, unreadable = [], 0
    for path in sorted([*folder.rglob("*.yaml"), *folder.rglob("*.yml")]):
        if "patch" in str(path.relative_to(folder)):
            continue
        try:
            documents = list(yaml.load_all(path.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader))
        except yaml.YAMLError:
            unreadable += 1
            continue
        found += [one for one in documents if isinstance(one, dict) and one.get("kind") not in NO_OBJECTS]
    return [one for one in found if any(_is_whole(pod) for _, pod, _ in pod_specs(one))], unreadable


def _is_whole(pod: Mapping[str, Any]) -> bool:
    return all("image" in container for container in pod["containers"])


def describe(title: str, objects: Iterable[Mapping[str, Any]]) -> None:
    """Print pods, findings and the rules broken most often."""
    objects = list(objects)
    num_pods = sum(len(list(pod_specs(one))) for one in objects)
    findings = check_manifests(objects)
    num_ours = sum(finding.path.endswith(OWN_RULES) for finding in findings)
    print(f"{title}: {num_pods} pods, {len(findings)} findings")
    print(f"  of the restricted standard: {len(findings) - num_ours}, of our own rules: {num_ours}")
    rules = Counter(finding.path.rpartition("]")[2].strip(".") or finding.path for finding in findings)
    for rule, count in rules.most_common():
        print(f"  {count:4d}  {rule}")


def main() -> None:
    """Compare the renders of all chart cases with a folder of published manifests."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peer", required=True, help="name and version of what lies in the folder")
    parser.add_argument("--manifests", type=Path, required=True, help="folder of published manifests")
    arguments = parser.parse_args()
    describe(f"Imagewright charts, {len(ALL_CASES)} value files", [one for chart, case in ALL_CASES for one in manifests(chart, case)])
    objects, unreadable = read_manifests(arguments.manifests)
    describe(f"{arguments.peer}, objects with pods, patches left out", objects)
    print(f"files of the peer that are no plain YAML: {unreadable}")


if __name__ == "__main__":
    main()
