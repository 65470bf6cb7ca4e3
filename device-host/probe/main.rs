//! A device host that knows no device but the tests' toy. Linked statically: see `build/rustc-static`.

mod toy;

fn main() {
    device_host::run(toy::CATALOGUE)
}
