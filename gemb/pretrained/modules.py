"""The layout of a sentence-transformers folder, and what turns a fetched folder into one."""

import json
from pathlib import Path

WEIGHTS = "model.safetensors"
SETTINGS = "config_sentence_transformers.json"  # prompts and similarity
DTYPES = ("float32", "bfloat16", "float16")  # of weights that are written
TYPES = "sentence_transformers.models."  # what the type of a module begins with
# pooling -> what its flag in 1_Pooling/config.json is called, after pooling_mode_
POOLING_FLAGS = {
    "cls": "cls_token",
    "mean": "mean_tokens",
    "max": "max_tokens",
    "weightedmean": "weightedmean_tokens",
    "lasttoken": "lasttoken",
}


def module_list(steps: list[tuple[str, str]]) -> list[dict]:
    """The content of modules.json.

    Args:
        steps: (path, kind) of each module, in order.
    """
    return [
        {"idx": number, "name": str(number), "path": path, "type": TYPES + kind}
        for number, (path, kind) in enumerate(steps)
    ]


def write_modules(folder: Path, model: dict[str, str]) -> None:
    """Writes modules.json and what it names; a file that came along stays as it is.

    Args:
        folder: holds config.json.
        model: `pooling` and `max_length`, and perhaps `normalize` and `query_prompt`, as models.txt
            explains them.
    """
    width = json.loads((folder / "config.json").read_text(encoding="utf-8"))["hidden_size"]
    steps = [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")]
    modules = module_list(steps[: 2 if model.get("normalize") == "no" else 3])
    pooling = {"word_embedding_dimension": width, "pooling_mode_mean_tokens": False}
    pooling[f"pooling_mode_{POOLING_FLAGS[model['pooling']]}"] = True
    contents = {
        "modules.json": modules,
        "1_Pooling/config.json": pooling,
        "sentence_bert_config.json": {
            "max_seq_length": int(model["max_length"]),
            "do_lower_case": False,
        },
    }
    if "query_prompt" in model:
        prompts = {"query": json.loads(model["query_prompt"]), "document": ""}
        contents[SETTINGS] = {"prompts": prompts}
    for file, content in contents.items():
        path = folder / file
        if not path.exists():
            path.parent.mkdir(exist_ok=True)
            path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
