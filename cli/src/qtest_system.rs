//! `cofferdam-qtest-system-x86_64`: the program beside this one, under this name.
//!
//! Test programs want a file of a name that ends in the architecture. All that it does is in `cofferdam`, which starts its
//! own parts from itself; so this only hands over to it, in the same process.

use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

fn main() -> ExitCode {
    let mut words = std::env::args_os();
    let name = words.next().unwrap_or_default();
    let beside = std::env::current_exe().map(|own| own.with_file_name("cofferdam"));
    match beside {
        Ok(program) => {
            let error = Command::new(&program).arg0("cofferdam-qtest-system-x86_64").args(words).exec();
            eprintln!("{}: {} cannot be started: {error}", name.display(), program.display());
        }
        Err(error) => eprintln!("{}: where it is cannot be known: {error}", name.display()),
    }
    ExitCode::FAILURE
}
