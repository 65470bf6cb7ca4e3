# memory: 3072
# limit: 1800
# only by name: under emulation it takes ten minutes
# The same with 256 MiB.
mib=256
FILL_SECONDS=1200
. "$here/nested/restart.sh"
