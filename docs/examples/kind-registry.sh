#!/bin/sh
# Tells every node of a kind cluster that localhost:5000 is the registry on this machine.
set -eu
gateway=$(docker network inspect kind -f '{{range .IPAM.Config}}{{.Gateway}} {{end}}' | tr ' ' '\n' | grep -m 1 '^[0-9.]*$')
for node in $(kind get nodes); do
    docker exec "$node" mkdir -p /etc/containerd/certs.d/localhost:5000
    printf '[host."http://%s:5000"]\n' "$gateway" |
        docker exec -i "$node" cp /dev/stdin /etc/containerd/certs.d/localhost:5000/hosts.toml
done
