"""launch/gke.sh, and the JobSet that it fills in."""

import pathlib
import re
import shlex
import signal
import subprocess

import yaml

from hrm_jax.machines import roll_call
from tests.launch_scripts import LAUNCH, PREEMPTED, run, tool


def render(*flags: str) -> dict:
  code, out, err = run("gke.sh", "render", *flags)
  assert (code, err) == (0, "")
  return yaml.safe_load(out)


EXAMPLE = yaml.safe_load((LAUNCH / "gke_jobset.yaml").read_text())
ARGS = EXAMPLE["spec"]["replicatedJobs"][0]["template"]["spec"]["template"][
  "spec"
]["containers"][0]["args"]
TRAINING = ("--", *ARGS[:4])


def check_jobset(jobset: dict, folder: pathlib.Path) -> dict:
  """What the JobSet controller asks for; returns the spec of the job."""
  assert jobset["apiVersion"] == "jobset.x-k8s.io/v1alpha2"
  assert jobset["kind"] == "JobSet"
  assert set(jobset) == {"apiVersion", "kind", "metadata", "spec"}
  spec = jobset["spec"]
  assert set(spec) == {"failurePolicy", "network", "replicatedJobs"}
  assert set(spec["network"]) == {
    "enableDNSHostnames",
    "publishNotReadyAddresses",
  }
  policy = spec["failurePolicy"]
  assert set(policy) == {"maxRestarts", "rules"}
  for rule in policy["rules"]:
    assert set(rule) == {"name", "action", "onJobFailureReasons"}
    assert re.fullmatch(r"[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?", rule["name"])
  (replicated,) = spec["replicatedJobs"]
  assert set(replicated) == {"name", "replicas", "template"}
  job = {
    "apiVersion": "batch/v1",
    "kind": "Job",
    "metadata": {"name": "job"},
    **replicated["template"],
  }
  path = folder / "job.yaml"
  path.write_text(yaml.safe_dump(job))
  done = subprocess.run(
    [tool("kubernetes-validate"), "--strict", str(path)],
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stdout + done.stderr
  return job["spec"]


def test_the_example_is_a_valid_jobset(tmp_path):
  check_jobset(EXAMPLE, tmp_path)


def test_preemption_restarts_all_pods_however_often(tmp_path):
  job = check_jobset(EXAMPLE, tmp_path)
  codes, disruption = job["podFailurePolicy"]["rules"]
  assert codes["action"] == disruption["action"] == "FailJob"
  assert codes["onExitCodes"]["values"] == [
    roll_call.EXIT_CODE,
    PREEMPTED,
    128 + signal.SIGABRT,
  ]
  assert disruption["onPodConditions"][0]["type"] == "DisruptionTarget"
  # The reason that a job fails for when FailJob matched.
  (rule,) = EXAMPLE["spec"]["failurePolicy"]["rules"]
  assert rule["onJobFailureReasons"] == ["PodFailurePolicy"]
  assert rule["action"] == "RestartJobSetAndIgnoreMaxRestarts"
  assert job["backoffLimit"] == 0
  assert job["completionMode"] == "Indexed"
  assert job["template"]["spec"]["restartPolicy"] == "Never"


def test_rendered_with_the_defaults_it_is_the_example():
  assert render(*TRAINING) == EXAMPLE


def test_rendering_fills_in_hosts_and_arguments(tmp_path):
  jobset = render(
    *("--name=maze", "--image=r/i:2", "--hosts=5", "--devices=4"),
    *("--accelerator=nvidia-l4", "--claim=disk", "--", "-c", 'say "\\$"'),
  )
  job = check_jobset(jobset, tmp_path)
  pod = job["template"]["spec"]
  (container,) = pod["containers"]
  assert (job["completions"], job["parallelism"]) == (5, 5)
  assert container["image"] == "r/i:2"
  assert container["args"] == [
    "-c",
    'say "\\$$"',  # Kubernetes makes one of two.
    "--coordinator=maze-train-0-0.maze:5510",
    "--num-processes=5",
    "--process-id=$(PROCESS_ID)",
  ]
  assert container["resources"]["limits"] == {"nvidia.com/gpu": 4}
  assert pod["nodeSelector"] == {
    "cloud.google.com/gke-accelerator": "nvidia-l4"
  }
  assert pod["volumes"][0]["persistentVolumeClaim"] == {"claimName": "disk"}


def test_on_tpus_jax_finds_the_hosts_itself(tmp_path):
  jobset = render("--tpu-topology=2x4", "--", "-m", "hrm_jax.train")
  pod = check_jobset(jobset, tmp_path)["template"]["spec"]
  (container,) = pod["containers"]
  assert container["args"] == ["-m", "hrm_jax.train"]
  assert container["resources"]["limits"] == {"google.com/tpu": 4}
  assert pod["nodeSelector"] == {
    "cloud.google.com/gke-tpu-accelerator": "tpu-v5-lite-podslice",
    "cloud.google.com/gke-tpu-topology": "2x4",
  }
  assert "annotations" in jobset["metadata"]


def test_arguments_reach_python_as_they_are():
  text = "a\nb\tc\r $(PROCESS_ID) $$ \\n 'x' \"y\" &"
  args = render("--", "-c", text)["spec"]["replicatedJobs"][0]["template"][
    "spec"
  ]["template"]["spec"]["containers"][0]["args"]
  assert args[1] == text.replace("$", "$$")
  assert args[-1] == "--process-id=$(PROCESS_ID)"  # That is ours.


def test_the_topology_tells_the_number_of_tpu_hosts():
  for topology, hosts in (("2x2", 1), ("4x4", 4), ("2x2x4", 4)):
    jobset = render(f"--tpu-topology={topology}", "--", "x")
    job = jobset["spec"]["replicatedJobs"][0]["template"]["spec"]
    assert (job["completions"], job["parallelism"]) == (hosts, hosts)


def test_logs_are_those_of_process_0():
  code, out, _ = run("gke.sh", "logs", "--name=maze", "--dry-run")
  assert code == 0
  assert shlex.split(out) == [
    *("kubectl", "logs", "--follow", "--tail=-1", "-l"),
    "jobset.sigs.k8s.io/jobset-name=maze,"
    "batch.kubernetes.io/job-completion-index=0",
  ]
