#!/bin/sh
# Runs one rank of mpirun on a host of its own name: two ranks each share one.
#   mpirun -n 4 on_own_host.sh PROGRAM …
if [ "$1" != --named ]; then
  unprivileged=$([ "$(id -u)" = 0 ] || echo --map-root-user)
  exec unshare --uts $unprivileged "$0" --named "$@"
fi
shift
hostname "host$((OMPI_COMM_WORLD_RANK / 2))"
exec "$@"
