"""A question to an index: its sources, the prompt, and an endpoint's answer."""

from pathlib import Path
from typing import NamedTuple

from gemb.answers.chat import TIMEOUT, complete
from gemb.answers.prompt import prompt_of, source_of
from gemb.checks import UserError
from gemb.inference.passages import Passage, open_index
from gemb.store.opening import index_of

COUNT = 5


class Answer(NamedTuple):
    """What was found, and what a language model made of it.

    Attributes:
        prompt: the question with its sources, for any language model.
        passages: the sources, best first.
        text: the model's answer; "" where none was asked.
    """

    prompt: str
    passages: list[Passage]
    text: str = ""

    def __str__(self) -> str:
        """The answer with its sources; the prompt where no model was asked."""
        if not self.text:
            return self.prompt
        lines = [f"[{number}] {source_of(each)}" for number, each in enumerate(self.passages, 1)]
        return "\n".join([self.text, "", "Sources:", *lines])


def ask(
    question: str,
    index: str | Path,
    *,
    count: int = COUNT,
    endpoint: str = "",
    llm: str = "",
    timeout: float = TIMEOUT,
) -> Answer:
    """Finds the passages that answer a question, and asks a language model if there is one.

    Args:
        question: in words.
        index: what `gemb index` wrote.
        count: passages.
        endpoint: address of an OpenAI-compatible API, such as "http://localhost:11434/v1"; the key
            is that of GEMB_LLM_KEY or OPENAI_API_KEY. "" only finds the passages.
        llm: the name of the language model there.
        timeout: seconds to wait for it.

    Raises:
        UserError: for an empty question, an index that cannot be used, nothing found, or an
            endpoint that does not answer.

    Example:
        >>> print(ask("how is it installed?", "runs/index"))  # doctest: +SKIP
    """
    if not question.strip():
        raise UserError("the question is empty; say what you want to know")
    if count < 1:
        raise UserError(f"count: expected 1 or more passages, got {count}")
    if bool(endpoint) != bool(llm):
        missing, given = ("llm", "endpoint") if endpoint else ("endpoint", "llm")
        raise UserError(f"{given} needs {missing}: the address of the API and the model's name")
    passages = open_index(index_of(index))(question, count)
    if not passages:
        raise UserError(f"{index}: nothing in it shares a word with {question!r}; ask otherwise")
    prompt = prompt_of(question, passages)
    text = complete(endpoint, llm, prompt, timeout=timeout) if endpoint else ""
    return Answer(prompt, passages, text)
