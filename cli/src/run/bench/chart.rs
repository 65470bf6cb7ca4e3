//! A run as a picture: a bar for each median on a logarithmic scale, a line on to its 99th percentile.

use super::series::{Placement, Row};
use std::collections::BTreeSet;
use std::fmt::Write;

/// Columns in user units. Labels are set in a proportional font that is not ours to know: room for the longest, and more.
const LABELS: f64 = 284.0;
const BARS: f64 = 300.0;
const VALUES: f64 = 184.0;
const MARGIN: f64 = 20.0;
/// Height of a bar's line, of a group's heading, of everything above the first.
const LINE: f64 = 20.0;
const HEADING: f64 = 30.0;
const TOP: f64 = 84.0;
/// Height of a bar.
const BAR: f64 = 12.0;

/// Colours for both kinds of background; fonts are the reader's own.
const STYLE: &str = "
  text { font: 13px system-ui, sans-serif; fill: #24292f }
  .title { font-size: 17px; font-weight: 600 }
  .group { font-weight: 600 }
  .small { font-size: 12px; fill: #57606a }
  .paper { fill: #ffffff }
  .grid { stroke: #d8dee4; stroke-width: 1 }
  .ours { fill: #0969da } .bound { fill: #8c959f } .other { fill: #bf8700 }
  .tail { stroke: #57606a; stroke-width: 1.5 }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 } .small { fill: #9198a1 } .paper { fill: #0d1117 } .grid { stroke: #30363d }
    .ours { fill: #4493f8 } .bound { fill: #6e7681 } .other { fill: #d29922 } .tail { stroke: #9198a1 }
  }";

/// What kind of thing a row is, by its colour.
fn kind(name: &str) -> &'static str {
    match split(name) {
        ("bound", _) => "bound",
        (group, label) if sized(group) && !label.starts_with("typed call") && label != "region and wake" => "other",
        (_, label) if label.ends_with("in-process") => "other",
        _ => "ours",
    }
}

/// Groups of `bench calls` are named after the bytes of their messages.
fn sized(group: &str) -> bool {
    group.ends_with('B')
}

/// `group, label`
fn split(name: &str) -> (&str, &str) {
    name.split_once(", ").unwrap_or(("", name))
}

/// The rows in nanoseconds as an SVG document.
pub fn svg(title: &str, rows: &[Row]) -> String {
    let mut rows: Vec<&Row> = rows.iter().filter(|row| row.unit == "ns" && row.median > 0.0).collect();
    // Across processors there is more to measure, so that is the order of both panels.
    rows.sort_by_key(|row| row.placement != Placement::Cross);
    let scale = Scale::over(&rows);
    let has = |placement| rows.iter().any(|row| row.placement == placement);
    let panels: Vec<(Placement, &str)> =
        [(Placement::Same, "both sides on one processor"), (Placement::Cross, "each on a processor of its own")]
            .into_iter()
            .filter(|(placement, _)| has(*placement))
            .collect();
    let width = MARGIN * 2.0 + LABELS + panels.len() as f64 * (BARS + VALUES);
    let mut body = String::new();
    let mut y = TOP;
    for group in in_order(rows.iter().map(|row| split(&row.name).0)) {
        y += HEADING;
        text(&mut body, MARGIN, y - 8.0, "group", group);
        for name in in_order(rows.iter().map(|row| row.name.as_str()).filter(|name| split(name).0 == group)) {
            text(&mut body, MARGIN + 10.0, y + 13.0, "label", split(name).1);
            for (at, (placement, _)) in panels.iter().enumerate() {
                let placed = |row: &&&Row| row.name == name && [*placement, Placement::Any].contains(&row.placement);
                if let Some(row) = rows.iter().find(placed) {
                    bar(&mut body, &scale, left(at), y, row);
                }
            }
            y += LINE;
        }
    }
    let height = y + MARGIN;
    let mut head = String::new();
    text(&mut head, MARGIN, 30.0, "title", title);
    for (at, (kind, label)) in [("ours", "Cofferdam"), ("other", "others"), ("bound", "bound")].into_iter().enumerate()
    {
        let x = MARGIN + 10.0 + 90.0 * at as f64;
        let _ = writeln!(head, r#"<rect class="{kind}" x="{x:.1}" y="46" width="{BAR}" height="{BAR}" rx="2"/>"#);
        text(&mut head, x + BAR + 5.0, 56.0, "small", label);
    }
    text(&mut head, MARGIN + 10.0, 76.0, "small", "bar: median · line: to the 99th percentile");
    for (at, (_, heading)) in panels.iter().enumerate() {
        text(&mut head, left(at), 56.0, "group", heading);
        for (value, label) in scale.marks() {
            let x = left(at) + scale.place(value);
            text(&mut head, x + 3.0, 76.0, "small", &label);
            let _ = writeln!(head, r#"<line class="grid" x1="{x:.1}" x2="{x:.1}" y1="64" y2="{height:.1}"/>"#);
        }
    }
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" role=\"img\">\n\
         <title>{}</title>\n<style>{STYLE}\n</style>\n\
         <rect class=\"paper\" width=\"100%\" height=\"100%\"/>\n{head}{body}</svg>\n",
        escape(title)
    )
}

/// Where a panel's bars begin.
fn left(panel: usize) -> f64 {
    MARGIN + LABELS + panel as f64 * (BARS + VALUES)
}

fn bar(out: &mut String, scale: &Scale, left: f64, y: f64, row: &Row) {
    let (median, tail) = (scale.place(row.median), scale.place(row.p99));
    let (top, middle, kind) = (y + 3.0, y + 3.0 + BAR / 2.0, kind(&row.name));
    let _ =
        writeln!(out, r#"<rect class="{kind}" x="{left:.1}" y="{top:.1}" width="{median:.1}" height="{BAR}" rx="2"/>"#);
    let (from, to) = (left + median, left + tail);
    let _ = writeln!(out, r#"<line class="tail" x1="{from:.1}" x2="{to:.1}" y1="{middle:.1}" y2="{middle:.1}"/>"#);
    let ratio = match (split(&row.name), split(&row.base)) {
        _ if row.base == row.name => String::new(),
        ((group, _), (same, _)) if group == same => format!(" · {}×", short(row.ratio)),
        (_, (_, base)) => format!(" · {}× {base}", short(row.ratio)),
    };
    text(out, to + 6.0, y + 13.0, "small", &format!("{}{ratio}", time(row.median)));
}

fn text(out: &mut String, x: f64, y: f64, class: &str, words: &str) {
    let _ = writeln!(out, r#"<text class="{class}" x="{x:.1}" y="{y:.1}">{}</text>"#, escape(words));
}

fn escape(words: &str) -> String {
    words.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// Each word once, in the order of its first appearance.
fn in_order<'a>(words: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut seen = BTreeSet::new();
    words.filter(|word| seen.insert(*word)).collect()
}

/// Nanoseconds as a person says them.
fn time(nanoseconds: f64) -> String {
    match nanoseconds {
        ns if ns < 1e3 => format!("{} ns", short(ns)),
        ns if ns < 1e6 => format!("{} µs", short(ns / 1e3)),
        ns => format!("{} ms", short(ns / 1e6)),
    }
}

/// Three digits, or two behind the point.
fn short(number: f64) -> String {
    match number {
        number if number < 10.0 => format!("{number:.2}"),
        number if number < 100.0 => format!("{number:.1}"),
        number => format!("{number:.0}"),
    }
}

/// From nanoseconds to user units: whole decades.
struct Scale {
    first: i32,
    last: i32,
}

impl Scale {
    fn over(rows: &[&Row]) -> Scale {
        let least = rows.iter().map(|row| row.median).fold(f64::INFINITY, f64::min).max(1.0);
        let most = rows.iter().map(|row| row.median).fold(10.0, f64::max);
        Scale { first: least.log10().floor() as i32, last: most.log10().ceil() as i32 }
    }

    /// Where this many nanoseconds lie. What is beyond the last decade, a long tail, ends there.
    fn place(&self, nanoseconds: f64) -> f64 {
        let whole = f64::from((self.last - self.first).max(1));
        ((nanoseconds.max(1.0).log10() - f64::from(self.first)) / whole).clamp(0.0, 1.0) * BARS
    }

    /// The decades, without the last: the values stand there.
    fn marks(&self) -> impl Iterator<Item = (f64, String)> {
        (self.first..self.last).map(|power| {
            let value = 10f64.powi(power);
            (value, time(value).replace(".00", "").replace(".0", ""))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &str, placement: Placement, median: f64, base: &str) -> Row {
        let (name, base) = (name.to_owned(), base.to_owned());
        Row { name, placement, median, p99: 2.0 * median, unit: "ns", rounds: 1, base, ratio: 1.5 }
    }

    #[test]
    fn every_row_is_drawn_once_whatever_it_is_compared_with() {
        let rows = [
            row("bound, pipe", Placement::Same, 4000.0, "bound, pipe"),
            row("64 B, typed <call>", Placement::Same, 6000.0, "bound, pipe"),
            row("64 B, typed <call>", Placement::Same, 6000.0, "64 B, typed <call>"),
        ];
        let drawn = svg("A & B", &rows);
        assert_eq!(drawn.matches("<line class=\"tail\"").count(), 2);
        assert!(
            drawn.contains("typed &lt;call&gt;")
                && drawn.contains("A &amp; B")
                && drawn.contains("6.00 µs · 1.50× pipe")
        );
        assert!(!drawn.contains("NaN") && !drawn.contains("inf"));
    }

    #[test]
    fn nothing_to_draw_is_an_empty_picture() {
        let drawn = svg("nothing", &[row("x", Placement::Any, f64::NAN, "x")]);
        assert!(drawn.ends_with("</svg>\n") && !drawn.contains("NaN") && !drawn.contains("inf"), "{drawn}");
    }

    #[test]
    fn a_decade_is_as_wide_as_any_other() {
        let scale = Scale { first: 1, last: 4 };
        assert!((scale.place(100.0) - BARS / 3.0).abs() < 1e-9);
        assert_eq!((scale.place(1.0), scale.place(1e9)), (0.0, BARS));
    }
}
