from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import trustme
from websocket import build_limit


@dataclass
class Wire:
    """Plain TCP, or TLS with a certificate for 127.0.0.1: what each side needs to be told."""

    limit: Path
    scheme: str = "ws"
    client_flags: list[str] = field(default_factory=list)
    server_flags: list[str] = field(default_factory=list)
    client_context: ssl.SSLContext | None = None
    server_context: ssl.SSLContext | None = None


@pytest.fixture(scope="session")
def compiled(tmp_path_factory):
    """The limit program, and why it cannot do TLS."""
    return build_limit(tmp_path_factory.mktemp("limit"))


@pytest.fixture
def plain(compiled):
    return Wire(compiled[0])


@pytest.fixture(scope="session")
def tls(compiled, tmp_path_factory):
    limit, reason = compiled
    if reason:
        pytest.skip(f"limit.c was built without TLS: {reason}")
    folder = tmp_path_factory.mktemp("tls")
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    files = {"ca": authority.cert_pem, "cert": certificate.cert_chain_pems[0], "key": certificate.private_key_pem}
    for name, blob in files.items():
        blob.write_to_path(str(folder / name))
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(server)
    client = ssl.create_default_context()
    authority.configure_trust(client)
    server_flags = ["--cert", str(folder / "cert"), "--key", str(folder / "key")]
    return Wire(limit, "wss", ["--ca", str(folder / "ca")], server_flags, client, server)


@pytest.fixture(params=["plain", "tls"])
def wire(request):
    return request.getfixturevalue(request.param)
