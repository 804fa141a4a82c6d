from __future__ import annotations

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from resnet_tl.errors import UserError
from resnet_tl.evaluation.predictions import prediction_table, probabilities
from resnet_tl.inference.submission import Submission, build_submission, write_submission

PETS = ("cats", "dogs")
PLANTS = ("Black-grass", "Fat Hen", "Sugar beet")


def table_of(ids, classes, seed=0):
    logits = np.random.default_rng(seed).normal(size=(len(ids), len(classes))) * 3
    return prediction_table(ids, ids, None, logits, classes)


def sample_of(folder, text):
    path = folder / "sample_submission.csv"
    path.write_text(text, encoding="utf-8")
    return path


def reason(table, sample, **options):
    with pytest.raises(UserError) as caught:
        build_submission(table, sample, **options)
    assert str(sample) in str(caught.value)
    return str(caught.value)


def written(submission, folder):
    write_submission(submission, folder / "submission.csv")
    return (folder / "submission.csv").read_text(encoding="utf-8")


# --- the three forms


def test_a_column_of_class_names_gets_the_predicted_class_in_the_samples_order(tmp_path):
    table = table_of(["0001.jpg", "0002.jpg", "0003.jpg"], PLANTS)
    sample = sample_of(tmp_path, "file,species\n0003.jpg,Sugar beet\n0001.jpg,Sugar beet\n0002.jpg,Sugar beet\n")

    submission = build_submission(table, sample)

    first, second, third = table["predicted"]
    assert submission.form == "label"
    assert written(submission, tmp_path) == f"file,species\n0003.jpg,{third}\n0001.jpg,{first}\n0002.jpg,{second}\n"


def test_an_empty_column_gets_class_names_unless_a_probability_is_asked_for(tmp_path):
    plants, pets = (table_of(["1.jpg", "2.jpg"], classes) for classes in (PLANTS, PETS))
    sample = sample_of(tmp_path, "image_id,label\n1.jpg,\n2.jpg,\n")

    submission = build_submission(plants, sample)

    assert submission.notes == ("the sample's 'label' is empty and gets class names",)
    assert submission.frame["label"].tolist() == plants["predicted"].tolist()
    asked = build_submission(pets, sample, positive="dogs")
    assert (asked.form, asked.notes) == ("probability", ("column 'label' is the probability of class 'dogs'",))


def test_where_numbers_are_the_two_classes_it_is_said_how_to_get_probabilities(tmp_path):
    table = table_of(["1.jpg", "2.jpg"], ("0", "1"))
    sample = sample_of(tmp_path, "image_name,target\n1,0\n2,0\n")

    submission = build_submission(table, sample)

    assert submission.form == "label"
    assert "add --positive 1" in submission.notes[0]
    assert build_submission(table, sample, positive="1").form == "probability"


@pytest.mark.parametrize("word", ["dogs", "dog", "Dogs"])
def test_one_number_is_the_probability_of_the_positive_class(tmp_path, word):
    table = table_of(["1.jpg", "2.jpg", "10.jpg"], PETS)
    sample = sample_of(tmp_path, "id,label\n10,0.5\n2,0.5\n1,0.5\n")

    submission = build_submission(table, sample, positive=word)

    assert submission.form == "probability"
    assert "probability of class 'dogs'" in submission.notes[0]
    ids = [line.split(",")[0] for line in written(submission, tmp_path).splitlines()]
    assert ids == ["id", "10", "2", "1"]
    again = pd.read_csv(tmp_path / "submission.csv", float_precision="round_trip")
    assert again["label"].tolist() == probabilities(table)[::-1, 1].tolist()


def test_two_classes_and_a_column_called_label_need_the_positive_class(tmp_path):
    sample = sample_of(tmp_path, "id,label\n1,0.5\n")

    assert "add --positive cats or --positive dogs" in reason(table_of(["1.jpg"], PETS), sample)


@pytest.mark.parametrize("column", ["dogs", "dog", "Dog"])
def test_a_column_named_like_a_class_needs_no_positive(tmp_path, column):
    table = table_of(["1.jpg"], PETS)
    sample = sample_of(tmp_path, f"id,{column}\n1,0.5\n")

    assert build_submission(table, sample).frame[column].tolist() == probabilities(table)[:, 1].tolist()
    assert "--positive says 'cats'" in reason(table, sample, positive="cats")


def test_a_positive_class_that_does_not_exist_is_refused(tmp_path):
    sample = sample_of(tmp_path, "id,label\n1,0.5\n")

    assert "--positive dgos is no class" in reason(table_of(["1.jpg"], PETS), sample, positive="dgos")
    assert "Did you mean 'dogs'?" in reason(table_of(["1.jpg"], PETS), sample, positive="dgos")
    assert "no class" in reason(table_of(["1.jpg"], PETS), sample, positive="")


def test_class_columns_are_filled_by_name_not_by_place(tmp_path):
    table = table_of(["a.jpg", "b.jpg"], PLANTS)
    sample = sample_of(tmp_path, "image,sugar_beet,Black-grass,fathen\nb,0,0,0\na,0,0,0\n")

    submission = build_submission(table, sample)

    assert submission.form == "class columns"
    assert "column 'sugar_beet' is class 'Sugar beet'" in submission.notes
    assert list(submission.frame.columns) == ["image", "sugar_beet", "Black-grass", "fathen"]
    values = submission.frame.iloc[:, 1:].to_numpy(float)
    assert values.tolist() == probabilities(table)[::-1, [2, 0, 1]].tolist()


def test_class_columns_that_lack_or_exceed_the_classes_are_refused(tmp_path):
    sample = sample_of(tmp_path, "image,Black-grass,Fat Hen,fat_hen,Maize\na,0,0,0,0\n")

    text = reason(table_of(["a.jpg"], PLANTS), sample)

    assert "1 columns that are no class of the model (Maize)" in text
    assert "1 classes of the model without a column (Sugar beet)" in text
    assert "more than one column (Fat Hen)" in text


def test_class_numbers_for_many_classes_are_refused(tmp_path):
    for values in ("0\n2,7", "0\n2,0"):
        sample = sample_of(tmp_path, f"id,label\n1,{values}\n")
        assert "write class names into" in reason(table_of(["1.jpg", "2.jpg"], PLANTS), sample)
    sample = sample_of(tmp_path, "id,label\n1,0\n2,7\n")
    assert "write class names into" in reason(table_of(["1.jpg", "2.jpg"], PLANTS), sample, positive="Fat Hen")


def test_one_probability_out_of_many_classes_needs_the_positive_class(tmp_path):
    table, sample = table_of(["1.jpg"], PLANTS), sample_of(tmp_path, "id,target\n1,0.5\n")

    assert "3 classes; add --positive CLASS" in reason(table, sample)
    frame = build_submission(table, sample, positive="fathen").frame
    assert frame["target"].tolist() == probabilities(table)[:, 1].tolist()


def test_digits_that_are_class_names_are_labels_unless_a_positive_class_is_given(tmp_path):
    table, sample = table_of(["a.jpg"], ("0", "1")), sample_of(tmp_path, "id,label\na,0\n")

    assert build_submission(table, sample).form == "label"
    submission = build_submission(table, sample, positive="1")
    assert submission.form == "probability"
    assert any("whole numbers" in note for note in submission.notes)


def test_labels_the_model_does_not_know_are_refused_with_the_nearest(tmp_path):
    sample = sample_of(tmp_path, "file,species\n1,Sugar beets\n")

    assert "'Sugar beets', which is no class of the model. Did you mean 'Sugar beet'?" in reason(
        table_of(["1.jpg"], PLANTS), sample
    )


def test_options_that_mean_nothing_for_the_form_are_refused(tmp_path):
    table, labels = table_of(["1.jpg"], PLANTS), sample_of(tmp_path, "file,species\n1,Fat Hen\n")
    assert "--positive has no meaning" in reason(table, labels, positive="Fat Hen")
    assert "--clip has no meaning" in reason(table, labels, clip=0.01)
    columns = sample_of(tmp_path, "id,Black-grass,Fat Hen,Sugar beet\n1,0,0,0\n")
    assert "--positive has no meaning" in reason(table, columns, positive="Fat Hen")


# --- ids


@pytest.mark.parametrize(
    ("asked", "image"),
    [
        ("1", "1.jpg"),
        ("1.jpg", "1.jpg"),
        ("1.jpg", "1.JPG"),
        ("test/1.jpg", "1.jpg"),
        ("1", "/data/test/1.jpg"),
        ("test\\1", "test/1.png"),
        ("v1.5", "v1.5.tif"),
    ],
)
def test_ids_match_with_or_without_folder_and_extension_and_keep_their_spelling(tmp_path, asked, image):
    submission = build_submission(table_of([image], PLANTS), sample_of(tmp_path, f"file,species\n{asked},Fat Hen\n"))

    assert submission.frame["file"].tolist() == [asked]


@pytest.mark.parametrize(("asked", "image"), [("1", "01.jpg"), ("1.png", "1.jpg"), ("a", "A.jpg"), ("", "1.jpg")])
def test_ids_that_are_only_alike_do_not_match(tmp_path, asked, image):
    sample = sample_of(tmp_path, f"file,species\n{asked},Fat Hen\n")

    assert "1 of its 1 ids have no image" in reason(table_of([image], PLANTS), sample)


def test_folders_tell_images_of_the_same_name_apart(tmp_path):
    table = table_of(["/data/x/1.jpg", "/data/y/1.jpg"], PLANTS, seed=3)
    assert table["predicted"].nunique() == 2
    sample = sample_of(tmp_path, "file,species\ny/1.jpg,Fat Hen\nx/1.jpg,Fat Hen\n")

    assert build_submission(table, sample).frame["species"].tolist() == table["predicted"].tolist()[::-1]


def test_an_id_that_fits_two_images_is_refused(tmp_path):
    sample = sample_of(tmp_path, "file,species\n1,Fat Hen\n")

    for images in (["x/1.jpg", "y/1.jpg"], ["1.jpg", "1.png"], ["1.jpg", "1.jpg"]):
        assert "fit more than one image" in reason(table_of(images, PLANTS), sample)


def test_an_image_that_fits_two_ids_is_refused(tmp_path):
    sample = sample_of(tmp_path, "file,species\na/1.jpg,Fat Hen\nb/1.jpg,Fat Hen\n")

    assert "1 images fit more than one id (b/1.jpg fits a/1.jpg, b/1.jpg)" in reason(
        table_of(["b/1.jpg"], PLANTS), sample
    )


def test_images_not_asked_for_are_left_out_and_counted(tmp_path):
    table = table_of(["1.jpg", "2.jpg", "3.jpg"], PLANTS)

    submission = build_submission(table, sample_of(tmp_path, "file,species\n2,Fat Hen\n"))

    assert submission.frame["species"].tolist() == [table["predicted"][1]]
    assert submission.notes == ("2 of 3 images are not asked for by the sample and were left out",)


def test_the_id_column_need_not_be_the_first(tmp_path):
    table = table_of(["1.jpg", "0.jpg"], PETS)

    submission = build_submission(table, sample_of(tmp_path, "dogs,name\n1,0\n1,1\n"))

    assert list(submission.frame.columns) == ["dogs", "name"]
    assert submission.frame["name"].tolist() == ["0", "1"]
    assert submission.frame["dogs"].tolist() == probabilities(table)[::-1, 1].tolist()


# --- tables that somebody else made


def test_averaged_probabilities_decide_without_any_other_column(tmp_path):
    ids = ["1.jpg", "2.jpg", "3.jpg"]
    both = pd.concat([table_of(ids, PLANTS, seed) for seed in (0, 1)])
    averaged = both.groupby("id", as_index=False)[[f"prob_{name}" for name in PLANTS]].mean()
    sample = sample_of(tmp_path, "file,species\n2,Fat Hen\n3,Fat Hen\n1,Fat Hen\n")

    frame = build_submission(averaged, sample).frame

    best = [PLANTS[number] for number in probabilities(averaged).argmax(axis=1)]
    assert frame["species"].tolist() == [best[1], best[2], best[0]]
    stale = averaged.assign(predicted=[*best[:2], PLANTS[PLANTS.index(best[2]) - 1]])
    text = reason(stale, sample)
    assert (
        f"contradicts the probabilities in 1 of 3 rows ('3.jpg' is '{stale['predicted'][2]}', but '{best[2]}'" in text
    )
    assert "leave the column out, or correct it" in text


# --- what must not be written


def test_all_reasons_are_told_at_once_and_nothing_is_written(tmp_path):
    table = table_of(["1.jpg", "2.jpg", "3.jpg", "4.jpg"], PETS)
    table.loc[0, "prob_dogs"] = np.nan
    table.loc[1, ["prob_dogs", "predicted"]] = 1.5, "dogs"
    table.loc[2, ["prob_cats", "prob_dogs"]] /= 2
    table.loc[3, "predicted"] = "wolves"
    sample = sample_of(tmp_path, "id,label\n1,0.5\n2,0.5\n3,0.5\n3,0.5\n4,0.5\n9,0.5\n")

    text = reason(table, sample)

    for part in (
        "1 ids stand in it more than once (3)",
        "1 of its 6 ids have no image (9)",
        "does not say of which class",
        "1 predictions are not numbers (NaN) (1.jpg)",
        "1 predictions have a probability under 0 or over 1 (2.jpg)",
        "2 predictions have probabilities that do not sum to one (3.jpg, 3.jpg)",
        "the column predicted contradicts the probabilities in 1 of 4 rows ('4.jpg' is 'wolves', but '",
    ):
        assert part in text
    assert text.count("\n- ") == 7
    assert [path.name for path in tmp_path.iterdir()] == ["sample_submission.csv"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"id,label\n", "at least one row"),
        (b"", "at least one row"),
        (b"id\n1\n", "two or more columns"),
        (b"id,a,a\n1,0,0\n", "different names"),
        (b"id,label\n1\n", "row 1 has 1 values"),
        (b"id,label\n\xff\xfe,0\n", "UTF-8"),
        (b'id,label\n"1,0\n', "not a CSV file"),
    ],
)
def test_a_broken_sample_is_refused(tmp_path, content, message):
    (tmp_path / "sample.csv").write_bytes(content)

    assert message in reason(table_of(["1.jpg"], PETS), tmp_path / "sample.csv")


def test_a_missing_sample_is_refused(tmp_path):
    assert "no such file" in reason(table_of(["1.jpg"], PETS), tmp_path / "nowhere.csv")


# --- clipping


def test_clipping_keeps_a_single_probability_within_bounds(tmp_path):
    table = prediction_table(["1", "2", "3"], ["1", "2", "3"], None, np.array([[9.0, 0], [0, 9], [0, 0]]), PETS)
    sample = sample_of(tmp_path, "id,label\n1,0.5\n2,0.5\n3,0.5\n")

    submission = build_submission(table, sample, positive="dogs", clip=0.01)

    assert submission.frame["label"].tolist() == [0.01, 0.99, 0.5]
    assert any("2 of 3 probabilities were clipped" in note for note in submission.notes)


def test_clipped_class_columns_sum_to_one_again(tmp_path):
    table = prediction_table(["1"], ["1"], None, np.array([[50.0, 0, 0]]), PLANTS)
    sample = sample_of(tmp_path, "id,Black-grass,Fat Hen,Sugar beet\n1,0,0,0\n")

    values = build_submission(table, sample, clip=0.1).frame.iloc[0, 1:].to_numpy(float)

    assert values.tolist() == pytest.approx([0.9 / 1.1, 0.1 / 1.1, 0.1 / 1.1])


@pytest.mark.parametrize("clip", [0, -0.1, 0.5, 1, float("nan")])
def test_a_clip_out_of_range_is_refused(tmp_path, clip):
    sample = sample_of(tmp_path, "id,label\n1,0.5\n")

    assert "over 0 and under 0.5" in reason(table_of(["1.jpg"], PETS), sample, positive="dogs", clip=clip)


# --- writing


def test_odd_names_are_written_as_the_sample_spells_them(tmp_path):
    classes = ("=sum(A1)", 'a,"b"', "été")
    table = prediction_table(["-1.jpg", "a,b.jpg", "猫.jpg"], ["x"] * 3, None, np.eye(3), classes)
    sample = sample_of(tmp_path, '\ufeffid,"the, label"\n猫,été\n-1,été\n"a,b",été\n')

    text = written(build_submission(table, sample), tmp_path)

    assert text == 'id,"the, label"\n猫,été\n-1,=sum(A1)\n"a,b","a,""b"""\n'


def test_tiny_probabilities_are_written_exactly(tmp_path):
    values = [1e-300, 0.1 + 0.2, 1 / 3]

    write_submission(
        Submission(pd.DataFrame({"id": ["1", "2", "3"], "p": values}), "probability", ()), tmp_path / "s.csv"
    )

    assert pd.read_csv(tmp_path / "s.csv", float_precision="round_trip")["p"].tolist() == values


def test_a_file_that_does_not_read_back_the_same_is_not_kept(tmp_path):
    (tmp_path / "s.csv").write_text("old")
    frame = pd.DataFrame({"id": ["1"], "p": [float("nan")]})

    with pytest.raises(OSError, match="does not read back the same"):
        write_submission(Submission(frame, "probability", ()), tmp_path / "s.csv")

    assert (tmp_path / "s.csv").read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 1


# --- the real samples


def test_the_real_samples_are_filled(tmp_path, shared_data):
    pets, plants = shared_data / "cats_dogs", shared_data / "plant_seedlings"
    classes = sorted(folder.name for folder in (plants / "train").iterdir())

    by_name = sorted(path.name for path in (pets / "test").iterdir())  # 1.jpg, 10.jpg, 100.jpg: not the sample's order
    pet_table = table_of(by_name, PETS)
    pet = build_submission(pet_table, pets / "sample_submission.csv", positive="dog")
    plant_table = table_of([path.as_posix() for path in (plants / "test").iterdir()], classes)
    plant = build_submission(plant_table, plants / "sample_submission.csv")
    write_submission(pet, tmp_path / "pets.csv")
    write_submission(plant, tmp_path / "plants.csv")

    assert (pet.form, len(pet.frame), plant.form, len(plant.frame)) == ("probability", 1000, "label", 723)
    of_image = dict(zip(pet_table["id"], pet_table["prob_dogs"], strict=True))
    again = pd.read_csv(tmp_path / "pets.csv", float_precision="round_trip")
    assert again["label"].tolist() == [of_image[f"{number}.jpg"] for number in again["id"]]
    kind = {
        path.rsplit("/", 1)[1]: name for path, name in zip(plant_table["id"], plant_table["predicted"], strict=True)
    }
    again = pd.read_csv(tmp_path / "plants.csv")
    assert again["species"].tolist() == [kind[name] for name in again["file"]]


def test_a_submission_needs_no_torch():
    code = "import sys, resnet_tl.inference.submission; print('torch' in sys.modules)"

    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "False"
