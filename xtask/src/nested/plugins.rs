//! Devices in Python, C++ and Rust for the outer guest: those of the tutorial, as `cofferdam device new` makes them, and the examples of the
//! SDKs. What this computer lacks for them is said by the scenario.

use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::Places;
use super::images::{install, install_libraries};
use crate::command;
use crate::packages;
use crate::python::Python;

/// Where they are in the outer guest.
const FOLDER: &str = "plugins";
/// The file that says, in the same folder, what there is none of, and why.
const MISSING: &str = "missing";
/// The device of the tutorial.
const TUTORIAL: &str = "thermo";
const PYTHON_EXAMPLES: [&str; 2] = ["ib700", "virtio_entropy"];
const RUST_EXAMPLE: &str = "virtio_entropy";
const CPP_EXAMPLES: [&str; 2] = ["ib700", "virtio_block"];
/// Parts of the schema that a plugin in C++ is compiled with.
const WIRE: [&str; 4] = ["imc", "lane", "manifest", "host"];

/// Prints the files of all that a plugin in Python has loaded by the time it serves.
const LOADED: &str = "
import sys
from cofferdam_device import host
host._datagram(host.EVENT, 0, 'Hello', {'protocol': host.PROTOCOL})
for module in list(sys.modules.values()):
    print(getattr(module, '__file__', None) or '')
";

/// Puts them under `root`.
pub fn install_all(places: &Places<'_>, root: &Path) -> Result<()> {
    let (work, to) = (places.work.join(FOLDER), root.join(FOLDER));
    let _ = std::fs::remove_dir_all(&work);
    for folder in [&work, &to] {
        std::fs::create_dir_all(folder)?;
    }
    let mut missing = String::new();
    match Python::obtain(&places.work, &places.work.join("logs")) {
        Ok(python) => python_plugins(places, &python, &work.join("python"), root)?,
        Err(why) => missing.push_str(&format!("python: {why}\n")),
    }
    rust_plugins(places, &work.join("rust"), root)?;
    match ["g++", "capnp", "/usr/include/capnp/compat/json.h"].iter().find_map(|need| packages::find(need).err()) {
        None => cpp_plugins(places, &work.join("cpp"), root)?,
        Some(why) => missing.push_str(&format!("cpp: {why}\n")),
    }
    Ok(std::fs::write(to.join(MISSING), missing)?)
}

/// The folder that `cofferdam device new` makes in `folder`.
fn tutorial(places: &Places<'_>, folder: &Path, language: &str) -> Result<PathBuf> {
    std::fs::create_dir_all(folder)?;
    let mut command = Command::new(&places.program);
    run(command.args(["device", "new", TUTORIAL, "--lang", language]).current_dir(folder), places)?;
    Ok(folder.join(TUTORIAL))
}

/// The plugins, the SDK beside them, and an environment with the interpreter and what it loads: no more of Python than that.
fn python_plugins(places: &Places<'_>, python: &Python, work: &Path, root: &Path) -> Result<()> {
    let made = tutorial(places, work, "python")?;
    let (to, environment) = (root.join(FOLDER), root.join(FOLDER).join("python"));
    let examples = places.top.join("devices/sdk/python/examples");
    let named = |name: &str| format!("{name}.py");
    let scripts = PYTHON_EXAMPLES.iter().map(|name| examples.join(named(name)));
    for script in scripts.chain([made.join(named(TUTORIAL))]) {
        let text = std::fs::read_to_string(&script)?;
        let (_, rest) = text.split_once('\n').context("a plugin begins with its interpreter")?;
        let plugin = to.join(script.file_name().unwrap_or_default());
        std::fs::write(&plugin, format!("#!/{FOLDER}/python/bin/python3\n{rest}"))?;
        std::fs::set_permissions(&plugin, std::fs::Permissions::from_mode(0o755))?;
    }
    run(Command::new("cp").arg("-r").arg(made.join("cofferdam_device")).arg(&to), places)?;

    let program = python.program.canonicalize()?;
    let inside = |path: &Path| root.join(path.strip_prefix("/").unwrap_or(path));
    install(&program, &inside(&program))?;
    install_libraries(&program, root)?;
    std::fs::create_dir_all(environment.join("bin"))?;
    symlink(&program, environment.join("bin/python3"))?;
    let home = program.parent().unwrap_or(Path::new("/")).display();
    std::fs::write(environment.join("pyvenv.cfg"), format!("home = {home}\ninclude-system-site-packages = false\n"))?;

    let list = python.command().arg("-c").arg(LOADED).current_dir(&made).output()?;
    ensure!(list.status.success(), "a plugin in Python cannot load: {}", String::from_utf8_lossy(&list.stderr));
    let version =
        run(python.command().args(["-c", "import sys; print('python%d.%d' % sys.version_info[:2])"]), places)?;
    let packages = environment.join("lib").join(version.trim()).join("site-packages");
    for file in String::from_utf8_lossy(&list.stdout).lines().map(Path::new).filter(|file| file.is_absolute()) {
        let copy = match file.strip_prefix(&python.library) {
            Ok(package) => packages.join(package),
            Err(_) if file.starts_with(&made) => continue,
            Err(_) => inside(file),
        };
        install(file, &copy)?;
        if file.extension().is_some_and(|extension| extension == "so") {
            install_libraries(file, root)?;
        }
    }
    // Compiled here, since an emulated machine is slow, and as they will be called there.
    let mut compile = python.command();
    compile.args(["-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash", "-p", "/", "-s"]);
    run(compile.args([root, root]), places)?;
    Ok(())
}

/// The plugins, compiled as the tutorial has its own, and their libraries.
fn rust_plugins(places: &Places<'_>, work: &Path, root: &Path) -> Result<()> {
    let made = tutorial(places, work, "rust")?;
    let (example, beside) = (format!("{RUST_EXAMPLE}.rs"), made.join("src/bin"));
    std::fs::create_dir_all(&beside)?;
    std::fs::copy(places.top.join("devices/sdk/plugin/examples").join(&example), beside.join(&example))?;
    run(
        Command::new("cargo").args(["build", "--release", "--offline", "--target-dir", "target"]).current_dir(&made),
        places,
    )?;
    for name in [TUTORIAL, RUST_EXAMPLE] {
        let plugin = root.join(FOLDER).join(format!("{name}-rust"));
        install(&made.join("target/release").join(name), &plugin)?;
        install_libraries(&plugin, root)?;
    }
    Ok(())
}

/// The plugins, compiled as the tutorial's are, and their libraries.
fn cpp_plugins(places: &Places<'_>, work: &Path, root: &Path) -> Result<()> {
    let made = tutorial(places, work, "cpp")?;
    let (sdk, build) = (made.join("sdk"), made.join("build"));
    run(Command::new(sdk.join("generate.sh")).arg(sdk.join("schema")).arg(&build), places)?;
    let compiler = || {
        let mut command = Command::new("g++");
        command.args(["-std=c++17", "-O1", "-I"]).arg(sdk.join("include")).arg("-I").arg(&build);
        command
    };
    let mut compile = compiler();
    compile.arg("-c").args(WIRE.map(|part| build.join(format!("{part}.capnp.c++")))).current_dir(&build);
    run(&mut compile, places)?;
    let objects = WIRE.map(|part| build.join(format!("{part}.capnp.o")));
    let examples = places.top.join("devices/sdk/cpp/examples");
    let sources = CPP_EXAMPLES.iter().map(|name| (name.to_string(), examples.join(format!("{name}.cpp"))));
    let sensor = (format!("{TUTORIAL}-cpp"), made.join(format!("{TUTORIAL}.cpp")));
    for (name, source) in sources.chain([sensor]) {
        let plugin = root.join(FOLDER).join(name);
        run(compiler().arg("-o").arg(&plugin).arg(source).args(&objects).args(["-lcapnp", "-lkj"]), places)?;
        install_libraries(&plugin, root)?;
    }
    Ok(())
}

/// The tutorial's program that reads a port, for the inner guest; nothing where there is no compiler.
pub fn port_reader(places: &Places<'_>) -> Result<Option<Vec<u8>>> {
    let Ok(compiler) = packages::find("g++") else { return Ok(None) };
    let program = places.work.join("inw");
    let mut compile = Command::new(compiler);
    compile.args(["-static", "-O2", "-Wall", "-Werror", "-x", "c"]).arg(places.top.join("docs/devices/inw.c"));
    run(compile.arg("-o").arg(&program), places)?;
    Ok(Some(std::fs::read(program)?))
}

/// Runs a command to its end; gives what it printed.
fn run(command: &mut Command, places: &Places<'_>) -> Result<String> {
    let name = Path::new(command.get_program()).file_name().unwrap_or_default().to_string_lossy().into_owned();
    let done = command::run(command, &places.work.join("logs").join(format!("plugins-{name}.log")))?;
    ensure!(done.success, "{name} failed:\n{}", done.tail());
    Ok(done.output)
}
