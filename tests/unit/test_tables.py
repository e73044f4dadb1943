"""Tables: aligned, and no two columns touch."""

from mlpwf.tables import table


def test_columns_never_touch_whatever_the_numbers():
    rows = [("stage", "jobs", "CPU-h"), ("label", "1", "5.13e-05 ± 3.21e-05"), ("train", "123456789012345678", "1")]
    lines = table(rows, "<>>")
    assert lines == [
        "stage                jobs                CPU-h",
        "label                   1  5.13e-05 ± 3.21e-05",
        "train  123456789012345678                    1",
    ]
    assert [tuple(line.replace(" ± ", "±").split()) for line in lines] == [
        tuple(cell.replace(" ± ", "±") for cell in row) for row in rows
    ]


def test_left_is_the_default_and_lines_end_with_their_text():
    assert table([("a", "b"), ("longer", "")]) == ["a       b", "longer"]
