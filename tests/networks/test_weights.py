import hashlib
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from resnet_tl.bundle import Bundle, write_bundle
from resnet_tl.data.pixels.preprocessing import Preprocessing
from resnet_tl.errors import UserError
from resnet_tl.networks import IMAGENET_RESNETS, create_network
from resnet_tl.networks.weights import BUILT_IN, IMAGENET_MEAN, load_weights

CLASSES = ("ants", "bees", "wasps")


def network(seed=0, name="resnet20", in_chans=3, **head):
    torch.manual_seed(seed)
    return create_network(name, len(CLASSES), in_chans, **head)


def same(a, b, *, head):
    """Whether all weights of two networks are equal, with or without the head."""
    ours, theirs = a.body.state_dict(), b.body.state_dict()
    keys = [key for key in ours if head or not key.startswith("fc.")]
    assert len(keys) > 50
    return all(torch.equal(ours[key], theirs[key]) for key in keys)


@pytest.fixture
def donor():
    """A network whose weights differ from those of `network()` in every tensor, statistics included."""
    donor = network(seed=1)
    for tensor in donor.state_dict().values():
        if tensor.is_floating_point():
            tensor.add_(0.5)
    return donor


@pytest.fixture
def file(donor, tmp_path):
    save_file(donor.body.state_dict(), tmp_path / "donor.safetensors")
    return tmp_path / "donor.safetensors"


def test_none_leaves_the_network_and_says_so():
    target = network()
    origin = load_weights(target, "none")
    assert same(target, network(), head=True)
    assert (origin.source, origin.digest, origin.licence) == ("none", "", "")
    assert (origin.image_size, origin.crop_ratio, origin.mean) == (32, 1.0, IMAGENET_MEAN)


@pytest.mark.parametrize(
    ("name", "size"),
    [("lenet5", 32), ("mnist_cnn", 28), ("mnist_two_branch", 28), ("resnet20v2", 32), ("resnet18", 224)],
)
def test_without_weights_images_have_the_size_that_the_network_was_made_for(name, size):
    assert load_weights(network(name=name), "none").image_size == size


def test_a_file_fills_the_backbone_and_not_the_head(file, donor):
    target = network()
    origin = load_weights(target, str(file), classes=CLASSES)
    assert same(target, donor, head=False)
    assert torch.equal(target.head.weight, network().head.weight)
    assert origin.source == str(file)
    assert origin.digest == hashlib.sha256(file.read_bytes()).hexdigest()
    assert origin.licence == "unknown"


def test_the_head_of_a_file_may_have_any_number_of_classes(donor, tmp_path):
    donor.replace_head(1000)
    save_file(donor.body.state_dict(), tmp_path / "imagenet.safetensors")
    target = network()
    load_weights(target, str(tmp_path / "imagenet.safetensors"))
    assert same(target, donor, head=False)


def test_a_file_without_a_head_is_enough(donor, tmp_path):
    state = {key: tensor for key, tensor in donor.body.state_dict().items() if not key.startswith("fc.")}
    save_file(state, tmp_path / "backbone.safetensors")
    target = network()
    load_weights(target, str(tmp_path / "backbone.safetensors"))
    assert same(target, donor, head=False)


@pytest.mark.parametrize(
    ("wrapper", "prefix"),
    [(None, "module."), (None, "_orig_mod."), ("model", ""), ("model", "_orig_mod.module."),
     ("state_dict", ""), ("state_dict", "module._orig_mod.")],
)  # fmt: skip
def test_the_wrappers_that_others_save_with_are_taken_off(donor, tmp_path, wrapper, prefix):
    state = {prefix + key: tensor for key, tensor in donor.body.state_dict().items()}
    torch.save({wrapper: state, "epoch": 3} if wrapper else state, tmp_path / "saved.pth")
    target = network()
    load_weights(target, str(tmp_path / "saved.pth"))
    assert same(target, donor, head=False)


def test_half_precision_becomes_single_precision(donor, tmp_path):
    state = {key: tensor.half() for key, tensor in donor.body.state_dict().items()}
    torch.save(state, tmp_path / "half.pt")
    target = network()
    load_weights(target, str(tmp_path / "half.pt"))
    assert target.body.conv1.weight.dtype == torch.float32
    assert torch.equal(target.body.conv1.weight, donor.body.conv1.weight.half().float())


def test_old_files_that_do_not_count_batches_are_complete(donor, tmp_path):
    state = {key: tensor for key, tensor in donor.body.state_dict().items() if "num_batches" not in key}
    save_file(state, tmp_path / "old.safetensors")
    target = network()
    load_weights(target, str(tmp_path / "old.safetensors"))
    assert same(target, donor, head=False)


class Evil:
    def __reduce__(self):
        return (Path.touch, (Path("pwned"),))


@pytest.mark.parametrize("content", [{"model": Evil()}, torch.nn.Linear(2, 2)])
def test_a_file_with_python_objects_is_refused_and_runs_nothing(content, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save(content, "objects.pth")
    with pytest.raises(UserError, match="never unpickled"):
        load_weights(network(), "objects.pth")
    assert not Path("pwned").exists()


@pytest.mark.parametrize("content", [b"", b"no tensors", pickle.dumps({"a": 1}, protocol=2)])
@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_a_damaged_file_is_refused_in_one_sentence(content, suffix, tmp_path):
    damaged = tmp_path / f"damaged{suffix}"
    damaged.write_bytes(content)
    with pytest.raises(UserError, match="damaged"):
        load_weights(network(), str(damaged))


def test_a_file_that_is_cut_off_is_refused(file):
    file.write_bytes(file.read_bytes()[:-1000])
    with pytest.raises(UserError, match="is not a safetensors file, or is cut off"):
        load_weights(network(), str(file))


def test_a_missing_file_is_named():
    with pytest.raises(UserError, match=r"no weights file, run or bundle weights/none\.pth"):
        load_weights(network(), "weights/none.pth")


def test_weights_of_another_network_change_nothing_and_the_network_is_named(tmp_path):
    save_file(network(name="resnet32").body.state_dict(), tmp_path / "deeper.safetensors")
    target = network()
    sentence = r"not those of resnet20: 72 are missing, unexpected, or .* \(layer1\.\d.*look like resnet32"
    with pytest.raises(UserError, match=sentence):
        load_weights(target, str(tmp_path / "deeper.safetensors"))
    assert same(target, network(), head=True)


@pytest.mark.parametrize("name", ["lenet5", "mnist_two_branch", "resnet20v2"])
def test_the_network_of_grey_weights_is_named_too(name, tmp_path):
    save_file(network(name=name, in_chans=1).body.state_dict(), tmp_path / "other.safetensors")
    with pytest.raises(UserError, match=f"not those of mnist_cnn.*look like {name}: use --model.network {name}"):
        load_weights(network(name="mnist_cnn", in_chans=1), str(tmp_path / "other.safetensors"))


def test_missing_keys_are_listed(donor, tmp_path):
    state = {key: tensor for key, tensor in donor.body.state_dict().items() if not key.startswith("layer2.1.bn1.")}
    save_file(state, tmp_path / "holes.safetensors")
    with pytest.raises(UserError, match=r"4 are missing, .* \(layer2\.1\.bn1\.weight, .* and 1 more\)\."):
        load_weights(network(), str(tmp_path / "holes.safetensors"))


@pytest.mark.parametrize("in_chans", [1, 2, 4])
def test_the_first_convolution_is_adapted_to_other_channels(file, donor, in_chans):
    target = network(in_chans=in_chans)
    origin = load_weights(target, str(file))
    ours, theirs = target.body.conv1.weight, donor.body.conv1.weight
    grey = torch.rand(1, 1, 8, 8)
    if in_chans == 1:
        assert torch.allclose(ours, theirs.sum(1, keepdim=True))
        assert torch.allclose(
            target.body.conv1(grey), donor.body.conv1(grey.expand(-1, 3, -1, -1)), rtol=1e-4, atol=1e-4
        )
    else:
        assert torch.allclose(ours[:, 1], theirs[:, 1] * 3 / in_chans)
    assert len(origin.mean) == len(origin.std) == in_chans
    assert torch.equal(target.body.layer1[0].conv1.weight, donor.body.layer1[0].conv1.weight)


def test_both_first_convolutions_of_two_branches_are_adapted(tmp_path):
    donor = network(seed=1, name="mnist_two_branch")
    save_file(donor.body.state_dict(), tmp_path / "rgb.safetensors")
    target = network(name="mnist_two_branch", in_chans=1)
    load_weights(target, str(tmp_path / "rgb.safetensors"))
    for side in ("left", "right"):
        ours, theirs = (getattr(n.body.branches1, side)[0].weight for n in (target, donor))
        assert torch.allclose(ours, theirs.sum(1, keepdim=True))


def test_metadata_of_a_safetensors_file_says_what_images_it_expects(donor, tmp_path):
    metadata = {"mean": "[0.1, 0.2, 0.3]", "std": "[0.4, 0.5, 0.6]", "image_size": "48", "crop_ratio": "0.9"}
    metadata |= {"interpolation": "bicubic", "licence": "MIT"}
    save_file(donor.body.state_dict(), tmp_path / "told.safetensors", metadata=metadata)
    origin = load_weights(network(), str(tmp_path / "told.safetensors"))
    assert (origin.mean, origin.std) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    assert (origin.image_size, origin.crop_ratio, origin.interpolation) == (48, 0.9, "bicubic")
    assert origin.licence == "MIT"


def bundle(folder, donor, classes=CLASSES):
    seen = Preprocessing(size=48, storage_size=64, crop_size=48, interpolation="bicubic", mean=(0.1, 0.2, 0.3))
    architecture = {"name": donor.name, "in_chans": 3, "head_hidden": [], "head_dropout": 0.0}
    return write_bundle(Bundle(folder, architecture, classes, seen, weights={"licence": "Apache-2.0"}), donor)


@pytest.mark.parametrize("given", [".", "model"])
def test_a_run_or_bundle_gives_its_weights_head_and_preprocessing(donor, tmp_path, given):
    bundle(tmp_path / "model", donor)
    target = network()
    origin = load_weights(target, str(tmp_path / given), classes=CLASSES)
    assert same(target, donor, head=True)
    assert (origin.image_size, origin.crop_ratio, origin.interpolation) == (48, 0.75, "bicubic")
    assert (origin.mean, origin.licence) == ((0.1, 0.2, 0.3), "Apache-2.0")


@pytest.mark.parametrize("classes", [None, ("ants", "wasps", "bees"), ("a", "b", "c")])
def test_the_head_of_a_bundle_is_dropped_unless_the_classes_are_the_same(donor, tmp_path, classes):
    bundle(tmp_path, donor)
    target = network()
    load_weights(target, str(tmp_path), classes=classes)
    assert same(target, donor, head=False)
    assert torch.equal(target.head.weight, network().head.weight)


def test_the_head_of_a_bundle_is_dropped_when_it_has_other_layers(donor, tmp_path):
    bundle(tmp_path, donor)
    target = network(head_hidden=[8])
    load_weights(target, str(tmp_path), classes=CLASSES)
    assert torch.equal(target.head[0].weight, network(head_hidden=[8]).head[0].weight)
    assert torch.equal(target.body.conv1.weight, donor.body.conv1.weight)


def test_a_bundle_of_another_network_is_refused(donor, tmp_path):
    bundle(tmp_path, donor)
    with pytest.raises(UserError, match=r"weights of 'resnet20', but model\.network is 'resnet32'"):
        load_weights(network(name="resnet32"), str(tmp_path))


def test_a_folder_without_a_bundle_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"no model\.json"):
        load_weights(network(), str(tmp_path))


def test_the_built_in_weights_are_the_default_of_resnet20():
    target = network()
    origin = load_weights(target, "default", classes=CLASSES)
    assert origin.source == "built-in resnet20_cifar10"
    assert origin.digest == hashlib.sha256((BUILT_IN / "resnet20_cifar10.safetensors").read_bytes()).hexdigest()
    assert (origin.image_size, origin.crop_ratio, origin.licence) == (32, 1.0, "Apache-2.0")
    assert not same(target, network(), head=False)
    assert torch.equal(target.head.weight, network().head.weight)
    assert all(tensor.isfinite().all() for tensor in target.state_dict().values())


@pytest.mark.parametrize("name", ["resnet56", "resnet14", "resnet20v2", "lenet5", "mnist_cnn", "mnist_two_branch"])
def test_a_network_without_pretrained_weights_says_so(name):
    with pytest.raises(UserError, match=f"no pretrained weights of {name}; use --model\\.weights none"):
        load_weights(network(name=name), "default")


def test_an_unknown_tag_is_refused_with_the_tags_that_there_are():
    with pytest.raises(UserError, match=r"'a1_in1' is neither .* tv_in1k\)\. Did you mean 'a1_in1k'\?"):
        load_weights(network(name="resnet18"), "a1_in1")


@pytest.fixture
def hub(monkeypatch):
    """A hub with the files in `hub.files`; `hub.asked` lists the repositories and files that were asked for."""

    class Hub:
        def __init__(self):
            self.asked, self.files = [], {}

        def download(self, repository, filename, revision=None):
            from huggingface_hub.errors import EntryNotFoundError

            self.asked.append((repository, filename))
            if (repository, filename) not in self.files:
                raise EntryNotFoundError("404")
            return str(self.files[repository, filename])

    hub = Hub()
    monkeypatch.setattr("huggingface_hub.hf_hub_download", hub.download)
    monkeypatch.setattr("huggingface_hub.get_hf_file_metadata", lambda url: None)
    return hub


def test_a_resnets_default_weights_are_torchvisions_first(hub, tmp_path):
    donor = network(seed=1, name="resnet18")
    save_file(donor.body.state_dict(), tmp_path / "model.safetensors")
    hub.files["timm/resnet18.tv_in1k", "model.safetensors"] = tmp_path / "model.safetensors"
    target = network(name="resnet18")
    origin = load_weights(target, "default")
    assert hub.asked == [("timm/resnet18.tv_in1k", "model.safetensors")]
    assert same(target, donor, head=False)
    assert (origin.source, origin.licence) == ("timm/resnet18.tv_in1k", "bsd-3-clause")
    assert (origin.image_size, origin.crop_ratio, origin.interpolation) == (224, 0.875, "bilinear")


@pytest.mark.parametrize("name", IMAGENET_RESNETS)
def test_timm_still_has_torchvisions_first_weights(name):
    import timm

    assert f"{name}.tv_in1k" in timm.list_pretrained(f"{name}.*")


@pytest.mark.parametrize(
    ("name", "suffix"),
    [
        ("resnet18", ".safetensors"),
        ("resnet18", ".pth"),
        pytest.param("resnext50_32x4d", ".safetensors", marks=pytest.mark.slow),
        pytest.param("wide_resnet50_2", ".pth", marks=pytest.mark.slow),
    ],
)
@torch.no_grad()
def test_a_file_of_torchvision_gives_torchvisions_function(name, suffix, tmp_path):
    import torchvision

    torch.manual_seed(1)
    theirs = getattr(torchvision.models, name)(weights=None)
    for key, tensor in theirs.state_dict().items():
        if key.endswith(("running_mean", "running_var")):
            tensor.uniform_(0.5, 1.5)
    file = tmp_path / f"torchvision{suffix}"
    (save_file if suffix == ".safetensors" else torch.save)(theirs.state_dict(), file)
    ours = create_network(name, num_classes=1000)
    load_weights(ours, str(file))
    ours.head.load_state_dict(theirs.fc.state_dict())
    x = torch.randn(2, 3, 64, 64)
    assert torch.allclose(ours.eval()(x), theirs.eval()(x), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", ["resnet18", pytest.param("resnext50_32x4d", marks=pytest.mark.slow)])
@torch.no_grad()
def test_a_file_of_timm_gives_timms_function(name, tmp_path):
    import timm

    theirs = timm.create_model(name, num_classes=3)
    save_file(theirs.state_dict(), tmp_path / "timm.safetensors")
    ours = network(name=name)
    load_weights(ours, str(tmp_path / "timm.safetensors"))
    x = torch.randn(2, 3, 64, 64)
    assert torch.equal(ours.eval().forward_stages(x), theirs.eval().forward_head(theirs.forward_features(x), True))


def test_a_tag_brings_its_own_preprocessing(hub, tmp_path):
    donor = network(seed=1, name="resnet18")
    torch.save(donor.body.state_dict(), tmp_path / "pytorch_model.bin")
    hub.files["timm/resnet18.a1_in1k", "pytorch_model.bin"] = tmp_path / "pytorch_model.bin"
    target = network(name="resnet18")
    origin = load_weights(target, "a1_in1k")
    assert same(target, donor, head=False)
    assert (origin.crop_ratio, origin.interpolation, origin.licence) == (0.95, "bicubic", "apache-2.0")


def test_a_repository_of_the_hub_must_hold_this_network(hub, tmp_path):
    donor = network(seed=1, name="resnet18")
    save_file(donor.body.state_dict(), tmp_path / "model.safetensors")
    facts = '{"architecture": "resnet18", "pretrained_cfg": {"mean": [0.5, 0.5, 0.5], "license": "mit"}}'
    (tmp_path / "config.json").write_text(facts)
    hub.files = {("me/mine", name): tmp_path / name for name in ("config.json", "model.safetensors")}
    target = network(name="resnet18")
    origin = load_weights(target, "hf-hub:me/mine")
    assert same(target, donor, head=False)
    assert (origin.source, origin.licence, origin.mean) == ("hf-hub:me/mine", "mit", (0.5, 0.5, 0.5))
    with pytest.raises(UserError, match=r"holds weights of 'resnet18', but model\.network is 'resnet20'"):
        load_weights(network(), "hf-hub:me/mine")


def test_without_a_network_a_download_is_not_even_tried(hub, monkeypatch):
    def fail(url):
        raise ConnectionError("no route")

    monkeypatch.setattr("huggingface_hub.get_hf_file_metadata", fail)
    with pytest.raises(UserError, match=r"could not be fetched from the Hugging Face hub \(ConnectionError\)"):
        load_weights(network(name="resnet18"), "default")
    assert not hub.asked


def test_a_hub_that_answers_with_an_error_is_left_to_the_download(hub, tmp_path, monkeypatch):
    class TooMany(Exception):
        response = "429"

    def fail(url):
        raise TooMany

    monkeypatch.setattr("huggingface_hub.get_hf_file_metadata", fail)
    save_file(network(name="resnet18").body.state_dict(), tmp_path / "model.safetensors")
    hub.files["timm/resnet18.tv_in1k", "model.safetensors"] = tmp_path / "model.safetensors"
    load_weights(network(name="resnet18"), "default")
    assert hub.asked == [("timm/resnet18.tv_in1k", "model.safetensors")]


@pytest.mark.parametrize("error", ["LocalEntryNotFoundError", "OfflineModeIsEnabled", "ConnectionError", "OSError"])
def test_without_a_connection_one_sentence_names_three_ways_out(error, hub, monkeypatch):
    import builtins

    import huggingface_hub.errors

    kind = getattr(huggingface_hub.errors, error, None) or getattr(builtins, error)

    def fail(*_, **__):
        raise kind("no connection")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", fail)
    with pytest.raises(UserError, match=r"timm/resnet18\.tv_in1k could not be fetched") as caught:
        load_weights(network(name="resnet18"), "default")
    for way_out in ("--model.weights PATH", "--model.weights none", "--model.network resnet20"):
        assert way_out in str(caught.value)


def test_real_imagenet_weights_load_into_their_network_alone(shared_weights):
    target = network(name="resnet18")
    origin = load_weights(target, str(shared_weights / "resnet18_imagenet.safetensors"))
    assert (origin.image_size, origin.mean) == (224, IMAGENET_MEAN)
    assert target.body.bn1.running_var.min() >= 0
    assert target.body.layer4[1].bn2.running_mean.abs().sum() > 0
    with pytest.raises(UserError, match=r"look like resnet50: use --model\.network resnet50"):
        load_weights(target, str(shared_weights / "resnet50_imagenet.safetensors"))


def test_a_run_with_other_arguments_of_the_network_says_which(tmp_path: Path):
    network = create_network("resnet20", 2, network_args={"shortcut": "projection"})
    facts = {"name": "resnet20", "in_chans": 3, "network_args": {"shortcut": "projection"}}
    preprocessing = Preprocessing(32, 32, 32)
    write_bundle(Bundle(tmp_path, facts, ("a", "b"), preprocessing), network)

    with pytest.raises(UserError, match=r"trained with model\.network_args \{'shortcut': 'projection'\}"):
        load_weights(create_network("resnet20", 2), str(tmp_path))
