"""What the trials of this directory build, and what must come out of it: a project, its store, and a registry on the loopback."""
import hashlib
import http.server
import io
import json
import os
import pathlib
import random
import shutil
import subprocess
import sys
import tarfile
import threading

HERE = pathlib.Path(__file__).resolve().parent
DOCKERFILE = """\
FROM {base} AS shell
ADD shell.tar /
FROM shell AS first
COPY slow.txt /in/
RUN sleep 0.05; sha256sum < /in/slow.txt > /slow.sum; i=0; while [ $i -lt 40 ]; do echo $i > /many-$i; i=$((i+1)); done
COPY fast.txt /in/
RUN cat /in/fast.txt /slow.sum > /first.out; rm -r /many-7; mkdir -p /made/deep; chown 3:4 /made; ln /slow.sum /again
FROM shell AS second
COPY fast.txt tree /two/
RUN sleep 0.03; find /two -type f | sort | xargs cat | sha256sum > /second.out
FROM shell
COPY --from=first /first.out /many-* /out/
COPY --from=second /second.out /out/
COPY tree /out/tree
RUN --mount=type=cache,target=/cache cat /out/first.out /out/second.out > /out/all; echo {marker} > /out/marker; echo x >> /cache/x
"""
NAMES = "sh cat find sort xargs sha256sum sleep rm mkdir chown echo ln".split()


def skip(trial, why):
    """Says that a trial cannot be made here, which is a failure where everything must be there."""
    print("skipped: %s: %s" % (trial, why))
    sys.exit(1 if os.environ.get("MICA_REQUIRE_SANDBOX") else 0)


def find_mica(trial):
    candidates = [os.environ.get("MICA")] + [HERE.parent.parent / "target" / kind / "mica" for kind in ("release", "debug")]
    for candidate in candidates:
        if candidate and os.access(candidate, os.X_OK):
            return str(pathlib.Path(candidate).resolve())
    skip(trial, "mica is not compiled")


def find_shell(trial):
    for path in ("/bin/busybox", "/usr/bin/busybox"):
        if os.path.exists(path):
            return path
    skip(trial, "no busybox (package busybox-static)")


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def nobodys(info):
    info.uid, info.gid, info.uname, info.gname = 0, 0, "", ""
    return info


def shell_tar(trial):
    """A tar of a shell and the programs the projects use."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name in ("bin", "tmp"):
            directory = tarfile.TarInfo(name)
            directory.type, directory.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(directory)
        tar.add(find_shell(trial), "bin/busybox", filter=nobodys)
        for name in NAMES:
            link = tarfile.TarInfo("bin/" + name)
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(link)
    return buffer.getvalue()


class Project:
    """A context, what its image holds, and the store it is built in."""

    def __init__(self, trial, work, store, name, generator, base="scratch"):
        self.trial, self.mica, self.work, self.random = trial, find_mica(trial), pathlib.Path(work), generator
        self.name, self.marker, self.store = name, "mica-%s-%d-%s" % (trial, os.getpid(), name), pathlib.Path(store)
        self.context, self.out = self.work / name, self.work / (name + ".out")
        (self.context / "tree").mkdir(parents=True)
        self.rebase(base)
        (self.context / "shell.tar").write_bytes(shell_tar(trial))
        self.change("slow.txt"), self.change("fast.txt")
        for number in range(30):
            self.change("tree/%d" % number)

    def rebase(self, base):
        (self.context / "Dockerfile").write_text(DOCKERFILE.format(base=base, marker=self.marker))

    def change(self, name):
        (self.context / name).write_text("%s %d\n" % (name, self.random.getrandbits(64)))

    def change_something(self):
        self.change(self.random.choice(["slow.txt", "fast.txt", "tree/3"]))

    def expected(self):
        """The files below /out, as the Dockerfile means them."""
        read = lambda name: (self.context / name).read_bytes()
        tree = {"tree/%d" % number: read("tree/%d" % number) for number in range(30)}
        first = read("fast.txt") + (sha256(read("slow.txt")) + "  -\n").encode()
        # `COPY fast.txt tree /two/` puts the inside of a directory, not the directory.
        inside = {b"/two/" + os.fsencode(name[5:]): data for name, data in tree.items()}
        inside[b"/two/fast.txt"] = read("fast.txt")
        second = (sha256(b"".join(inside[name] for name in sorted(inside))) + "  -\n").encode()
        files = {"first.out": first, "second.out": second, "all": first + second, "marker": (self.marker + "\n").encode()}
        files.update({"many-%d" % i: b"%d\n" % i for i in range(40) if i != 7})
        files.update(tree)
        return files

    def found(self):
        """The files below /out, as they came out."""
        out = self.out / "out"
        return {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*") if path.is_file()}

    def environment(self, **more):
        return {"PATH": os.environ["PATH"], "HOME": str(self.work), "MICA_ROOT": str(self.store), **more}

    def start(self, log, *arguments, **environment):
        """Starts mica with these arguments; what it says goes to `log`."""
        output = open(log, "wb")
        return subprocess.Popen([self.mica, *map(str, arguments)], env=self.environment(**environment), stdin=subprocess.DEVNULL,
                                stdout=output, stderr=output, start_new_session=True)

    def build_arguments(self, *more):
        return ["build", "--progress=json", "-t", self.name, *more, self.context]

    def build(self, log):
        """Builds into `out`; returns the status."""
        shutil.rmtree(self.out, ignore_errors=True)
        return self.start(log, *self.build_arguments("-o", self.out)).wait(300)

    def differences(self):
        want, found = self.expected(), self.found()
        return sorted(name for name in want.keys() | found.keys() if want.get(name) != found.get(name))


def events(log):
    """The events of a build; the last line of a killed one may be cut."""
    found = []
    for line in pathlib.Path(log).read_bytes().splitlines():
        try:
            found.append(json.loads(line))
        except ValueError:
            pass
    return [event for event in found if isinstance(event, dict)]


def steps(of, kind):
    return {event["id"] for event in of if event.get("event") == kind}


def names(of):
    return {step["id"]: step["name"] for event in of if event.get("event") == "planned" for step in event["steps"]}


def leftovers(store, markers):
    """Mounts, processes, scratch directories and leases of builds that have ended."""
    found = [line for line in open("/proc/self/mountinfo") if str(store) in line]
    for process in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes()
            mounts = (process / "mountinfo").read_bytes()
        except OSError:
            continue
        if any(marker.encode() in command for marker in markers) or os.fsencode(store) in mounts:
            found.append("process %s: %r" % (process.name, command))
    for place in ("scratch", "locks/leases"):
        found += [str(path) for path in (pathlib.Path(store) / place).glob("*")]
    return found


def remove_store(store):
    if os.geteuid() != 0:
        # Files of an ordinary user's store belong to subordinate ids.
        subprocess.run(["unshare", "--user", "--map-root-user", "--map-auto", "rm", "-rf", str(store)], check=False)
    shutil.rmtree(store, ignore_errors=True)


class Registry:
    """Gives every tag of `base` an image of its own, whose one layer holds a file that says the tag."""

    def __init__(self):
        self.blobs = {}
        registry = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                status, kind, body = registry.answer(self.path)
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if self.command == "GET":
                    try:
                        self.wfile.write(body)
                    except OSError:
                        self.close_connection = True

            do_HEAD = do_GET

            def log_message(self, *_):
                pass

        class Server(http.server.ThreadingHTTPServer):
            def handle_error(self, *_):
                """A client that is killed in the middle is what it is there for."""

        self.server = Server(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.address = "127.0.0.1:%d" % self.server.server_address[1]

    def put(self, data):
        digest = "sha256:" + sha256(data)
        self.blobs[digest] = data
        return {"digest": digest, "size": len(data)}

    def image(self, tag):
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as tar:
            for number in range(20):
                content = ("%s %d\n" % (tag, number)).encode()
                info = tarfile.TarInfo("base/file-%d" % number)
                info.size, info.mode = len(content), 0o640
                tar.addfile(info, io.BytesIO(content))
        layer = buffer.getvalue()
        config = {"architecture": machine(), "os": "linux", "config": {},
                  "rootfs": {"type": "layers", "diff_ids": ["sha256:" + sha256(layer)]}}
        kind = "application/vnd.oci.image."
        manifest = {"schemaVersion": 2, "mediaType": kind + "manifest.v1+json",
                    "config": {"mediaType": kind + "config.v1+json", **self.put(json.dumps(config).encode())},
                    "layers": [{"mediaType": kind + "layer.v1.tar", **self.put(layer)}]}
        return json.dumps(manifest).encode()

    def answer(self, path):
        parts = path.split("?")[0].strip("/").split("/")
        if parts == ["v2"]:
            return 200, "application/json", b"{}"
        name = parts[-1]
        if parts[:3] == ["v2", "base", "blobs"] and name in self.blobs:
            return 200, "application/octet-stream", self.blobs[name]
        if parts[:3] == ["v2", "base", "manifests"]:
            body = self.blobs[name] if name in self.blobs else self.image(name)
            self.put(body)
            return 200, "application/vnd.oci.image.manifest.v1+json", body
        return 404, "application/json", b'{"errors":[{"code":"NOT_FOUND","message":"no such thing"}]}'


def machine():
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine)
