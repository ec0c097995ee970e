"""Many runs from one Python function: exact commands, a manifest, submission, a table of results.

    python launch/sweep.py configs/sweeps/learning_rate.py \\
        --gin_file=configs/experiments/quickstart.gin --workdir=runs/learning_rate
    python launch/sweep.py ... --submit=local --jobs=2        # runs them here, two at a time
    python launch/sweep.py ... --submit=slurm --launch_option=--gpus=8 --launch_option=--nodes=2
    python launch/sweep.py ... --submit=local --resume        # only those that are not finished
    python launch/sweep.py ... --table                        # what has come out so far

The file defines `sweep() -> list[dict[str, object]]`: a dict of gin bindings a member, see
gemb/runs/sweeps.py. Without --submit the commands are printed and nothing runs. The workdir
receives sweep.json (members, bindings, commands, workdirs), a folder a member, logs/, and the
table as results.csv and results.html.
"""

import argparse
import concurrent.futures
import contextlib
import json
import shlex
import signal
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # this very checkout's gemb
import sweep_table
from sweep_plan import LAUNCHERS, plan, read_sweep

from gemb.checks import UserError
from gemb.files import atomic_file
from gemb.runs.curves import finished

MANIFEST = "sweep.json"


def main() -> int:
    arguments = _arguments()
    bindings = read_sweep(Path(arguments.sweep))
    members = plan(bindings, arguments)
    workdir = Path(arguments.workdir)
    if arguments.table:
        sweep_table.show(members, workdir)
        return 0
    if arguments.submit:
        _refuse_to_repeat(members, arguments.resume)
    write_manifest(members, arguments)
    waiting = [m for m in members if not (arguments.resume and finished(Path(m["workdir"])))]
    if not arguments.submit:
        for member in waiting:
            print(member["command"])
        return 0
    failed = submit(waiting, workdir / "logs", arguments.jobs)
    sweep_table.show(members, workdir)
    if failed:
        names = ", ".join(failed)
        print(f"sweep.py: {len(failed)} failed: {names}; see {workdir / 'logs'}", file=sys.stderr)
    return 1 if failed else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="sweep.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.error = _fail  # one line, without the usage
    add = parser.add_argument
    add("sweep", help="Python file with the function sweep()")
    add("--gin_file", action="append", required=True, help="experiment; repeatable, later win")
    add("--gin_param", action="append", default=[], help="binding of all members; repeatable")
    add("--workdir", required=True, help="folder of the sweep")
    add("--submit", choices=LAUNCHERS, help="run the members by this script of launch/")
    add("--launch_option", action="append", default=[], help="of that script; repeatable")
    add("--jobs", type=int, default=1, help="members that run at a time (default 1)")
    add("--resume", action="store_true", help="leave out the members that are finished")
    add("--table", action="store_true", help="only the table of results, as far as there are any")
    arguments = parser.parse_args()
    if arguments.jobs < 1:
        _fail(f"--jobs: expected 1 or more, got {arguments.jobs}")
    return arguments


def write_manifest(members: list[dict], arguments: argparse.Namespace) -> None:
    """Writes sweep.json whole or not at all; a sweep that has run is not forgotten.

    Raises:
        UserError: if a member that has run is not in the new sweep, or had other bindings.
    """
    path = Path(arguments.workdir) / MANIFEST
    with contextlib.suppress(
        FileNotFoundError, NotADirectoryError, ValueError, KeyError, TypeError
    ):
        now = {member["name"]: _arguments_of(member) for member in members}
        for old in json.loads(path.read_text(encoding="utf-8"))["members"]:
            if Path(old["workdir"]).exists() and now.get(old["name"]) != _arguments_of(old):
                how = "with other bindings" if old["name"] in now else "and is not in this one"
                raise UserError(
                    f"{arguments.workdir} holds another sweep: {old['name']} has run {how}; "
                    "choose another --workdir"
                )
    about = {"sweep": arguments.sweep, "gin_files": arguments.gin_file}
    with atomic_file(path) as temporary:
        temporary.write_text(json.dumps(about | {"members": members}, indent=2) + "\n")


def _arguments_of(member: dict) -> list[str]:
    """What the run itself is told, whichever script starts it."""
    words = shlex.split(member["command"])
    return words[words.index("train") :]


def _refuse_to_repeat(members: list[dict], resume: bool) -> None:
    begun = [member["name"] for member in members if Path(member["workdir"]).exists()]
    if begun and not resume:
        raise UserError(
            f"{len(begun)} of {len(members)} members have run, such as {begun[0]}; --resume runs "
            "those that are not finished"
        )


def submit(members: list[dict], logs: Path, jobs: int) -> list[str]:
    """Runs the commands, `jobs` at a time; what each says goes to a file in `logs`.

    Returns:
        The names of those that failed.
    """
    logs.mkdir(parents=True, exist_ok=True)
    running: set[subprocess.Popen] = set()

    def run(member: dict) -> int:
        with open(logs / f"{member['name']}.log", "a", encoding="utf-8") as log:
            words = shlex.split(member["command"])
            process = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C must reach it once: the second time it kills
            )
            running.add(process)
            print(f"{member['name']}: started, log {log.name}", flush=True)
            status = process.wait()
            running.discard(process)
        print(f"{member['name']}: {'done' if status == 0 else f'status {status}'}", flush=True)
        return status

    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        try:
            statuses = list(pool.map(run, members))
        except BaseException:  # Ctrl-C: the members save themselves, and no more are started
            pool.shutdown(wait=False, cancel_futures=True)
            for process in list(running):
                process.terminate()
            raise
    return [m["name"] for m, status in zip(members, statuses, strict=True) if status]


def _fail(message: str) -> None:
    print(f"sweep.py: error: {' '.join(str(message).split())}", file=sys.stderr)
    sys.exit(2)


def _terminated(*_) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _terminated)
    try:
        sys.exit(main())
    except UserError as error:
        _fail(error)
    except KeyboardInterrupt:
        sys.exit(130)
