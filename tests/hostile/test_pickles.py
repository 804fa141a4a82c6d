"""Nothing but tensors is ever unpickled, wherever a pickle is put and whatever it calls itself."""

from __future__ import annotations

import io
import pickle
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from resnet_tl.bundle import Bundle
from resnet_tl.data.pixels.decode import BadImage, decode
from resnet_tl.errors import UserError
from resnet_tl.files import file_digest
from resnet_tl.networks import create_network
from resnet_tl.networks.weights import load_weights

SUFFIXES = (".pt", ".pth", ".bin", ".ckpt", ".safetensors", ".pkl", ".joblib", ".npz", "")
pytestmark = pytest.mark.usefixtures("untouched")


def test_the_exploits_are_real(exploits: dict[str, bytes], trap: Path) -> None:
    """Each of them springs the trap where someone does unpickle it: else the tests below would show nothing."""
    for name, content in exploits.items():
        pickle.loads(content)
        for _ in range(200):
            if trap.exists():
                break
            import time

            time.sleep(0.01)  # Popen does not wait
        assert trap.exists(), name
        trap.unlink()


def test_the_files_are_real(poisoned: dict[str, bytes], trap: Path) -> None:
    for kind in ("torch zip", "torch legacy"):
        with warnings.catch_warnings(action="ignore"):
            torch.load(io.BytesIO(poisoned[f"GLOBAL in {kind}"]), weights_only=False)
        assert trap.exists(), kind
        trap.unlink()
    np.load(io.BytesIO(poisoned["GLOBAL in npy"]), allow_pickle=True)
    assert trap.exists()
    trap.unlink()


def test_weights(poisoned: dict[str, bytes], tmp_path: Path) -> None:
    """Every exploit in every kind of file, and one exploit under every suffix."""
    network = create_network("resnet20", 3)
    for name, content in poisoned.items():
        (tmp_path / "evil.pth").write_bytes(content)
        with pytest.raises(UserError, match=r"(never unpickled|state_dict)") as caught:
            load_weights(network, str(tmp_path / "evil.pth"))
        assert "\n" not in str(caught.value), name
    for suffix in SUFFIXES:
        for kind in ("bare", "torch zip", "torch legacy", "npz"):
            file = tmp_path / f"evil{suffix}"
            file.write_bytes(poisoned[f"os.system, protocol 2 in {kind}"])
            with pytest.raises(UserError):
                load_weights(network, str(file))


def test_weights_by_the_command(poison: bytes, blobs: Path, tmp_path: Path, command, is_one_sentence) -> None:
    (tmp_path / "evil.pth").write_bytes(poison)
    words = ["--data.root", blobs, "--model.network", "resnet20", "--run", tmp_path / "run"]
    done = command("fit", *words, "--model.weights", tmp_path / "evil.pth")
    assert done.code == 2
    assert is_one_sentence(done.err)
    assert "never unpickled" in done.err


def test_a_bundle_with_a_pickle_in_the_place_of_its_weights(
    poisoned: dict[str, bytes], finished_run: Path, tmp_path: Path
) -> None:
    """The digest in model.json is right: the attacker wrote it."""
    folder = shutil.copytree(finished_run / "model", tmp_path / "model")
    text = (folder / "model.json").read_text()
    digest = Bundle.open(folder).digest
    for name in ("os.system, protocol 2", "GLOBAL", "hidden in a state_dict"):
        for kind in ("bare", "torch zip", "torch legacy", "npz"):
            (folder / "weights.safetensors").write_bytes(poisoned[f"{name} in {kind}"])
            (folder / "model.json").write_text(text.replace(digest, file_digest(folder / "weights.safetensors")))
            with pytest.raises(UserError, match="is not a safetensors file"):
                Bundle.open(folder).load_network()
            with pytest.raises(UserError, match="is not a safetensors file"):
                load_weights(create_network("resnet20", 3), str(folder))


@pytest.mark.parametrize("verb", ["predict", "validate", "test"])
def test_a_run_whose_every_binary_file_is_a_pickle(
    verb: str, poison: bytes, finished_run: Path, blobs: Path, tmp_path: Path, command, is_one_sentence
) -> None:
    run = shutil.copytree(finished_run, tmp_path / "run")
    for file in [*run.rglob("*.ckpt"), *run.rglob("*.safetensors")]:
        file.write_bytes(poison)
    for name in ("state.pkl", "model.pt", "data.pickle"):
        (run / "model" / name).write_bytes(poison)
    done = command(verb, run, *([blobs / "val"] if verb == "predict" else []))
    assert done.code == 2
    assert is_one_sentence(done.err)


def test_a_checkpoint_that_training_goes_on_from(poisoned: dict[str, bytes], tmp_path: Path, fit) -> None:
    """Lightning's own `trainer.fit(ckpt_path=...)`: torch refuses to unpickle what is no tensor."""
    checkpoint = tmp_path / "last.ckpt"
    for name in ("os.system, protocol 2", "GLOBAL", "STACK_GLOBAL", "hidden in a state_dict"):
        for kind in ("bare", "torch zip", "torch legacy"):
            checkpoint.write_bytes(poisoned[f"{name} in {kind}"])
            with pytest.raises(Exception, match=r"(?i)weights.only|unpickl"):
                fit(1, ckpt_path=checkpoint)


def test_a_run_that_is_resumed(poison: bytes, finished_run: Path, tmp_path: Path, command, is_one_sentence) -> None:
    run = shutil.copytree(finished_run, tmp_path / "run")
    for file in run.rglob("*.ckpt"):
        file.write_bytes(poison)
    (run / "summary.json").unlink()  # as if it had been interrupted
    done = command("fit", "--resume", run)
    assert done.code == 2
    assert is_one_sentence(done.err)


def test_an_image(poisoned: dict[str, bytes], tmp_path: Path) -> None:
    for name, content in poisoned.items():
        with pytest.raises(BadImage, match="is not an image"):
            decode(content)
        assert name
    (tmp_path / "cat.1.jpg").write_bytes(next(iter(poisoned.values())))
    with pytest.raises(BadImage, match=r"cat\.1\.jpg is not an image"):
        decode(tmp_path / "cat.1.jpg")


def test_the_cache(
    poisoned: dict[str, bytes], blobs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command, fit
) -> None:
    """Whoever writes into the cache may change pixels, but runs nothing; what cannot be read is made again."""
    monkeypatch.setenv("RESNET_TL_CACHE", str(tmp_path / "cache"))
    settings = {"mode": "head", "epochs": 1, "data": {"augmentation": "none"}}
    fit(**settings)
    tables = [*(tmp_path / "cache").rglob("*.npy"), *(tmp_path / "cache").rglob("*.bin")]
    assert {file.parent.parent.name for file in tables} >= {"audits", "pixels"}
    for file in tables:
        file.write_bytes(poisoned["GLOBAL in npy"])
    fit(**settings)


RECIPES = {
    "apply": "data: !!python/object/apply:os.system ['touch {trap}']",
    "new": "data: !!python/object/new:os.system ['touch {trap}']",
    "name": "optimizer: !!python/name:os.system",
    "module": "model: !!python/module:os",
    "object": "data: !!python/object:subprocess.Popen {{}}",
    "tuple": "data: !!python/tuple [1, 2]",
    "verbatim": "data: !<tag:yaml.org,2002:python/object/apply:os.system> ['touch {trap}']",
    "declared": "%TAG !y! tag:yaml.org,2002:python/object/apply:\n---\ndata: !y!os.system ['touch {trap}']",
    "as a key": "? !!python/object/apply:os.system ['touch {trap}']\n: 1",
}


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_with_python_tags(
    name: str, trap: Path, tmp_path: Path, finished_run: Path, command, is_one_sentence
) -> None:
    recipe = tmp_path / "evil.yaml"
    recipe.write_text(RECIPES[name].format(trap=trap))
    run = shutil.copytree(finished_run, tmp_path / "run")
    shutil.copy(recipe, run / "recipe.yaml")
    for words in (
        ("fit", "--recipe", recipe),
        ("fit", "--recipe", recipe, "--print_config"),
        ("compare", "--recipe", recipe, "--recipe", "freeze_backbone"),
        ("compare", run, finished_run, "--output", tmp_path / "comparison"),
    ):
        done = command(*words)
        assert done.code == 2, words
        assert is_one_sentence(done.err), done.err
    assert command("recipes", "show", recipe).code == 0  # as text
    assert command("predict", run, finished_run / "figures").code == 0  # which reads no recipe


@pytest.mark.parametrize("value", ["!!python/object/apply:os.system ['touch {}']", "{{class_path: os.system}}"])
def test_a_flag_with_python_tags(value: str, trap: Path, blobs: Path, command, is_one_sentence) -> None:
    for option in ("--optimizer", "--model.network", "--trainer.callbacks", "--data.root", "--trainer.logger"):
        done = command("fit", f"{option}={value.format(trap)}")
        assert done.code == 2
        assert is_one_sentence(done.err), done.err
