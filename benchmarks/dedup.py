"""gemb dedup on copies planted in real texts: what is found, and what is merged falsely.

    python benchmarks/dedup.py --text sentences.txt.gz --rows 4000 --seed 1

Of --copies texts of the file (one a line, 3 words and more) a copy is planted: a third in other
case, a third with other punctuation, a third with any word in the place of another. `found` is
the share of copies in their source's cluster, `merged_falsely` that of the texts that join another
one; planted copies, and copies by case, punctuation and spacing that stood there before, left out.
"""

import argparse
import json
import random
import tempfile
from pathlib import Path

from workers import show

from gemb.curation import Likeness, deduplicate, inputs
from gemb.curation.duplicates.texts import text_key
from gemb.data.sources.reading import files
from gemb.inference.embedder import Embedder

LONG = 7  # words from which one is less than the share that may differ
KINDS = ("case", "punctuation", "word")


def read(path: Path) -> list[str]:
    """The lines of three words and more."""
    records = files(path)
    lines = (records[row] for row in range(len(records)))
    return [line["text"].strip() for line in lines if line and len(line["text"].split()) >= 3]


def copy_of(text: str, kind: str, vocabulary: list[str], rng: random.Random) -> str:
    """The text with one kind of change."""
    words = text.split()
    place = rng.randrange(len(words))
    if kind == "case":
        return text.upper() if rng.random() < 0.5 else text.swapcase()
    if kind == "punctuation":
        words[place] += rng.choice([",", ";", " -", "..."])
        return " ".join(words) + rng.choice(["", "!", "."])
    words[place] = rng.choice([word for word in rng.sample(vocabulary, 20) if word != words[place]])
    return " ".join(words)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--text", type=Path, required=True, help="a text a line, .gz or not")
    parser.add_argument("--model", default="all-MiniLM-L6-v2")
    parser.add_argument("--rows", type=int, default=4_000)
    parser.add_argument("--copies", type=int, default=600)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--short", default="auto", help="as of gemb dedup")
    options = parser.parse_args()
    rng = random.Random(options.seed)
    texts = read(options.text)
    texts = rng.sample(texts, min(options.rows, len(texts)))
    vocabulary = sorted({word for text in texts for word in text.split() if word.isalpha()})
    sources = rng.sample(range(len(texts)), options.copies)
    kinds = [KINDS[i % 3] for i in range(options.copies)]
    planted = [
        copy_of(texts[s], kind, vocabulary, rng) for s, kind in zip(sources, kinds, strict=True)
    ]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "texts.jsonl"
        rows = ({"text": text} for text in [*texts, *planted])
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        records = inputs.read_texts(path, ["text"])
        encoder = Embedder.load(options.model)
        results = deduplicate(
            records, ["text"], encoder, folder, likeness=Likeness(short=options.short)
        )
        cluster = clusters(Path(folder) / "clusters.jsonl")
    hits = {kind: [] for kind in (*KINDS, "long", "all")}
    for number, (source, kind) in enumerate(zip(sources, kinds, strict=True)):
        hit = source in cluster and cluster[source] == cluster.get(len(texts) + number)
        hits[kind].append(hit)
        hits["all"].append(hit)
        if len(texts[source].split()) >= LONG:
            hits["long"].append(hit)
    members: dict[int, set] = {}
    for row, number in cluster.items():
        if row < len(texts):
            members.setdefault(number, set()).add(text_key(texts[row]))
    falsely = sum(len(keys) - 1 for keys in members.values())
    show(
        text=options.text.name,
        rows=len(texts),
        found={name: round(sum(found) / max(1, len(found)), 4) for name, found in hits.items()},
        merged_falsely=round(falsely / len(texts), 5),
        counts=results["counts"],
        seconds=results["seconds"],
    )


def clusters(path: Path) -> dict[int, int]:
    """Row -> number of its cluster."""

    def row(where: str) -> int:
        return int(where.rpartition(":")[2]) - 1

    found = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines()):
        cluster = json.loads(line)
        for where in (cluster["where"], *(other["where"] for other in cluster["removed"])):
            found[row(where)] = number
    return found


if __name__ == "__main__":
    main()
