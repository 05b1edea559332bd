"""A WSGI application for gunicorn: logs every request that it sees, reads its body, answers. $LOG names the log."""

import os

LOG = open(os.environ["LOG"], "a", buffering=1, encoding="latin-1")


def app(environ, start_response):
    target = environ["RAW_URI"]
    LOG.write(f"{environ['REQUEST_METHOD']} {target}\n")
    while environ["wsgi.input"].read(65536):
        pass
    start_response("503 Busy" if "busy" in target else "200 OK", [("x-seen", target[:200]), ("content-length", "3")])
    # gunicorn sends what it is given, also after the head that answers HEAD.
    return [] if environ["REQUEST_METHOD"] == "HEAD" else [b"ok\n"]
