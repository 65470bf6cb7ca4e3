# Powers off at once.
echo "GUEST leaves"
poweroff -f
