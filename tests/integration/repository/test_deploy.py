"""Test the rendered manifests: valid for the oldest and newest known Kubernetes, and as documented."""

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path

import promql_parser
import pytest
import yaml
from prometheus_client import Counter, Gauge, Histogram

from pointsman.web.metrics import Metrics

ROOT = Path(__file__).parents[3]
DEPLOY = ROOT / "deploy"
FOLDERS = [DEPLOY / "base", *sorted(path for path in (DEPLOY / "overlays").iterdir() if path.is_dir())]
PROBES = {"/health/live", "/health/ready"}


def load_renderer():
    spec = importlib.util.spec_from_file_location("pointsman_deploy_render", DEPLOY / "render.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


renderer = load_renderer()


@pytest.fixture(scope="module", params=FOLDERS, ids=lambda folder: folder.name)
def resources(request):
    return renderer.render(request.param)


def of_kind(resources, *kinds):
    return [resource for resource in resources if resource["kind"] in kinds]


def pods(resources):
    return {
        f"{resource['kind']}/{resource['metadata']['name']}": resource["spec"]["template"]
        for resource in of_kind(resources, "Deployment", "Job")
    }


def containers(resources):
    return [container for pod in pods(resources).values() for container in pod["spec"]["containers"]]


def selects(selector, labels) -> bool:
    return bool(selector) and selector.items() <= labels.items()


def test_they_are_valid(resources):
    oldest, newest = renderer.check(resources)
    assert oldest != newest


def test_a_mistake_is_found(resources):
    broken = json.loads(json.dumps(of_kind(resources, "PodDisruptionBudget")[0]))
    broken["spec"]["minAvailabel"] = 1
    with pytest.raises(renderer.RenderError, match="minAvailabel"):
        renderer.check([broken])


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_our_renderer_agrees_with_kustomize(folder):
    if renderer.kustomize() is None:
        pytest.skip("no kustomize 5 is installed, alone or in kubectl")

    def ordered(resources):
        return sorted(resources, key=lambda resource: (resource["kind"], resource["metadata"]["name"]))

    assert ordered(renderer.render(folder, builtin=True)) == ordered(renderer.render(folder))


def test_selectors_match(resources):
    """Service, disruption budget and deployment mean the service's pods and not the migration's."""
    deployment = of_kind(resources, "Deployment")[0]
    meant = deployment["spec"]["template"]["metadata"]["labels"]
    selectors = [
        deployment["spec"]["selector"]["matchLabels"],
        *(service["spec"]["selector"] for service in of_kind(resources, "Service")),
        *(budget["spec"]["selector"]["matchLabels"] for budget in of_kind(resources, "PodDisruptionBudget")),
    ]
    assert len(selectors) == 3
    for selector in selectors:
        assert selects(selector, meant)
        for job in of_kind(resources, "Job"):
            assert not selects(selector, job["spec"]["template"]["metadata"]["labels"])


def test_ports_and_probes_exist(resources):
    deployment = of_kind(resources, "Deployment")[0]
    container = deployment["spec"]["template"]["spec"]["containers"][0]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports == {"http": 8080}
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert container[probe]["httpGet"]["port"] in ports
    assert {container[probe]["httpGet"]["path"] for probe in ("startupProbe", "livenessProbe")} == {
        "/health/live"
    }
    assert container["readinessProbe"]["httpGet"]["path"] == "/health/ready"
    assert {container[probe]["httpGet"]["path"] for probe in container if probe.endswith("Probe")} <= PROBES
    service = of_kind(resources, "Service")[0]
    assert [port["targetPort"] for port in service["spec"]["ports"]] == ["http"]
    offered = {port["name"] for port in service["spec"]["ports"]}
    for ingress in of_kind(resources, "Ingress"):
        for rule in ingress["spec"]["rules"]:
            for path in rule["http"]["paths"]:
                backend = path["backend"]["service"]
                assert backend["name"] == service["metadata"]["name"]
                assert backend["port"]["name"] in offered


def test_pods_have_no_powers(resources):
    pod_specs = pods(resources)
    assert len(pod_specs) == 2
    for pod in pod_specs.values():
        spec = pod["spec"]
        assert spec["automountServiceAccountToken"] is False
        assert spec["enableServiceLinks"] is False, "POINTSMAN_PORT and the like would come from the cluster"
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["runAsUser"] == 10001
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in spec["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert container["resources"]["requests"].keys() == {"cpu", "memory"}
            assert container["resources"]["limits"]["memory"] == "256Mi"
    assert (
        of_kind(resources, "Deployment")[0]["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] >= 45
    )


def test_some_replicas_may_always_be_drained(resources):
    replicas = of_kind(resources, "Deployment")[0]["spec"]["replicas"]
    assert replicas >= 2
    for budget in of_kind(resources, "PodDisruptionBudget"):
        assert 1 <= budget["spec"]["minAvailable"] < replicas


def test_what_is_referred_to_is_there(resources):
    """Config maps and service accounts are in the manifests; mounted volumes are declared; secrets are created by hand."""
    maps = {resource["metadata"]["name"] for resource in of_kind(resources, "ConfigMap")}
    accounts = {resource["metadata"]["name"] for resource in of_kind(resources, "ServiceAccount")}
    named = set()
    for pod in pods(resources).values():
        spec = pod["spec"]
        assert spec["serviceAccountName"] in accounts
        volumes = {volume["name"] for volume in spec["volumes"]}
        named |= {volume["configMap"]["name"] for volume in spec["volumes"] if "configMap" in volume}
        for container in spec["containers"]:
            assert {mount["name"] for mount in container["volumeMounts"]} == volumes
            named |= {
                entry["configMapRef"]["name"]
                for entry in container.get("envFrom", [])
                if "configMapRef" in entry
            }
    assert named == maps
    assert all(re.fullmatch(r".+-[a-z0-9]{10}", name) for name in maps), "a change of settings rolls the pods"


def test_secrets_are_never_literals(resources):
    for resource in of_kind(resources, "ConfigMap"):
        assert not re.search(
            r"(?m)^\w*(_KEYS|_TOKEN|_DATABASE_URL|_SMTP_URL)\s*:", yaml.safe_dump(resource["data"])
        )
    by_name = {entry["name"]: entry for container in containers(resources) for entry in container["env"]}
    for name in (
        "POINTSMAN_DATABASE_URL",
        "POINTSMAN_SECRET_KEYS",
        "POINTSMAN_ADMIN_TOKEN",
        "POINTSMAN_SMTP_URL",
    ):
        assert by_name[name]["valueFrom"]["secretKeyRef"]["key"] == name
    assert by_name["POINTSMAN_SMTP_URL"]["valueFrom"]["secretKeyRef"]["optional"] is True


def test_commands_are_those_of_the_program(resources):
    assert [container["args"] for container in containers(resources)] == [["serve"], ["migrate"]]


def test_the_overlay_changes_what_it_says():
    resources = renderer.render(DEPLOY / "overlays" / "example", builtin=True)
    assert of_kind(resources, "Deployment")[0]["spec"]["replicas"] == 3
    assert {container["image"] for container in containers(resources)} == {
        "registry.example.com/pointsman:0.1.0"
    }
    namespaces = {r["metadata"].get("namespace") for r in resources if r["kind"] != "Namespace"}
    assert namespaces == {"pointsman"}
    data = {key: value for r in of_kind(resources, "ConfigMap") for key, value in r["data"].items()}
    assert data["POINTSMAN_PUBLIC_URL"] == "https://pointsman.example.com"
    assert data["POINTSMAN_LOG"] == "json"


@pytest.mark.parametrize(
    ("kustomization", "message"),
    [
        ("helmCharts: []", "does not know helmCharts"),
        ("configMapGenerator: [{name: x, envs: [y]}]", "does not know envs"),
        ("configMapGenerator: [{name: x, behavior: merge}]", "config map x can't be merged"),
        ("replicas: [{name: x, count: 1}]", "there is no Deployment x"),
        ("patches: [{path: p.yaml, target: {}}]", "does not know target"),
        ("resources: [crd.yaml]", "does not know Strange"),
    ],
)
def test_our_renderer_refuses_what_it_does_not_know(tmp_path, kustomization, message):
    (tmp_path / "kustomization.yaml").write_text(kustomization)
    (tmp_path / "crd.yaml").write_text("{apiVersion: v1, kind: Strange, metadata: {name: x}}")
    with pytest.raises(renderer.RenderError, match=message):
        renderer.render(tmp_path, builtin=True)


@pytest.mark.parametrize("options", [[], ["--builtin"]])
def test_the_command_checks_and_prints(options):
    command = [sys.executable, DEPLOY / "render.py", *options]
    checked = subprocess.run([*command, "--check", *FOLDERS], capture_output=True, text=True, check=True)
    assert checked.stdout.count("valid in Kubernetes") == len(FOLDERS)
    printed = subprocess.run([*command, FOLDERS[-1]], capture_output=True, text=True, check=True)
    assert of_kind(list(yaml.safe_load_all(printed.stdout)), "Deployment")


# -- monitoring --------------------------------------------------------------------------------------------------

MONITORING = DEPLOY / "monitoring"
RULES = yaml.safe_load((MONITORING / "rules.yaml").read_text("utf-8"))
ALERTS = [rule for group in RULES["groups"] for rule in group["rules"]]
BOARD = json.loads((MONITORING / "dashboard.json").read_text("utf-8"))
PANELS = [panel for panel in BOARD["panels"] if panel["type"] != "row"]
# what Prometheus adds to every series when it scrapes it
SCRAPED = {"instance", "job", "le"}


def our_series() -> dict[str, set[str]]:
    """Every series that a replica can show, with its labels."""
    suffixes = {Counter: ["_total"], Histogram: ["_bucket", "_count", "_sum"], Gauge: [""]}
    return {
        metric._name + suffix: set(metric._labelnames)
        for metric in vars(Metrics()).values()
        for suffix in suffixes.get(type(metric), [])
    }


SERIES = our_series()


def expressions() -> list:
    rules = [pytest.param(rule["expr"], id=rule["alert"]) for rule in ALERTS]
    return rules + [
        pytest.param(target["expr"], id=panel["title"]) for panel in PANELS for target in panel["targets"]
    ]


@pytest.mark.parametrize("expression", expressions())
def test_every_metric_and_label_of_the_monitoring_exists(expression):
    bare = re.sub(r'"[^"]*"', '""', expression)
    names = set(re.findall(r"\bpointsman_\w+", bare))
    assert names and names <= set(SERIES), names - set(SERIES)
    for name, filtered in re.findall(r"(pointsman_\w+)\{([^}]*)\}", bare):
        assert set(re.findall(r"(\w+)(?:=~|!=|=)", filtered)) <= SERIES[name] | SCRAPED, name
    kept = {
        label.strip() for group in re.findall(r"\b(?:by|on) \(([^)]*)\)", bare) for label in group.split(",")
    }
    assert kept <= set().union(*(SERIES[name] for name in names)) | SCRAPED


@pytest.mark.parametrize("expression", expressions())
def test_the_monitoring_is_written_in_prometheus_own_grammar(expression):
    promql_parser.parse(expression)


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: rule["alert"])
def test_every_alert_says_what_to_do_and_where_it_is_told(rule):
    assert rule["labels"]["severity"] in {"critical", "warning", "info"}
    documentation = (ROOT / "docs" / "operations.md").read_text("utf-8")
    anchors = {
        re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
        for title in re.findall(r"^#+ (.+)$", documentation, re.MULTILINE)
    }
    say, _, anchor = rule["annotations"]["runbook"].rpartition(": docs/operations.md#")
    assert say and anchor in anchors, rule["annotations"]["runbook"]
    assert f"`{rule['alert']}`" in documentation
    # a summary names only labels that its expression keeps
    used = set(re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"]))
    assert all(re.search(rf"by \([^)]*\b{label}\b", rule["expr"]) for label in used)


def test_no_alert_is_told_that_is_not_there():
    documentation = (ROOT / "docs" / "operations.md").read_text("utf-8")
    assert set(re.findall(r"`(Pointsman[A-Z]\w+)`", documentation)) == {rule["alert"] for rule in ALERTS}


def test_every_metric_is_on_the_dashboard_or_in_an_alert():
    """Every metric is used."""
    shown = " ".join(expression.values[0] for expression in expressions())
    unseen = {name for name in SERIES if not re.search(rf"\b{name}\b", shown)}
    assert {name for name in unseen if not name.endswith(("_bucket", "_count", "_sum"))} == set()


def test_the_dashboard_is_whole():
    assert len({panel["id"] for panel in BOARD["panels"]}) == len(BOARD["panels"])
    taken = set()
    for panel in BOARD["panels"]:
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not cells & taken and place["x"] + place["w"] <= 24
        taken |= cells
    for panel in PANELS:
        assert panel["description"] and panel["datasource"]["uid"] == "${datasource}"


def test_the_rules_become_a_prometheusrule_as_the_page_says():
    """The command of deploy/README.md, with the end of the pipe left to us."""
    [command] = re.findall(
        r"^ *(\{ printf .*?)\| kubectl", (DEPLOY / "README.md").read_text("utf-8"), re.MULTILINE | re.DOTALL
    )
    done = subprocess.run(["sh", "-c", command], cwd=ROOT, capture_output=True, text=True, check=True)
    manifest = yaml.safe_load(done.stdout)
    assert (manifest["apiVersion"], manifest["kind"]) == ("monitoring.coreos.com/v1", "PrometheusRule")
    assert manifest["spec"] == RULES
