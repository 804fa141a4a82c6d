from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from resnet_tl.errors import UserError
from resnet_tl.inference import feature_files
from resnet_tl.inference.feature_files import check_feature_file, feature_file

IDS = ["a.png", '=b, "c".png', "d\u2028e.png", "9.png", "x.png"]
LABELS = ["", "<b>", "NA", "+1", "Übung"]
FEATURES = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)


def written(path: Path) -> Path:
    with feature_file(path, 3) as file:
        for part in (slice(0, 2), slice(2, 2), slice(2, 5)):
            file.add(IDS[part], [f"/p/{name}" for name in IDS[part]], LABELS[part], FEATURES[part])
    return path


def test_parquet_holds_what_was_given(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")

    table = pd.read_parquet(written(tmp_path / "f.parquet"))

    assert table["id"].tolist() == IDS
    assert table["label"].tolist() == LABELS
    assert (np.stack(table["features"]) == FEATURES).all()
    assert table["features"].iloc[0].dtype == np.float32


def test_parquet_has_few_groups_of_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")

    assert parquet.ParquetFile(written(tmp_path / "f.parquet")).num_row_groups == 1
    monkeypatch.setattr(feature_files, "_AT_ONCE", 1)
    assert parquet.ParquetFile(written(tmp_path / "g.parquet")).num_row_groups == 2
    table = pd.read_parquet(tmp_path / "g.parquet")
    assert table["id"].tolist() == IDS
    assert (np.stack(table["features"]) == FEATURES).all()


def test_csv_holds_what_was_given_and_no_formula(tmp_path: Path) -> None:
    table = pd.read_csv(written(tmp_path / "f.csv"), keep_default_na=False, float_precision="round_trip")

    assert list(table) == ["id", "path", "label", "f0", "f1", "f2"]
    assert table["id"].tolist() == [f"'{name}" if name[0] == "=" else name for name in IDS]
    assert table["label"].tolist() == LABELS
    assert (table[["f0", "f1", "f2"]].to_numpy(np.float32) == FEATURES).all()


def test_npz_holds_what_was_given_without_a_pickle(tmp_path: Path) -> None:
    content = np.load(written(tmp_path / "f.npz"), allow_pickle=False)

    assert sorted(content) == ["features", "id", "label", "path"]
    assert content["id"].tolist() == IDS
    assert content["label"].tolist() == LABELS
    assert (content["features"] == FEATURES).all()
    assert [path.name for path in tmp_path.iterdir()] == ["f.npz"]


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".npz"])
def test_a_file_is_whole_or_not_there(suffix: str, tmp_path: Path) -> None:
    def breaks() -> None:
        with feature_file(tmp_path / f"f{suffix}", 3) as file:
            file.add(IDS, IDS, LABELS, FEATURES)
            raise UserError("stop")

    with pytest.raises(UserError, match="stop"):
        breaks()
    assert not list(tmp_path.iterdir())


def test_a_file_of_no_format_or_place_is_refused_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("f.tsv", "f", "f.parquet.gz"):
        with pytest.raises(UserError, match=r"must end with \.parquet, \.csv or \.npz"):
            check_feature_file(tmp_path / name)
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(UserError, match="is a folder"):
        check_feature_file(tmp_path / "folder.csv")
    monkeypatch.setattr(feature_files, "find_spec", lambda name: None)
    check_feature_file(tmp_path / "f.csv")
    with pytest.raises(UserError, match=r"takes pyarrow: pip install"):
        check_feature_file(tmp_path / "f.parquet")
