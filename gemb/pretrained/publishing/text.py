"""The text of a model card: metadata for the hub's search, and sections for people."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from gemb.pretrained.publishing.facts import Facts
from gemb.pretrained.publishing.results import eval_results, results_section

_SIMILARITY = "sentence-similarity"


def card_text(
    facts: Facts,
    place: Path,
    *,
    config: str = "",
    results: dict | None = None,
    commands: Sequence[str] = (),
) -> str:
    """The text of a card, from facts alone.

    Args:
        facts: of the folder.
        place: the folder, as the examples name it.
        config, results, commands: as for `gemb.pretrained.publishing.card.write_card`.
    """
    title = place.parent.name if place.name == "model" and place.parent.name else place.name
    sections = [
        f"# {title}\n\n{_summary(facts)}",
        f"## Use\n\n{_usage(facts, place)}",
        results_section(results or {}),
        _made(facts, title, config, list(commands) or _soup_command(facts, place)),
        f"## Facts\n\n{_list(_facts(facts))}",
    ]
    body = "\n\n".join(filter(None, sections)) + "\n"
    return f"---\n{_metadata(facts, title, results or {})}---\n{body}"


def _metadata(facts: Facts, title: str, results: dict) -> str:
    """YAML, as the hub's own library writes it."""
    from huggingface_hub import ModelCardData

    tags = ["gemb", "feature-extraction", _SIMILARITY]
    tags += ["sentence-transformers"] if facts.loads_elsewhere else []
    tags += ["matryoshka"] if facts.widths else []
    bases = list(facts.base_models)
    found = eval_results(results)
    data = ModelCardData(
        library_name="sentence-transformers" if facts.loads_elsewhere else "gemb",
        pipeline_tag=_SIMILARITY,
        tags=tags,
        base_model=bases[0] if len(bases) == 1 else bases or None,
        license=facts.license or None,
        language=facts.language or None,
        **({"model_name": title, "eval_results": found} if found else {}),
    )
    return data.to_yaml() + "\n"


def _summary(facts: Facts) -> str:
    size = f" of {facts.dim} numbers" if facts.dim else ""
    parts = [f"A text embedding model: it turns a text into a vector{size}."]
    if facts.widths:
        widths = ", ".join(map(str, facts.widths))
        parts.append(f"Vectors may be cut to their first {widths} numbers (Matryoshka).")
    if facts.base_models:
        parts.append(f"It was made from {', '.join(facts.base_models)}.")
    return " ".join(parts)


def _usage(facts: Facts, place: Path) -> str:
    narrow = facts.widths[len(facts.widths) // 2] if facts.widths else 0
    here = place.as_posix()
    with_gemb = (
        "With gemb (a model of the hub is fetched once, by `gemb fetch OWNER/NAME`):\n\n"
        f"```python\nimport gemb\n\nmodel = gemb.load({here!r})  # or OWNER/NAME\n"
        f"{_example('dim=', narrow)}```"
    )
    parts = [with_gemb]
    if facts.loads_elsewhere:
        cut = f", truncate_dim={narrow}" if narrow else ""
        parts.append(
            "With sentence-transformers:\n\n```python\n"
            "from sentence_transformers import SentenceTransformer\n\n"
            f"model = SentenceTransformer({here!r}{cut})  # or OWNER/NAME\n"
            f"{_example('normalize_embeddings=', bool(narrow))}```"
        )
    sides = [f"`{prompt!r}` before a {side}" for side, prompt in facts.prompts.items() if prompt]
    if sides:
        parts.append(f"Prompts, which both put there by themselves: {', '.join(sides)}.")
    return "\n\n".join(parts)


def _example(option: str, value) -> str:
    """The lines that encode; without the option where it would change nothing."""
    more = f", {option}{value}" if value else ""
    return (
        f'queries = model.encode_query(["how to sort a list"]{more})\n'
        f'documents = model.encode_document(["Call sorted().", "Call len()."]{more})\n'
        "print(model.similarity(queries, documents))\n"
    )


def _made(facts: Facts, title: str, config: str, commands: list[str]) -> str:
    if config:
        run = f"runs/{shlex.quote(title)}"
        commands = [
            f"gemb train --gin_file=config.gin --workdir={run}",
            f"gemb evaluate --workdir={run}",
        ]
    if not commands:
        return ""
    parts = ["## How it was made", "```\n" + "\n".join(commands) + "\n```"]
    if config:
        parts += ["`config.gin`:", f"```\n{config.strip()}\n```"]
    return "\n\n".join(parts)


def _soup_command(facts: Facts, place: Path) -> list[str]:
    parts, training = facts.training.get("soup_of"), facts.training
    if not parts:
        return []
    weights = ",".join(f"{weight:g}" for weight in training.get("weights") or ())
    slerp = training.get("slerp")
    options = [f"--weights={weights}"] if weights else []
    options += [] if slerp is None else [f"--slerp={slerp}"]
    return [shlex.join(["gemb", "soup", *options, str(place), *parts])]


def _facts(facts: Facts) -> dict[str, object]:
    training = facts.training
    tasks = (training.get("data") or {}).get("tasks") or {}
    data = [f"{name}: {row['pairs']:,} pairs" for name, row in tasks.items()]
    return {
        "fingerprint": facts.fingerprint and f"`{facts.fingerprint}`",
        "numbers of a vector": facts.dim,
        "nested widths": ", ".join(map(str, facts.widths)),
        "tokens of a text": facts.max_length,
        "similarity": "cosine",
        "training steps": training.get("steps"),
        "training data": ", ".join(data),
        "training seconds": training.get("seconds"),
        "devices": training.get("devices"),
        "license": facts.license and facts.base_models and f"{facts.license}, of the base model",
    }


def _list(facts: dict[str, object]) -> str:
    return "\n".join(f"- {name}: {value}" for name, value in facts.items() if value)
