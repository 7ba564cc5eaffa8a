#!/bin/sh
# Runs ranks of mpirun on hosts of their own names: two ranks each share one.
#   on_own_host.sh mpirun -n 4 on_own_host.sh --rank PROGRAM …     exit code 77: not allowed here
unshare="unshare --uts $([ "$(id -u)" = 0 ] || echo --map-root-user)"
case $1 in
--rank)
  shift
  exec $unshare "$0" --named "$@"
  ;;
--named)
  shift
  hostname "host$((OMPI_COMM_WORLD_RANK / 2))" || exit
  exec "$@"
  ;;
esac
if ! why=$($unshare true 2>&1); then
  echo "no UTS namespace can be made here: $why"
  exit 77
fi
exec "$@"
