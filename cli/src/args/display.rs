//! The flags of commands for a machine's screen and keyboard.

use clap::Args as ClapArgs;
use std::path::PathBuf;

#[derive(ClapArgs)]
pub struct ScreenshotArgs {
    /// The virtual machine, as `cofferdam ps` names it.
    pub name: String,
    /// The file to write, a PNG.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
}

#[derive(ClapArgs)]
pub struct SendkeysArgs {
    /// The virtual machine, as `cofferdam ps` names it.
    pub name: String,
    /// What to type, on a keyboard of the United States. `\n` is Enter, `\t` Tab.
    #[arg(value_name = "TEXT", required_unless_present = "keys")]
    pub text: Option<String>,
    /// Keys to press one after the other, each a chord such as `ctrl-alt-delete`, `f12` or `down`; after the text, if there is one.
    #[arg(long, value_name = "CHORD", num_args = 1..)]
    pub keys: Vec<String>,
}
