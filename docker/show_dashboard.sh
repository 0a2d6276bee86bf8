#!/bin/sh
# Show /results in a browser of this machine: PORT is the host's, on loopback.
# --check: whether it answers, to those who have its token.
set -eu

token_file=/tmp/token
if [ "${1:-}" = --check ]; then
    exec python3 -c '
import pathlib, urllib.request
token = pathlib.Path("/tmp/token").read_text().strip()
headers = {"Authorization": f"Bearer {token}", "Host": "localhost"}
urllib.request.urlopen(urllib.request.Request("http://127.0.0.1:8050/", headers=headers))'
fi
# The health check is root without rights, and must read it, too; nobody else is in here.
python3 -c 'import secrets; print(secrets.token_urlsafe(24))' >"$token_file"
chmod 644 "$token_file"
echo "dashboard: http://localhost:$PORT/?token=$(cat "$token_file")"
# Its own address is the container's, which no browser could reach.
exec step-analysis dashboard /results --host 0.0.0.0 --port 8050 --allowed-host localhost \
    --token-file "$token_file" >/dev/null
