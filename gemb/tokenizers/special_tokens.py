"""The special and added tokens that a folder's files name, in the order transformers adds them."""

import dataclasses

from tokenizers import AddedToken

from gemb.checks import UserError
from gemb.tokenizers.tokenizer_classes import TokenizerClass
from gemb.tokenizers.tokenizer_json import FLAGS, Settings

ROLES = ("bos", "eos", "unk", "sep", "pad", "cls", "mask")


@dataclasses.dataclass(frozen=True)
class SpecialTokens:
    """The tokens of a folder.

    Attributes:
        roles: {role: token}, the class's own included.
        extra: further special tokens.
        tokens: what the folder names, in the order in which it is added.
        defaults: what only the class names.
        ids: {name: id}, once they are added.
    """

    roles: dict[str, AddedToken]
    extra: list[AddedToken]
    tokens: list[AddedToken]
    defaults: list[AddedToken]
    ids: dict[str, int] = dataclasses.field(default_factory=dict)

    def name(self, role: str) -> str:
        """The token of a role.

        Raises:
            UserError: if there is none.
        """
        if role not in self.roles:
            raise UserError(f"tokenizer_config.json: {role}_token is null, and its class needs one")
        return self.roles[role].content

    def id(self, role: str) -> int:
        """The id of a role's token."""
        if self.name(role) not in self.ids:
            raise UserError(f"the {role}_token {self.name(role)!r} has no row in the model's table")
        return self.ids[self.name(role)]


def special_tokens(kind: TokenizerClass, content: dict, settings: Settings) -> SpecialTokens:
    """Collects the tokens of tokenizer.json, tokenizer_config.json and the older files.

    Raises:
        UserError: for a token that cannot be read.
    """
    options = settings.options
    roles = _roles(kind, options, content.get("padding"))
    given = _list(options.get("extra_special_tokens") or options.get("additional_special_tokens"))
    named = {token.content for token in (*roles.values(), *given)}
    added = _added(content, settings, named)
    by_name = {token.content: token for token in added.values()}
    roles = {role: by_name.get(token.content, token) for role, token in roles.items()}
    extra = given or _list(kind.extra(options))
    known = {token["content"] for token in content.get("added_tokens") or [] if not kind.model}
    known |= set(by_name)
    role_names = {token.content for token in roles.values()}
    tokens, defaults = [added[number] for number in sorted(added)], []
    for token in tokens:
        token.special = token.special or token.content in role_names
    for role, token in [*roles.items(), *((None, token) for token in extra)]:
        if token.content not in known:
            known.add(token.content)
            token.special = True
            default = role in kind.tokens and options.get(f"{role}_token") is None
            (defaults if (default if role else not given) else tokens).append(token)
    return SpecialTokens(roles, extra, tokens, defaults)


def _roles(kind: TokenizerClass, options: dict, padding: dict | None) -> dict[str, AddedToken]:
    """The tokens with a role, the seven usual ones first."""
    others = [
        key.removesuffix("_token")
        for key, value in options.items()
        if key.endswith("_token") and isinstance(value, str) and key[: -len("_token")] not in ROLES
    ]
    usual = {"pad": (padding or {}).get("pad_token")} | kind.tokens
    roles = {}
    for role in (*ROLES, *others):
        token = options.get(f"{role}_token", usual.get(role))
        if token is not None:
            strip = kind.left_strip and role == "mask" and isinstance(token, str)
            roles[role] = as_token(token, f"{role}_token", lstrip=strip)
    named = options.get("extra_special_tokens")
    for role, token in (named if isinstance(named, dict) else {}).items():
        roles[role] = as_token(token, role)
    return roles


def _list(given) -> list[AddedToken]:
    if given is None or isinstance(given, dict):
        return []
    if not isinstance(given, list):
        raise UserError(f"extra_special_tokens: expected a list, got {given!r}")
    return [as_token(token, "extra_special_tokens") for token in given]


def _added(content: dict, settings: Settings, named: set[str]) -> dict[int, AddedToken]:
    """{id: token}: added_tokens_decoder or, without it, added_tokens.json and tokenizer.json."""
    decoder = settings.options.get("added_tokens_decoder")
    if decoder is not None:
        return {int(row): as_token(token, "added_tokens_decoder") for row, token in decoder.items()}
    found = {}
    for name, row in settings.added.items():
        special = name in named
        found[row] = AddedToken(name, normalized=not special, special=special)
    for token in content.get("added_tokens") or []:
        found[token["id"]] = as_token(token, "added_tokens")
    return found


def as_token(value, where: str, lstrip: bool = False) -> AddedToken:
    """A token of a JSON file: its name, or an object with its flags.

    Raises:
        UserError: for something else.
    """
    if isinstance(value, str) and value:
        return AddedToken(value, special=True, lstrip=lstrip)
    if isinstance(value, dict) and isinstance(value.get("content"), str):
        return AddedToken(value["content"], **{f: value[f] for f in FLAGS if f in value})
    raise UserError(f"{where}: expected a token, got {value!r}")
