"""examples/deploy: each file against its schema, against the command line that it calls, and against our own config.

What a file says twice (a port, a path, a variable, an exit code) has to agree.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import tomllib
from configparser import ConfigParser
from importlib import resources
from pathlib import Path

import check_jsonschema
import jsonschema
import kubernetes_validate
import pytest
import yaml
from kafka_help import fill, until, values

from stream_rnn import cli, commands, config, exposition, listen

ROOT = Path(__file__).parent.parent
HERE = ROOT / "examples" / "deploy"
SECRETS = {"KAFKA_SERVERS": "kafka:9092", "KAFKA_PASSWORD": "p", "STREAM_RNN_TOKEN": "t", "POD_NAME": "pod-0"}
COMPOSE = yaml.safe_load((HERE / "compose.yaml").read_text())
OBJECTS = {o["kind"]: o for o in yaml.safe_load_all((HERE / "kubernetes.yaml").read_text())}
POD = OBJECTS["StatefulSet"]["spec"]["template"]["spec"]
(CONTAINER,) = POD["containers"]


def job(text, tmp_path):
    """The checked config, and the names of the variables that it wants."""
    wanted = set(re.findall(r"\$\{(\w+)\}", "\n".join(s for s in text.splitlines() if not s.startswith("#"))))
    (tmp_path / "job.toml").write_text(text)
    return config.load(tmp_path / "job.toml", (), {name: SECRETS[name] for name in wanted}), wanted


def accepted(command):
    """Our command line takes these arguments."""
    args = cli.parser().parse_args(command)
    assert args.command in ("run", "status")
    return args


# systemd


def unit():
    found = ConfigParser(interpolation=None, strict=False, delimiters="=", comment_prefixes="#")
    found.optionxform = str
    found.read_string((HERE / "stream-rnn@.service").read_text())
    return found


def analyzed(tmp_path, *arguments):
    """What systemd-analyze says of the unit, with a program that there is."""
    tool = shutil.which("systemd-analyze")
    if tool is None:
        pytest.skip("systemd-analyze is not installed")
    text = (HERE / "stream-rnn@.service").read_text()
    here = tmp_path / "stream-rnn@rooms.service"
    here.write_text(text.replace("/opt/stream-rnn/bin/stream-rnn", sys.executable))
    return subprocess.run([tool, *arguments, str(here)], check=False, capture_output=True, text=True, timeout=60)


def test_systemd_takes_every_line_of_the_unit(tmp_path):
    found = analyzed(tmp_path, "verify", "--man=no")
    assert (found.returncode, found.stdout + found.stderr) == (0, "")


def test_the_unit_is_hardened(tmp_path):
    found = analyzed(tmp_path, "security", "--offline=true", "--threshold=15")
    assert found.returncode == 0, found.stdout  # an exposure of 1.5 of 10 at most


def test_the_unit_agrees_with_the_daemon():
    service = unit()["Service"]
    assert service["Type"] == "notify"
    assert set(map(int, service["RestartPreventExitStatus"].split())) == {cli.USAGE, commands.DISAGREES}
    program, *command = shlex.split(service["ExecStart"])
    assert program.endswith("/stream-rnn")
    assert accepted(command).config == "/etc/stream-rnn/%i.toml"
    assert "HUP" in service["ExecReload"]
    assert service["WorkingDirectory"] == f"%S/{service['StateDirectory']}"
    assert service["Environment"] == f"STREAM_RNN_CACHE_DIR=%C/{service['CacheDirectory']}"


# Docker


def instructions():
    """(name, rest) of each instruction of the Dockerfile."""
    text = re.sub(r"\\\n", " ", (HERE / "Dockerfile").read_text())
    return [tuple(s.split(None, 1)) for s in text.splitlines() if s.strip() and not s.startswith("#")]


def test_the_image_runs_our_command_as_nobody():
    found = instructions()
    known = {"FROM", "WORKDIR", "COPY", "RUN", "ENV", "USER", "VOLUME", "EXPOSE", "STOPSIGNAL", "HEALTHCHECK",
             "ENTRYPOINT", "CMD"}  # fmt: skip
    assert {name for name, _ in found} <= known
    last = dict(found)
    assert last["USER"].split(":")[0] not in ("root", "0")
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    (program,) = json.loads(last["ENTRYPOINT"])
    assert program in scripts
    assert accepted(json.loads(last["CMD"])).config == "/etc/stream-rnn/job.toml"
    probe = json.loads(last["HEALTHCHECK"].split("CMD", 1)[1])
    assert probe[0] == program
    assert accepted(probe[1:]).probe == "live"


def test_the_image_has_all_that_it_is_made_of():
    copies = [rest.split()[:-1] for name, rest in instructions() if name == "COPY" and "--from" not in rest]
    copied = [name for names in copies for name in names]
    kept = {s[1:] for s in (HERE / "Dockerfile.dockerignore").read_text().split() if s.startswith("!")}
    for name in copied:
        assert (ROOT / name).exists()
        assert name in kept
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted = {settings["project"]["readme"], *settings["project"]["license-files"], "pyproject.toml",
              *(p.split(".")[0] for p in settings["tool"]["setuptools"]["packages"])}  # fmt: skip
    assert wanted | set(settings["tool"]["setuptools"]["package-dir"].values()) <= set(copied)


def test_compose_follows_its_schema():
    file = resources.files(check_jsonschema) / "builtin_schemas" / "vendor" / "compose-spec.json"
    jsonschema.Draft202012Validator(json.loads(file.read_text())).validate(COMPOSE)


def test_compose_agrees_with_its_job(tmp_path):
    service = COMPOSE["services"]["forecasts"]
    made, wanted = job((HERE / "job.toml").read_text(), tmp_path)
    assert wanted == set(service["environment"])
    assert (HERE / service["build"]["context"] / service["build"]["dockerfile"]).is_file()
    (port,) = service["ports"]
    assert port.split(":")[-1] == str(listen.address_of(made.http.listen)[1])
    mounts = dict(reversed(v.split(":")[:2]) for v in service["volumes"])
    assert (HERE / mounts["/etc/stream-rnn/job.toml"]).is_file()
    assert made.state.path.startswith("/var/lib/stream-rnn/")
    assert mounts["/var/lib/stream-rnn"] in COMPOSE["volumes"]
    topics = COMPOSE["services"]["topics"]["command"][0]
    for end in (made.source, made.sink, made.dead_letter):
        assert f" {end.settings.topic}" in topics.split("do")[0]
    assert service["environment"]["KAFKA_SERVERS"] == "kafka:9092"


@pytest.mark.kafka
def test_the_job_of_compose_runs_on_a_real_broker(kafka, tmp_path):
    topics = re.search(r"for topic in (.*);", COMPOSE["services"]["topics"]["command"][0])[1].split()
    for topic in topics:
        kafka.create(topic, partitions=4)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    text = (HERE / "job.toml").read_text()
    for ours, here in (("/var/lib/stream-rnn/state", str(tmp_path / "state")), ("0.0.0.0:8080", f"0.0.0.0:{port}")):
        assert ours in text
        text = text.replace(ours, here)
    (tmp_path / "job.toml").write_text(text)
    environment = os.environ | {"KAFKA_SERVERS": kafka.address, "STREAM_RNN_TOKEN": "t0p-secret"}
    command = [sys.executable, "-m", "stream_rnn.cli"]
    readings = [{"pump": f"p{i % 3}", "at": 1.7e9 + i, "temperature": 60.0 + i % 5} for i in range(60)]
    fill(kafka.address, "readings", [*(json.dumps(r).encode() for r in readings), b"no json"], partition=2)
    process = subprocess.Popen([*command, "run", str(tmp_path / "job.toml")], env=environment, stderr=subprocess.PIPE)

    def probe():
        asked = [*command, "status", str(tmp_path / "job.toml"), "--probe", "ready"]
        return subprocess.run(asked, env=environment, check=False, capture_output=True).returncode == 0

    try:
        until(probe, 120)
        until(lambda: len(values(kafka.address, "forecasts", 2)) == 60)
        until(lambda: values(kafka.address, "readings.dead", 2) == [b"no json"])
        process.terminate()
        assert process.wait(60) == 0
        assert b"t0p-secret" not in process.stderr.read()
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


# Kubernetes


@pytest.mark.parametrize("kind", OBJECTS)
def test_kubernetes_takes_every_field(kind):
    kubernetes_validate.validate(OBJECTS[kind], "1.31", strict=True)


def test_the_pod_agrees_with_its_job(tmp_path):
    made, wanted = job(OBJECTS["ConfigMap"]["data"]["job.toml"], tmp_path)
    secret = re.findall(r"--from-literal=(\w+)", (HERE / "kubernetes.yaml").read_text())
    assert wanted == {e["name"] for e in CONTAINER["env"]} | set(secret)
    (opened,), (served,) = CONTAINER["ports"], OBJECTS["Service"]["spec"]["ports"]
    assert opened["containerPort"] == served["port"] == listen.address_of(made.http.listen)[1]
    assert opened["name"] == served["targetPort"]
    assert accepted(CONTAINER["args"]).config == "/etc/stream-rnn/job.toml"
    for probe, wanted_of_it in (("startupProbe", "live"), ("livenessProbe", "live"), ("readinessProbe", "ready")):
        program, *command = CONTAINER[probe]["exec"]["command"]
        assert program == "stream-rnn"
        assert accepted(command).probe == wanted_of_it
    user = next(rest for name, rest in instructions() if name == "USER").split(":")[0]
    assert str(POD["securityContext"]["runAsUser"]) == user
    mounts = {m["mountPath"]: m["name"] for m in CONTAINER["volumeMounts"]}
    assert made.state.path.startswith("/var/lib/stream-rnn/")
    claims = [c["metadata"]["name"] for c in OBJECTS["StatefulSet"]["spec"]["volumeClaimTemplates"]]
    assert mounts["/var/lib/stream-rnn"] in claims
    assert made.kafka.options["group.instance.id"] == "pod-0"


def test_labels_and_names_meet():
    sets = OBJECTS["StatefulSet"]
    labels = sets["spec"]["template"]["metadata"]["labels"].items()
    for selector in (sets["spec"]["selector"]["matchLabels"], OBJECTS["Service"]["spec"]["selector"],
                     OBJECTS["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"]):  # fmt: skip
        assert selector.items() <= labels
    assert sets["spec"]["serviceName"] == OBJECTS["Service"]["metadata"]["name"]
    assert POD["volumes"][0]["configMap"]["name"] == OBJECTS["ConfigMap"]["metadata"]["name"]


# Prometheus


def test_alerts_in_the_docs_ask_for_metrics_that_there_are():
    text = (ROOT / "docs" / "running.md").read_text()
    known = {m.full_name for m in exposition.METRICS} | {f"stream_rnn_{name}" for name, *_ in exposition.PROCESS}
    known |= {f"{m.full_name}_bucket" for m in exposition.METRICS if m.kind == "histogram"}
    blocks = re.findall(r"^```(\w*)\n(.*?)^```", text, re.M | re.S)
    asked = set(re.findall(r"\bstream_rnn_\w+", "".join(b for kind, b in blocks if kind in ("", "yaml"))))
    assert len(asked) > 10
    assert asked <= known
    documents = [yaml.safe_load(b) for kind, b in blocks if kind == "yaml"]
    rules = [r for d in documents for g in d.get("groups", ()) for r in g["rules"]]
    assert len({r["alert"] for r in rules}) == len(rules) > 5
    assert all(set(r) <= {"alert", "expr", "for"} for r in rules)
