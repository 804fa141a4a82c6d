import hashlib
import http.server
import json
import threading
from dataclasses import dataclass, field

import pytest

from resnet_tl.data.reading import download as module
from resnet_tl.data.reading.download import discard, download
from resnet_tl.errors import UserError

FILE = b"".join(number.to_bytes(4, "big") for number in range(50_000))
SHA256 = hashlib.sha256(FILE).hexdigest()


@dataclass
class Remote:
    """What the server offers, how it behaves, and what it was asked for."""

    address: str = ""
    content: bytes = FILE
    headers: dict[str, str] = field(default_factory=lambda: {"ETag": '"one"'})
    knows_ranges: bool = True
    heeds_if_range: bool = True
    says_length: bool = True
    breaks_after: list[int] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)
    ranges: list[str | None] = field(default_factory=list)


@pytest.fixture
def remote(monkeypatch):
    monkeypatch.setattr(module, "WAITS", (0, 0))
    state = Remote()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked = self.headers["Range"]
            state.ranges.append(asked)
            if state.answers and (code := state.answers.pop(0)) != 200:
                self.send_error(code)
                return
            same = self.headers["If-Range"] in (*state.headers.values(),) or not state.heeds_if_range
            start = int(asked[6:-1]) if asked and state.knows_ranges and same else 0
            if start and start >= len(state.content):
                self.send_error(416)
                return
            self.send_response(206 if start else 200)
            for name, value in state.headers.items():
                self.send_header(name, value)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(state.content) - 1}/{len(state.content)}")
            if state.says_length:
                self.send_header("Content-Length", str(len(state.content) - start))
            self.end_headers()
            stop = start + state.breaks_after.pop(0) if state.breaks_after else None
            self.wfile.write(state.content[start:stop])

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        state.address = f"http://127.0.0.1:{server.server_port}/photos.zip"
        yield state
        server.shutdown()
        thread.join()


@pytest.fixture
def target(tmp_path):
    return tmp_path / "photos.zip"


def break_off(remote, target, *after: int) -> None:
    """A call that fails: every one of its connections ends too early."""
    remote.breaks_after = list(after)
    with pytest.raises(UserError):
        download(remote.address, target)
    remote.ranges.clear()


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_comes_whole_with_its_digest_and_leaves_nothing_else(remote, target):
    assert download(remote.address, target) == SHA256
    assert target.read_bytes() == FILE
    assert names(target.parent) == ["photos.zip"]


def test_what_is_there_is_not_fetched_again(remote, target):
    download(remote.address, target)
    assert download(remote.address, target) == SHA256
    assert len(remote.ranges) == 1


def test_a_dropped_connection_is_taken_up_again_in_the_same_call(remote, target):
    remote.breaks_after = [70_000, 30_000]
    assert download(remote.address, target) == SHA256
    assert remote.ranges == [None, "bytes=70000-", "bytes=100000-"]


def test_the_next_call_goes_on_from_where_the_last_one_gave_up(remote, target):
    break_off(remote, target, 70_000, 30_000, 50_000)
    assert names(target.parent) == ["photos.zip.part", "photos.zip.part.json"]
    assert download(remote.address, target) == SHA256
    assert remote.ranges == ["bytes=150000-"]
    assert names(target.parent) == ["photos.zip"]


def test_giving_up_is_one_sentence_that_says_how_to_go_on(remote, target):
    remote.breaks_after = [70_000, 30_000, 50_000]
    with pytest.raises(UserError, match=r"broke off after 150000 of 200000.*same command again.*0\.1 MB.*--data\.root"):
        download(remote.address, target)
    assert len(remote.ranges) == 3


def test_last_modified_tells_the_version_as_well(remote, target):
    remote.headers = {"ETag": 'W/"weak"', "Last-Modified": "Tue, 01 Jul 2025 10:00:00 GMT"}
    break_off(remote, target, 70_000, 0, 0)
    assert download(remote.address, target) == SHA256
    assert remote.ranges == ["bytes=70000-"]


@pytest.mark.parametrize("heeds_if_range", [True, False])
def test_a_file_that_changed_meanwhile_is_fetched_anew(remote, target, heeds_if_range):
    break_off(remote, target, 70_000, 0, 0)
    remote.content, remote.headers, remote.heeds_if_range = FILE[::-1], {"ETag": '"two"'}, heeds_if_range
    download(remote.address, target)
    assert target.read_bytes() == FILE[::-1]


def test_a_file_that_became_shorter_is_fetched_anew(remote, target):
    break_off(remote, target, 70_000, 0, 0)
    remote.content, remote.headers, remote.heeds_if_range = b"short", {"ETag": '"two"'}, False
    download(remote.address, target)
    assert target.read_bytes() == b"short"


def test_a_server_that_sends_no_parts_sends_all_again(remote, target):
    remote.knows_ranges = False
    remote.breaks_after = [70_000]
    assert download(remote.address, target) == SHA256
    assert target.read_bytes() == FILE


def test_without_a_sign_of_the_version_nothing_is_continued(remote, target):
    remote.headers = {}
    break_off(remote, target, 70_000, 0, 0)
    assert download(remote.address, target) == SHA256
    assert remote.ranges == [None]


def test_a_part_of_another_address_is_not_continued(remote, target):
    break_off(remote, target, 70_000, 0, 0)
    assert download(remote.address + "?other", target) == SHA256
    assert remote.ranges == [None]


@pytest.mark.parametrize("note", [None, "", "[]", '{"address": 1}'])
def test_a_part_of_which_nothing_is_known_is_not_continued(remote, target, note):
    part = target.with_name("photos.zip.part")
    part.write_bytes(b"bytes of who knows what")
    if note is not None:
        part.with_name(f"{part.name}.json").write_text(note)
    assert download(remote.address, target) == SHA256
    assert remote.ranges == [None]


def test_a_complete_part_is_not_fetched_again(remote, target):
    """As when the process was killed between the last byte and the new name."""
    target.with_name("photos.zip.part").write_bytes(FILE)
    note = {"address": remote.address, "validator": '"one"', "length": len(FILE)}
    target.with_name("photos.zip.part.json").write_text(json.dumps(note))
    assert download(remote.address, target) == SHA256
    assert remote.ranges == []
    assert names(target.parent) == ["photos.zip"]


def test_a_part_that_is_too_long_is_fetched_anew(remote, target):
    break_off(remote, target, 70_000, 0, 0)
    with target.with_name("photos.zip.part").open("ab") as file:
        file.write(FILE)
    assert download(remote.address, target) == SHA256


def test_a_file_of_unknown_length_comes_whole(remote, target):
    remote.says_length = False
    assert download(remote.address, target) == SHA256


def test_an_overloaded_server_is_asked_again(remote, target):
    remote.answers = [503, 429]
    assert download(remote.address, target) == SHA256


def test_a_missing_file_is_asked_for_once(remote, target):
    remote.answers = [404]
    with pytest.raises(UserError, match=r"404.*by hand.*--data\.root"):
        download(remote.address, target)
    assert len(remote.ranges) == 1


def test_an_interrupt_keeps_what_has_come(remote, target, monkeypatch):
    def stop(*_, **__):
        raise KeyboardInterrupt

    remote.breaks_after = [70_000]
    with monkeypatch.context() as patch:
        patch.setattr("rich.progress.Progress.update", stop)
        with pytest.raises(KeyboardInterrupt):
            download(remote.address, target)
    assert target.with_name("photos.zip.part").stat().st_size == 70_000
    assert download(remote.address, target) == SHA256
    assert remote.ranges == [None, "bytes=70000-"]


def test_no_network_is_one_sentence(target, monkeypatch):
    monkeypatch.setattr(module, "WAITS", (0,))
    with pytest.raises(UserError, match=r"could not be downloaded.*same command again"):
        download("http://127.0.0.1:9/photos.zip", target)


def test_a_place_that_cannot_be_written_is_one_sentence(remote, target):
    (target.parent / "file").touch()
    with pytest.raises(UserError, match="cannot be written"):
        download(remote.address, target.parent / "file" / "photos.zip")


def test_discard_removes_all_that_belongs_to_a_download(remote, target):
    break_off(remote, target, 70_000, 0, 0)
    discard(target)
    assert names(target.parent) == []
