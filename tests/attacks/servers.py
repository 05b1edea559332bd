"""The real servers that a run puts behind the router. Each logs every request it sees, one line each.

What a machine does not have takes no part, and the run says so. Not for: the router itself (see `lab`).
"""

import itertools
import os
import random
import shutil
import socket
import subprocess
import sys

from wire import eventually

LEAST = 3
# In turn, each process from another one on.
PORTS = itertools.chain(range(random.randrange(20_000, 30_000), 32_000), range(20_000, 32_000))
HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "backends")

# It reads the whole body before it answers, but for `/early` and `/busy`.
NGINX = """
worker_processes 1; master_process off; daemon off; pid {folder}/nginx.pid; error_log {folder}/nginx.error info;
events {{ worker_connections 1024; }}
http {{
  log_format line '$request_method $request_uri $status'; access_log {log} line;
  client_body_temp_path {folder}/t1; proxy_temp_path {folder}/t2; fastcgi_temp_path {folder}/t3;
  uwsgi_temp_path {folder}/t4; scgi_temp_path {folder}/t5;
  keepalive_requests 10000000; keepalive_timeout 75s; client_max_body_size 0; merge_slashes off;
  server {{
    listen 127.0.0.1:{port};
    add_header x-seen $request_uri always;
    location / {{ proxy_pass http://unix:{folder}/inner; }}
    location /early {{ return 200 "ok\\n"; }}
    location /busy {{ return 503 "ok\\n"; }}
  }}
  server {{ listen unix:{folder}/inner; access_log off; return 200 "ok\\n"; }}
}}
"""

# Answers are those of the server behind; `<NOSRV>` marks those of HAProxy itself. One thread: two that write to the log at
# the same time do not wait for each other, and on a busy machine a line is dropped.
HAPROXY = """
global
  log stdout format raw local0
  nbthread 1
  maxconn 1000
defaults
  mode http
  log global
  option dontlognull
  timeout connect 5s
  timeout client 60s
  timeout server 60s
frontend in
  bind 127.0.0.1:{port}
  log-format "%HM %HU %s %ST"
  default_backend out
backend out
  http-reuse always
  server web 127.0.0.1:{behind}
"""


class Server:
    """One server: its name, port and log."""

    def __init__(self, name, port, log, process, behind=None):
        self.name, self.port, self.log, self.process, self.behind = name, port, log, process, behind
        self.at = 0

    def lines(self):
        """What it has logged since the last `clear`; whole lines only."""
        with open(self.log, encoding="latin-1") as file:
            file.seek(self.at)
            text = file.read()
        return text[:text.rfind("\n") + 1].splitlines()

    def clear(self):
        self.at = os.path.getsize(self.log)
        if self.behind is not None:
            self.behind.clear()

    def targets(self):
        """The targets of the requests that it took for well-formed."""
        words = [line.split() for line in self.lines()]
        return [word[1] for word in words if len(word) > 1 and word[1].startswith(("/", "*", "http:"))]

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        if self.behind is not None:
            self.behind.stop()


def free_port():
    """A port that nobody has, below those that the system gives away: nobody else gets it before it is used."""
    for port in PORTS:
        with socket.socket() as sock:
            try:
                sock.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise OSError("no port is free")


def answers(port):
    try:
        socket.create_connection(("127.0.0.1", port), 0.5).close()
        return True
    except OSError:
        return False


class Fleet:
    """Starts the servers that this machine has."""

    def __init__(self, folder, wanted=None):
        self.folder, self.wanted, self.servers, self.missing = folder, wanted, [], []

    def start(self):
        for name, start in [("nginx", self.nginx), ("node", self.node), ("python", self.python), ("go", self.go),
                            ("gunicorn", self.gunicorn), ("haproxy", self.haproxy)]:
            if self.wanted is not None and name not in self.wanted:
                continue
            server = start(name)
            if server is None:
                self.missing.append(name)
            else:
                self.servers.append(server)
        # Overrides need somewhere else to lead to.
        while len(self.servers) < LEAST:
            self.servers.append(self.python(f"python-{len(self.servers) + 1}"))

    def log(self, name):
        path = os.path.join(self.folder, f"{name}.log")
        open(path, "a", encoding="utf-8").close()
        return path

    def spawn(self, command, stdout, **more):
        errors = open(os.path.join(self.folder, "servers.stderr"), "a", encoding="utf-8")
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=stdout, stderr=errors, text=True, **more)

    def telling(self, name, command, *more):
        """A server of ours: it prints its port."""
        log = self.log(name)
        process = self.spawn([*command, log, *more], subprocess.PIPE)
        return Server(name, int(process.stdout.readline()), log, process)

    def configured(self, name, command, config, port, log, stdout=subprocess.DEVNULL, behind=None):
        """A server with a file of settings, on a port that we chose."""
        path = os.path.join(self.folder, f"{name}.conf")
        with open(path, "w", encoding="utf-8") as file:
            file.write(config)
        process = self.spawn([*command, path], stdout)
        eventually(f"{name} listens", lambda: answers(port), 60)
        return Server(name, port, log, process, behind)

    def nginx(self, name):
        program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
        if program is None:
            return None
        log, port = self.log(name), free_port()
        config = NGINX.format(folder=self.folder, log=log, port=port)
        error = os.path.join(self.folder, "nginx.error")
        return self.configured(name, [program, "-e", error, "-c"], config, port, log)

    def node(self, name):
        program = shutil.which("node") or shutil.which("nodejs")
        return program and self.telling(name, [program, os.path.join(HERE, "server.js")])

    def python(self, name, *more):
        return self.telling(name, [sys.executable, os.path.join(HERE, "server.py")], *more)

    def go(self, name):
        program, source = shutil.which("go"), os.path.join(HERE, "server.go")
        if program is None:
            return None
        binary = os.path.join(self.folder, "server-go")
        built = subprocess.run([program, "build", "-o", binary, source], capture_output=True, check=False,
                               env={**os.environ, "GOFLAGS": "-mod=mod", "GO111MODULE": "off"})
        return self.telling(name, [binary]) if built.returncode == 0 else None

    def gunicorn(self, name):
        program = shutil.which("gunicorn")
        if program is None:
            return None
        log, port = self.log(name), free_port()
        command = [program, "-k", "gthread", "--threads", "16", "--keep-alive", "75", "-b", f"127.0.0.1:{port}",
                   "--chdir", HERE, "--log-level", "critical", "app:app"]
        process = self.spawn(command, subprocess.DEVNULL, env={**os.environ, "LOG": log, "PYTHONDONTWRITEBYTECODE": "1"})
        eventually("gunicorn listens", lambda: answers(port), 60)
        return Server(name, port, log, process)

    def haproxy(self, name):
        program = shutil.which("haproxy") or shutil.which("haproxy", path="/usr/sbin:/usr/local/sbin")
        if program is None:
            return None
        behind = self.python("behind-haproxy", "quiet")
        log, port = self.log(name), free_port()
        config = HAPROXY.format(port=port, behind=behind.port)
        with open(log, "a", encoding="utf-8") as stdout:
            return self.configured(name, [program, "-f"], config, port, log, stdout, behind)

    def stop(self):
        for server in self.servers:
            server.stop()
