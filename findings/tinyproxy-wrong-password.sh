#!/bin/sh
# tinyproxy 1.11.1 (Debian 12, tinyproxy-bin 1.11.1-2.1+deb12u1), a forward proxy with BasicAuth.
#
# Guessed: who shows it a wrong password by Proxy-Authorization is answered as who shows none: 407
# with Proxy-Authenticate (RFC 9110, 15.5.8). And a response that it passes on with HTTP/1.1, a
# Content-Length and no `Connection: close` leaves the connection open (RFC 9112, 9.3).
#
# Seen: without a password 407; with a wrong one 401 with WWW-Authenticate, which is what the server
# behind it would say, so that a client takes its own key to be wrong. And the connection is closed
# after each response that it passes on, without a word of that in the response.
#
# Fails when that changes. Needs apt, dpkg and Python 3.
set -eu

folder=$(mktemp -d)
trap 'kill $(cat "$folder/pids" 2>/dev/null) 2>/dev/null; rm -rf "$folder"' EXIT
cd "$folder"
apt-get download -q tinyproxy-bin=1.11.1-2.1+deb12u1 >apt.log 2>&1 || { cat apt.log; exit 2; }
dpkg -x tinyproxy-bin_*.deb root

python3 - "$folder" <<'PYTHON'
import base64
import socket
import subprocess
import sys
import threading
import time

folder = sys.argv[1]
origin = socket.create_server(("127.0.0.1", 0))
with socket.create_server(("127.0.0.1", 0)) as free:
    port = free.getsockname()[1]
with open(f"{folder}/conf", "w") as conf:
    conf.write(f"Port {port}\nListen 127.0.0.1\nAllow 127.0.0.1\nBasicAuth user pass\n")
proxy = subprocess.Popen([f"{folder}/root/usr/bin/tinyproxy", "-d", "-c", f"{folder}/conf"],
                         stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
with open(f"{folder}/pids", "w") as pids:
    pids.write(str(proxy.pid))


def serve():
    while True:
        there, _ = origin.accept()
        while b"\r\n\r\n" not in there.recv(65536):
            pass
        there.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")


def ask(password):
    """The proxy's response, and whether it has closed the connection within two seconds."""
    for _ in range(50):
        try:
            here = socket.create_connection(("127.0.0.1", port), timeout=2)
            break
        except OSError:
            time.sleep(0.1)
    shown = base64.b64encode(f"user:{password}".encode()).decode()
    header = f"Proxy-Authorization: Basic {shown}\r\n" if password else ""
    name = f"127.0.0.1:{origin.getsockname()[1]}"
    here.sendall(f"GET http://{name}/ HTTP/1.1\r\nHost: {name}\r\n{header}\r\n".encode())
    response, closed = b"", False
    try:
        while not closed:
            data = here.recv(65536)
            response, closed = response + data, not data
    except TimeoutError:
        pass
    return response.decode("latin-1"), closed


threading.Thread(target=serve, daemon=True).start()
none, wrong, right = ask(""), ask("wrong"), ask("pass")
proxy.terminate()
for what, (response, closed) in (("none", none), ("wrong", wrong), ("right", right)):
    print(f"{what}: {response.splitlines()[0]} closed={closed}")
assert none[0].startswith("HTTP/1.0 407 ") and "Proxy-Authenticate:" in none[0]
assert wrong[0].startswith("HTTP/1.0 401 ") and "WWW-Authenticate:" in wrong[0]
assert right[0].startswith("HTTP/1.1 200 ") and "Connection: close" not in right[0] and right[1]
print("as it was found")
PYTHON
