# Counts on the console and on the first disk, each by itself, so that one going silent does not stop the other.
# When the disk stops answering the guest resets: the last sign of life of a guest without devices.
SILENCE_SECONDS=20
( n=0; while :; do n=$((n + 1)); echo "tick $n"; sleep 0.3; done ) &
( n=0
  while :; do
      n=$((n + 1))
      printf 'tick %-506s\n' "$n" | dd of=/dev/vda bs=512 conv=notrunc,fsync 2>/dev/null && echo "$n" >/tmp/disk-tick
      sleep 0.3
  done ) &
( while ! [ -e /tmp/disk-tick ]; do sleep 1; done
  silent=0 last=
  while [ "$silent" -lt "$SILENCE_SECONDS" ]; do
      sleep 1
      now=$(cat /tmp/disk-tick)
      if [ "$now" = "$last" ]; then silent=$((silent + 1)); else silent=0 last=$now; fi
  done
  echo b >/proc/sysrq-trigger ) &
