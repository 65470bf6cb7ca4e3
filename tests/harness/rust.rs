//! Plugins in Rust, compiled by rustc alone: the SDK needs nothing else.

// Each test file uses its own part of this.
#![allow(dead_code)]

use crate::harness::{root, text};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Compiles an example plugin into `folder`.
pub fn example(name: &str, folder: &Path) -> PathBuf {
    let sdk = root().join("devices/sdk/plugin");
    compiled(&sdk.join("examples").join(format!("{name}.rs")), folder)
}

/// Compiles a plugin into `folder`.
pub fn compiled(source: &Path, folder: &Path) -> PathBuf {
    let (sdk, name) = (root().join("devices/sdk/plugin"), source.file_stem().expect("a file").to_string_lossy());
    let (library, program) = (folder.join("libcofferdam_plugin.rlib"), folder.join(format!("{name}_rust")));
    let rustc = || {
        let mut command = Command::new("rustc");
        command.args(["--edition", "2024", "-O", "-C", "panic=abort"]);
        command
    };
    run(rustc()
        .args(["--crate-type", "rlib", "--crate-name", "cofferdam_plugin", "-o"])
        .arg(&library)
        .arg(sdk.join("src/lib.rs")));
    let dependency = format!("cofferdam_plugin={}", library.display());
    run(rustc().args(["--extern", &dependency, "-o"]).arg(&program).arg(source));
    program
}

fn run(command: &mut Command) {
    let done = command.output().expect("rustc is there, or this would not have been compiled");
    assert!(done.status.success(), "{command:?}: {}", text(&done.stderr));
}
