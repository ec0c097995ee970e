"""sentence-transformers' routers: the folders of a model with two towers."""

import ast
import json
from pathlib import Path, PurePosixPath

from gemb.checks import UserError
from gemb.pretrained.keys import ANY, Rule, read_keys, read_known, shown
from gemb.pretrained.sentence_transformers import module_kind, read_json
from gemb.structs import SIDES

ROUTER = "router_config.json"
# router_config.json, and its older form config.json.
_CONFIG = {
    "types": Rule("an object", lambda value: isinstance(value, dict)),
    "structure": Rule("an object", lambda value: isinstance(value, dict)),
    "parameters": Rule("an object", lambda value: isinstance(value, dict), {}),
}
_PARAMETERS = {
    "default_route": ANY,  # of texts that are neither queries nor documents
    "allow_empty_key": ANY,
    "route_mappings": Rule("an object", lambda value: isinstance(value, dict), {}).or_null({}),
}


def router_places(folder: Path) -> dict[str, Path]:
    """{side: the folder of its tower} of a router that gemb wrote; {} for any other folder."""
    places = {side: folder / side for side in SIDES}
    named = ("modules.json", "config.json")
    whole = all(any((place / name).exists() for name in named) for place in places.values())
    return places if whole and (folder / ROUTER).exists() else {}


def router_steps(folder: Path) -> dict[str, list[dict]]:
    """{side: the modules of its texts} of a folder with a router; {} for a folder of one model.

    Raises:
        UserError: for a router that another module goes before, or without a route for a side.
    """
    file = folder / "modules.json"
    steps = read_json(file, default=[], kind=list) if file.exists() else []
    kinds = [module_kind(step, file) for step in steps]
    if "Router" not in kinds:
        return {}
    if kinds[0] != "Router" or kinds.count("Router") > 1:
        raise UserError(f"{file}: a Router that is not the first module is not supported")
    place = folder / steps[0]["path"]
    file = place / (ROUTER if (place / ROUTER).exists() else "config.json")
    config = read_keys(read_json(file), _CONFIG, file)
    parameters = read_known(config["parameters"], _PARAMETERS, f"{file}: parameters")
    found = {}
    for side in SIDES:
        route = _route(side, config["structure"], parameters["route_mappings"] or {}, file)
        found[side] = _steps(config, route, steps[0]["path"], file) + steps[1:]
    return found


def _route(side: str, routes: dict, mappings: dict, file: Path) -> str:
    """The route of a side's texts, by the order in which sentence-transformers looks."""
    try:
        by_key = {ast.literal_eval(key): route for key, route in mappings.items()}
    except (ValueError, SyntaxError):
        raise UserError(
            f"{file}: route_mappings: expected keys such as \"('query', 'text')\", got "
            f"{shown(sorted(mappings))}"
        ) from None
    keys = ((side, "text"), (side, None), (None, "text"), (None, None))
    named = [by_key[key] for key in keys if key in by_key]
    for route in [*named, side, "text"]:
        if route in routes:
            return route
        if route in named:
            raise UserError(f"{file}: route_mappings names the route {route!r}, which is not there")
    raise UserError(f"{file}: no route for the side {side!r}; there are {sorted(routes)}")


def _steps(config: dict, route: str, path: str, file: Path) -> list[dict]:
    """The modules of a route, as modules.json would list them."""
    steps = []
    for name in config["structure"][route]:
        if name not in config["types"]:
            raise UserError(f"{file}: types: the module {shown(name)} of {route!r} is missing")
        place = PurePosixPath(path) / name
        steps.append(
            {"type": config["types"][name], "path": str(place), "name": f"route{len(steps)}"}
        )
    return steps


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
