"""sentence_bert_config.json and its like: how texts are cut and written."""

import hashlib
from pathlib import Path

from gemb.checks import UserError
from gemb.pretrained import module_keys
from gemb.pretrained.keys import read_json, read_keys, read_known, shown

TEMPLATE = "chat_template.jinja"
# of google/embeddinggemma-2, which writes the content of a message and nothing else
_PLAIN_TEMPLATE = "4b852efc0b9960283e735363331e6f325b33bc74bdbaa076f595bc4e9b94d85e"
_SAMPLE = " a <b>  text\n"
_SETTINGS_OF = ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")


def text_settings(encoder: Path) -> dict:
    """How texts are cut and written, and what replaces keys of config.json.

    The settings are in the first of several files, by the kind of model that once wrote it.

    Args:
        encoder: the folder of the Transformer module.

    Returns:
        `max_length`, `tokenizer_length`, `lower_case` and `config` of
        `gemb.pretrained.sentence_transformers.Modules`.

    Raises:
        UserError: naming the key that is wrong or not supported.
    """
    file = _settings_file(encoder)
    content = read_json(file, default={})
    values = read_known(content, module_keys.TRANSFORMER, file)
    if "modality_config" in content and "module_output_name" not in content:
        raise UserError(f"{file}: key 'module_output_name' is missing")
    check_template(encoder, {"type": "text", "text": _SAMPLE}, _SAMPLE)
    tokenizer = _part(values, "tokenizer_args", "processor_kwargs", file)
    tokenizer = read_known(tokenizer, module_keys.TOKENIZER_ARGUMENTS, f"{file}: tokenizer_args")
    model = _part(values, "model_args", "model_kwargs", file)
    read_known(model, module_keys.MODEL_ARGUMENTS, f"{file}: model_args")
    return {
        "max_length": _length(values, tokenizer, file),
        "tokenizer_length": _tokenizer_length(encoder),
        "lower_case": values["do_lower_case"],
        "config": _config_arguments(values, file),
    }


def _settings_file(encoder: Path) -> Path:
    files = [encoder / f"sentence_{kind}_config.json" for kind in _SETTINGS_OF]
    return next((file for file in files if file.exists()), files[0])


def _part(values: dict, old: str, new: str, file: Path) -> dict:
    """An object that has an old and a new name."""
    if old in values and new in values and values[old] and values[new]:
        raise UserError(f"{file}: {old} and {new} are the same setting; keep one of them")
    return values[old] or values[new]


def _length(values: dict, tokenizer: dict, file: Path) -> int | None:
    """Tokens that texts are cut to, by the order in which sentence-transformers lets keys count."""
    processing = read_known(
        values["processing_kwargs"] or {}, module_keys.PROCESSING, f"{file}: processing_kwargs"
    )
    text = read_known(
        processing["text"], module_keys.TEXT_PROCESSING, f"{file}: processing_kwargs.text"
    )
    read_known(
        processing["common"], module_keys.COMMON_PROCESSING, f"{file}: processing_kwargs.common"
    )
    if text["max_length"]:
        return text["max_length"]
    length = tokenizer["model_max_length"] or values["max_seq_length"]
    query, document = values["query_length"] or length, values["document_length"] or length
    if query != document:
        raise UserError(
            f"{file}: query_length and document_length: gemb cuts queries and documents to the "
            f"same length, and these are {shown(query)} and {shown(document)}; make them equal"
        )
    return document


def _tokenizer_length(encoder: Path) -> float | None:
    """What tokenizer_config.json says of the length of texts; a number beyond all means none."""
    file = encoder / "tokenizer_config.json"
    table = {"model_max_length": module_keys.TOKENIZER_LENGTH}
    return read_keys(read_json(file, default={}), table, file)["model_max_length"]


def _config_arguments(values: dict, file: Path) -> dict:
    """What replaces values of config.json."""
    arguments = _part(values, "config_args", "config_kwargs", file)
    table = dict.fromkeys(module_keys.CONFIG_ARGUMENTS, module_keys.ANY)
    read_known(arguments, table | module_keys.MODEL_ARGUMENTS, f"{file}: config_args")
    return {key: value for key, value in arguments.items() if key in table}


def reads_messages(encoder: Path) -> bool:
    """Whether sentence-transformers puts every value through the folder's chat template."""
    settings = read_json(_settings_file(encoder), default={})
    return "message" in (settings.get("modality_config") or {})


def check_template(encoder: Path, content: dict, expected: str) -> None:
    """Checks that the folder's chat template writes a value as it is.

    Args:
        encoder: the folder of the Transformer module.
        content: the value as messages hold it, such as {"type": "text", "text": "a"}.
        expected: how it is written without a template.

    Raises:
        UserError: for a template that writes something else, or cannot be read.
    """
    if not reads_messages(encoder):
        return
    place, file = encoder / "tokenizer_config.json", encoder / TEMPLATE
    template = str(read_json(place, default={}).get("chat_template") or "").encode()
    if file.exists():
        place, template = file, file.read_bytes()
    if not template or hashlib.sha256(template).hexdigest() == _PLAIN_TEMPLATE:
        return
    try:
        from jinja2 import TemplateError
        from jinja2.sandbox import ImmutableSandboxedEnvironment
    except ImportError:
        raise UserError(
            f"{place}: sentence-transformers puts texts through this chat template, and gemb needs "
            "jinja2 to see whether it changes them: pip install jinja2"
        ) from None
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    message = {"role": "user", "content": [content]}
    try:
        written = environment.from_string(template.decode()).render(
            messages=[message], add_generation_prompt=False
        )
    except (TemplateError, ValueError, TypeError) as error:
        raise UserError(f"{place}: this chat template cannot be read ({error})") from None
    if written != expected:
        raise UserError(
            f"{place}: sentence-transformers puts values through this chat template, which makes "
            f'{shown(written)} of {shown(expected)}; gemb does not. Remove "message" from '
            "modality_config to leave them as they are"
        )
