//! Plugins in C++, compiled as a person without CMake would: the headers of the SDK, and what capnp makes of the schema.

// Each test file uses its own part of this.
#![allow(dead_code)]

use crate::harness::{root, text};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Compiles an example plugin into `folder`; `None`, and one line that says so, where there is no compiler.
pub fn example(name: &str, folder: &Path) -> Option<PathBuf> {
    compiled(&root().join("devices/sdk/cpp/examples").join(format!("{name}.cpp")), folder)
}

/// Compiles a plugin into `folder`; `None`, and one line that says so, where there is no compiler.
pub fn compiled(source: &Path, folder: &Path) -> Option<PathBuf> {
    let name = source.file_stem().expect("a file").to_string_lossy();
    match compile(source, &name, folder) {
        Ok(program) => Some(program),
        Err(why) => {
            println!("SKIPPED: {why}");
            None
        }
    }
}

/// Compiles and runs a test program of the SDK, which needs no schema, with the sanitizers for addresses and undefined behaviour;
/// `false`, and one line that says so, where there is no compiler.
pub fn passes(name: &str, folder: &Path) -> bool {
    if !Command::new("g++").arg("--version").output().is_ok_and(|done| done.status.success()) {
        println!("SKIPPED: g++ is missing (Debian package g++)");
        return false;
    }
    let sdk = root().join("devices/sdk/cpp");
    let program = folder.join(name);
    let mut compiler = Command::new("g++");
    compiler.args(["-std=c++17", "-O1", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-fsanitize=address,undefined"]);
    compiler.arg("-fno-sanitize-recover=all").arg("-I").arg(sdk.join("include")).arg("-o").arg(&program);
    run(compiler.arg(sdk.join("tests").join(format!("{name}.cpp"))));
    run(&mut Command::new(&program));
    true
}

/// Compiles a plugin. The error says what is missing; a plugin that does not compile is a failure of the test.
fn compile(source: &Path, name: &str, folder: &Path) -> Result<PathBuf, String> {
    for (program, package) in [("g++", "g++"), ("capnp", "capnproto")] {
        let there = Command::new(program).arg("--version").output().is_ok_and(|done| done.status.success());
        if !there {
            return Err(format!("{program} is missing (Debian package {package})"));
        }
    }
    if !Path::new("/usr/include/capnp/message.h").exists() {
        return Err("the headers of libcapnp are missing (Debian package libcapnp-dev)".to_owned());
    }
    let sdk = root().join("devices/sdk/cpp");
    let (wire, program) = (folder.join("wire"), folder.join(name));
    run(Command::new(sdk.join("generate.sh")).arg(root().join("schema")).arg(&wire));
    let made = ["imc", "lane", "manifest", "host"].map(|part| wire.join(format!("{part}.capnp.c++")));
    let mut compiler = Command::new("g++");
    compiler.args(["-std=c++17", "-O2", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-o"]).arg(&program);
    compiler.arg("-I").arg(sdk.join("include")).arg("-I").arg(&wire).arg(source).args(made).args(["-lcapnp", "-lkj"]);
    run(&mut compiler);
    Ok(program)
}

fn run(command: &mut Command) {
    let done = command.output().expect("it starts");
    assert!(done.status.success(), "{command:?}: {}{}", text(&done.stdout), text(&done.stderr));
}
