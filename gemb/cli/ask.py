"""gemb ask QUESTION: the passages of an index that answer a question, as a prompt or as an answer.

    gemb ask --index=runs/index "how do I reset the password"
    gemb ask --index=runs/index "how do I reset the password" | llm
    gemb ask --index=runs/index --endpoint=http://localhost:11434/v1 --llm=qwen3 "how do I ..."
    export GEMB_LLM_KEY=...
    gemb ask --index=runs/index --endpoint=https://api.openai.com/v1 --llm=NAME "how do I ..."

Without --endpoint it prints a prompt for any language model: the best --count passages as numbered
sources with file and line, and the question. With --endpoint it sends that prompt to an
OpenAI-compatible chat API, and prints the answer and its sources. The key is read from
GEMB_LLM_KEY or OPENAI_API_KEY; if neither is set, no key is sent. Without --endpoint nothing leaves
this machine.

The index is a folder that `gemb index` wrote, from `gemb documents` or any other corpus, or a store
of `gemb release`.
"""

from absl import flags

FLAGS = flags.FLAGS
flags.DEFINE_string("index", "", "Index folder.", allow_override=True)
flags.DEFINE_integer("count", 5, "Passages to find.", lower_bound=1, allow_override=True)
flags.DEFINE_string("endpoint", "", "Address of a chat API.", allow_override=True)
flags.DEFINE_string("llm", "", "Name of the language model.", allow_override=True)
flags.DEFINE_float("timeout", 120.0, "Seconds to wait for it.", 0.1, allow_override=True)


def main(argv: list[str]) -> None:
    from gemb.checks import UserError
    from gemb.cli.arguments import check_arguments

    question = " ".join(argv)
    if not question.strip():
        raise UserError("the question is required: gemb ask --index=FOLDER QUESTION")
    check_arguments([], "index")
    if bool(FLAGS.endpoint) != bool(FLAGS.llm):
        missing = "llm" if FLAGS.endpoint else "endpoint"
        raise UserError(f"--{missing} is required: use --endpoint and --llm together")
    from gemb.answers.ask import ask

    options = {"endpoint": FLAGS.endpoint, "llm": FLAGS.llm, "timeout": FLAGS.timeout}
    print(ask(question, FLAGS.index, count=FLAGS.count, **options))


if __name__ == "__main__":
    from gemb.cli.__main__ import run

    run("ask")
