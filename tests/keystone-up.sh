#!/bin/sh
# A real Keystone for tests, from PyPI, on loopback: SQLite, Fernet tokens, one process.
#
#   keystone-up.sh install VENV          once; then VENV/ready is there
#   keystone-up.sh prepare VENV DIR PORT its database, keys and administrator (admin, password `admin-pw`)
#   keystone-up.sh serve VENV DIR PORT   in the foreground; TOKEN_LIFE_S says how long tokens live
set -eu

keystone="keystone==30.0.0"
# Keystone of this cycle does not know the next series of SQLAlchemy.
others="sqlalchemy<2.1"

does=$1 venv=$2 dir=${3-} port=${4-}

case $does in
install)
    mkdir -p "$venv"
    exec 9>"$venv.lock"
    flock 9
    if [ ! -e "$venv/ready" ]; then
        rm -rf "$venv"
        python3 -m venv "$venv"
        # Several times as fast as pip. Compiled in advance, each program starts in half the time.
        "$venv/bin/pip" install -q --disable-pip-version-check uv
        "$venv/bin/uv" pip install -q --compile-bytecode --python "$venv/bin/python" "$keystone" "$others"
        touch "$venv/ready"
    fi
    ;;
prepare)
    mkdir -p "$dir"
    cat >"$dir/keystone.conf" <<CONF
[DEFAULT]
use_stderr = true
[database]
connection = sqlite:///$dir/keystone.db
[token]
expiration = 3600
[fernet_tokens]
key_repository = $dir/keys
[fernet_receipts]
key_repository = $dir/keys
[credential]
key_repository = $dir/credential-keys
[identity]
password_hash_rounds = 4
[cache]
enabled = false
CONF
    mkdir -m 700 "$dir/keys" "$dir/credential-keys"
    user=$(id -un) group=$(id -gn) url=http://127.0.0.1:$port/v3
    manage() {
        "$venv/bin/keystone-manage" --config-file "$dir/keystone.conf" "$@" >>"$dir/manage.log" 2>&1 || {
            tail -20 "$dir/manage.log" >&2
            exit 1
        }
    }
    manage db_sync
    manage fernet_setup --keystone-user "$user" --keystone-group "$group"
    manage credential_setup --keystone-user "$user" --keystone-group "$group"
    manage bootstrap --bootstrap-password admin-pw --bootstrap-region-id RegionOne \
        --bootstrap-public-url "$url" --bootstrap-internal-url "$url" --bootstrap-admin-url "$url"
    ;;
serve)
    sed -i "s/^expiration = .*/expiration = ${TOKEN_LIFE_S-3600}/" "$dir/keystone.conf"
    # Keystone reads the arguments of whatever program it is in: they are told by the environment.
    export OS_KEYSTONE_CONFIG_FILES="$dir/keystone.conf" PORT="$port"
    exec "$venv/bin/python" -c '
import os, socketserver, wsgiref.simple_server as simple
from keystone.wsgi.api import application

class Server(socketserver.ThreadingMixIn, simple.WSGIServer):
    daemon_threads = True

simple.make_server("127.0.0.1", int(os.environ["PORT"]), application, server_class=Server).serve_forever()
'
    ;;
*)
    sed -n '2,6s/^# \{0,1\}//p' "$0" >&2
    exit 64
    ;;
esac
