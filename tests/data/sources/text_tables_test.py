"""Tables with stray quotes and any line ends: the rows of Python's csv module and of pandas."""

import csv
import io
import random

import pytest

from gemb.checks import UserError
from gemb.data.sources import lines
from gemb.data.sources.numbered import numbered_lines, tab_fields
from gemb.evaluation.tasks.tables import read_table

INCHES = 'id,text\n1,"a ""quoted"" word"\n2,a 5" pipe\n3,plain\n4,another 6" pipe\n5,last one\n'
CASES = {
    "inches": INCHES,
    "no line end": 'a,b\n1,"x, y"\n2,5"',
    "line breaks in a field": 'a,b\n1,"x\ny"\n2,"u\r\nv"\n3,z\n',
    "behind a closing quote": 'a,b\n1,"x"y"z\n2,w\n',
    "empty fields": 'a,b\n"",""\n,x\n1,\n',
    "windows": 'a,b\r\n1,5"\r\n2,"x, ""y"""\r\n',
    "old mac": 'a,b\r1,5"\r2,"x, ""y"""\r3,"u\rv"\r',
    "quotes in the header": '"a","b ""c"""\n1,2\n',
}


def rows_of(records):
    return [records[row] for row in range(len(records)) if records[row]]


def by_csv(content):
    head, *rows = [row for row in csv.reader(io.StringIO(content, newline="")) if row]
    return [dict(zip(head, row, strict=True)) for row in rows]


@pytest.mark.parametrize("content", CASES.values(), ids=CASES)
def test_rows_are_those_of_csv(content, tmp_path):
    path = tmp_path / "table.csv"
    path.write_bytes(content.encode())
    assert rows_of(lines.table(path, ",")) == by_csv(content)


def test_rows_are_those_of_pandas(tmp_path):
    pandas = pytest.importorskip("pandas")
    for number, content in enumerate(CASES.values()):
        path = tmp_path / f"{number}.csv"
        path.write_bytes(content.encode())
        frame = pandas.read_csv(path, dtype=str, keep_default_na=False)
        # pandas drops the carriage return of a line break inside of a field
        ours = [
            {k: v.replace("\r\n", "\n") for k, v in r.items()}
            for r in rows_of(lines.table(path, ","))
        ]
        theirs = [
            {k: v.replace("\r\n", "\n") for k, v in r.items()} for r in frame.to_dict("records")
        ]
        assert ours == theirs


def test_random_tables_have_the_rows_of_csv(tmp_path, monkeypatch):
    monkeypatch.setattr(lines, "_CHUNK", 7)  # so that chunks end everywhere
    draw = random.Random(0)
    for number in range(200):
        end = draw.choice(["\n", "\r\n", "\r"])
        made = io.StringIO(newline="")
        writer = csv.writer(made, lineterminator=end, quoting=csv.QUOTE_ALL)
        writer.writerow(["a", "b"])
        for _ in range(draw.randrange(1, 6)):
            writer.writerow("".join(draw.choices('x", \n\ré', k=draw.randrange(6))) for _ in "ab")
            if draw.random() < 0.5:
                made.write(f'5" pipe,a"b"c{end}')
        path = tmp_path / f"{number}.csv"
        path.write_bytes(made.getvalue().encode())
        found = [list(row.values()) for row in rows_of(lines.table(path, ","))]
        expected = [list(row.values()) for row in by_csv(made.getvalue())]
        assert found == expected


def test_a_quoted_field_without_an_end_is_refused(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text('a,b\n1,x\n2,"never closed\n3,y\n4,z\n')
    with pytest.raises(UserError, match=r"table\.csv:3: a double quote begins a field"):
        lines.table(path, ",")


def test_lines_are_numbered_at_every_line_end(tmp_path):
    path = tmp_path / "table.csv"
    path.write_bytes(b'a,b\r1,"x\ry"\r2,z\r')
    table = lines.table(path, ",")
    assert [table.where(row) for row in range(len(table))] == [f"{path}:2", f"{path}:4"]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_other_text_files_have_any_line_end(end, tmp_path):
    (tmp_path / "a.jsonl").write_bytes(f'{{"a": 1}}{end}{{"a": 2}}{end}'.encode())
    assert rows_of(lines.json_lines(tmp_path / "a.jsonl")) == [{"a": 1}, {"a": 2}]
    (tmp_path / "a.tsv").write_bytes(f'a\tb{end}5"\tx{end}"y\t6"'.encode())
    expected = [{"a": '5"', "b": "x"}, {"a": '"y', "b": '6"'}]
    assert rows_of(lines.table(tmp_path / "a.tsv", "\t")) == expected
    found = read_table(tmp_path / "a.tsv", {"one": "a", "other": "b"})
    assert found.columns == {"one": ['5"', '"y'], "other": ["x", '6"']}
    assert [where.rsplit(":", 1)[1] for where in found.where] == ["2", "3"]
    (tmp_path / "a.txt").write_bytes(f"one{end}{end}two{end}".encode())
    assert [text for _, text in numbered_lines(tmp_path / "a.txt")] == ["one", "two"]
    for unit in ("line", "paragraph"):
        texts = rows_of(lines.plain_text(tmp_path / "a.txt", unit))
        assert texts == [{"text": "one"}, {"text": "two"}]


def test_tabs_of_a_csv_writer_are_read_back():
    made = io.StringIO()
    cells = ['a "quoted" word', '5" pipe', "plain", 'said "so"']
    csv.writer(made, delimiter="\t", lineterminator="").writerow(cells)
    assert tab_fields(made.getvalue()) == cells
