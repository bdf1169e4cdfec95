"""Tables of images and their classes."""

import csv

import pytest

from segzoo.data.datasets.spec import build_classification_dataset
from segzoo.errors import ConfigError, DataError

FILES = [f"photos/{number}.png" for number in range(10)]


@pytest.fixture
def root(tmp_path, make_images):
    make_images(tmp_path, FILES)
    return tmp_path


def write(path, rows, header=("file", "label")):
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])


def read(root, data_config, split="train", **keys):
    dataset = build_classification_dataset(data_config(name="csv", root=str(root), **keys), split)
    return {
        name: [dataset.labels.names[k] for k in own] for name, own in zip(dataset.ids, dataset.classes, strict=True)
    }


def test_a_table_for_each_split(root, data_config):
    write(root / "train.csv", [(FILES[0], "dog"), (FILES[1], "cat, black"), (root / FILES[2], "dog")])
    write(root / "val.csv", [(FILES[3], "dog")])
    assert read(root, data_config) == {FILES[0]: ["dog"], FILES[1]: ["cat, black"], str(root / FILES[2]): ["dog"]}
    assert read(root, data_config, "val") == {FILES[3]: ["dog"]}
    dataset = build_classification_dataset(data_config(name="csv", root=str(root)), "val")
    assert dataset.labels.names == ("cat, black", "dog")  # of the training split, in the order of the alphabet


def test_line_ends_marks_blanks_and_spaces(root, data_config):
    text = f"\ufefflabel , file\r\n\r\n dog ,{FILES[0]}\r\ncat, {FILES[1]} \r\n\r\n"
    (root / "train.csv").write_bytes(text.encode())
    assert read(root, data_config) == {FILES[0]: ["dog"], FILES[1]: ["cat"]}


def test_one_table_with_a_column_of_splits(root, data_config):
    rows = [
        (name, "dog" if number % 2 else "cat", "val" if number > 6 else "train") for number, name in enumerate(FILES)
    ]
    write(root / "labels.csv", rows, ("file", "label", "split"))
    assert list(read(root, data_config)) == FILES[:7]
    assert list(read(root, data_config, "val")) == FILES[7:]
    with pytest.raises(ConfigError, match="no split 'test' in .*labels.csv. Found: train, val"):
        read(root, data_config, "test")


def test_one_table_without_splits_holds_out_a_share_of_each_class(root, data_config):
    write(root / "labels.csv", [(name, "dog" if number % 2 else "cat") for number, name in enumerate(FILES)])
    train, val = (read(root, data_config, split, val_fraction=0.4) for split in ("train", "val"))
    assert {*train, *val} == set(FILES)
    assert not train.keys() & val.keys()
    assert sorted(map(str, val.values())) == ["['cat']", "['cat']", "['dog']", "['dog']"]


def test_several_labels(root, data_config):
    write(
        root / "train.csv",
        [(FILES[0], "dog|sofa"), (FILES[1], ""), (FILES[2], " sofa | dog | sofa"), (FILES[3], "cat")],
    )
    keys = {"csv": {"multi_label": True, "separator": "|"}}
    expected = {FILES[0]: ["dog", "sofa"], FILES[1]: [], FILES[2]: ["dog", "sofa"], FILES[3]: ["cat"]}
    assert read(root, data_config, **keys) == expected
    assert build_classification_dataset(data_config(name="csv", root=str(root), **keys), "train").labels.multi_label


def test_all_that_is_wrong_is_said_at_once(root, data_config):
    rows = [
        (FILES[0], "dog"),
        ("photos/gone.png", "dog"),
        ("../secret.png", "dog"),
        (FILES[1], ""),
        ("", "dog"),
        (FILES[0], "cat"),
        (FILES[2],),
    ]
    write(root / "train.csv", rows)
    with pytest.raises(DataError) as caught:
        read(root, data_config)
    table = root / "train.csv"
    assert caught.value.problems == [
        f"{table}:3: no image {root / 'photos/gone.png'}. Add the file or take the line out.",
        f"{table}:4: '../secret.png' leads out of the data set; remove '..'",
        f"{table}:5: no class in column 'label'",
        f"{table}:6: no file in column 'file'",
        f"{table}:7: '{FILES[0]}' is cat here and dog in {table}:2; keep the right row",
        f"{table}:8: no class in column 'label'",
    ]


def test_a_row_twice_is_warned_of_and_counted_once(root, data_config, caplog):
    write(root / "train.csv", [(FILES[0], "dog"), (FILES[0], "dog"), (FILES[1], "cat")])
    assert len(read(root, data_config)) == 2
    assert "train.csv:3: 'photos/0.png' is listed twice; counted once" in caplog.text


def test_a_class_that_training_lacks_is_named_with_its_row(root, data_config):
    write(root / "train.csv", [(FILES[0], "dog"), (FILES[1], "cat")])
    write(root / "val.csv", [(FILES[2], "dog"), (FILES[3], "dgo")])
    with pytest.raises(DataError, match=r"val.csv:3: class 'dgo' is none of the run's. Did you mean dog\?"):
        read(root, data_config, "val")


def test_headings_are_suggested_and_can_be_stated(root, data_config):
    write(root / "train.csv", [(FILES[0], "dog")], ("path", "labels"))
    with pytest.raises(DataError) as caught:
        read(root, data_config)
    assert [line.split(": ", 1)[1] for line in caught.value.problems] == [
        "no heading 'file'. Known: labels, path. Another heading: data.csv.file_column=NAME",
        "no heading 'label'. Did you mean labels? Another heading: data.csv.label_column=NAME",
    ]
    assert read(root, data_config, csv={"file_column": "path", "label_column": "labels"}) == {FILES[0]: ["dog"]}


def test_tables_that_are_not_there(root, data_config):
    with pytest.raises(ConfigError, match=r"neither train.csv nor labels.csv, with the headings file,label"):
        read(root, data_config)
    write(root / "train.csv", [(FILES[0], "dog")])
    with pytest.raises(ConfigError, match="no split 'val' in .* Found: train"):
        read(root, data_config, "val")


@pytest.mark.parametrize("text", ['file,label\na.png,"a\n' + "b.png,b\n" * 30000, "file,label\n" + "x" * 300 + ",a\n"])
def test_a_damaged_table_is_one_line(root, data_config, text):
    (root / "train.csv").write_text(text)
    with pytest.raises(DataError, match=r"train.csv:\d+: no "):
        read(root, data_config)


def test_a_row_of_no_split_is_said(root, data_config):
    write(root / "labels.csv", [(FILES[0], "cat", "train"), (FILES[1], "cat", "")], ("file", "label", "split"))
    with pytest.raises(DataError, match=r"labels.csv:3: no split"):
        read(root, data_config)
