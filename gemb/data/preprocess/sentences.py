"""Sentence splitting by punctuation, for next-sentence and inverse-cloze pairs.

No model and no language tag: a full stop ends a sentence unless what stands around it says
otherwise. Scripts with their own full stops, with or without spaces, are split at those.
"""

import re

_CLOSE = "\"'”’»)\\]}）」』】〉》›"
_WIDE = "。！？｡…‼⁇⁈⁉．"  # CJK: no space follows
_SPACED = "।॥؟۔։።፧፨។៕။՞"  # Devanagari, Arabic, Urdu, Armenian, Ethiopic, Khmer, Burmese
_END = re.compile(
    rf"(?:[{_WIDE}]+[{_CLOSE}]*\s*)|(?:[{_SPACED}]+[{_CLOSE}]*\s*)|(?:(?<![.!?])[.!?]++[{_CLOSE}]*\s+)|\n{{2,}}"
)
_WORD = re.compile(r"([^\s(\[\"'“‘«]+)$")
_ABBREVIATIONS = frozenset(
    re.findall(
        r"\S+",
        """
        al etc ca approx dept est ch sec st jr sr ed eds inc ltd co corp bros b.a m.a ph.d u.s u.k
        jan feb mar apr jun jul aug sep sept oct nov dec mon tue wed thu fri sat sun a.m p.m m.d
        u.n d.c u.a usw ggf evtl str abs p.ex env av bd ud uds ej pág núm art т.д т.п т.к г гг стр
        """,
    )
)
_NEVER_LAST = frozenset(
    re.findall(
        r"\S+",
        """
        mr mrs ms dr prof rev hon messrs mme mlle gen col capt lt maj sgt cmdr gov sen rep pres vs
        e.g i.e cf viz fig figs eq eqs no nos nr vol vols pp z.b d.h bzw bspw dipl ing hr fr sra
        srta т.е им ул рис
        """,
    )
)


def split_sentences(text: str) -> list[str]:
    """Splits a text into sentences, without the white space between them.

    Args:
        text: any script.

    Returns:
        Sentences in order, none empty. No character but white space is lost.

    Example:
        >>> split_sentences("Dr. Who paid $3.50 at 5 p.m. on Monday. He came... and left! Why?")
        ['Dr. Who paid $3.50 at 5 p.m. on Monday.', 'He came... and left!', 'Why?']
        >>> split_sentences("吾輩は猫である。名前はまだ無い。")
        ['吾輩は猫である。', '名前はまだ無い。']
    """
    sentences, start = [], 0
    for found in _END.finditer(text):
        if _ends(text, start, found):
            sentences.append(text[start : found.end()].strip())
            start = found.end()
    sentences.append(text[start:].strip())
    return [sentence for sentence in sentences if sentence]


def _ends(text: str, start: int, found: re.Match) -> bool:
    """Whether a sentence ends at a found mark."""
    mark, after = found.group().strip(), text[found.end() : found.end() + 1]
    if not mark or mark[0] in _SPACED:
        return True
    if mark[0] in _WIDE:  # inside a quotation the sentence may go on: 「。」と言った
        return mark[-1] not in _CLOSE or not after or after not in "とはがをもに、"
    if after and (after.islower() or after in ",;:)"):
        return False
    if mark[0] in "!?" or mark.startswith(".."):
        return True
    word = _WORD.search(text[max(start, found.start() - 20) : found.start()])
    return not word or not _continues(word.group(1), after)


def _continues(word: str, after: str) -> bool:
    """Whether a full stop behind the word belongs to the word."""
    low = word.lower()
    if low in _NEVER_LAST:
        return True
    if len(word) == 1 and word.isalpha():
        # An initial, as in J. Smith, or a word cut to a letter, as in b. 1892.
        return after.isdecimal() or (word.isupper() and word != "I")
    if re.fullmatch(r"(?:[^\W\d_]\.)+[^\W\d_]", word):  # U.S. before a capital may be either
        return not after.isupper()
    if low in _ABBREVIATIONS:
        return not after.isupper()
    return word.isdecimal() and len(word) <= 2 and after.isdecimal()
