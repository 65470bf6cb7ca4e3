# Loads the driver named by `card=`, which waits for nothing more than to be there.
. /guest/load.sh
load "$(word card)"
