"""What a sweep file says, as named members with their exact commands; nothing runs here."""

import argparse
import hashlib
import os
import re
import runpy
import shlex
from pathlib import Path

from gemb.checks import UserError
from gemb.runs.sweeps import Member, gin_params

LAUNCH = Path(__file__).resolve().parent
LAUNCHERS = ("local", "gpu_host", "slurm", "tpu_pod", "k8s")


def read_sweep(path: Path) -> list[Member]:
    """The members of a sweep file.

    Raises:
        UserError: if there is no such file or function, it raises, or returns something else.
    """
    if not path.is_file():
        raise UserError(f"{path} does not exist; see configs/sweeps")
    try:
        function = runpy.run_path(str(path)).get("sweep")
        if not callable(function):
            raise UserError(f"{path} defines no function sweep()")
        members = function()
    except UserError:
        raise
    except Exception as error:  # anything may happen in a user's file
        raise UserError(f"{path}: {type(error).__name__}: {error}") from None
    if not isinstance(members, list) or not members:
        raise UserError(f"{path}: sweep() must return a list of dicts, got {_shown(members)}")
    for member in members:
        if not isinstance(member, dict) or not all(map(_is_name, member)):
            raise UserError(
                f"{path}: a member must be a dict of gin bindings such as "
                f"{{'STEPS': 10, 'experiment.Experiment.seed': 1}}, got {_shown(member)}"
            )
    return members


def plan(bindings: list[Member], arguments: argparse.Namespace) -> list[dict]:
    """Name, bindings, command and workdir of every member.

    Raises:
        UserError: for a value that gin cannot read, or two members that are the same.
    """
    launcher = _shortest(LAUNCH / f"{arguments.submit or 'local'}.sh")
    members = {}
    for member in bindings:
        name = member_name(member)
        if name in members:
            raise UserError(f"{arguments.sweep}: two members are both {name}: {_shown(member)}")
        try:
            params = arguments.gin_param + gin_params(member)
        except ValueError as error:
            raise UserError(f"{arguments.sweep}: {error}") from None
        workdir = str(Path(arguments.workdir) / name)
        words = [launcher, *_naming(arguments, name), *arguments.launch_option, "train"]
        words += [f"--gin_file={file}" for file in arguments.gin_file]
        words += [f"--gin_param={param}" for param in params]
        words += [f"--workdir={workdir}"]
        members[name] = {
            "name": name,
            "bindings": params[len(arguments.gin_param) :],
            "command": shlex.join(words),
            "workdir": workdir,
        }
    return list(members.values())


def member_name(member: Member) -> str:
    """A folder's name that says what is bound, and stays when members are added to the sweep.

    Example: {"STEPS": 60, "experiment.Experiment.seed": 1} -> "STEPS=60,seed=1"
    """
    last = [name.rpartition(".")[2] for name in member]
    short = last if len(set(last)) == len(last) else list(member)
    plain = ",".join(f"{n}={_plain(v)}" for n, v in zip(short, member.values(), strict=True))
    name = re.sub(r"[^\w.,=+-]+", "_", plain) or "as_is"
    if len(name) <= 80 and name == (plain or name):
        return name
    return f"{name[:70].rstrip('_')}-{_hash(repr(member))}"


def _plain(value: object) -> str:
    """(384, 96) -> 384_96; a reference loses its @ or %."""
    if isinstance(value, (tuple, list)):
        return "_".join(map(_plain, value))
    return value.lstrip("@%") if isinstance(value, str) else str(value)


def _naming(arguments: argparse.Namespace, name: str) -> list[str]:
    """Jobs of a cluster need names of their own: on Kubernetes short ones in lower case."""
    if arguments.submit == "k8s":
        return [f"--name=gemb-{_hash(str(Path(arguments.workdir) / name))}"]
    if arguments.submit == "slurm":
        return [f"--name=gemb-{name}"]
    return []


def _shortest(path: Path) -> str:
    inside = path.is_relative_to(Path.cwd()) and path.parent != Path.cwd()
    return os.path.relpath(path) if inside else str(path)


def _is_name(name: object) -> bool:
    return isinstance(name, str) and re.fullmatch(r"[A-Za-z_][\w./]*", name) is not None


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) < 80 else text[:77] + "..."


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]
