"""The launchers through --print and through stand-ins for gcloud, sbatch, kubectl: what they call.

The stand-ins pass on what the real ones would (sbatch runs its script, srun its command, gcloud's
ssh its --command), down to a python that only notes its arguments.
"""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
SCRIPTS = ["local.sh", "gpu_host.sh", "slurm.sh", "tpu_pod.sh", "k8s.sh"]
NASTY = (
    """--gin_param=LOSS = @x('it', "q", {$HOME: `date`}, $(date) \\ & | ; * ? ! # ~ é, $$, %s)"""
)
TRAIN = ["train", "--gin_file=a.gin", NASTY, "--workdir=runs/a b"]
RECORD = """#!PYTHON
import json, os, sys
name = os.path.basename(sys.argv[0])
kept = {"CUDA_VISIBLE_DEVICES", "JAX_PLATFORMS", "JAX_NUM_CPU_DEVICES", "XLA_FLAGS"}
environment = {name: os.environ[name] for name in sorted(kept & set(os.environ))}
call = {"name": name, "argv": sys.argv[1:], "env": environment}
if name == "kubectl" and "create" in sys.argv:
    call["stdin"] = sys.stdin.read()
with open(os.environ["CALLS"], "a") as calls:
    calls.write(json.dumps(call) + "\\n")
""".replace("PYTHON", sys.executable)
# As in launch_test.py, and: `python -m gemb.cli` ends as the next line of $STATUSES says.
PYTHON = """#!/bin/bash
case "$1 $2" in
  "-c "*) exit 0 ;;
  "--version "*) echo "Python 3.11.0"; exit 0 ;;
  "-m venv") mkdir -p "$4/bin"; cp "$0" "$4/bin/python"; exit ;;
  "-m pip") exit 0 ;;
esac
"$RECORDER" "$@"
exec 9>>"$STATUSES.lock"
flock 9
status=$(head -n 1 "$STATUSES"); sed -i 1d "$STATUSES"
exec 9>&-
case $status in
  wait) trap 'exit 75' TERM; echo waiting >>"$READY"; while :; do sleep 0.05; done ;;
  killed) kill -KILL $$ ;;
esac
exit ${status:-0}
"""
SBATCH = 'while [[ $1 == --* ]]; do shift; done\nexec bash "$@"\n'
SRUN = 'while [[ $1 == --* ]]; do shift; done\nexec "$@"\n'
GCLOUD = """
verb=$4
for word in "$@"; do
  [[ $word != --command=* ]] || { cd "$POD" && exec bash -c "${word#*=}"; }
done
case $verb in
  describe) cat "$POD/state" ;;
  scp) cp "$5" "$POD/gemb.tar.gz" ;;
esac
"""


@pytest.fixture
def cluster(tmp_path):
    """A copy of the launchers, and a PATH on which every cluster's tool is a stand-in."""
    checkout, tools, pod = tmp_path / "gemb", tmp_path / "tools", tmp_path / "pod"
    shutil.copytree(ROOT / "launch", checkout / "launch")
    for name in ("setup.py", "pyproject.toml"):
        shutil.copy(ROOT / name, checkout)
    for folder in (tools, pod, tmp_path / "work"):
        folder.mkdir()
    for name in ("record", "kubectl", "scontrol", "ssh"):
        _program(tools / name, RECORD)
    for name in ("gcloud", "sbatch", "srun"):
        _program(tools / f".{name}" / name, RECORD)
        rest = {"gcloud": GCLOUD, "sbatch": SBATCH, "srun": SRUN}[name]
        _program(tools / name, f'#!/bin/bash\n"{tools}/.{name}/{name}" "$@"\n{rest}')
    for name in ("python3", "python3.11"):
        _program(tools / name, PYTHON)
    _program(tools / "nvidia-smi", "#!/bin/bash\nprintf 'GPU %s\\n' 0 1 2 3\n")
    return Cluster(tmp_path, tools)


class Cluster:
    def __init__(self, folder: Path, tools: Path):
        self.folder, self.launch = folder, folder / "gemb" / "launch"
        self.environment = {
            "PATH": f"{tools}:/usr/bin:/bin",
            "HOME": str(folder),
            "LANG": "C.UTF-8",
            "RECORDER": str(tools / "record"),
            "CALLS": str(folder / "calls"),
            "STATUSES": str(folder / "statuses"),
            "READY": str(folder / "ready"),
            "POD": str(folder / "pod"),
        }
        self.state("READY")
        (folder / "statuses").write_text("")

    def state(self, text):
        (self.folder / "pod" / "state").write_text(text)

    def start(self, *words, statuses=(), **environment):
        (self.folder / "calls").write_text("")
        (self.folder / "ready").write_text("")
        (self.folder / "statuses").write_text("".join(f"{status}\n" for status in statuses))
        return subprocess.Popen(
            list(map(str, words)),
            cwd=self.folder / "work",
            env=self.environment | environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, script, *arguments, **options):
        """Runs a launcher; `calls` of the result are those of the stand-ins, in order."""
        return self.done(self.start("bash", self.launch / script, *arguments, **options))

    def done(self, process):
        try:
            process.out, process.error = process.communicate(timeout=60)
        finally:
            process.kill()
        process.calls = [
            json.loads(row) for row in (self.folder / "calls").read_text().splitlines()
        ]
        return process

    def argvs(self, process, name):
        return [call["argv"] for call in process.calls if call["name"] == name]

    def gemb(self, process):
        """The arguments of each `python -m gemb.cli`."""
        argvs = self.argvs(process, "record")
        assert all(argv[:2] == ["-m", "gemb.cli"] for argv in argvs)
        return [argv[2:] for argv in argvs]

    def until_ready(self, lines=1):
        deadline = time.monotonic() + 20
        while (self.folder / "ready").read_text().count("\n") < lines:
            assert time.monotonic() < deadline
            time.sleep(0.02)


def _program(path: Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


TPU = ["--pod=p", "--zone=z", "--type=v5litepod-16"]
K8S = ["--name=mine", "--image=i", "--volume=v", "--accelerator=nvidia-h100-80gb", "--chips=8"]
PRINTED = {
    "local": ("local.sh", "--devices=4", "--env=XLA_FLAGS=--a=1 --b=2", *TRAIN),
    "gpu_host": ("gpu_host.sh", "--gpus=3", *TRAIN),
    "gpu_list": ("gpu_host.sh", "--gpus=2,", "--max_restarts=0", *TRAIN),
    "slurm": ("slurm.sh", "--nodes=2", "--gpus=8", "--sbatch=--comment=a b", *TRAIN),
    "tpu_logs": ("tpu_pod.sh", *TPU, "--worker=3", "--logs"),
    "tpu_stop": ("tpu_pod.sh", *TPU, "--project=q", "--stop"),
    "tpu_delete": ("tpu_pod.sh", *TPU, "--delete"),
    "k8s": ("k8s.sh", *K8S, "--hosts=2", "--namespace=n", *TRAIN),
    "k8s_logs": ("k8s.sh", "--name=mine", "--logs"),
    "k8s_stop": ("k8s.sh", "--name=mine", "--stop"),
}


@pytest.mark.parametrize("script", [*SCRIPTS, "slurm_job.sh", "detached.sh", "command.sh"])
def test_bash_reads_the_scripts(script):
    subprocess.run(["bash", "-n", str(ROOT / "launch" / script)], check=True)
    assert os.access(ROOT / "launch" / script, os.X_OK) == (script != "command.sh")


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_says_every_option_and_calls_nothing(cluster, script):
    done = cluster.run(script, "--help")
    assert done.returncode == 0
    assert done.calls == []
    texts = [(ROOT / "launch" / name).read_text() for name in (script, "command.sh")]
    cases = re.findall(r"^    (--.*)\)", "".join(texts), re.MULTILINE)
    options = set(re.findall(r"--\w+", "".join(cases)))
    assert "--print" in options
    for option in options:
        assert option in done.out


@pytest.mark.parametrize("case", PRINTED)
def test_what_is_printed_is_what_runs(cluster, case):
    script, *arguments = PRINTED[case]
    printed = cluster.run(script, "--print", *arguments)
    assert printed.returncode == 0, printed.error
    assert printed.calls == []
    ran = cluster.run(script, *arguments)
    pasted = cluster.done(cluster.start("bash", "-c", printed.out))
    assert ran.calls
    assert pasted.calls == ran.calls


@pytest.mark.parametrize("case", ["local", "gpu_host", "gpu_list", "slurm"])
def test_arguments_survive_every_layer(cluster, case):
    script, *arguments = PRINTED[case]
    done = cluster.run(script, *arguments)
    assert done.returncode == 0, done.error
    assert cluster.gemb(done) == [TRAIN]


def test_environment_of_the_devices(cluster):
    environment = {
        case: cluster.run(*PRINTED[case]).calls[-1]["env"]
        for case in ("local", "gpu_host", "gpu_list")
    }
    assert environment == {
        "local": {
            "JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "4", "XLA_FLAGS": "--a=1 --b=2"
        },
        "gpu_host": {"CUDA_VISIBLE_DEVICES": "0,1,2"},
        "gpu_list": {"CUDA_VISIBLE_DEVICES": "2"},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("statuses", "restarts", "ends", "runs"),
    [
        ([75, 75, 0], 3, 0, 3),  # saved itself twice
        (["killed", 134, 0], 3, 0, 3),
        ([75, 75, 75], 1, 75, 2),
        ([2, 0], 3, 2, 1),  # a mistake
        ([1, 0], 3, 1, 1),  # a bug
        ([0], 0, 0, 1),
    ],
)
def test_the_same_command_goes_on_when_it_can(cluster, statuses, restarts, ends, runs):
    done = cluster.run("local.sh", f"--max_restarts={restarts}", *TRAIN, statuses=statuses)
    assert done.returncode == ends
    assert cluster.gemb(done) == [TRAIN] * runs


def test_sigterm_reaches_gemb_and_is_not_taken_for_an_interruption(cluster):
    process = cluster.start("bash", cluster.launch / "local.sh", *TRAIN, statuses=["wait", 0])
    cluster.until_ready()
    process.send_signal(signal.SIGTERM)
    done = cluster.done(process)
    assert done.returncode == 75
    assert cluster.gemb(done) == [TRAIN]


@pytest.mark.parametrize(
    ("statuses", "ends", "runs"),
    [(["killed", "wait", 0, 0], 0, 4), (["wait", "killed", 0, 0], 0, 4), (["wait", 2], 2, 2)],
)
def test_processes_stand_and_fall_together(cluster, statuses, ends, runs):
    done = cluster.run("local.sh", "--processes=2", "--port=7", *TRAIN, statuses=statuses)
    assert done.returncode == ends, done.error
    joined = [
        [*TRAIN, "--coordinator=localhost:7", f"--process_id={i}", "--process_count=2"]
        for i in range(2)
    ]
    called = cluster.gemb(done)
    assert len(called) == runs
    for start in range(0, runs, 2):
        assert sorted(called[start : start + 2]) == joined


def test_processes_are_printed_as_they_run(cluster):
    printed = cluster.run("local.sh", "--print", "--processes=2", *TRAIN)
    assert printed.out.endswith(" &\nwait\n")
    pasted = cluster.done(cluster.start("bash", "-c", printed.out))
    ran = cluster.run("local.sh", "--processes=2", *TRAIN)
    assert sorted(cluster.gemb(pasted)) == sorted(cluster.gemb(ran))
    assert len(cluster.gemb(ran)) == 2


@pytest.mark.parametrize(
    ("status", "count", "requeued"),
    [(75, "0", True), (137, "19", True), (75, "20", False), (2, "0", False), (0, "0", False)],
)
def test_a_job_goes_back_into_the_queue(cluster, status, count, requeued):
    environment = {"SLURM_JOB_ID": "77", "SLURM_RESTART_COUNT": count, "SLURM_CPUS_PER_TASK": "6"}
    done = cluster.run("slurm.sh", "--nodes=2", *TRAIN, statuses=[status], **environment)
    assert cluster.argvs(done, "scontrol") == ([["requeue", "77"]] if requeued else [])
    assert done.returncode == (0 if requeued else status)
    (srun,) = cluster.argvs(done, "srun")
    assert "--ntasks-per-node=1" in srun
    assert "--cpus-per-task=6" in srun


def test_sbatch_is_asked_for_what_was_given(cluster):
    done = cluster.run(
        "slurm.sh", "--nodes=4", "--gpus=8", "--cpus=32", "--time=1:00:00", "--partition=a",
        "--account=b", "--name=big", "--logs=there", *TRAIN,
    )  # fmt: skip
    (sbatch,) = cluster.argvs(done, "sbatch")
    expected = {
        "--nodes=4", "--ntasks-per-node=1", "--gpus-per-node=8", "--cpus-per-task=32",
        "--time=1:00:00", "--partition=a", "--account=b", "--job-name=big", "--requeue",
        "--signal=TERM@120", f"--chdir={cluster.folder}/work", "--output=there/%x-%j.log",
    }  # fmt: skip
    assert expected <= set(sbatch)
    assert (cluster.folder / "work" / "there").is_dir()


def test_a_pod_is_shipped_to_started_and_watched(cluster):
    done = cluster.run("tpu_pod.sh", *TPU, "--max_restarts=2", *TRAIN, statuses=[75, 3])
    assert done.returncode == 3, done.error  # that of the run, seen through the log
    assert cluster.gemb(done) == [[*TRAIN, "--coordinator=auto"]] * 2
    gcloud = cluster.argvs(done, "gcloud")
    assert [argv[3] for argv in gcloud] == ["describe", "scp", "ssh", "ssh", "ssh"]
    assert all("--zone=z" in argv for argv in gcloud)
    assert ["--worker=all" in argv for argv in gcloud] == [False, True, True, True, False]
    pod = cluster.folder / "pod" / "gemb"
    assert (pod / "launch" / "local.sh").read_text() == (ROOT / "launch/local.sh").read_text()
    assert "installed" in done.out  # gemb[tpu], in the pod's copy
    assert (pod / ".venv" / ".gemb-tpu").exists()


@pytest.mark.parametrize(
    ("state", "verbs"),
    [
        ("READY", ["describe"]),
        ("", ["describe", "create"]),
        ("PREEMPTED", ["describe", "delete", "create"]),
        ("CREATING", ["describe"]),
    ],
)
def test_a_pod_is_made_where_there_is_none(cluster, state, verbs):
    cluster.state(state)
    done = cluster.run("tpu_pod.sh", *TPU, "--spot", *TRAIN)
    gcloud = cluster.argvs(done, "gcloud")
    assert [argv[3] for argv in gcloud][: len(verbs)] == verbs
    assert done.returncode == (2 if state == "CREATING" else 0), done.error
    if "create" in verbs:
        options = ["--accelerator-type=v5litepod-16", "--version=v2-alpha-tpuv5-lite", "--spot"]
        assert gcloud[len(verbs) - 1][5:8] == options


def test_a_printed_pod_names_every_step(cluster):
    printed = cluster.run("tpu_pod.sh", "--print", *TPU, *TRAIN)
    assert printed.calls == []
    lines = [shlex.split(line, comments=True) for line in printed.out.splitlines()]
    assert [words[0] if words[0] == "tar" else words[4] for words in lines] == [
        "describe", "create", "tar", "scp", "ssh", "ssh", "ssh",
    ]  # fmt: skip
    (command,) = [word for word in lines[5] if word.startswith("--command=")]
    assert shlex.split(command)[-len(TRAIN) - 1 :] == [*TRAIN, "--coordinator=auto"]


def test_a_detached_run_is_not_doubled_and_is_stopped(cluster):
    detached, local = cluster.launch / "detached.sh", cluster.launch / "local.sh"
    start = ["bash", detached, "start", local, *TRAIN]
    assert cluster.done(cluster.start(*start, statuses=["wait"])).returncode == 0
    cluster.until_ready()
    twice = cluster.done(cluster.start(*start, statuses=["wait"]))
    assert twice.returncode == 2
    assert "a command is running here" in twice.error
    stopped = cluster.done(cluster.start("bash", detached, "stop"))
    assert stopped.out == "stopped with status 75\n"
    assert cluster.done(cluster.start("bash", detached, "logs")).returncode == 75
    assert cluster.done(cluster.start("bash", detached, "stop")).out == "nothing is running\n"


def kubernetes_expands(text, environment):
    """What a container receives: $(NAME) by its environment, $$ as $ (Kubernetes' own rule)."""

    def value(match):
        if match[0] == "$$":
            return "$"
        return environment.get(match[1], match[0])

    return re.sub(r"\$\$|\$\((\w+)\)", value, text)


@pytest.mark.parametrize("hosts", [1, 3])
def test_a_jobset_of_gpus(cluster, hosts):
    done = cluster.run("k8s.sh", *K8S, f"--hosts={hosts}", "--max_restarts=5", *TRAIN)
    (call,) = done.calls
    assert call["argv"] == ["create", "--filename=-"]
    jobset = yaml.safe_load(call["stdin"])
    assert (jobset["kind"], jobset["metadata"]["name"]) == ("JobSet", "mine")
    policy = jobset["spec"]["failurePolicy"]
    assert policy["maxRestarts"] == 5
    job = jobset["spec"]["replicatedJobs"][0]["template"]["spec"]
    assert (job["parallelism"], job["completions"], job["backoffLimit"]) == (hosts, hosts, 0)
    actions = {
        status: rule["action"]
        for rule in job["podFailurePolicy"]["rules"]
        for status in rule["onExitCodes"]["values"]
    }
    # a mistake fails the Job by policy, and with it the JobSet; 75 only costs a restart of all
    assert (actions[2], actions[75]) == ("FailJob", "Count")
    assert policy["rules"][0]["action"] == "FailJobSet"
    assert policy["rules"][0]["onJobFailureReasons"] == ["PodFailurePolicy"]
    pod = job["template"]["spec"]
    assert pod["nodeSelector"] == {"cloud.google.com/gke-accelerator": "nvidia-h100-80gb"}
    (container,) = pod["containers"]
    assert container["resources"]["limits"] == {"nvidia.com/gpu": 8}
    received = [kubernetes_expands(a, {"JOB_COMPLETION_INDEX": "2"}) for a in container["args"]]
    joined = ["--coordinator=mine-hosts-0-0.mine:8482", "--process_count=3", "--process_id=2"]
    assert received == TRAIN + (joined if hosts > 1 else [])
    assert container["command"] == ["python", "-m", "gemb.cli"]
    assert not re.search(r"(?<!\$)\$\{", call["stdin"])  # nothing left to fill in


def test_a_jobset_of_tpus(cluster):
    tpus = ["--accelerator=tpu-v5-lite-podslice", "--topology=4x4", "--chips=4", "--hosts=4"]
    done = cluster.run("k8s.sh", "--manifest", *K8S, *tpus, *TRAIN)
    assert done.calls == []
    job = yaml.safe_load(done.out)["spec"]["replicatedJobs"][0]["template"]["spec"]
    assert job["template"]["spec"]["nodeSelector"] == {
        "cloud.google.com/gke-tpu-accelerator": "tpu-v5-lite-podslice",
        "cloud.google.com/gke-tpu-topology": "4x4",
    }
    (container,) = job["template"]["spec"]["containers"]
    assert container["resources"]["requests"] == {"google.com/tpu": 4}


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["local.sh", "--device=1", "train"], "unknown argument --device=1"),
        (["local.sh"], "expected a verb"),
        (["local.sh", "--processes=0", "train"], "--processes: expected a whole number from 1"),
        (["local.sh", "--processes=08", "train"], "whole number from 1, got '08'"),
        (["gpu_host.sh", "--gpus=9", "train"], "--gpus: expected a whole number from 1 to 8"),
        (["gpu_host.sh", "--gpus=5", "train"], "this host has 4 GPUs"),
        (["gpu_host.sh", "--gpus=0,4", "train"], "this host has 4 GPUs"),
        (["slurm.sh", "--nodes=", "train"], "--nodes: expected a whole number"),
        (["tpu_pod.sh", "--zone=z", "train"], "--pod is missing"),
        (["tpu_pod.sh", "--pod=p", "train"], "--zone is missing"),
        (["tpu_pod.sh", "--pod=p", "--zone=z", "train"], "--type is missing"),
        (["k8s.sh", *K8S, "--name=Mine", "train"], "--name: expected at most 40 lower-case"),
        (["k8s.sh", "--name=mine", "train"], "--image is missing"),
        (["k8s.sh", *K8S, "--accelerator=tpu-x", "train"], "--topology is missing"),
        (["detached.sh", "begin"], "expected start, logs or stop"),
    ],
)
def test_mistakes_are_one_line_and_call_nothing(cluster, command, message):
    done = cluster.run(*command)
    assert done.returncode == 2
    assert message in done.error
    assert len(done.error.splitlines()) == 1
    assert done.calls == []
