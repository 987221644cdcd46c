#!/bin/sh
# A real Keystone for tests, from PyPI, on loopback: SQLite, Fernet tokens, one process.
#
#   keystone-up.sh install VENV          once; then VENV/ready is there
#   keystone-up.sh serve VENV DIR PORT   in the foreground, its state in DIR; TOKEN_LIFE_S: how long tokens live
#
# The first start's database, keys and administrator (admin, password `admin-pw`) are made by the installation, and
# copied: they take as long as all the rest.
set -eu

keystone="keystone==30.0.0"
# Keystone of this cycle does not know the next series of SQLAlchemy.
others="sqlalchemy<2.1"

does=${1-} venv=${2-} dir=${3-} port=${4-}

configure() {
    cat >"$1/keystone.conf" <<CONF
[DEFAULT]
use_stderr = true
[database]
connection = sqlite:///$1/keystone.db
[token]
expiration = ${TOKEN_LIFE_S-3600}
[fernet_tokens]
key_repository = $1/keys
[fernet_receipts]
key_repository = $1/keys
[credential]
key_repository = $1/credential-keys
[identity]
password_hash_rounds = 4
[cache]
enabled = false
CONF
}

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
        first=$venv/first
        mkdir -m 700 "$first" "$first/keys" "$first/credential-keys"
        configure "$first"
        user=$(id -un) group=$(id -gn)
        for step in db_sync "fernet_setup --keystone-user $user --keystone-group $group" \
            "credential_setup --keystone-user $user --keystone-group $group" "bootstrap --bootstrap-password admin-pw"; do
            # Its words are several arguments.
            "$venv/bin/keystone-manage" --config-file "$first/keystone.conf" $step >>"$venv/log" 2>&1 || {
                tail -20 "$venv/log" >&2
                exit 1
            }
        done
        touch "$venv/ready"
    fi
    ;;
serve)
    [ -e "$dir" ] || cp -r "$venv/first" "$dir"
    configure "$dir"
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
    sed -n '2,8s/^# \{0,1\}//p' "$0" >&2
    exit 64
    ;;
esac
