"""What turns a fetched Hugging Face folder into one of sentence-transformers."""

import json
from pathlib import Path

_POOLING_MODES = {"mean": "mean_tokens", "cls": "cls_token"}


def write_modules(folder: Path, model: dict[str, str]) -> None:
    """Writes modules.json and what it names; a file that came along stays as it is.

    Args:
        folder: holds config.json.
        model: `pooling` and `max_length`, and perhaps `normalize` and `query_prompt`, as models.txt
            explains them.
    """
    width = json.loads((folder / "config.json").read_text(encoding="utf-8"))["hidden_size"]
    steps = [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")]
    modules = [
        {
            "idx": number,
            "name": str(number),
            "path": path,
            "type": f"sentence_transformers.models.{kind}",
        }
        for number, (path, kind) in enumerate(steps[: 2 if model.get("normalize") == "no" else 3])
    ]
    pooling = {"word_embedding_dimension": width, "pooling_mode_mean_tokens": False}
    pooling[f"pooling_mode_{_POOLING_MODES[model['pooling']]}"] = True
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
        contents["config_sentence_transformers.json"] = {"prompts": prompts}
    for file, content in contents.items():
        path = folder / file
        if not path.exists():
            path.parent.mkdir(exist_ok=True)
            path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
