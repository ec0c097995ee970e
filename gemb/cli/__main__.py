"""gemb VERB [--flag=value ...]: embedding models in JAX, from raw text to versioned vectors.

Verbs, in the order of use:
{verbs}

    gemb VERB --help      shows what a verb does, with examples and its flags
    ./launch/quickstart.sh    runs the main verbs on the Python of this machine
"""

import importlib
import os
import sys

from absl import flags

from gemb.checks import UserError, suggest
from gemb.cli.terminal import ends_well, print_anything

VERBS = (
    "fetch",
    "convert",
    "harvest",
    "harvest-pictures",
    "documents",
    "configs",
    "inspect-data",
    "cache",
    "dedup",
    "filter",
    "split",
    "mine",
    "teach",
    "train",
    "compare",
    "soup",
    "evaluate",
    "verify",
    "export",
    "embed",
    "index",
    "search",
    "ask",
    "drift",
    "compare-vectors",
    "atlas",
    "adapter",
    "ab",
    "push",
    "release",
    "refresh",
    "serve",
    "top",
    "versions",
    "rollback",
    "check",
    "retire",
    "classify",
    "baselines",
    "recommend",
    "records",
)


def main() -> None:
    """The console script: `gemb VERB ...`, also `python -m gemb.cli VERB ...`."""
    verb, arguments = (sys.argv[1:2] or ["--help"])[0], sys.argv[2:]
    if verb in VERBS:
        run(verb, arguments)
        return
    print_anything()
    with ends_well(""):
        if verb in ("--help", "-h", "help"):
            print(_overview())
        elif verb == "--version":
            from gemb import __version__

            print(f"gemb {__version__}")
        else:
            known = ", ".join(VERBS)
            hint = suggest(verb, VERBS)
            raise UserError(f"unknown verb {verb!r}; expected one of {known}.{hint}")


def run(verb: str, arguments: list[str] | None = None) -> None:
    """Parses flags, runs one verb and exits: 0 when done, 2 with one line for a user's mistake.

    Args:
        verb: one of VERBS.
        arguments: the words after the verb; default those of the process.
    """
    print_anything()
    with ends_well(verb):
        status = _run(verb, sys.argv[1:] if arguments is None else arguments)
    sys.exit(status)


def _run(verb: str, arguments: list[str]) -> int:
    reset_flags()
    known = sys.modules.get(_module(verb))
    # Verbs share names of flags, and the last to define one counts: where a process runs several.
    module = importlib.reload(known) if known else importlib.import_module(_module(verb))
    if {"--help", "-h", "-help"} & set(arguments):
        print(f"{module.__doc__.strip()}\n\nFlags:\n{_flag_help(module)}")
        return 0
    # TensorFlow and Orbax print more than is asked for.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    from absl import logging

    from gemb.cli.arguments import check_lists, check_local

    logging.set_verbosity(logging.ERROR)
    positional = flags.FLAGS([f"gemb {verb}", *arguments])[1:]
    check_lists()
    check_local(module.__name__)
    return module.main(positional) or 0


def reset_flags() -> None:
    """Puts flags back to their defaults: absl keeps those that an earlier verb was given."""
    for name in flags.FLAGS:
        if flags.FLAGS.find_module_defining_flag(name).startswith("gemb."):
            flags.FLAGS[name].unparse()


def _module(verb: str) -> str:
    return f"gemb.cli.{verb.replace('-', '_')}"


def _overview() -> str:
    summaries = []
    for verb in VERBS:
        first = importlib.import_module(_module(verb)).__doc__.splitlines()[0]
        summaries.append(f"    {verb:<18}{first.split(': ', 1)[1]}")
    return __doc__.format(verbs="\n".join(summaries)).strip()


def _flag_help(module) -> str:
    own = flags.FLAGS.get_flags_for_module(module.__name__)
    return "\n".join(f"  --{flag.name}: {flag.help}" for flag in own) or "  none"


if __name__ == "__main__":
    main()
