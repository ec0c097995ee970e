"""A run's config.gin as values; reading it needs no gin."""

import re
from pathlib import Path

_BINDING = re.compile(r"([A-Za-z_][\w./]*) = ?(.*)")


def read_config(path: Path) -> dict[str, str]:
    """Binding -> value of a config.gin, a value of several lines joined; {} where there is none.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "config.gin"
        >>> _ = file.write_text("STEPS = 60\\nx.y.widths = \\\\\\n    (384,\\n     96)\\n")
        >>> read_config(file)
        {'STEPS': '60', 'x.y.widths': '(384, 96)'}
    """
    values: dict[str, str] = {}
    name = None
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        begins = _BINDING.fullmatch(line)
        if begins:
            name, values[begins[1]] = begins[1], begins[2].rstrip("\\").strip()
        elif name and line[:1].isspace() and line.strip():
            values[name] = f"{values[name]} {line.strip()}".strip()
        else:
            name = None
    return values
