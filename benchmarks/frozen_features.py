"""What frozen features are worth on some images: a logistic regression and the nearest neighbours on them.

    python benchmarks/frozen_features.py plant_seedlings --image_size 48 --weights default resnet20.safetensors

Features are computed once from centre crops of the training and validation images. Prints a row for each weights file.
"""

from __future__ import annotations

import argparse

from head_learning_rate import features
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from resnet_tl.data.datamodule import ImageDataModule
from resnet_tl.networks import create_network
from resnet_tl.networks.weights import load_weights
from resnet_tl.training.choices import choose_network, choose_preprocessing


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", nargs="?", help="labelled images; default: the built-in sample")
    parser.add_argument("--image_size", type=int)
    parser.add_argument("--network", default="auto")
    parser.add_argument("--weights", nargs="+", default=["default"])
    arguments = parser.parse_args()
    data = ImageDataModule(
        arguments.root, source="seedlings_sample", image_size=arguments.image_size, on_bad_image="skip"
    )
    data.prepare_data()
    data.setup()
    name, _ = choose_network(arguments.network, arguments.image_size or data.short_side)
    print("| weights | logistic regression | 5 nearest neighbours |\n|---|---|---|")
    for weights in arguments.weights:
        network = create_network(name, len(data.classes)).eval()
        data.use(choose_preprocessing(data, load_weights(network, weights))[0])
        train, val = ([part.numpy() for part in features(network, data, split)] for split in ("train", "val"))
        regression = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=300)).fit(*train)
        neighbours = KNeighborsClassifier(5).fit(*train)
        print(f"| {weights} | {regression.score(*val):.1%} | {neighbours.score(*val):.1%} |")


if __name__ == "__main__":
    main()
