#!/usr/bin/env python3
"""A package index as pip wants one, with `big` (3 MB of noise) and `small`: each wheel that is fetched is a line of standard output.

usage: wheels.py ADDRESS PORT
"""
import base64
import hashlib
import http.server
import io
import os
import sys
import zipfile


def wheel(name, payload):
    """A wheel with one module and one file of data."""
    info = f"{name}-1.0.dist-info"
    files = {f"{name}/__init__.py": b"", f"{name}/data": payload,
             f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n".encode(),
             f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"}
    digest = {path: base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode() for path, data in files.items()}
    files[f"{info}/RECORD"] = "".join(f"{path},sha256={digest[path]},{len(files[path])}\n" for path in digest).encode() \
        + f"{info}/RECORD,,\n".encode()
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for path, data in files.items():
            archive.writestr(path, data)
    return out.getvalue()


WHEELS = {f"{name}-1.0-py3-none-any.whl": wheel(name, payload) for name, payload in (("big", os.urandom(3_000_000)), ("small", b"small\n"))}


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        last = self.path.strip("/").split("/")[-1]
        body, kept = WHEELS.get(last), "max-age=31536000, immutable"
        if body:
            print(last, flush=True)
        else:
            links = "".join(f'<a href="/files/{name}">{name}</a>' for name in WHEELS if name.startswith(last + "-"))
            body, kept = f"<!DOCTYPE html><html><body>{links}</body></html>".encode(), "no-cache"
        self.send_response(200)
        self.send_header("Content-Type", "application/octet-stream" if last in WHEELS else "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", kept)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


http.server.ThreadingHTTPServer((sys.argv[1], int(sys.argv[2])), Handler).serve_forever()
