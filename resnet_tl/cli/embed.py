"""`resnet-tl embed RUN|NETWORK IMAGES... -o features.parquet`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from resnet_tl.cli.arguments import CommandParser, positive
from resnet_tl.cli.averaging import is_run
from resnet_tl.cli.loading import loading
from resnet_tl.cli.reading_options import add_table_options, in_own_words
from resnet_tl.errors import UserError

if TYPE_CHECKING:
    from resnet_tl.inference.embedding import Embedder

EXAMPLES = """\
examples:
  resnet-tl embed runs/freeze_backbone-1 new_photos -o features.csv
  resnet-tl embed resnet20 photos -o features.npz                     a network with its default weights
  resnet-tl embed resnet18 photos -o features.parquet --weights weights/model.safetensors
"""


def main(argv: list[str]) -> None:
    """Writes the features of images to a file."""
    parser = CommandParser(
        prog="resnet-tl embed",
        description="Write the features of images, what the head of a network is given, with id, path and label.",
        epilog=EXAMPLES,
    )
    run = "a run, a model bundle, or the name of a network such as resnet50"
    parser.add_argument("run", metavar="RUN|NETWORK", help=run)
    given = "files, folders, zips, globs, or tables that name images"
    parser.add_argument("images", metavar="IMAGES", nargs="+", help=given)
    file = "the file to write: .parquet, .csv or .npz"
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help=file)
    weights = "of a network: default, none, a tag of timm, hf-hub:NAME, or a file; default: default"
    parser.add_argument("--weights", metavar="WEIGHTS", help=weights)
    parser.add_argument("--batch_size", type=positive, default=32, help="images at once; default: 32")
    parser.add_argument("--on_bad_image", choices=["stop", "skip"], default="stop", help="default: stop")
    add_table_options(parser)
    parser.add_argument("--device", help="such as cpu or cuda; default: the fastest at hand")
    arguments = parser.parse_args(argv)
    place = Path(arguments.run).expanduser()
    is_model = is_run(place) or place.exists()
    if is_model and arguments.weights:
        raise UserError(f"--weights are those of a network, and {arguments.run} has its own; leave it out.")
    with loading():
        from resnet_tl.inference.feature_files import check_feature_file

    check_feature_file(arguments.output)
    if arguments.output.resolve() in {Path(path).resolve() for path in arguments.images}:
        raise UserError(f"{arguments.output} is the list of the images; choose another --output.")

    with loading():
        from resnet_tl.data.reading.options import Reading
        from resnet_tl.inference.embedding import Embedder, images_and_labels
        from resnet_tl.inference.feature_files import feature_file

    reading = Reading(
        path_column=arguments.path_column, image_folder=arguments.image_folder, on_bad_image=arguments.on_bad_image
    )
    with in_own_words(root=""):
        index, labels = images_and_labels(arguments.images, reading)
        if is_model:
            embedder = Embedder.of_model(place, arguments.device)
        else:
            embedder = _of_network(arguments.run, arguments.weights or "default", arguments.device)
        images = 0
        with feature_file(arguments.output, embedder.width) as written:
            skips = arguments.on_bad_image == "skip"
            for rows, features in embedder.features(index, arguments.batch_size, skips):
                ids, paths = [index.id(row) for row in rows], [str(index.path(row)) for row in rows]
                written.add(ids, paths, [labels[row] for row in rows], features)
                images += len(rows)
    print(f"{arguments.output}: {images} images, {embedder.width} features each")


def _of_network(name: str, weights: str, device: str | None) -> Embedder:
    """With mistakes in the words of this command."""
    from resnet_tl.inference.embedding import Embedder

    try:
        return Embedder.of_network(name, weights, device)
    except UserError as error:
        text = str(error).replace("--model.weights", "--weights").replace("model.network is", "RUN|NETWORK is")
        raise UserError(text) from error
