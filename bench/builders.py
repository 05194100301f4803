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

    def push(self, tag, name, codec):
        """The command that sends an image to a registry with plain HTTP, its layers compressed; `None` if it cannot."""
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

    def build(self, context, dockerfile, tag, cache=True, progress="plain", network="host"):
        flags = [] if cache else ["--no-cache"]
        return self.base() + ["build", f"--network={network}", f"--progress={progress}", "-t", tag,
                              "-f", str(dockerfile), *flags, str(context)]

    def push(self, tag, name, codec):
        return self.base() + ["push", "--insecure", f"--compression={codec}", tag, name]

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


class OrdinaryMica(Mica):
    """The same as an ordinary user; only where one is named."""
    name = "mica-rootless"

    def __init__(self, work, user):
        super().__init__(work)
        self.user = user
        if self.user and self.program:
            # Where it was built that user may not be able to look.
            self.program = shutil.copy(self.program, work / "mica-for-all")
            os.chmod(self.program, 0o755)

    def available(self):
        return self.user is not None and super().available()

    def base(self):
        return ["setpriv", f"--reuid={self.user}", f"--regid={self.user}", "--init-groups", "--reset-env", "env",
                f"PATH={os.environ['PATH']}", *super().base()]

    def forget(self):
        super().forget()
        shutil.chown(self.state, self.user, self.user)


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
        return self.base() + ["build", "--layers", "--isolation=chroot", "--network=host", "--tls-verify=false",
                              "-t", tag, "-f", str(dockerfile), *flags, str(context)]

    def push(self, tag, name, codec):
        return self.base() + ["push", "--tls-verify=false", f"--compression-format={codec}", tag, f"docker://{name}"]

    def export(self, tag, path):
        return self.base() + ["push", tag, f"oci-archive:{path}"]

    def forget(self):
        if self.state.exists():
            subprocess.run(self.base() + ["rm", "--all"], capture_output=True)
            subprocess.run(self.base() + ["rmi", "--all", "--force"], capture_output=True)
            subprocess.run(["umount", str(self.state / "root/overlay")], capture_output=True)
        super().forget()


class Skopeo(Builder):
    """Builds nothing: it sends what buildah has."""
    name = "skopeo"

    def __init__(self, buildah):
        self.buildah = buildah

    def available(self):
        return self.buildah.available() and shutil.which("skopeo") is not None

    def build(self, *arguments, **named):
        return self.buildah.build(*arguments, **named)

    def forget(self):
        self.buildah.forget()

    def push(self, tag, name, codec):
        store = f"[overlay@{self.buildah.state / 'root'}+{self.buildah.state / 'run'}]"
        return ["skopeo", "copy", "--dest-tls-verify=false", f"--dest-compress-format={codec}",
                f"containers-storage:{store}localhost/{tag}", f"docker://{name}"]


class Docker(Builder):
    """Only with a daemon that runs already; its state is its own, so its cache is pruned instead of removed."""
    name = "docker"

    def available(self):
        return shutil.which("docker") is not None and subprocess.run(
            ["docker", "info"], capture_output=True).returncode == 0

    def build(self, context, dockerfile, tag, cache=True):
        flags = [] if cache else ["--no-cache"]
        return ["docker", "build", "--network=host", "-t", tag, "-f", str(dockerfile), *flags, str(context)]

    def push(self, tag, name, codec):
        # A registry on this machine's own address is spoken to in plain HTTP.
        return ["sh", "-c", f"docker tag {tag} {name} && docker push -q {name}"] if codec == "gzip" else None

    def export(self, tag, path):
        return None

    def forget(self):
        subprocess.run(["docker", "builder", "prune", "--all", "--force"], capture_output=True)


def everyone(work, user):
    return [Mica(work), OrdinaryMica(work, user), Buildah(work), Docker(work)]
