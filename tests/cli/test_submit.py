from __future__ import annotations

import shutil

import numpy as np
import pandas as pd
import pytest

from resnet_tl.cli.submit import main
from resnet_tl.errors import UserError
from resnet_tl.evaluation.predictions import prediction_table, write_predictions


@pytest.fixture
def files(tmp_path):
    """The options for a competition of three images of cats and dogs."""
    ids = ["1.jpg", "2.jpg", "3.jpg"]
    logits = np.array([[3.0, 0.0], [0.0, 30.0], [1.0, 1.0]])
    write_predictions(prediction_table(ids, ids, None, logits, ("cats", "dogs")), tmp_path / "predictions.csv")
    (tmp_path / "sample.csv").write_text("id,label\n3,0.5\n1,0.5\n2,0.5\n")
    return ["--predictions", f"{tmp_path}/predictions.csv", "--sample", f"{tmp_path}/sample.csv"]


def test_a_submission_is_written_from_a_prediction_table(tmp_path, files, capsys):
    output = tmp_path / "new" / "submission.csv"

    assert main([*files, "-o", str(output), "--positive", "dog", "--clip", "0.01"]) == 0

    frame = pd.read_csv(output)
    assert frame["id"].tolist() == [3, 1, 2]
    assert frame["label"].tolist() == pytest.approx([0.5, 1 / (1 + np.exp(3)), 0.99])
    printed = capsys.readouterr().out
    assert "form: probability" in printed
    assert "column 'label' is the probability of class 'dogs'" in printed
    assert f"3 rows written to {output}" in printed


def test_averaged_probabilities_are_submitted_and_not_the_labels_of_one_model(tmp_path, files):
    (tmp_path / "sample.csv").write_text("id,label\n1,cats\n2,cats\n3,cats\n")
    output = tmp_path / "submission.csv"
    (tmp_path / "predictions.csv").write_text(
        "id,predicted,prob_cats,prob_dogs\n1,cats,0.9,0.1\n2,cats,0,1\n3,cats,1,0\n"
    )
    with pytest.raises(UserError, match="predicted contradicts the probabilities in 1 of 3 rows"):
        main([*files, "-o", str(output)])
    assert not output.exists()

    (tmp_path / "predictions.csv").write_text("id,prob_cats,prob_dogs\n1,0.9,0.1\n2,0,1\n3,1,0\n")
    assert main([*files, "-o", str(output)]) == 0
    assert output.read_text() == "id,label\n1,cats\n2,dogs\n3,cats\n"


def test_a_table_of_sets_is_submitted_and_one_of_abstentions_is_not(tmp_path, files):
    header = "id,predicted,set,set_size,prob_cats,prob_dogs\n"
    lines = '1,cats,"[""cats""]",1,0.9,0.1\n2,dogs,"[""dogs""]",1,0,1\n3,{},"[""cats"", ""dogs""]",2,0.6,0.4\n'
    output = tmp_path / "submission.csv"
    (tmp_path / "predictions.csv").write_text(header + lines.format(""))
    with pytest.raises(UserError, match=r"1 predictions abstain; predict again without --min_confidence \(3\)"):
        main([*files, "-o", str(output), "--positive", "dog"])
    assert not output.exists()

    (tmp_path / "predictions.csv").write_text(header + lines.format("cats"))
    assert main([*files, "-o", str(output), "--positive", "dog"]) == 0
    assert output.read_text() == "id,label\n3,0.4\n1,0.1\n2,1.0\n"


def test_nothing_is_written_when_the_class_is_not_named(tmp_path, files):
    with pytest.raises(UserError, match="add --positive cats or --positive dogs"):
        main([*files, "-o", str(tmp_path / "submission.csv")])

    assert not (tmp_path / "submission.csv").exists()


def test_the_sample_is_never_overwritten(tmp_path, files):
    with pytest.raises(UserError, match="the sample file itself"):
        main([*files, "-o", str(tmp_path / "sample.csv"), "--positive", "dogs"])


def test_a_folder_is_no_output(tmp_path, files):
    with pytest.raises(UserError, match="is a folder"):
        main([*files, "-o", str(tmp_path), "--positive", "dogs"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "needs RUN and --images IMAGES, or --predictions FILE"),
        (["{folder}"], "needs RUN and --images IMAGES, or --predictions FILE"),
        (["{folder}/nowhere", "--images", "{folder}"], "nowhere: there is no such run directory"),
        (["{folder}", "--images", "{folder}/nowhere"], "nowhere does not exist"),
        (["{folder}", "--predictions", "{folder}/predictions.csv"], "give one or the other"),
        (["--predictions", "{folder}/predictions.csv", "--path_column", "id"], "not for --predictions"),
        (["--predictions", "{folder}/nowhere.csv"], "no such prediction table"),
    ],
)
def test_a_wrong_path_or_combination_is_one_sentence(tmp_path, arguments, message):
    given = [argument.format(folder=tmp_path) for argument in arguments]

    with pytest.raises(UserError, match=message) as caught:
        main([*given, "--sample", str(tmp_path / "sample.csv"), "-o", str(tmp_path / "submission.csv")])
    assert "\n" not in str(caught.value)


def test_images_may_be_a_folder_a_zip_or_a_table(command, tiny_run, blobs, tmp_path):
    ids = [file.relative_to(blobs / "test").as_posix() for file in sorted((blobs / "test").rglob("*.png"))]
    (tmp_path / "sample.csv").write_text("id,label\n" + "".join(f"{name},red\n" for name in ids))
    (tmp_path / "list.csv").write_text("image\n" + "".join(f"{blobs}/test/{name}\n" for name in ids))
    archive = shutil.make_archive(str(tmp_path / "test"), "zip", blobs / "test")
    written = []
    for images in (blobs / "test", archive, "list.csv"):
        outcome = command("submit", tiny_run, "--images", images, "--sample", "sample.csv", "-o", "out.csv")
        assert outcome.code == 0, outcome.err
        written.append((tmp_path / "out.csv").read_text())
    assert len(written[0].splitlines()) == 8
    assert written[0] == written[1] == written[2]
