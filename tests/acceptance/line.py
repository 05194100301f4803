#!/usr/bin/env python3
"""A line to a server that is slow, or breaks: the first CUTS connections that carry more than AFTER bytes in one direction are cut.

usage: line.py PORT TARGET-PORT [CUTS AFTER] [BYTES-PER-SECOND]      the cuts that were made are lines of standard output
"""
import socket
import sys
import threading
import time

port, target, cuts, after, rate = (list(map(int, sys.argv[1:])) + [0, 0, 0])[:5]
lock = threading.Lock()


def is_cut(carried):
    global cuts
    with lock:
        if carried <= after or cuts == 0:
            return False
        cuts -= 1
        print("cut", flush=True)
        return True


def carry(source, to):
    carried = 0
    try:
        while data := source.recv(1 << 16):
            carried += len(data)
            if is_cut(carried):
                break
            if rate:
                time.sleep(len(data) / rate)
            to.sendall(data)
    except OSError:
        pass
    for end in (source, to):
        try:
            end.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass


listener = socket.create_server(("127.0.0.1", port), backlog=64)
while True:
    near, _ = listener.accept()
    far = socket.create_connection(("127.0.0.1", target))
    for ends in ((near, far), (far, near)):
        threading.Thread(target=carry, args=ends, daemon=True).start()
