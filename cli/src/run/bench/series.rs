//! What a bench measured, and how it is shown.

use crate::table::table;
use anyhow::{Context, Result};
use serde::Serialize;

/// Where the two sides of a measured thing ran.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Placement {
    /// Both on one processor.
    Same,
    /// Each on a processor of its own.
    Cross,
    /// It does not matter, or there is one side.
    Any,
}

impl Placement {
    fn name(self) -> &'static str {
        match self {
            Placement::Same => "same",
            Placement::Cross => "cross",
            Placement::Any => "any",
        }
    }
}

/// Samples of one thing.
pub struct Series {
    /// What was measured.
    pub name: String,
    /// Where.
    pub placement: Placement,
    /// Of the samples.
    pub unit: &'static str,
    /// What it is compared with: names of series with the same placement, at least one, which may be its own.
    pub bases: Vec<String>,
    /// What was measured, as often as it was.
    pub samples: Vec<f64>,
}

impl Series {
    /// A series without samples yet, compared with one other.
    pub fn new(name: impl Into<String>, placement: Placement, unit: &'static str, base: impl Into<String>) -> Series {
        Series { name: name.into(), placement, unit, bases: vec![base.into()], samples: Vec::new() }
    }

    /// The middle sample.
    pub fn median(&self) -> f64 {
        quantile(&self.samples, 0.5)
    }
}

fn quantile(samples: &[f64], at: f64) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let index = ((sorted.len() as f64 - 1.0) * at).round() as usize;
    sorted.get(index).copied().unwrap_or(f64::NAN)
}

/// One comparison. `ratio` is the median against that of the row named `base` with the same placement, of the same run. A
/// thing with several bases has a row for each.
#[derive(Debug, Serialize)]
pub struct Row {
    pub name: String,
    pub placement: Placement,
    pub median: f64,
    pub p99: f64,
    pub unit: &'static str,
    pub rounds: u32,
    pub base: String,
    pub ratio: f64,
}

/// The comparisons of one run of so many rounds, each of which took one or more samples of everything.
///
/// # Errors
/// When there is nothing to compare with: a bench that forgot its base.
pub fn rows(series: &[Series], rounds: u32) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for one in series {
        for base in &one.bases {
            let with = series.iter().find(|other| other.name == *base && other.placement == one.placement);
            let with =
                with.with_context(|| format!("{} is compared with `{base}`, which was not measured", one.name))?;
            rows.push(Row {
                name: one.name.clone(),
                placement: one.placement,
                median: one.median(),
                p99: quantile(&one.samples, 0.99),
                unit: one.unit,
                rounds,
                base: base.clone(),
                ratio: one.median() / with.median(),
            });
        }
    }
    Ok(rows)
}

/// Prints them: a list of objects, or a table.
pub fn show(rows: &[Row], json: bool) -> Result<()> {
    if json {
        println!("{}", serde_json::to_string_pretty(rows)?);
        return Ok(());
    }
    let mut shown = table(["what", "placement", "median", "p99", "unit", "rounds", "ratio", "against"]);
    for row in rows {
        shown.add_row([
            row.name.clone(),
            row.placement.name().to_owned(),
            format!("{:.1}", row.median),
            format!("{:.1}", row.p99),
            row.unit.to_owned(),
            row.rounds.to_string(),
            format!("{:.3}", row.ratio),
            row.base.clone(),
        ]);
    }
    println!("{shown}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_that_was_not_measured_is_refused() {
        let mut lonely = Series::new("access, memory", Placement::Same, "ns", "access, in-process");
        let elsewhere = Series::new("access, in-process", Placement::Cross, "ns", "access, in-process");
        let error = rows(&[lonely, elsewhere], 1).unwrap_err().to_string();
        assert!(error.contains("access, in-process"), "{error}");
        lonely = Series::new("access, memory", Placement::Same, "ns", "access, memory");
        assert!(rows(&[lonely], 1).is_ok());
    }

    #[test]
    fn a_thing_with_two_bases_has_a_row_for_each() {
        let with = |name: &str, sample: f64| {
            let mut one = Series::new(name, Placement::Any, "ns", name);
            one.samples = vec![sample; 3];
            one
        };
        let mut third = with("third", 6.0);
        third.bases = vec!["first".into(), "second".into()];
        let rows = rows(&[with("first", 2.0), with("second", 4.0), third], 3).unwrap();
        let ratios: Vec<(&str, f64)> = rows.iter().map(|row| (row.base.as_str(), row.ratio)).collect();
        assert_eq!(ratios, [("first", 1.0), ("second", 1.0), ("first", 3.0), ("second", 1.5)]);
    }

    #[test]
    fn quantiles_are_samples() {
        let samples: Vec<f64> = (1..=100).map(f64::from).rev().collect();
        assert_eq!((quantile(&samples, 0.5), quantile(&samples, 0.99)), (51.0, 99.0));
        assert!(quantile(&[], 0.5).is_nan());
    }
}
