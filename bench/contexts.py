"""Build contexts for the measurements: generated, from fixed seeds, the same on every machine."""
import pathlib
import random
import shutil
import subprocess
import tarfile

FILLER = b"the quick brown fox jumps over the lazy dog, line %08d\n"

WRITER = """
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* writer MEGABYTES DIRECTORY SEED: files of 64 KiB, 256 in a directory; every other 64 bytes are noise. */
int main(int count, char **words) {
    if (count != 4) return 2;
    long files = atol(words[1]) * 16;
    uint64_t state = strtoull(words[3], 0, 10) * 0x9e3779b97f4a7c15u + 1;
    static char bytes[64 * 1024];
    char path[512];
    memset(bytes, 'm', sizeof bytes);
    mkdir(words[2], 0755);
    for (long file = 0; file < files; file++) {
        snprintf(path, sizeof path, "%s/%ld", words[2], file / 256);
        if (file % 256 == 0) mkdir(path, 0755);
        for (size_t at = 0; at < sizeof bytes; at += 128)
            for (size_t word = 0; word < 64; word += 8) {
                state ^= state << 13, state ^= state >> 7, state ^= state << 17;
                memcpy(bytes + at + word, &state, 8);
            }
        snprintf(path, sizeof path, "%s/%ld/%ld", words[2], file / 256, file);
        int fd = open(path, O_CREAT | O_EXCL | O_WRONLY, 0644);
        if (fd < 0 || write(fd, bytes, sizeof bytes) != (ssize_t)sizeof bytes || close(fd)) return 1;
    }
    return 0;
}
"""


def base(directory):
    """A root file system with busybox: the base of everything else, as a context of its own."""
    directory.mkdir(parents=True)
    busybox = shutil.which("busybox") or exit("the measurements need a static busybox (package `busybox-static`)")
    names = subprocess.run([busybox, "--list"], check=True, capture_output=True, text=True).stdout.split()
    with tarfile.open(directory / "root.tar", "w") as tar:
        for name in ("bin", "etc", "tmp", "root"):
            info = tarfile.TarInfo(name)
            info.type, info.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(info)
        with open(busybox, "rb") as file:
            info = tarfile.TarInfo("bin/busybox")
            info.size, info.mode = pathlib.Path(busybox).stat().st_size, 0o755
            tar.addfile(info, file)
        for name in names:
            if name != "busybox":
                info = tarfile.TarInfo(f"bin/{name}")
                info.type, info.linkname = tarfile.SYMTYPE, "busybox"
                tar.addfile(info)
    (directory / "Dockerfile").write_text("FROM scratch\nADD root.tar /\n")


def many_files(directory, files, megabytes, seed=1):
    """Files in directories of a hundred, of many sizes, half of each noise and half text."""
    chance = random.Random(seed)
    weights = [chance.lognormvariate(0, 1.2) for _ in range(files)]
    scale = (megabytes << 20) / sum(weights)
    noise = chance.randbytes(4 << 20)
    for number, weight in enumerate(weights):
        parent = directory / f"{number // 1000:02d}" / f"{number // 100 % 10}"
        if number % 100 == 0:
            parent.mkdir(parents=True)
        size = max(1, int(weight * scale))
        at = chance.randrange(len(noise) // 2)
        text = (FILLER % number) * (size // 2 // len(FILLER % number) + 1)
        (parent / f"{number:05d}").write_bytes((noise[at:at + size // 2] + text)[:size])


def writer(path):
    """The program that a step writes its gigabyte with."""
    source = path.with_suffix(".c")
    source.write_text(WRITER)
    subprocess.run(["cc", "-O2", "-static", "-o", path, source], check=True)
    source.unlink()
