"""Certificates of one run, made by openssl. Not for: anything but tests; the keys lie beside them."""

import os
import subprocess


def run(*command, **more):
    done = subprocess.run(command, capture_output=True, check=False, **more)
    if done.returncode != 0:
        raise RuntimeError(f"{command}: {done.stderr.decode()}")
    return done.stdout


class Authority:
    """An authority in a folder: `<name>.pem` and `<name>.key`."""

    def __init__(self, folder, name, *extensions):
        self.folder, self.name = folder, name
        more = [word for extension in extensions for word in ("-addext", extension)]
        run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30",
            "-subj", f"/CN=Authority {name}", "-addext", "keyUsage=critical,keyCertSign,cRLSign", *more,
            "-keyout", self.path("key"), "-out", self.path("pem"))

    def path(self, kind):
        return os.path.join(self.folder, f"{self.name}.{kind}")

    def issue(self, name, alternatives, days=30, folder=None):
        """`<name>.pem` and `<name>.key`, for these subject alternative names."""
        base = os.path.join(folder or self.folder, name)
        run("openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", f"/CN={name}",
            "-keyout", base + ".key", "-out", base + ".csr")
        with open(base + ".ext", "w", encoding="ascii") as file:
            file.write(f"basicConstraints=critical,CA:FALSE\nextendedKeyUsage=serverAuth,clientAuth\n"
                       f"subjectAltName={alternatives}\n")
        run("openssl", "x509", "-req", "-in", base + ".csr", "-CA", self.path("pem"), "-CAkey", self.path("key"),
            "-CAcreateserial", "-days", str(days), "-extfile", base + ".ext", "-out", base + ".pem")
        return base + ".pem", base + ".key"
