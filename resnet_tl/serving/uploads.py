"""The images of a request's body, raw or multipart, read within the limits and held in memory alone."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from io import BytesIO

from PIL import Image
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import Request

from resnet_tl.data.pixels.decode import MAX_PIXELS, BadImage
from resnet_tl.data.pixels.formats import FORMATS
from resnet_tl.data.reading.folders.structure import counted
from resnet_tl.errors import CONTROLS
from resnet_tl.serving.settings import MB, Refused, Settings

logging.getLogger("python_multipart").setLevel(logging.ERROR)  # it warns of what strangers send

RAW = ("application/octet-stream", "application/x-www-form-urlencoded")
"""Content types of a body that is one image, besides `image/...`; the second is what `curl --data-binary` sends."""
MAX_NAME = 255


@dataclass
class Upload:
    """One image as it was sent."""

    name: str
    content: bytearray = field(default_factory=bytearray)

    def take(self) -> bytes:
        """The content, which is then held once alone."""
        content = bytes(self.content)
        self.content.clear()
        return content


def check_content_type(content_type: str) -> None:
    """Refused unless it is one that `read_uploads` takes; "" is taken as one image."""
    kind = content_type.partition(";")[0].strip().lower()
    if is_form(content_type):
        _boundary_of(content_type)
    elif kind and kind not in RAW and not kind.startswith("image/"):
        sentence = "The content type must be that of an image, application/octet-stream or multipart/form-data."
        raise Refused(415, "content_type", sentence)


async def read_uploads(request: Request) -> list[Upload]:
    """The images of a request's body, one or more; Refused where it is not well-formed or beyond a limit.

    A raw body is one image. Of a multipart body every part that has a file name is one; the others must be empty.
    """
    settings, content_type = request.app.state.settings, request.headers.get("content-type", "")
    if is_form(content_type):
        form = _Form(_boundary_of(content_type), settings)
        async for chunk in request.stream():
            form.write(chunk)
        return form.finished()
    upload = Upload("image")
    async for chunk in request.stream():
        upload.content += chunk
        _check_size(upload, settings)
    if not upload.content:
        raise Refused(400, "empty", "The request has no body; send an image, or several as multipart/form-data.")
    return [upload]


def check_pixels(content: bytes, settings: Settings) -> None:
    """BadImage for an image whose header claims too many pixels; reading one may take its time, so in a thread."""
    limit = min(settings.max_pixels, MAX_PIXELS)
    try:
        with Image.open(BytesIO(content), formats=FORMATS) as image:
            is_too_large = image.width * image.height > limit
    except Exception as error:  # of others decoding will say what is wrong
        is_too_large = isinstance(error, Image.DecompressionBombError)
    if is_too_large:
        raise BadImage(f"has more than {limit / 1e6:g} megapixel{'' if limit == MB else 's'}, the limit")


def is_form(content_type: str) -> bool:
    """Whether a body holds parts; else it is one image."""
    return content_type.partition(";")[0].strip().lower() == "multipart/form-data"


class _Form:
    """A multipart body while it arrives."""

    def __init__(self, boundary: bytes, settings: Settings) -> None:
        self.settings = settings
        self.uploads: list[Upload] = []
        self.field = self.value = b""
        self.headers: dict[bytes, bytes] = {}
        self.is_whole = False
        named = ("part_begin", "header_field", "header_value", "header_end", "headers_finished", "part_data", "end")
        callbacks = {f"on_{name}": getattr(self, f"_on_{name}") for name in named}
        self.parser = MultipartParser(boundary, callbacks)  # type: ignore[arg-type]

    def write(self, chunk: bytes) -> None:
        try:
            self.parser.write(chunk)
        except FormParserError:
            raise _not_well_formed() from None

    def finished(self) -> list[Upload]:
        if not self.is_whole:
            raise _not_well_formed()
        if not self.uploads:
            raise Refused(
                400, "empty", "The form has no image; send each as a file, such as with curl -F image=@a.jpg."
            )
        return self.uploads

    def _on_part_begin(self) -> None:
        self.headers = {}
        if len(self.uploads) == self.settings.max_images:
            raise Refused(
                413, "images", f"The request has more than {counted(self.settings.max_images, 'image')}, the limit."
            )

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self.field += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self.value += data[start:end]

    def _on_header_end(self) -> None:
        self.headers[self.field.lower()] = self.value
        self.field = self.value = b""

    def _on_headers_finished(self) -> None:
        kind, options = parse_options_header(self.headers.get(b"content-disposition"))
        name = options.get(b"filename")
        if kind != b"form-data" or name is None:
            raise Refused(400, "multipart", "Each part of the form must be a file: form-data with a filename.")
        self.uploads.append(Upload(_name_of(name)))

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        self.uploads[-1].content += data[start:end]
        _check_size(self.uploads[-1], self.settings)

    def _on_end(self) -> None:
        self.is_whole = True


def _not_well_formed() -> Refused:
    return Refused(400, "multipart", "The body is no well-formed multipart/form-data.")


def _boundary_of(content_type: str) -> bytes:
    boundary = parse_options_header(content_type)[1].get(b"boundary", b"")
    if not 1 <= len(boundary) <= 70:  # RFC 2046
        raise Refused(400, "multipart", "The content type multipart/form-data needs a boundary of 1 to 70 characters.")
    return boundary


def _check_size(upload: Upload, settings: Settings) -> None:
    if len(upload.content) > settings.max_image_bytes:
        raise Refused(413, "bytes", f"An image has more than {settings.max_image_bytes / MB:g} MB, the limit.")


def _name_of(name: bytes) -> str:
    """A file name as an answer may repeat it: without folders and control characters."""
    text = CONTROLS.sub("", name.decode("utf-8", "replace")).replace("\\", "/")
    return text.rpartition("/")[2][:MAX_NAME] or "image"
