//! A running machine's screen and keyboard.

use crate::args::{ScreenshotArgs, SendkeysArgs};
use crate::keys;
use anyhow::{Context, Result};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use vmm::supervisor::Frame;
use vmm::supervisor::operator::Client;

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
