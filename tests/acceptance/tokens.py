#!/usr/bin/env python3
"""A token server as docker-registry wants one: `user` with the password `sesame-open` may do anything, others get nothing.

usage: tokens.py PORT CERTIFICATE KEY LIFE       tokens live so many seconds; the scopes of each are a line of standard output

The registry lets tokens live a minute longer than they say, so they are said to have ended.
"""
import base64
import http.server
import json
import subprocess
import sys
import time
import urllib.parse

port, certificate, key, life = int(sys.argv[1]), sys.argv[2], sys.argv[3], float(sys.argv[4])
LEEWAY = 60
ALLOWED = "Basic " + base64.b64encode(b"user:sesame-open").decode()


def url64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def der():
    lines = open(certificate).read().split("-----")[2]
    return "".join(lines.split())


def signed(service, scopes):
    access = []
    for scope in scopes:
        kind, name, actions = scope.split(":")
        access.append({"type": kind, "name": name, "actions": actions.split(",")})
    now = time.time()
    claims = {"iss": "tokens", "sub": "user", "aud": service, "iat": int(now) - LEEWAY, "nbf": int(now) - LEEWAY,
              "exp": int(now + life) - LEEWAY, "jti": str(time.monotonic_ns()), "access": access}
    head = {"typ": "JWT", "alg": "RS256", "x5c": [der()]}
    text = b".".join(url64(json.dumps(part).encode()) for part in (head, claims))
    signature = subprocess.run(["openssl", "dgst", "-sha256", "-sign", key], input=text, capture_output=True, check=True)
    return (text + b"." + url64(signature.stdout)).decode()


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.headers.get("Authorization") != ALLOWED:
            print("refused", flush=True)
            self.send_response(401)
            self.end_headers()
            return
        query = urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query)
        scopes = [scope for value in query.get("scope", []) for scope in value.split()]
        print(" ".join(scopes), flush=True)
        body = json.dumps({"token": signed(query["service"][0], scopes)}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()
