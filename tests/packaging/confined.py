"""Run a program as a container engine runs an image: its root read-only, one volume, a user without rights, no network
but its own loopback.

    python confined.py ROOT VOLUME FOLDER UID:GID COMMAND…      VOLUME is mounted on FOLDER of ROOT

Becomes the program, so that signals and the exit code are the program's. The environment is passed on as it is.
"""

import ctypes
import fcntl
import os
import socket
import struct
import subprocess
import sys

CLONE_NEWNS, CLONE_NEWNET = 0x00020000, 0x40000000  # sched.h
SIOCSIFFLAGS, IFF_UP_AND_RUNNING = 0x8914, 0x41  # netdevice(7)
MOUNT = "/bin/mount"


def main(root: str, volume: str, folder: str, user: str, *command: str) -> None:
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNS | CLONE_NEWNET):
        sys.exit(f"unshare: {os.strerror(ctypes.get_errno())}")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", IFF_UP_AND_RUNNING))
    inside = root + folder
    for arguments in (
        ("--make-rprivate", "/"),
        ("--bind", root, root),
        ("-o", "remount,bind,ro", root),
        ("--bind", volume, inside),
    ):
        subprocess.run([MOUNT, *arguments], check=True)
    uid, gid = map(int, user.split(":"))
    os.chroot(root)
    os.chdir("/")
    os.setgroups([])
    os.setgid(gid)
    os.setuid(uid)
    os.execvp(command[0], command)


main(*sys.argv[1:])
