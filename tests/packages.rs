//! What a device author installs: the wheel, the CMake package, the pkg-config file.

mod harness;
#[path = "harness/python.rs"]
mod python;

use harness::{Place, root, text};
use std::path::Path;
use std::process::Command;

/// What the types of the SDK are checked with.
const MYPY: &str = "mypy==2.4.1";

/// What a plugin declares, as far as its name.
fn described(place: &Place, plugin: &Path) -> String {
    let shown = place.run(&["device", "describe", "--json", plugin.to_str().unwrap()]);
    assert!(shown.status.success(), "{}", text(&shown.stderr));
    let shown: serde_json::Value = serde_json::from_slice(&shown.stdout).unwrap();
    shown["name"].as_str().unwrap().to_owned()
}

/// Runs it; what does not succeed fails the test.
fn run(command: &mut Command) -> String {
    python::run(command).unwrap_or_else(|why| panic!("{why}"))
}

#[test]
fn the_wheel_is_built_and_installed_by_pip_and_its_types_hold() {
    let place = Place::new();
    let folder = place.path("");
    // Built from a copy: setuptools writes beside its sources. The schema is a link there, and files in the wheel.
    let source = folder.join("source");
    run(Command::new("cp").arg("-rL").arg(root().join("devices/sdk/python")).arg(&source));
    let Ok(own) = python::own() else {
        println!("SKIPPED: python3 is missing (Debian package python3)");
        return;
    };
    let environment = folder.join("environment");
    run(Command::new(&own).args(["-m", "venv", "--without-pip"]).arg(&environment));
    let interpreter = environment.join("bin/python3");
    let pip = || {
        let mut pip = Command::new(&own);
        pip.args(["-m", "pip", "--quiet", "--disable-pip-version-check", "--python"]).arg(&interpreter);
        pip.current_dir(&folder);
        pip
    };
    if let Err(why) = python::run(pip().args(["install", python::PYCAPNP, MYPY])) {
        println!("SKIPPED: pip cannot install what the test needs: {}", why.replace('\n', " "));
        return;
    }
    run(pip().args(["wheel", "--no-deps", "--wheel-dir", "wheels", "./source"]));
    let wheels: Vec<_> =
        std::fs::read_dir(folder.join("wheels")).unwrap().flatten().map(|entry| entry.path()).collect();
    let [wheel] = wheels.as_slice() else { panic!("one wheel, and not {wheels:?}") };
    run(pip().arg("install").arg(wheel));

    let text = std::fs::read_to_string(root().join("devices/sdk/python/examples/ib700.py")).unwrap();
    let plugin = folder.join("ib700.py");
    python::write(&text, &interpreter, &plugin);
    assert_eq!(described(&place, &plugin), "ib700");

    let settings = source.join("pyproject.toml");
    let mut mypy = Command::new(&interpreter);
    mypy.args(["-m", "mypy", "--cache-dir", "mypy", "-p", "cofferdam_device", "--config-file"]).arg(settings);
    run(mypy.current_dir(&folder));
}

#[test]
fn the_cpp_example_is_built_through_cmake_and_through_pkg_config() {
    for (program, package) in [("cmake", "cmake"), ("pkg-config", "pkg-config"), ("capnp", "capnproto"), ("g++", "g++")]
    {
        if Command::new(program).arg("--version").output().is_err() {
            println!("SKIPPED: {program} is missing (Debian package {package})");
            return;
        }
    }
    let place = Place::new();
    let folder = place.path("");
    let prefix = folder.join("prefix");
    let sdk = root().join("devices/sdk/cpp");
    let cmake = || {
        let mut cmake = Command::new("cmake");
        cmake.current_dir(&folder);
        cmake
    };
    run(cmake().args(["-B", "sdk", "-S"]).arg(&sdk).arg(format!("-DCMAKE_INSTALL_PREFIX={}", prefix.display())));
    run(cmake().args(["--build", "sdk", "--target", "cofferdam_device"]));
    run(cmake().args(["--install", "sdk"]));

    let example = sdk.join("examples/ib700.cpp");
    std::fs::create_dir(folder.join("user")).unwrap();
    let user = format!(
        "cmake_minimum_required(VERSION 3.21)\nproject(watchdog CXX)\nfind_package(CofferdamDevice REQUIRED)\n\
         add_executable(by_cmake {})\ntarget_link_libraries(by_cmake PRIVATE Cofferdam::device)\n",
        example.display()
    );
    std::fs::write(folder.join("user/CMakeLists.txt"), user).unwrap();
    run(cmake().args(["-B", "built", "-S", "user"]).arg(format!("-DCMAKE_PREFIX_PATH={}", prefix.display())));
    run(cmake().args(["--build", "built"]));
    assert_eq!(described(&place, &folder.join("built/by_cmake")), "ib700");

    let files = prefix.join("lib/pkgconfig");
    let mut flags = Command::new("pkg-config");
    flags.args(["--cflags", "--libs", "cofferdam-device"]).env("PKG_CONFIG_PATH", &files);
    let flags = run(flags.env("PKG_CONFIG_ALLOW_SYSTEM_CFLAGS", "1"));
    let program = folder.join("by_pkg_config");
    run(Command::new("g++").arg(&example).arg("-o").arg(&program).args(flags.split_whitespace()));
    assert_eq!(described(&place, &program), "ib700");
}

#[test]
fn the_smallest_example_takes_less_than_thirty_lines() {
    let text = std::fs::read_to_string(root().join("devices/sdk/cpp/examples/ib700.cpp")).unwrap();
    let code = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("//"));
    assert!(code.count() < 30);
}
