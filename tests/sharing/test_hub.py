from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from resnet_tl.bundle import Bundle
from resnet_tl.bundle_zip import FILES
from resnet_tl.errors import UserError
from resnet_tl.sharing.hub import check_repository, pull, push
from resnet_tl.sharing.zipping import zip_bundle

NAME = "anna/trees"
WRITER, READER = "hf_writer", "hf_reader"  # tokens that the stand-in knows


WORKER = """
import json, os, sys
from resnet_tl.errors import UserError
from resnet_tl.sharing.hub import pull, push
for asked in map(json.loads, sys.stdin):
    os.chdir(asked["folder"])
    os.environ["HF_TOKEN"] = asked["token"]
    try:
        said = [True, str(eval(asked["line"]))]
    except UserError as error:
        said = [False, str(error)]
    print(json.dumps(said), flush=True)
"""


class Done(NamedTuple):
    is_done: bool
    said: str  # what the call gave, or the sentence that it ended in


class Client:
    """A process that pushes and pulls, since the hub's client reads its settings when it is imported."""

    def __init__(self, url: str, cache: Path, offline: str = "0") -> None:
        settings = {"HF_ENDPOINT": url, "HF_HOME": str(cache), "HF_HUB_OFFLINE": offline, "HF_HUB_DISABLE_XET": "1"}
        self.process = subprocess.Popen(
            [sys.executable, "-c", WORKER],
            env={**os.environ, **settings},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, folder: Path, line: str, token: str = WRITER) -> Done:
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(json.dumps({"folder": str(folder), "line": line, "token": token}) + "\n")
        self.process.stdin.flush()
        return Done(*json.loads(self.process.stdout.readline()))

    def close(self) -> None:
        self.process.communicate(timeout=20)


@pytest.fixture(scope="module")
def client(running_hub: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    made = Client(running_hub.url, tmp_path_factory.mktemp("hf"))
    yield made
    made.close()


@pytest.fixture
def hub(running_hub: Any) -> Any:
    running_hub.forget()
    return running_hub


@pytest.fixture
def there(client: Client, tmp_path: Path) -> Callable[..., Done]:
    """`there('pull("a/b")', token=...)` runs a line there, in the test's folder."""

    def run(line: str, token: str = WRITER) -> Done:
        return client.run(tmp_path, line, token)

    return run


def files_of(bundle: Bundle) -> dict[str, bytes]:
    return {name: bundle.read(name) for name in bundle.sizes()}


def test_what_is_pushed_is_pulled_and_nothing_else(hub: Any, there, make_bundle, tmp_path: Path):
    bundle = make_bundle()
    (bundle.path / "notes.txt").write_text("private")

    pushed = there(f'push("leaves", "{NAME}", "# card", private=True)')
    pulled = there(f'pull("{NAME}", "got").digest')

    assert pushed == (True, f"{hub.url}/{NAME}")
    assert set(hub.files(NAME)) == {".gitattributes", *FILES}
    assert NAME in hub.private
    assert bundle.digest in hub.objects  # the weights went by Git LFS
    assert pulled == (True, bundle.digest)
    assert {path.name: path.read_bytes() for path in (tmp_path / "got").iterdir()} == {
        **files_of(bundle),
        "README.md": b"# card",
    }


def test_a_push_replaces_the_whole_bundle_in_one_commit(hub: Any, there, make_bundle, tmp_path: Path):
    old, new = make_bundle(), make_bundle("new", images=0, classes=("fern", "moss"))
    hub.put(NAME, {**files_of(old), "README.md": b"old", "photo.png": b"theirs"})
    zip_bundle(new.path, tmp_path / "new.zip")

    assert there(f'push("new.zip", "{NAME}", "# card")').is_done

    assert hub.files(NAME) == {**files_of(new), "README.md": b"# card", "photo.png": b"theirs"}
    assert sum(request.endswith("/commit/main") for request in hub.requests) == 1


def test_what_is_to_be_private_is_not_pushed_where_all_can_see_it(hub: Any, there, make_bundle):
    make_bundle()
    hub.put(NAME, {"README.md": b"open"})

    done = there(f'push("leaves", "{NAME}", "# card", private=True)')

    assert "anna/trees is there already and public, so that --private would hide nothing" in done.said
    assert hub.files(NAME) == {"README.md": b"open"}
    hub.private.add(NAME)
    assert there(f'push("leaves", "{NAME}", "# card", private=True)').is_done


def test_a_card_of_the_users_own_is_taken_as_it_is(hub: Any, there, make_bundle):
    (make_bundle().path / "README.md").write_text("# Mine")

    assert there(f'push("leaves", "{NAME}", "# card")').is_done
    assert hub.files(NAME)["README.md"] == b"# Mine"


def test_a_branch_is_made_where_there_is_none_and_pulled_by_its_name(hub: Any, there, make_bundle):
    bundle = make_bundle()
    hub.put(NAME, {"README.md": b"empty"})

    assert there(f'push("leaves", "{NAME}", "# card", revision="v2")').said.endswith("/tree/v2")
    assert hub.files(NAME) == {"README.md": b"empty"}
    assert there(f'pull("{NAME}", "got", "v2").digest').said == bundle.digest


def test_a_damaged_bundle_is_not_pushed(make_bundle):
    bundle = make_bundle()
    bundle.weights_file.write_bytes(b"x")

    with pytest.raises(UserError, match="is damaged and was not pushed"):
        push(bundle.path, NAME, "# card")


def test_offline_is_one_sentence_or_what_the_cache_holds(hub: Any, make_bundle, tmp_path: Path):
    bundle, cache = make_bundle(), tmp_path / "hf"
    hub.put(NAME, files_of(bundle))
    online, offline = Client(hub.url, cache), Client(hub.url, cache, offline="1")

    said = offline.run(tmp_path, f'pull("{NAME}")').said
    assert "HF_HUB_OFFLINE is set, and not all of it is in the hub's cache" in said
    assert "HF_HUB_OFFLINE is set, which forbids" in offline.run(tmp_path, f'push("leaves", "{NAME}", "")').said
    assert online.run(tmp_path, f'pull("{NAME}", "got").digest').said == bundle.digest
    hub.requests.clear()
    assert offline.run(tmp_path, f'pull("{NAME}", "again").digest').said == bundle.digest
    assert not hub.requests
    online.close()
    offline.close()


def test_without_a_network_the_cache_does_not_stand_in_silently(hub: Any, make_bundle, tmp_path: Path):
    hub.put(NAME, files_of(make_bundle()))
    before, after = Client(hub.url, tmp_path / "hf"), Client("http://127.0.0.1:9", tmp_path / "hf")
    assert before.run(tmp_path, f'pull("{NAME}", "got")').is_done

    done = after.run(tmp_path, f'pull("{NAME}", "again")')

    assert "the hub could not be reached (ConnectError)" in done.said
    assert not (tmp_path / "again").exists()
    before.close()
    after.close()


@pytest.mark.parametrize(
    ("line", "token", "said"),
    [
        ('pull("anna/none")', WRITER, "there is no such repository, or it is private"),
        ('pull("anna/none")', "", "there is no such repository, or it is private"),
        (f'pull("{NAME}")', "hf_stolen", "there is no valid token; log in by `hf auth login`"),
        (f'pull("{NAME}", revision="v9")', WRITER, "it has no revision 'v9'"),
        ('pull("anna/gated")', READER, "its owner must let you in; ask for it at"),
        (f'push("leaves", "{NAME}", "")', "", "there is no valid token"),
        (f'push("leaves", "{NAME}", "")', READER, "your token has not the permission"),
        (f'push("leaves", "{NAME}", "---\\nlicense: nonsense\\n---\\n")', WRITER, "license is nonsense"),
    ],
)
def test_what_the_hub_refuses_is_one_sentence(hub: Any, there, make_bundle, line: str, token: str, said: str):
    hub.put(NAME, {})
    hub.put("anna/gated", {})
    hub.gated.add("anna/gated")
    make_bundle()

    done = there(line, token=token)

    assert not done.is_done
    assert said in done.said
    assert "\n" not in done.said
    assert not token or token not in done.said


@pytest.mark.parametrize(
    ("line", "place", "fault", "said"),
    [
        (f'pull("{NAME}")', "GET /api/models", 500, "the hub has an error of its own (500)"),
        (f'pull("{NAME}")', "GET /api/models", "cut", "the hub could not be reached"),
        (f'pull("{NAME}")', "HEAD /anna/trees/resolve", 403, "your token has not the permission"),
        (f'push("leaves", "{NAME}", "")', "POST /api/models/anna/trees/commit", 500, "an error of its own (500)"),
        (f'push("leaves", "{NAME}", "")', "PUT /lfs", 403, "your token has not the permission"),
    ],
)
def test_a_fault_on_the_way_leaves_nothing_half_done(
    hub: Any, there, make_bundle, tmp_path: Path, line: str, place: str, fault: int | str, said: str
):
    hub.put(NAME, files_of(make_bundle()))
    before, hub.faults = hub.files(NAME), {place: fault}

    done = there(line)

    assert said in done.said
    assert "\n" not in done.said
    assert [path.name for path in tmp_path.iterdir()] == ["leaves"]
    assert hub.files(NAME) == before


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        ({"weights.safetensors": b"x"}, "nothing was written: weights.safetensors is not the file"),
        ({"model.json": b"{"}, "holds no sound model bundle: model.json is damaged"),
        ({"weights.safetensors": None}, "holds no model bundle: it has no weights.safetensors"),
        ({"reference.safetensors": None}, "reference.safetensors is missing"),
    ],
)
def test_a_bundle_that_is_not_whole_is_not_written(hub: Any, there, make_bundle, tmp_path: Path, harm, said: str):
    files = {**files_of(make_bundle()), **harm}
    hub.put(NAME, {name: content for name, content in files.items() if content is not None})

    done = there(f'pull("{NAME}", "got")')

    assert said in done.said
    assert "\n" not in done.said
    assert not (tmp_path / "got").exists()


def test_code_and_pickles_beside_a_bundle_are_not_even_fetched(hub: Any, there, make_bundle, tmp_path: Path):
    evil = {
        "model.pkl": b"cos\nsystem\n(S'touch sprung'\ntR.",
        "resnet_tl.py": b"open('sprung', 'w')",
        "a/model.json": b"{}",
    }
    hub.put(NAME, {**files_of(make_bundle()), **evil})

    assert there(f'pull("{NAME}", "got")').is_done
    assert not [request for request in hub.requests for name in evil if request.endswith(f"/{name}")]
    assert {path.name for path in (tmp_path / "got").iterdir()} <= set(FILES)
    assert not (tmp_path / "sprung").exists()


def test_a_folder_that_holds_something_is_not_written_into(tmp_path: Path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("mine")

    with pytest.raises(UserError, match="mine is there already and not empty; name another folder by --output"):
        pull(NAME, tmp_path / "mine")


@pytest.mark.parametrize(
    "name",
    ["leaves", "a/b/c", "../x", "a/..", "/etc", "a/b c", "", "a/-b", "a--b/c", "änna/x", "x" * 97 + "/y", "a/b\n"],
)
def test_what_is_no_repository_is_refused_before_anything_is_asked(name: str):
    with pytest.raises(UserError, match="is no repository of the Hugging Face hub; it must be OWNER/NAME"):
        check_repository(name)
