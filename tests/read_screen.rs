//! Prints the text that a picture of a VGA in text mode shows, for scripts: `read_screen PICTURE.png`. Whatever is no text is nothing.

#[path = "harness/screen.rs"]
mod screen;

use screen::{Font, Picture};
use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let Some(file) = std::env::args().nth(1) else {
        eprintln!("read_screen PICTURE.png");
        return ExitCode::from(2);
    };
    let Some(font) = Font::read() else {
        eprintln!("{} is missing (Debian package seabios)", Font::ROM);
        return ExitCode::FAILURE;
    };
    let picture = Picture::read(Path::new(&file));
    for line in font.read_lines(&picture) {
        println!("{}", line.trim_end());
    }
    ExitCode::SUCCESS
}
