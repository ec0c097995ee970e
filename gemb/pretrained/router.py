"""sentence-transformers' routers: the folders of a model with two towers."""

import json
from pathlib import Path

from gemb.checks import UserError
from gemb.pretrained.sentence_transformers import read_json
from gemb.structs import SIDES

ROUTER = "router_config.json"


def router_places(folder: Path) -> dict[str, Path]:
    """{side: the folder of its tower} of a router's folder; {} for a folder of one model.

    Raises:
        UserError: for a router whose routes are not query/ and document/.
    """
    if not (folder / ROUTER).exists():
        return {}
    routes = read_json(folder / ROUTER).get("structure", {})
    places = {side: folder / side for side in SIDES}
    whole = all((place / "modules.json").exists() for place in places.values())
    if set(routes) != set(SIDES) or not whole:
        raise UserError(
            f"{folder}/{ROUTER}: gemb reads the routers that it wrote, with the folders query/ and "
            f"document/; this one has the routes {sorted(routes)}"
        )
    return places


def router_config(folder: Path) -> dict:
    """sentence-transformers' router_config.json over the saved folders query/ and document/."""
    types, structure = {}, {}
    for side in SIDES:
        steps = json.loads((folder / side / "modules.json").read_text(encoding="utf-8"))
        names = [f"{side}/{step['path']}".rstrip("/") for step in steps]
        types |= {name: step["type"] for name, step in zip(names, steps, strict=True)}
        structure[side] = names
    parameters = {"default_route": "document", "allow_empty_key": True}
    return {"types": types, "structure": structure, "parameters": parameters}
