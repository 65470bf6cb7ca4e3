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
pub struct SendmouseArgs {
    /// The virtual machine, as `cofferdam ps` names it.
    pub name: String,
    /// How far to move it: to the right and down, such as `20,-5`.
    #[arg(value_name = "X,Y", allow_hyphen_values = true, required_unless_present_any = ["click", "wheel"])]
    pub motion: Option<String>,
    /// Buttons to press and let go one after the other: `left`, `right` or `middle`; after the motion, if there is one.
    #[arg(long, value_name = "BUTTON", num_args = 1..)]
    pub click: Vec<String>,
    /// Steps to turn the wheel by then, towards the person; negative away.
    #[arg(long, value_name = "STEPS", allow_hyphen_values = true)]
    pub wheel: Option<i32>,
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
