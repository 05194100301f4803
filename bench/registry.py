"""A registry on this machine's own address, for measuring pulls and pushes; without `docker-registry` there is none."""
import pathlib
import shutil
import socket
import subprocess
import time
import urllib.request


class Registry:
    def __init__(self, directory):
        self.directory = pathlib.Path(directory)
        self.address = None
        self.server = None

    def __enter__(self):
        program = shutil.which("docker-registry")
        if not program:
            return self
        self.directory.mkdir(exist_ok=True)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{probe.getsockname()[1]}"
        settings = self.directory / "settings.yml"
        settings.write_text(
            "version: 0.1\nlog: {level: error, accesslog: {disabled: true}}\n"
            f"storage: {{filesystem: {{rootdirectory: {self.directory}/blobs}}}}\nhttp: {{addr: {self.address}}}\n")
        with open(self.directory / "log", "wb") as log:
            self.server = subprocess.Popen([program, "serve", settings], stdout=log, stderr=log)
        for _ in range(100):
            try:
                urllib.request.urlopen(f"http://{self.address}/v2/", timeout=1).close()
                return self
            except OSError:
                time.sleep(0.1)
        raise SystemExit(f"the registry does not answer: see {self.directory}/log")

    def __exit__(self, *_):
        if self.server:
            self.server.terminate()
            self.server.wait()

    def forget(self):
        """Throws away what was pushed: the next push must send everything."""
        shutil.rmtree(self.directory / "blobs", ignore_errors=True)
