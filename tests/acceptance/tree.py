#!/usr/bin/env python3
"""Prints what a directory tree holds, a line for each name: the independent view that trees are compared by.

usage: tree.py DIRECTORY [NAME-TO-LEAVE-OUT]...

Kind, mode, owner, device number, size, number of names in the tree, link target, extended attributes and the digest of the
bytes. Times are left out: a tool that unpacks may set them late.
"""
import hashlib
import os
import stat
import sys


def names(root, left_out):
    """Yields the names below root, relative to it, in byte order and directories before what they hold."""
    stack = [b""]
    while stack:
        name = stack.pop()
        yield name
        path = os.path.join(root, name)
        if stat.S_ISDIR(os.lstat(path).st_mode):
            inner = [os.path.join(name, entry) for entry in os.listdir(path)]
            stack.extend(sorted((entry for entry in inner if entry not in left_out), reverse=True))


def digest(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def attributes(path):
    """Extended attributes, without those a kernel or a storage driver keeps for itself."""
    kept = [a for a in os.listxattr(path, follow_symlinks=False)
            if ".overlay." not in a and not a.startswith(("security.selinux", "security.ima", "security.evm"))]
    return ",".join(f"{a}={os.getxattr(path, a, follow_symlinks=False).hex()}" for a in sorted(kept))


def main():
    root, left_out = os.fsencode(sys.argv[1]), {os.fsencode(name) for name in sys.argv[2:]}
    found = [(name, os.lstat(os.path.join(root, name))) for name in names(root, left_out)]
    shared = {}
    for name, status in found:
        if not stat.S_ISDIR(status.st_mode):
            shared.setdefault((status.st_dev, status.st_ino), name)
    for name, status in found:
        path, mode = os.path.join(root, name), status.st_mode
        facts = [stat.filemode(mode), f"{status.st_uid}:{status.st_gid}"]
        if stat.S_ISREG(mode):
            facts += [str(status.st_size), digest(path)]
        if stat.S_ISLNK(mode):
            facts.append("-> " + os.fsdecode(os.readlink(path)))
        if stat.S_ISBLK(mode) or stat.S_ISCHR(mode):
            facts.append(str(status.st_rdev))
        first = shared.get((status.st_dev, status.st_ino), name)
        if first != name:
            facts.append("same file as /" + os.fsdecode(first))
        facts.append(attributes(path))
        print("/" + os.fsdecode(name).encode("utf-8", "backslashreplace").decode(), *facts)


main()
