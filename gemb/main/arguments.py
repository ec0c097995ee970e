"""What every verb checks of its command line before anything heavy is imported."""

from absl import flags

from gemb.checks import UserError


def check_arguments(argv: list[str], *required: str) -> None:
    """Refuses words that are no flags, lists that are given twice, and flags that are missing.

    Args:
        argv: what was left when the flags were read.
        required: names of flags that a verb cannot do without.

    Raises:
        UserError: naming the word or the flag.
    """
    if argv:
        raise UserError(f"unexpected argument {argv[0]!r}; flags are written --name=value")
    for name in flags.FLAGS:
        flag = flags.FLAGS[name]
        if flag.present > 1 and isinstance(flag.parser, flags.ListParser):
            raise UserError(f"--{name} is given {flag.present} times; give it once, with commas")
    for flag in required:
        if not flags.FLAGS[flag].value:
            raise UserError(f"--{flag} is missing")
