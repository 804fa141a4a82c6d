"""What a server allows: where it listens, its token and its limits, and how it refuses what is beyond them."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field

from resnet_tl.data.threads import usable_cores
from resnet_tl.errors import UserError

MB = 1_000_000


@dataclass(frozen=True)
class Settings:
    """The limits of a server; all are checked before the thing that they limit is parsed or computed.

    Args:
        host: the address to listen on; another than a loopback address needs a token.
        port: the TCP port; 0 takes a free one.
        token: what a client sends as `Authorization: Bearer TOKEN`; None asks for none.
        max_image_bytes: of one image file.
        max_body_bytes: of one request.
        max_held_bytes: of the bodies of all requests at once.
        max_pixels: of one image, by its header.
        max_images: of one request.
        max_requests: with a body, at once.
        max_waiting: images at once, from the one that is decoded to the one that is judged.
        batch_size: images that the network is shown at once.
        decode_threads: threads that decode images.
        body_seconds: in which a body must have arrived.
        answer_seconds: in which a request must be answered, once its body is there.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    token: str | None = field(default=None, repr=False)
    max_image_bytes: int = 20 * MB
    max_body_bytes: int = 64 * MB
    max_held_bytes: int = 512 * MB
    max_pixels: int = 50_000_000
    max_images: int = 32
    max_requests: int = 64
    max_waiting: int = 128
    batch_size: int = 16
    decode_threads: int = field(default_factory=lambda: max(1, min(8, usable_cores())))
    body_seconds: float = 60
    answer_seconds: float = 30

    def __post_init__(self) -> None:
        if not self.is_loopback and not self.token:
            raise UserError(
                f"--host is {self.host}, which other machines reach, so that a token is needed: give --token_file FILE "
                "or the environment variable RESNET_TL_TOKEN, or leave --host out to serve this machine alone."
            )

    @property
    def is_loopback(self) -> bool:
        """Whether only programs of this machine reach the server."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"


class Refused(Exception):
    """A request that is refused: `status` of HTTP, a short `reason` for the metrics, and one sentence for the client.

    `retry_after` are the seconds after which it may be tried again, where that helps.
    """

    def __init__(self, status: int, reason: str, sentence: str, retry_after: int | None = None) -> None:
        super().__init__(sentence)
        self.status = status
        self.reason = reason
        self.retry_after = retry_after
