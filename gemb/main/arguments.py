"""What every verb checks of its command line before anything heavy is imported."""

from absl import flags

from gemb.checks import UserError


def check_arguments(argv: list[str], *required: str) -> None:
    """Refuses words that are no flags, and required flags that are empty.

    Args:
        argv: what was left when the flags were read.
        required: names of flags that a verb cannot do without.

    Raises:
        UserError: naming the word or the flag.
    """
    if argv:
        raise UserError(f"unexpected argument {argv[0]!r}; flags are written --name=value")
    for flag in required:
        if not flags.FLAGS[flag].value:
            raise UserError(f"--{flag} is missing")


def check_lists() -> None:
    """Refuses lists that are given twice, of which the last alone would count.

    Raises:
        UserError: naming the flag.
    """
    for name in flags.FLAGS:
        flag = flags.FLAGS[name]
        if flag.present > 1 and isinstance(flag.parser, flags.ListParser):
            raise UserError(f"--{name} is given {flag.present} times; give it once, with commas")
