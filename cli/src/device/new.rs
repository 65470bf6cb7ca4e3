//! `cofferdam device new`: a device to begin with, in a folder that has all it needs.

use crate::args::{NewArgs, NewLanguage, usage};
use anyhow::{Context, Result};
use std::fs;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// A file of the new folder: where it goes, and what is in it.
type File = (&'static str, &'static str);

macro_rules! files {
    ($to:literal, $from:literal, $($name:literal)*) => {
        &[$((concat!($to, $name), include_str!(concat!("../../../", $from, $name)))),*]
    };
}

/// The SDK for Python, as its wheel has it.
const PYTHON: &[File] = files!("cofferdam_device/", "devices/sdk/python/cofferdam_device/",
    "__init__.py" "bell.py" "declare.py" "engine.py" "host.py" "lane.py" "manifest.py" "model.py" "powers.py" "py.typed"
    "scanout.py" "state.py" "stream.py" "wire.py" "words.py");
const PYTHON_SCHEMA: &[File] =
    files!("cofferdam_device/schema/", "schema/", "host.capnp" "imc.capnp" "lane.capnp" "manifest.capnp");
const PYTHON_VIRTIO: &[File] = files!("cofferdam_device/virtio/", "devices/sdk/python/cofferdam_device/virtio/",
    "__init__.py" "chain.py" "describe.py" "device.py" "guest.py" "registers.py" "ring.py" "state.py");
/// The SDK for C++.
const CPP: &[File] = files!("sdk/include/cofferdam/", "devices/sdk/cpp/include/cofferdam/",
    "bell.hpp" "declare.hpp" "device.hpp" "engine.hpp" "host.hpp" "lane.hpp" "model.hpp" "options.hpp" "powers.hpp"
    "scanout.hpp" "stream.hpp" "virtio.hpp");
const CPP_VIRTIO: &[File] = files!("sdk/include/cofferdam/virtio/", "devices/sdk/cpp/include/cofferdam/virtio/",
    "chain.hpp" "describe.hpp" "guest.hpp" "registers.hpp" "ring.hpp" "state.hpp");
const CPP_SCHEMA: &[File] = files!("sdk/schema/", "schema/", "host.capnp" "imc.capnp" "lane.capnp" "manifest.capnp");
const CPP_TOOLS: &[File] = files!("sdk/", "devices/sdk/cpp/", "generate.sh");
/// The SDK for Rust, which needs no other crate: there is nothing to be fetched.
const RUST: &[File] = files!("sdk/src/", "devices/sdk/plugin/src/",
    "declare.rs" "engine.rs" "host.rs" "kernel.rs" "lane.rs" "lib.rs" "messages.rs" "options.rs" "powers.rs"
    "register.rs" "scanout.rs" "state.rs" "stream.rs" "wire.rs");
const RUST_VIRTIO: &[File] = files!("sdk/src/virtio/", "devices/sdk/plugin/src/virtio/",
    "chain.rs" "describe.rs" "device.rs" "guest.rs" "mod.rs" "registers.rs" "ring.rs" "state.rs");
/// Its own tests stay where the schema is, which they hold it to.
const SDK_TESTS: &str = "#[cfg(test)]\nmod tests;\n";
/// What allows all of it to be used.
const PYTHON_LICENCES: &[File] = files!("cofferdam_device/", "", "LICENSE-APACHE" "LICENSE-MIT");
const LICENCES: &[File] = files!("sdk/", "", "LICENSE-APACHE" "LICENSE-MIT");

/// The device itself. `NAME` is replaced, in what they are called and in what they say.
const PYTHON_DEVICE: &[File] = &[
    ("NAME.py", include_str!("skeleton/device.py")),
    ("test_NAME.py", include_str!("skeleton/test_device.py")),
    ("README.md", include_str!("skeleton/README-python.md")),
];
const CPP_DEVICE: &[File] = &[
    ("NAME.cpp", include_str!("skeleton/device.cpp")),
    ("Makefile", include_str!("skeleton/Makefile")),
    ("README.md", include_str!("skeleton/README-cpp.md")),
];
const RUST_DEVICE: &[File] = &[
    ("src/main.rs", include_str!("skeleton/device.rs")),
    ("src/tests.rs", include_str!("skeleton/test_device.rs")),
    // Under their own name they would be taken for crates of the repository.
    ("Cargo.toml", include_str!("skeleton/Cargo.toml.txt")),
    ("sdk/Cargo.toml", include_str!("skeleton/sdk-Cargo.toml.txt")),
    ("README.md", include_str!("skeleton/README-rust.md")),
];

/// Makes the folder.
pub fn new(asked: &NewArgs) -> Result<u8> {
    let name = asked.name.as_str();
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    if !name.bytes().all(plain) || !name.starts_with(|first: char| first.is_ascii_lowercase()) {
        return Err(usage!("{name}: a device's name is small letters, digits and _, and begins with a letter"));
    }
    let (device, sdk): (_, &[&[File]]) = match asked.lang {
        NewLanguage::Python => (PYTHON_DEVICE, &[PYTHON, PYTHON_VIRTIO, PYTHON_SCHEMA, PYTHON_LICENCES]),
        NewLanguage::Cpp => (CPP_DEVICE, &[CPP, CPP_VIRTIO, CPP_SCHEMA, CPP_TOOLS, LICENCES]),
        NewLanguage::Rust => (RUST_DEVICE, &[RUST, RUST_VIRTIO, LICENCES]),
    };
    let folder = Path::new(name);
    match fs::create_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            return Err(usage!("{name}: is there already; give another name, or move it away"));
        }
        made => made.with_context(|| format!("{name}: cannot be made"))?,
    }
    for (to, content) in device {
        write(&folder.join(to.replace("NAME", name)), &content.replace("NAME", name))?;
    }
    for (to, content) in sdk.iter().copied().flatten() {
        write(&folder.join(to), &content.replace(SDK_TESTS, ""))?;
    }
    println!("{name}: begin with {name}/README.md");
    Ok(0)
}

/// A file, with the folders that it lies in; one that begins with an interpreter can be executed.
fn write(path: &Path, content: &str) -> Result<()> {
    let write = || {
        fs::create_dir_all(path.parent().unwrap_or(Path::new(".")))?;
        let mode = if content.starts_with("#!") { 0o755 } else { 0o644 };
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
        // Whatever the mask for new files is: a plugin as root runs as another user, who is to read it.
        file.set_permissions(fs::Permissions::from_mode(mode))?;
        std::io::Write::write_all(&mut file, content.as_bytes())
    };
    write().with_context(|| format!("{}: cannot be written", path.display()))
}
