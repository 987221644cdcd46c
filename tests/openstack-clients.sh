#!/bin/sh
# OpenStack's programs `nova` and `openstack`, and openstacksdk, for tests, from PyPI.
#
#   openstack-clients.sh VENV            once; then VENV/ready is there
set -eu

venv=${1:?a folder}
clients="python-novaclient==18.13.1 python-openstackclient==10.5.0 openstacksdk==4.22.0"

mkdir -p "$venv"
exec 9>"$venv.lock"
flock 9
if [ ! -e "$venv/ready" ]; then
    rm -rf "$venv"
    python3 -m venv "$venv"
    # Several times as fast as pip. Compiled in advance, each program starts in half the time.
    "$venv/bin/pip" install -q --disable-pip-version-check uv
    # Its words are several arguments.
    "$venv/bin/uv" pip install -q --compile-bytecode --python "$venv/bin/python" $clients
    touch "$venv/ready"
fi
