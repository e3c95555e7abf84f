"""Certificates of an authority of our own, good ones and bad ones, for TLS on loopback."""

import datetime
import ssl
from pathlib import Path
from typing import Literal

BadCertificateKind = Literal["other_name", "expired", "self_signed"]


class Certificates:
    """Two TLS contexts: `serving`, and `trusting` for clients, which trusts nobody else. Needs trustme."""

    def __init__(self, *names: str) -> None:
        """Issue certificates for host names and addresses, by default localhost and 127.0.0.1.

        ImportError where trustme is not installed (`picows-feeds[tls]`).
        """
        import trustme

        names = names or ("localhost", "127.0.0.1")
        now = datetime.datetime.now(datetime.timezone.utc)
        day = datetime.timedelta(days=1)
        self._authority = trustme.CA()
        self._issued = {
            "good": self._authority.issue_cert(*names),
            "other_name": self._authority.issue_cert("other.invalid"),
            "expired": self._authority.issue_cert(*names, not_before=now - 2 * day, not_after=now - day),
            "self_signed": trustme.CA().issue_cert(*names),  # by an authority that nobody has heard of
        }
        self.serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._authority.configure_trust(self.trusting)
        self.show("good")

    def show(self, kind: Literal["good"] | BadCertificateKind) -> None:
        """Show this certificate in handshakes from now on."""
        self._issued[kind].configure_cert(self.serving)

    def write_authority(self, path: str | Path) -> None:
        """Write what a client has to trust, as PEM: for SSL_CERT_FILE, curl --cacert and the like."""
        self._authority.cert_pem.write_to_path(str(path))
