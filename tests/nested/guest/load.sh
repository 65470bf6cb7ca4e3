# load NAME [PARAMETER]…: a module of the full kernel and those that it needs, as far as they are not there yet.
load() {
    order=/modules/$1.order
    shift
    while read -r module; do
        # The kernel's name of a module has no hyphens.
        name=$(echo "${module%.ko}" | tr - _)
        [ -e "/sys/module/$name" ] || insmod "/modules/$module" "$@" || echo "GUEST lacks $module"
    done <"$order"
}
