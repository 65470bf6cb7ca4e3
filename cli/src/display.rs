//! A running machine's screen, keyboard and mouse.

use crate::args::{ScreenshotArgs, SendkeysArgs, SendmouseArgs, usage};
use crate::{keys, mouse};
use anyhow::{Context, Result};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use vmm::supervisor::operator::Client;
use vmm::supervisor::{Display, Frame};

/// Who sees the display, of `none|vnc,password-file=PATH[,port=N]`.
pub fn parse(spec: &str) -> Result<Option<Display>> {
    let mut parts = spec.split(',');
    match parts.next() {
        Some("none") if parts.next().is_none() => return Ok(None),
        Some("vnc") => {}
        _ => return Err(usage!("--display {spec}: give none, or vnc,password-file=PATH")),
    }
    let (mut password_file, mut port) = (None, None);
    for part in parts {
        match part.split_once('=') {
            Some(("password-file", path)) if !path.is_empty() => password_file = Some(PathBuf::from(path)),
            Some(("port", number)) => {
                let parsed = number.parse().ok().filter(|number| *number > 0);
                port = Some(parsed.ok_or_else(|| usage!("--display {spec}: `{number}` is no port; give 1 to 65535"))?);
            }
            _ => {
                return Err(usage!(
                    "--display {spec}: `{part}` means nothing; there are password-file=PATH and port=N"
                ));
            }
        }
    }
    let password_file = password_file.ok_or_else(|| {
        usage!("--display {spec}: nobody is shown a display without a password; give password-file=PATH")
    })?;
    Ok(Some(Display::new(password_file, port)))
}

/// Writes what the display shows.
pub fn screenshot(asked: &ScreenshotArgs) -> Result<u8> {
    let frame = Client::connect(&asked.name)?.screenshot()?;
    write(&frame, &asked.file).with_context(|| format!("{}: cannot be written", asked.file.display()))?;
    Ok(0)
}

/// Types.
pub fn sendkeys(asked: &SendkeysArgs) -> Result<u8> {
    let mut inputs = keys::of_text(asked.text.as_deref().unwrap_or_default())?;
    for chord in &asked.keys {
        inputs.extend(keys::of_chord(chord)?);
    }
    Client::connect(&asked.name)?.press(&inputs)?;
    Ok(0)
}

/// Moves the mouse.
pub fn sendmouse(asked: &SendmouseArgs) -> Result<u8> {
    let mut inputs = asked.motion.as_deref().map_or(Ok(Vec::new()), mouse::of_motion)?;
    for button in &asked.click {
        inputs.extend(mouse::of_click(button)?);
    }
    inputs.extend(mouse::of_turns(asked.wheel.unwrap_or_default())?);
    Client::connect(&asked.name)?.press(&inputs)?;
    Ok(0)
}

fn write(frame: &Frame, file: &Path) -> Result<()> {
    let mut file = BufWriter::new(File::create(file)?);
    let mut encoder = png::Encoder::new(&mut file, frame.width, frame.height);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    let bytes: Vec<u8> = frame.pixels.iter().flat_map(|pixel| pixel.to_be_bytes().into_iter().skip(1)).collect();
    let mut writer = encoder.write_header()?;
    writer.write_image_data(&bytes)?;
    writer.finish()?;
    Ok(file.flush()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn display_without_a_password_or_of_another_kind_is_refused() {
        for (spec, said) in [
            ("vnc", "give password-file=PATH"),
            ("vnc,port=5901", "give password-file=PATH"),
            ("vnc,password-file=", "`password-file=` means nothing"),
            ("vnc,password-file=p,port=0", "`0` is no port"),
            ("vnc,password-file=p,port=70000", "`70000` is no port"),
            ("vnc,password=secret", "`password=secret` means nothing"),
            ("none,port=1", "give none, or vnc"),
            ("gtk", "give none, or vnc"),
        ] {
            let sentence = parse(spec).unwrap_err().to_string();
            assert!(sentence.contains(said), "{spec}: {sentence}");
        }
        assert!(parse("none").unwrap().is_none() && parse("vnc,port=5901,password-file=p").unwrap().is_some());
    }
}
