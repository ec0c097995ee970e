"""How the families of models number the pieces of a SentencePiece .model, and what they put around
a text."""

from pathlib import Path

from gemb.checks import UserError
from gemb.tokenizers import sentencepiece_model
from gemb.tokenizers.tokenizer_json import REMEDY, Settings, all_added_tokens, template

FAMILIES = {
    "llama": (
        "LlamaTokenizer", "GemmaTokenizer", "llama", "mistral", "mixtral",
        "gemma", "gemma2", "gemma3", "gemma3_text",
    ),
    "t5": ("T5Tokenizer", "t5", "mt5", "umt5"),
    "xlm-roberta": ("XLMRobertaTokenizer", "xlm-roberta", "xlm-roberta-xl"),
}  # fmt: skip


def read(file: Path, settings: Settings) -> dict:
    """Reads a .model file into the content of tokenizer.json.

    Ids and special tokens by family: "llama" keeps the pieces' ids and puts the start token first
    (`add_bos_token` and `add_eos_token` of tokenizer_config.json change that), "t5" puts the end
    token last and appends the sentinels, "xlm-roberta" renumbers as fairseq did and puts both. A
    file that comes with no word about its model keeps its ids and gets no special tokens.

    Args:
        file: the .model file.
        settings: the content of the files next to it.

    Returns:
        The content of tokenizer.json.

    Raises:
        UserError: for a broken file or an unknown family, naming the file and the remedy.
    """
    try:
        model = file.read_bytes()
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error})") from None
    proto = sentencepiece_model.parse(model, file)
    family = settings.family(FAMILIES, str(file), default="plain")
    rows = [(piece.piece, place) for place, piece in enumerate(proto.pieces)]
    if family == "t5":
        rows += [(name, None) for name in _sentinels(settings)]
    elif family == "xlm-roberta":
        rows = _fairseq_rows(rows, file)
    result = sentencepiece_model.tokenizer_json(model, proto, rows)
    ids = {name: row for row, (name, _) in enumerate(rows)}
    result["added_tokens"] = all_added_tokens(result["added_tokens"], ids, settings, str(file))
    result["post_processor"] = _template(proto, family, settings, ids, file)
    return result


def _sentinels(settings: Settings) -> list[str]:
    default = 0 if settings.model_type in ("mt5", "umt5") else 100  # theirs are in the .model
    count = settings.options.get("extra_ids", default)
    return [f"<extra_id_{i}>" for i in reversed(range(count))]


def _fairseq_rows(rows: list, file: Path) -> list:
    """Pieces <unk> <s> </s> ... become <s> <pad> </s> <unk> ... <mask>."""
    if [name for name, _ in rows[:3]] != ["<unk>", "<s>", "</s>"]:
        raise UserError(f"{file}: does not begin with <unk>, <s>, </s> as XLM-RoBERTa's; {REMEDY}")
    return [rows[1], ("<pad>", None), rows[2], rows[0], *rows[3:], ("<mask>", None)]


def _template(proto, family: str, settings: Settings, ids: dict, file: Path) -> dict | None:
    defaults = {"llama": (True, False), "t5": (False, True), "xlm-roberta": (True, True)}
    starts, ends = defaults.get(family, (False, False))
    if family in ("llama", "plain"):
        starts = settings.options.get("add_bos_token", starts)
        ends = settings.options.get("add_eos_token", ends)
    sides = ((starts, proto.trainer_spec.bos_id), (ends, proto.trainer_spec.eos_id))
    if any(wanted and not 0 <= place < len(proto.pieces) for wanted, place in sides):
        raise UserError(f"{file}: lacks the start or the end token of {family} models; {REMEDY}")
    names = [[proto.pieces[place].piece] if wanted else [] for wanted, place in sides]
    before, after = ({name: ids[name] for name in side} for side in names)
    return template(before, after) if before or after else None
