//! Programs in other languages that read the golden messages, with libraries that are not ours: what we call a message is
//! then what Cap'n Proto calls one.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, ensure};

use crate::command;
use crate::packages;
use crate::python::Python;
use crate::report::Outcome;

/// A header of Debian's libcapnp-dev.
const CAPNP_HEADER: &str = "/usr/include/capnp/compat/json.h";

/// Where the schema is, where readers are made, where they log.
pub struct Places<'a> {
    pub top: &'a Path,
    pub work: &'a Path,
    pub logs: &'a Path,
}

/// Each reader reads all golden messages, and must notice when one is not what it should be.
pub fn check(places: &Places<'_>) -> Outcome {
    let mut outcome = Outcome::default();
    for (name, reader) in [("pycapnp", python(places)), ("C++", cpp(places))] {
        outcome.merge(match reader {
            Ok(reader) => judge(name, &reader, places),
            Err(Missing::Tool(why)) => Outcome::skip(name, why),
            Err(Missing::Reader(why)) => Outcome::fail(name, why),
        });
    }
    outcome
}

/// Makes a command that lacks only the schema's folder.
type Reader = Box<dyn Fn() -> Command>;

/// Why there is no reader.
enum Missing {
    /// This machine lacks something.
    Tool(String),
    /// It could not be made.
    Reader(String),
}

impl From<String> for Missing {
    fn from(why: String) -> Self {
        Missing::Tool(why)
    }
}

fn judge(name: &str, reader: &Reader, places: &Places<'_>) -> Outcome {
    let log = places.logs.join(format!("golden-{name}.log"));
    let run = |folder: &Path| command::run(reader().arg(folder), &log);
    let read = || -> Result<()> {
        let done = run(&places.top.join("schema"))?;
        ensure!(done.success, "{}", done.tail());
        let done = run(&damaged(places)?)?;
        ensure!(!done.success && done.output.contains(DAMAGED), "a message that means something else was not noticed");
        Ok(())
    };
    match read() {
        Ok(()) => Outcome::pass(),
        Err(error) => Outcome::fail(name, format!("{error:#}")),
    }
}

/// The message that is damaged.
const DAMAGED: &str = "Hello.hex";

/// A copy of the schema in which one bit of a golden message is another.
fn damaged(places: &Places<'_>) -> Result<PathBuf> {
    let (from, to) = (places.top.join("schema"), places.work.join("damaged-schema"));
    let _ = std::fs::remove_dir_all(&to);
    for folder in ["", "compiled", "golden"] {
        std::fs::create_dir_all(to.join(folder))?;
        for entry in std::fs::read_dir(from.join(folder))? {
            let entry = entry?;
            if entry.file_type()?.is_file() {
                std::fs::copy(entry.path(), to.join(folder).join(entry.file_name()))?;
            }
        }
    }
    let path = to.join("golden").join(DAMAGED);
    let text = std::fs::read_to_string(&path)?;
    ensure!(text.contains("34 12"), "the golden message has other bytes than when this was written");
    std::fs::write(&path, text.replacen("34 12", "35 12", 1))?;
    Ok(to)
}

fn python(places: &Places<'_>) -> Result<Reader, Missing> {
    let python = Python::obtain(places.work, places.logs)?;
    let script = places.top.join("schema/readers/golden.py");
    Ok(Box::new(move || {
        let mut command = python.command();
        command.arg(&script);
        command
    }))
}

fn cpp(places: &Places<'_>) -> Result<Reader, Missing> {
    let compiler = packages::find("g++")?;
    packages::find(CAPNP_HEADER)?;
    let program = places.work.join("golden");
    let mut compile = Command::new(compiler);
    compile.args(["-std=c++20", "-Wall", "-Wextra", "-Werror"]).arg(places.top.join("schema/readers/golden.cpp"));
    compile.arg("-o").arg(&program).args(["-lcapnp-json", "-lcapnp", "-lkj"]);
    match command::run(&mut compile, &places.logs.join("golden-compile.log")) {
        Ok(done) if done.success => Ok(Box::new(move || Command::new(&program))),
        Ok(done) => Err(Missing::Reader(done.tail())),
        Err(error) => Err(Missing::Reader(format!("{error:#}"))),
    }
}
