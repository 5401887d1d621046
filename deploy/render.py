# ruff: noqa: INP001 - a script beside what it renders, not a package
"""Render kustomizations and check the result against Kubernetes' own schemas.

kustomize does the rendering where it is installed, alone or in kubectl. Elsewhere a small renderer of our own does:
it knows the part of kustomize used here and refuses everything else.

    python deploy/render.py deploy/overlays/example           prints the manifests
    python deploy/render.py --check deploy/base deploy/...    checks them, for the oldest and newest version known
"""

from __future__ import annotations

import argparse
import copy
import hashlib
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

Resource = dict[str, Any]

_KNOWN = {
    "apiVersion",
    "kind",
    "namespace",
    "resources",
    "images",
    "replicas",
    "configMapGenerator",
    "patches",
}
_NAMESPACED = {
    *(
        "ConfigMap",
        "CronJob",
        "Deployment",
        "Ingress",
        "Job",
        "NetworkPolicy",
        "PodDisruptionBudget",
        "Service",
    ),
    *("ServiceAccount", "ServiceMonitor", "PrometheusRule"),
}
_LISTS = {
    "containers": "name",
    "initContainers": "name",
    "env": "name",
    "volumes": "name",
    "volumeMounts": "mountPath",
}
_HASH_LETTERS = str.maketrans("013ae", "ghkmt")  # kustomize's, lest a hash spells a word


class RenderError(Exception):
    """A kustomization that can't be rendered, or a manifest that is not valid."""


def render(folder: Path, *, builtin: bool = False) -> list[Resource]:
    """Return the resources of a kustomization."""
    command = None if builtin else kustomize()
    if command is None:
        return _render(folder)
    done = subprocess.run([*command, str(folder)], capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        raise RenderError(f"{folder}: {done.stderr.strip()}")
    return [resource for resource in yaml.safe_load_all(done.stdout) if resource]


def kustomize() -> list[str] | None:
    """Return the command that renders, if kustomize 5 is installed."""
    try:
        if shutil.which("kustomize"):
            output = _ask("kustomize", "version")
            if re.search(r"\bv?5\.", output):
                return ["kustomize", "build"]
        if shutil.which("kubectl"):
            version = json.loads(_ask("kubectl", "version", "--client", "--output=json"))
            if version.get("kustomizeVersion", "").startswith("v5."):
                return ["kubectl", "kustomize"]
    except (OSError, ValueError, subprocess.SubprocessError):
        pass
    return None


def check(resources: list[Resource]) -> list[str]:
    """Return the Kubernetes versions against whose schemas the resources are valid. Raises RenderError for the first that is not."""
    import kubernetes_validate  # type: ignore[import-untyped]  # noqa: PLC0415 - needed to check, not to render

    known = kubernetes_validate.utils.all_versions()
    versions = [kubernetes_validate.utils.major_minor(version) for version in (known[0], known[-1])]
    for version in versions:
        for resource in resources:
            name = f"{resource['kind']}/{resource['metadata']['name']}"
            try:
                kubernetes_validate.validate(resource, version, strict=True)
            except kubernetes_validate.ValidationError as error:
                place = ".".join(str(part) for part in error.path)
                raise RenderError(
                    f"{name} is not valid in Kubernetes {version}: {place}: {error.message}"
                ) from error
            except kubernetes_validate.SchemaNotFoundError as error:
                raise RenderError(f"{name}: Kubernetes {version} has no {resource['apiVersion']}") from error
    return versions


def _ask(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout  # noqa: S603


# Our own renderer


def _render(folder: Path) -> list[Resource]:
    resources, maps = _accumulate(folder)
    names = {name: f"{name}-{_hash(data)}" for name, data in maps.items()}
    for resource in resources:
        _refer(resource, names)
        if resource["kind"] == "ConfigMap" and resource["metadata"]["name"] in names:
            resource["metadata"]["name"] = names[resource["metadata"]["name"]]
    return resources


def _accumulate(folder: Path) -> tuple[list[Resource], dict[str, dict[str, str]]]:
    """Return the resources of a kustomization and of those below it, and the data of generated config maps."""
    file = folder / "kustomization.yaml"
    spec = yaml.safe_load(file.read_text())
    _only(spec, _KNOWN, file)
    resources: list[Resource] = []
    maps: dict[str, dict[str, str]] = {}
    for entry in spec.get("resources", []):
        path = folder / entry
        if path.is_dir():
            below, maps_below = _accumulate(path)
            resources += below
            maps |= maps_below
        else:
            resources += [resource for resource in yaml.safe_load_all(path.read_text()) if resource]
    for generator in spec.get("configMapGenerator", []):
        _generate(generator, folder, resources, maps)
    for patch in spec.get("patches", []):
        _only(patch, {"path"}, file)
        for change in yaml.safe_load_all((folder / patch["path"]).read_text()):
            _merge(_find(resources, change["kind"], change["metadata"]["name"], file), change, file)
    _transform(spec, resources, file)
    return resources, maps


def _transform(spec: Resource, resources: list[Resource], file: Path) -> None:
    """Set namespace, replicas and images of all resources."""
    for resource in resources:
        if resource["kind"] not in _NAMESPACED | {"Namespace"}:
            raise RenderError(
                f"{file}: the built-in renderer does not know {resource['kind']}; install kustomize 5"
            )
        if "namespace" in spec and resource["kind"] in _NAMESPACED:
            resource["metadata"]["namespace"] = spec["namespace"]
    for entry in spec.get("replicas", []):
        _only(entry, {"name", "count"}, file)
        _find(resources, "Deployment", entry["name"], file)["spec"]["replicas"] = entry["count"]
    for entry in spec.get("images", []):
        _only(entry, {"name", "newName", "newTag", "digest"}, file)
        for container in _containers(resources):
            _set_image(container, entry)


def _generate(
    generator: Resource, folder: Path, resources: list[Resource], maps: dict[str, dict[str, str]]
) -> None:
    """Create a config map, or change one of a kustomization below."""
    _only(generator, {"name", "behavior", "literals", "files"}, folder)
    data = dict(literal.split("=", 1) for literal in generator.get("literals", []))
    for entry in generator.get("files", []):
        key, _, name = entry.rpartition("=")
        data[key or Path(name).name] = (folder / name).read_text()
    name, behavior = generator["name"], generator.get("behavior", "create")
    if (behavior == "create") == (name in maps) or behavior not in ("create", "merge", "replace"):
        raise RenderError(f"{folder}: config map {name} can't be {behavior}d")
    if behavior == "create":
        resources.append({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {}})
    maps[name] = maps[name] | data if behavior == "merge" else data
    _find(resources, "ConfigMap", name, folder)["data"] = maps[name]


def _merge(target: Resource, change: Resource, file: Path) -> None:
    """Return a strategic merge: mappings merge, named lists merge by name, other values are replaced, null removes."""
    for key, value in change.items():
        old = target.get(key)
        if value is None:
            target.pop(key, None)
        elif isinstance(value, dict) and isinstance(old, dict):
            _merge(old, value, file)
        elif isinstance(value, list) and any(isinstance(item, dict) for item in value):
            if key not in _LISTS:
                raise RenderError(
                    f"{file}: the built-in renderer can't patch the list {key}; install kustomize 5"
                )
            name = _LISTS[key]
            present = {item[name]: item for item in old or []}
            for item in value:
                if item[name] in present:
                    _merge(present[item[name]], item, file)
            target[key] = [item for item in value if item[name] not in present] + (old or [])
        else:
            target[key] = copy.deepcopy(value)


def _set_image(container: Resource, entry: Resource) -> None:
    name = re.sub(r"(:[^:/@]+)?(@.*)?$", "", container["image"])
    if name == entry["name"]:
        ending = f":{entry['newTag']}" if "newTag" in entry else container["image"][len(name) :]
        if "digest" in entry:
            ending = f"@{entry['digest']}"
        container["image"] = entry.get("newName", name) + ending


def _containers(resources: list[Resource]) -> Iterator[Resource]:
    for resource in resources:
        spec = resource.get("spec", {})
        spec = spec.get("jobTemplate", {}).get("spec", spec).get("template", {}).get("spec", {})
        yield from spec.get("initContainers", [])
        yield from spec.get("containers", [])


def _refer(value: Any, names: dict[str, str]) -> None:
    """Replace references to generated config maps with their full names."""
    if isinstance(value, list):
        for item in value:
            _refer(item, names)
    elif isinstance(value, dict):
        for key, item in value.items():
            if key in ("configMap", "configMapRef", "configMapKeyRef") and item.get("name") in names:
                item["name"] = names[item["name"]]
            _refer(item, names)


def _hash(data: dict[str, str]) -> str:
    """Return the hash at the end of a config map's name, as kustomize computes it: over Go's JSON, without the name."""
    whole = {"data": data, "kind": "ConfigMap", "name": ""}
    text = json.dumps(whole, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    for letter in "<>&\u2028\u2029":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return hashlib.sha256(text.encode()).hexdigest()[:10].translate(_HASH_LETTERS)


def _find(resources: list[Resource], kind: str, name: str, file: Path) -> Resource:
    for resource in resources:
        if (resource["kind"], resource["metadata"]["name"]) == (kind, name):
            return resource
    raise RenderError(f"{file}: there is no {kind} {name}")


def _only(spec: Resource, known: set[str], file: Path) -> None:
    unknown = sorted(set(spec) - known)
    if unknown:
        raise RenderError(
            f"{file}: the built-in renderer does not know {', '.join(unknown)}; install kustomize 5"
        )


def main() -> int:
    """Render or check the folders of the command line."""
    parser = argparse.ArgumentParser(description="Render kustomizations, or check them.")
    parser.add_argument(
        "--check", action="store_true", help="check against Kubernetes' schemas, print no manifests"
    )
    parser.add_argument("--builtin", action="store_true", help="do not use an installed kustomize")
    parser.add_argument("folders", nargs="+", type=Path)
    options = parser.parse_args()
    try:
        for folder in options.folders:
            resources = render(folder, builtin=options.builtin)
            if options.check:
                versions = " and ".join(check(resources))
                sys.stdout.write(f"{folder}: {len(resources)} resources, valid in Kubernetes {versions}\n")
            else:
                yaml.safe_dump_all(resources, sys.stdout, sort_keys=False)
    except (RenderError, OSError, yaml.YAMLError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
