"""The builders that are compared. Each keeps its state in a directory of its own and is asked the same things."""
import json
import os
import pathlib
import shutil
import subprocess


class Builder:
    name = ""

    def __init__(self, work):
        self.state = work / "state" / self.name

    def build(self, context, dockerfile, tag, cache=True):
        """The command that builds `dockerfile`, with the host's network: nobody pays for one of its own."""
        raise NotImplementedError

    def export(self, tag, path):
        """The command that writes an image to an archive whose layers are compressed with gzip; `None` if it cannot."""
        raise NotImplementedError

    def forget(self):
        """Throws everything away."""
        shutil.rmtree(self.state, ignore_errors=True)
        self.state.mkdir(parents=True)


class Mica(Builder):
    name = "mica"

    def __init__(self, work):
        super().__init__(work)
        built = pathlib.Path(__file__).resolve().parent.parent / "target/release/mica"
        self.program = os.environ.get("MICA") or (str(built) if built.exists() else shutil.which("mica"))

    def available(self):
        return self.program is not None

    def base(self):
        return [self.program, "--root", str(self.state)]

    def build(self, context, dockerfile, tag, cache=True, progress="plain"):
        flags = [] if cache else ["--no-cache"]
        return self.base() + ["build", "--network=host", f"--progress={progress}", "-t", tag, "-f", str(dockerfile),
                              *flags, str(context)]

    def export(self, tag, path):
        return self.base() + ["save", "--format=oci", "-o", str(path), tag]

    def sync_seconds(self, command):
        """Runs a build and returns how long the sync at its end took."""
        output = subprocess.run(command, check=True, capture_output=True, text=True).stderr
        times = {}
        for line in output.splitlines():
            event = json.loads(line) if line.startswith("{") else {}
            if event.get("event") == "task" and event.get("what") == "writing to disk":
                times[event["state"]] = event["time"]
        return times["done"] - times["started"]


class Buildah(Builder):
    """With `chroot` isolation, its quickest: it needs no runtime and no control groups."""
    name = "buildah"

    def available(self):
        return shutil.which("buildah") is not None

    def base(self):
        return ["buildah", "--root", str(self.state / "root"), "--runroot", str(self.state / "run"),
                "--storage-driver", "overlay"]

    def build(self, context, dockerfile, tag, cache=True):
        flags = [] if cache else ["--no-cache"]
        return self.base() + ["build", "--layers", "--isolation=chroot", "--network=host", "-t", tag,
                              "-f", str(dockerfile), *flags, str(context)]

    def export(self, tag, path):
        return self.base() + ["push", tag, f"oci-archive:{path}"]

    def forget(self):
        if self.state.exists():
            subprocess.run(self.base() + ["rm", "--all"], capture_output=True)
            subprocess.run(self.base() + ["rmi", "--all", "--force"], capture_output=True)
            subprocess.run(["umount", str(self.state / "root/overlay")], capture_output=True)
        super().forget()


class Docker(Builder):
    """Only with a daemon that runs already; its state is its own, so its cache is pruned instead of removed."""
    name = "docker"

    def available(self):
        return shutil.which("docker") is not None and subprocess.run(
            ["docker", "info"], capture_output=True).returncode == 0

    def build(self, context, dockerfile, tag, cache=True):
        flags = [] if cache else ["--no-cache"]
        return ["docker", "build", "--network=host", "-t", tag, "-f", str(dockerfile), *flags, str(context)]

    def export(self, tag, path):
        return None

    def forget(self):
        subprocess.run(["docker", "builder", "prune", "--all", "--force"], capture_output=True)


ALL = [Mica, Buildah, Docker]
