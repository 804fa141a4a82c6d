"""What the words in the name of a folder or file say: a split, what pictures are stored as, or what a camera counts."""

from __future__ import annotations

import re
from collections.abc import Collection

_SPLITS = {
    "train": "train training trainval",
    "val": "val valid validate validation dev eval evaluation holdout",
    "test": "test testing tests",
    "predict": "predict pred prediction predictions unlabelled unlabeled submission",
}
_PICTURES = """
    image images img imgs photo photos picture pictures pic pics jpegimages jpg jpgs jpeg jpegs png pngs rgb color
    colour data dataset datasets input inputs original originals raw"""
_BESIDE = """
    annotation annotations annots annot masks labels trimap trimaps segmentation segmentations segmentationclass
    segmentationobject ground truth groundtruth gt depth depths bbox bboxes boxes heatmaps thermal infrared ir nir
    meta metadata doc docs figures plots thumbnails thumbs previews result results output outputs target targets"""
_PARTS = "fold part batch chunk shard subset folder dir disk zip archive"
_SERIES = """
    session day date week camera cam device scanner patient subject person participant user driver site location plot
    field video clip sequence seq series visit run trial round experiment"""
_CAMERA = """
    img image imag dsc dscn dscf pxl mvimg whats app whatsapp screen shot screenshot frame photo picture pic vid video
    mvi gopr cimg sam mg scan snapshot capture cam camera signal telegram fb received untitled unnamed download file
    burst p at copy"""
_STRUCTURE = _PICTURES + " set sets folder dir split splits seg labeled labelled file files all final new"

SPLIT_OF = {word: split for split, words in _SPLITS.items() for word in words.split()}
"""The words for splits as people write them, in small letters, and ours."""
PICTURES = frozenset(_PICTURES.split())
"""Folders of these names hold the pictures themselves."""
BESIDE = frozenset(_BESIDE.split())
"""Folders of these names hold what goes with pictures, not others of them."""
PARTS = frozenset(_PARTS.split())
"""Numbered folders of these names are parts of one heap."""
SERIES = frozenset(_SERIES.split())
"""Numbered folders of these names hold pictures that belong together."""
CAMERA = frozenset(_CAMERA.split())
"""What cameras, phones and browsers begin the names of their files with."""

_BESIDE_SPLITS = frozenset(_STRUCTURE.split())
_COMPOUND = re.compile(r"(images|imgs|data)?(.+?)(sets?|data|images|imgs|folder)?")


def words_of(name: str) -> tuple[str, ...]:
    """`('seg', 'train')` for `seg_train2`, `segTrain` or `Seg-Train`: divided where no letters are, and by capitals."""
    return tuple(re.findall(r"[^\W\d_]+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower()))


def split_and_rest(name: str) -> tuple[str, tuple[str, ...]]:
    """Which split a name says, and those of its words that say neither a split nor structure; "" for no split.

    `('val', ())` for `val2017`, `('train', ('flowers',))` for `flowers_train`, and no split for `trainer`.
    """
    splits, rest = set[str](), []
    for word in words_of(name):
        compound = _COMPOUND.fullmatch(word)  # trainset, imagestrain
        if split := SPLIT_OF.get(word) or SPLIT_OF.get(compound[2] if compound else ""):
            splits.add(split)
        elif word not in _BESIDE_SPLITS:
            rest.append(word)
    return (splits.pop(), tuple(rest)) if len(splits) == 1 else ("", tuple(rest))


def split_in(name: str) -> str:
    """The split that a name speaks of whatever else it says: `train` for `labels-train.csv`; "" for none."""
    return split_and_rest(name)[0]


def split_of(name: str) -> str:
    """The split that a name says and nothing else: `train` for `Training_set`; "" for `train_station` and `bus`."""
    split, rest = split_and_rest(name)
    return "" if rest else split


def is_structure(name: str) -> bool:
    """Whether a name says what is stored, as `images` or `annotations`, rather than what is seen."""
    return _all_in(name, PICTURES | BESIDE)


def holds_pictures(name: str) -> bool:
    """Whether a name says that the pictures themselves are below it."""
    return _all_in(name, PICTURES)


def _all_in(name: str, known: frozenset[str]) -> bool:
    words = words_of(name)
    return bool(words) and (known.issuperset(words) or "".join(words) in known)  # SegmentationClass


def is_date(name: str) -> bool:
    """Whether a folder is called by a date, or by a camera's count as `100CANON`."""
    return bool(re.fullmatch(r"(19|20)\d\d([-_. ]?\d\d){1,2}|\d{3}[A-Z_]{5}", name))


def numbered_as(names: Collection[str]) -> tuple[str, ...]:
    """The words that names have in common when they differ by a number only: `('fold',)` for `fold1` and `fold2`."""
    plain = {words_of(name) for name in names}
    return plain.pop() if len(plain) == 1 and all(re.search(r"\d", name) for name in names) else ()


def class_in_name(stem: str) -> str:
    """`St. Bernard` for `St. Bernard.12`, `cat` for `cat_0` and Windows' `cat (3)`; "" for none, as in `2024.01.02`."""
    plain = re.sub(r" ?\(\d+\)$", "", stem)
    numbered = re.fullmatch(r"(.+?)[._-]+\d+", plain) or re.fullmatch(r"(.+?) ?\(\d+\)", stem)
    return numbered[1] if numbered and not re.fullmatch(r"\d{6,}|\d+([._-]+\d+)+", numbered[1]) else ""


def says_no_class(names: Collection[str]) -> tuple[str, str]:
    """The first of the classes in file names that is none, such as `IMG` or `Train`, and what it is; "" twice for none.

    One letter may be a class among others, and so may `train` among vehicles.
    """
    cameras = [name for name in names if (words := words_of(name)) and CAMERA.issuperset(words)]
    if len(cameras) < len(names):
        cameras = [name for name in cameras if len(name) > 1]
    splits = [name for name in names if split_of(name)]
    if len(names) > 1 and [*map(split_of, splits)] == ["train"]:
        splits = []
    said = {split_in(name) for name in names}
    kinds = {
        "is what a camera or a program writes": cameras,
        "is a split": splits,
        "is a split and a class in one": list(names) if len(said) > 1 and "" not in said else [],
        "is a year": list(names) if all(re.fullmatch(r"(19|20)\d\d", name) for name in names) else [],
    }
    return next(((found[0], what) for what, found in kinds.items() if found), ("", ""))
