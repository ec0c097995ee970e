"""gemb configs [NAME]: list the gin files that gemb ships, or print one of them.

An experiment is a gin file that includes pieces: a model, a loss, data, an optimizer, a mesh, and
optionally a teacher and execution settings. NAME is FOLDER/FILE as in the list. --gin_file takes
the same names and looks in the working directory first: copy a file there to change it.

    gemb configs
    gemb configs experiments/quickstart.gin
    gemb configs experiments/quickstart.gin > mine.gin
    gemb train --gin_file=mine.gin --gin_file=debug.gin --workdir=runs/mine
"""

import re
import shutil
import textwrap
from pathlib import Path

_WIDTHS = (80, 160)  # of the list: the terminal's, within these


def main(argv: list[str]) -> None:
    from gemb import config
    from gemb.checks import UserError

    if len(argv) > 1:
        raise UserError(f"expected one name at most, got {' '.join(argv)}")
    if argv:
        path = config.find(argv[0])
        if path is None:
            raise UserError(config.absent(argv[0]))
        print(path.read_text(encoding="utf-8"), end="")
        return
    print(_table(config.CONFIGS, config.listing()))


def _table(folder: Path, names: list[str]) -> str:
    """Lists experiments first, then each folder of pieces, then files outside of folders."""
    widest = min(_WIDTHS[1], max(_WIDTHS[0], shutil.get_terminal_size((120, 24)).columns))
    lines = [f"{folder} (a file of the same name in the working directory comes first)"]
    groups = {name.rpartition("/")[0] for name in names}
    for group in sorted(groups, key=lambda one: (one != "experiments", not one, one)):
        lines += ["", f"{group}/"] if group else [""]
        files = {Path(name).name: name for name in names if name.rpartition("/")[0] == group}
        column = max(map(len, files)) + 2
        for file, name in files.items():
            about = purpose((folder / name).read_text(encoding="utf-8"))
            about = textwrap.shorten(about, widest - column - 2, placeholder=" ...")
            lines.append(f"{'  ' if group else ''}{file:<{column}}{about}".rstrip())
    return "\n".join(lines)


def purpose(text: str) -> str:
    """The purpose of a gin file, from its header.

    Args:
        text: the file.

    Returns:
        The first sentence of its Purpose; for a piece the first sentence of its header, without the
        macro.

    Example:
        >>> purpose("# Purpose:  rank\\n#           texts. Well.\\n# Command:  gemb train")
        'rank texts.'
        >>> purpose("# MESH: all\\n# devices. More.\\nMESH = @make_mesh")
        'all devices.'
    """
    found = re.search(r"^# Purpose:(.*(?:\n#   .*)*)", text, re.MULTILINE)
    header = re.match(r"(?:# \S.*\n?)*", text)[0]
    paragraph = found[1] if found else re.sub(r"^# [A-Z]+: ", "", header)
    paragraph = " ".join(re.sub(r"(^|\n)# *", " ", paragraph).split())
    return re.split(r"(?<=\.) ", paragraph, maxsplit=1)[0]


if __name__ == "__main__":
    from gemb.cli.__main__ import run

    run("configs")
