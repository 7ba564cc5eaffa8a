"""Certificates for a test, made by openssl's program."""
import pathlib
import subprocess
import tempfile

_folder = tempfile.TemporaryDirectory()
FOLDER = pathlib.Path(_folder.name)
NEW_KEY = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]


def _openssl(*args):
    subprocess.run(["openssl", *map(str, args)], check=True, capture_output=True)


class Certificate:
    """NAME.pem and NAME.key: an authority's, or one that `by` signed for a use and a DNS name."""

    def __init__(self, name, by=None, use="serverAuth", dns="llm.test", days=2):
        self.cert, self.key = FOLDER / f"{name}.pem", FOLDER / f"{name}.key"
        if by is None:
            _openssl("req", "-x509", *NEW_KEY, "-keyout", self.key, "-out", self.cert, "-days", days,
                     "-subj", f"/CN={name}")
            return
        request, extensions = FOLDER / f"{name}.csr", FOLDER / f"{name}.ext"
        extensions.write_text(f"extendedKeyUsage={use}\nsubjectAltName=DNS:{dns}\n")
        _openssl("req", *NEW_KEY, "-keyout", self.key, "-out", request, "-subj", f"/CN={name}")
        _openssl("x509", "-req", "-in", request, "-CA", by.cert, "-CAkey", by.key, "-days", days,
                 "-extfile", extensions, "-out", self.cert)

    def flags(self, prefix="--tls"):
        return [f"{prefix}-cert", str(self.cert), f"{prefix}-key", str(self.key)]

    def becomes(self, other):
        """The files hold another's from now on, each replaced at once."""
        for mine, its in ((self.cert, other.cert), (self.key, other.key)):
            its.replace(mine)
