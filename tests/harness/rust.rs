//! Plugins in Rust, compiled by rustc alone: the SDK needs nothing else.

use crate::harness::{root, text};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Compiles an example plugin into `folder`.
pub fn example(name: &str, folder: &Path) -> PathBuf {
    let sdk = root().join("devices/sdk/plugin");
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
    let source = sdk.join("examples").join(format!("{name}.rs"));
    run(rustc().args(["--extern", &dependency, "-o"]).arg(&program).arg(source));
    program
}

fn run(command: &mut Command) {
    let done = command.output().expect("rustc is there, or this would not have been compiled");
    assert!(done.status.success(), "{command:?}: {}", text(&done.stderr));
}
