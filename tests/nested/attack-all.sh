# limit: 2400
# only by name: under emulation it takes half an hour
# All groups that need no processor of their own for each side, as root, and as a user what a user's sandbox stops.
as_root="A B C D G" as_user="A B"
. "$here/nested/attack.sh"
