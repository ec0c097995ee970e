"""Texts to Tokens: prompts, tokenizer, truncation, padding to a few lengths."""

import dataclasses
import functools
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from gemb.checks import UserError, check
from gemb.processors.padding import bucket, pad
from gemb.processors.processor import Example
from gemb.structs import NO_PROMPTS, Prompts, Tokens
from gemb.tokenizers import Tokenizer, byte_tokenizer_json
from gemb.tokenizers.tokenizer_files import read_tokenizer

# Files next to tokenizer.json that other libraries read; copied from the folder of the base model.
_SIDE_FILES = ("tokenizer_config.json", "special_tokens_map.json", "vocab.txt")
# What the tokenizer_config.json of a class with its own normalizer says, and tokenizer.json holds.
_OF_OTHER_CLASSES = (
    *("do_lower_case", "strip_accents", "tokenize_chinese_chars", "do_basic_tokenize"),
    *("never_split", "auto_map", "backend", "name_or_path", "is_local"),
)


@dataclasses.dataclass(frozen=True)
class TextProcessor:
    """The processor of texts.

    Attributes:
        tokenizer_json: the text of a tokenizer.json.
        max_length: tokens that a text is cut to, special tokens included.
        prompts: what is put in front of queries and documents, and whether the pooler sees it.
        fill: the id with which every text is filled up to max_length, as the model reads its
            padding (SigLIP); None for models that do not see padding.
    """

    tokenizer_json: str
    max_length: int = 256
    prompts: Prompts = NO_PROMPTS
    fill: int | None = None

    modality: ClassVar[str] = "text"

    @property
    def limit(self) -> int:
        """The same as max_length."""
        return self.max_length

    def check_encoder(self, encoder) -> None:
        """Checks the vocabulary and the length limit against an encoder.

        Raises:
            ValueError: naming what does not fit.
        """
        check(
            encoder.modality == self.modality,
            f"processor: it makes inputs of texts, the encoder reads {encoder.modality!r}",
        )
        limit = encoder.max_length
        check(
            not limit or self.max_length <= limit,
            f"max_length: {self.max_length} exceeds the model's {limit} positions",
        )
        tokenizer = self.tokenizer()
        size = tokenizer.vocab
        check(
            size <= encoder.vocab,
            f"the tokenizer gives ids up to {size - 1} ({tokenizer.token(size - 1)!r}), but the "
            f"weights have only {encoder.vocab} rows: it belongs to another model",
        )

    def identity(self) -> tuple[str, dict]:
        """The tokenizer, and the settings that change a vector."""
        settings = {
            "max_length": self.max_length,
            "query_prompt": self.prompts.query,
            "document_prompt": self.prompts.document,
            "pool_prompt": self.prompts.pooled,
        }
        if self.fill is not None:
            settings["fill"] = self.fill
        return self.tokenizer_json, settings

    def prompt(self, side: str) -> str:
        """What is put in front of the texts of a side."""
        return getattr(self.prompts, side)

    def prepare(self, values: Sequence[str], side: str) -> list[Example]:
        """Tokenizes texts behind the model's prompt.

        Raises:
            UserError: if an item is not a string or not valid Unicode, naming its place.
        """
        tokenizer = self.tokenizer(self.prompt(side))
        unpooled = 0 if self.prompts.pooled else tokenizer.prompt_length
        return _examples(values, self.filled(tokenizer.encode(values)), [unpooled] * len(values))

    def filled(self, ids: Sequence[Sequence[int]]) -> Sequence[Sequence[int]]:
        """Token ids, filled up to max_length for a model that reads its padding."""
        if self.fill is None:
            return ids
        return [[*row, *[self.fill] * (self.max_length - len(row))] for row in ids]

    def bucket(self, size: int) -> int:
        """See `gemb.processors.padding.bucket`."""
        return bucket(size, self.max_length)

    def collate(
        self, examples: Sequence[Example | None], size: int, rows: int | None = None
    ) -> Tokens:
        """Pads token ids on the right, see `gemb.processors.processor.Processor.collate`."""
        return collate(examples, size, rows, self.prompts.pooled)

    def for_task(self, side: str, *, length: int, prompts: Sequence[str] | None) -> "TaskTexts":
        """The processor for one side of a task: another length, other prompts."""
        given = (self.prompt(side),) if prompts is None else tuple(prompts)
        made = TaskTexts(self.with_limit(length), side, given)
        made.check_prompts()
        return made

    def describe(self, inputs: Tokens, row: int) -> str:
        """The text of a row, with its special tokens visible, and how much of it is padding."""
        text = self._plain_tokenizer.show(inputs.ids[row][inputs.mask[row]].tolist())
        hidden = int((~inputs.mask[row]).sum())
        return f"{text!r}" + (f" + {hidden} padding" if hidden else "")

    def with_limit(self, max_length: int) -> "TextProcessor":
        """The processor that cuts texts to another length; kept, with its tokenizers.

        Of a model that reads its padding it is the same one: its texts have one length.
        """
        if self.fill is not None:
            return self
        if max_length not in self._limited:
            self._limited[max_length] = dataclasses.replace(self, max_length=max_length)
        return self._limited[max_length]

    def with_prompts(self, prompts: Mapping[str, str]) -> "TextProcessor":
        """The processor with other prompts: "query" and "document", either or both."""
        made = dataclasses.replace(self, prompts=self.prompts._replace(**prompts))
        return self if made == self else made

    def without_special_tokens(self) -> "TextProcessor":
        """The processor whose tokenizer adds nothing to the words of a text."""
        definition = _changed(self.tokenizer_json, post_processor=None)
        return dataclasses.replace(self, tokenizer_json=definition)

    def count_cut(self, examples: Sequence[Example], side: str) -> int:
        """How many of the texts of prepared examples were longer than the limit."""
        if self.fill is not None:
            longer = dataclasses.replace(self, max_length=self.max_length + 1, fill=None)
            values = [example.value for example in examples]
            return sum(example.size > self.max_length for example in longer.prepare(values, side))
        full = [example.value for example in examples if example.size == self.max_length]
        longer = self.with_limit(self.max_length + 1).prepare(full, side) if full else []
        return sum(example.size > self.max_length for example in longer)

    def tokenizer(self, prompt: str = "") -> Tokenizer:
        """The tokenizer with this length limit; kept for each prompt."""
        if prompt not in self._tokenizers:
            self._tokenizers[prompt] = Tokenizer(self.tokenizer_json, self.max_length, prompt)
        return self._tokenizers[prompt]

    def save(self, folder: Path, base: Path | None = None, *, cut: bool = False) -> None:
        """Writes tokenizer.json and the files next to it that other libraries read.

        Args:
            folder: the model folder.
            base: the folder that the model was read from, whose side files are copied; None for a
                model from scratch.
            cut: whether tokenizer.json itself cuts texts, for readers that know no other place of
                the limit.
        """
        limit = {"max_length": self.max_length, "direction": "Right", "stride": 0}
        limit = {"truncation": limit | {"strategy": "LongestFirst"}}
        definition = _changed(self.tokenizer_json, **limit) if cut else self.tokenizer_json
        (folder / "tokenizer.json").write_text(definition, encoding="utf-8")
        for name in _SIDE_FILES if base else ():
            if (base / name).exists():
                shutil.copyfile(base / name, folder / name)
        place = folder / "tokenizer_config.json"
        if not place.exists() or not self._is_of(base):
            given = json.loads(place.read_text(encoding="utf-8")) if place.exists() else {}
            text = json.dumps(self._tokenizer_config(given), indent=2)
            place.write_text(text + "\n", encoding="utf-8")

    def _is_of(self, base: Path) -> bool:
        """Whether this is the tokenizer.json of a folder, which its other files describe."""
        try:
            return (base / "tokenizer.json").read_text(encoding="utf-8") == self.tokenizer_json
        except OSError:
            return False

    def _tokenizer_config(self, given: dict) -> dict:
        """tokenizer_config.json by which transformers takes tokenizer.json as it is.

        Other classes, and no class at all, build normalizers of their own: BertTokenizer would
        undo that texts are made lower case, or make them so.

        Args:
            given: the folder's own, whose names of special tokens are kept.
        """
        tokenizer = self._plain_tokenizer
        own = {
            "model_max_length": self.max_length,
            "pad_token": tokenizer.token(tokenizer.padding),
            "additional_special_tokens": tokenizer.special,  # where a prompt ends is found by these
        }
        kept = {name: value for name, value in given.items() if name not in _OF_OTHER_CLASSES}
        return own | kept | {"tokenizer_class": "PreTrainedTokenizerFast"}

    @property
    def _plain_tokenizer(self) -> Tokenizer:
        return self.tokenizer("")

    @functools.cached_property
    def _tokenizers(self) -> dict[str, Tokenizer]:
        return {}

    @functools.cached_property
    def _limited(self) -> dict[int, "TextProcessor"]:
        return {}


@dataclasses.dataclass(frozen=True)
class TaskTexts:
    """The texts of one side of a training task.

    Attributes:
        processor: the model's, with the task's length.
        side: "query" or "document".
        prompts: one of them is drawn for each text.
    """

    processor: TextProcessor
    side: str
    prompts: tuple[str, ...]

    @property
    def limit(self) -> int:
        """Tokens that a text is cut to, its prompt included."""
        return self.processor.max_length

    def check_prompts(self) -> None:
        """Checks that each prompt leaves room for a text: all texts would be the same without it.

        Raises:
            UserError: naming the setting and the prompt.
        """
        for prompt in self.prompts:
            if prompt and len(self.processor.tokenizer().encode([prompt])[0]) >= self.limit:
                raise UserError(
                    f"{self.side}_length: {self.limit} tokens leave no room for a text behind the "
                    f"prompt {prompt!r}"
                )

    @functools.cached_property
    def prompt_lengths(self) -> list[int]:
        """Leading tokens of each prompt that the pooler does not see."""
        if self.processor.prompts.pooled:
            return [0] * len(self.prompts)
        return [self.processor.tokenizer(prompt).prompt_length for prompt in self.prompts]

    def prepare(self, values: Sequence[str], drawn: Sequence[float]) -> list[Example]:
        """Tokenizes texts, each behind a prompt chosen by its number in [0, 1)."""
        if not values:
            return []
        chosen = [int(number * len(self.prompts)) for number in drawn]
        texts = [self.prompts[which] + text for which, text in zip(chosen, values, strict=True)]
        ids = self.processor.filled(self.processor.tokenizer().encode(texts))
        return _examples(values, ids, [self.prompt_lengths[which] for which in chosen])


def collate(
    examples: Sequence[Example | None],
    size: int,
    rows: int | None = None,
    pool_prompts: bool = True,
) -> Tokens:
    """Pads the token ids of examples, see `gemb.processors.processor.Processor.collate`."""
    ids = [() if example is None else example.content for example in examples]
    if pool_prompts:
        return pad(ids, size, rows)
    unpooled = [0 if example is None else example.unpooled for example in examples]
    unpooled += [0] * ((rows or len(ids)) - len(ids))
    return pad(ids, size, rows, unpooled)


def of_bytes(max_length: int = 64) -> TextProcessor:
    """A processor with one token per byte, for debugging and tests: nothing to download.

    Args:
        max_length: tokens that texts are cut to.
    """
    return TextProcessor(byte_tokenizer_json(), max_length)


def from_folder(
    folder: str | Path,
    max_length: int = 512,
    *,
    rows: int | None = None,
    lower_case: bool = False,
    static: bool = False,
) -> TextProcessor:
    """The processor of a folder with a tokenizer, whatever its files.

    Args:
        folder: a model folder, or a SentencePiece file.
        max_length: tokens that texts are cut to.
        rows: of the model's embedding table; None where there is none yet.
        lower_case: whether texts are made lower case before anything else.
        static: whether this is a static model's: tokenizer.json counts alone, and without the
            special tokens that it adds to a text.

    Raises:
        UserError: if there is no tokenizer, or a broken one.
    """
    definition = read_tokenizer(folder, rows, alone=static)
    if static:
        definition = _changed(definition, post_processor=None)
        cut = json.loads(definition).get("truncation") or {}
        if cut.get("direction") == "Right":  # as `save` writes it; max_length says the rest
            definition = _changed(definition, truncation=None)
    if lower_case:
        own = filter(None, [json.loads(definition).get("normalizer")])
        steps = {"type": "Sequence", "normalizers": [{"type": "Lowercase"}, *own]}
        definition = _changed(definition, normalizer=steps)
    return TextProcessor(definition, max_length)


def _changed(definition: str, **parts) -> str:
    return json.dumps(json.loads(definition) | parts, ensure_ascii=False)


def _examples(
    values: Sequence[str], ids: Sequence[Sequence[int]], unpooled: Sequence[int]
) -> list[Example]:
    return [
        Example(value, row, len(row), hidden)
        for value, row, hidden in zip(values, ids, unpooled, strict=True)
    ]
